"""
The configuration file to values.

`read_configuration` is a function of text; `load_configuration` is the only
place that opens the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from logging_proxy.configuration import checks
from logging_proxy.configuration.checks import Draft, RouteDraft
from logging_proxy.configuration.document import Entry, Node, Refused, Scalar, compose
from logging_proxy.configuration.document import Mapping as MappingNode
from logging_proxy.configuration.kinds import Mistake, Surroundings, nearest, shown_type
from logging_proxy.configuration.options import (
    SECTIONS,
    TOP_LEVEL,
    Configuration,
    RouteOptions,
    is_required,
    keys_of,
)
from logging_proxy.configuration.problems import (
    WHOLE_FILE,
    ConfigurationError,
    Findings,
    KeyPath,
    Position,
    Problem,
    key_name,
)
from logging_proxy.configuration.secret import SecretKind

MAX_BYTES = 1 << 20
MAX_ROUTE_NAME = 100

_OPAQUE = frozenset(
    name
    for section in (*SECTIONS.values(), RouteOptions)
    for name, key in keys_of(section).items()
    if isinstance(key.kind, SecretKind)
)


def load_configuration(path: str, environ: Mapping[str, str]) -> Configuration:
    """
    Read the file at `path`; raise `ConfigurationError` with all of its mistakes.

    `Configuration.warnings` tells of a token in a file that everybody can read.
    """
    findings = Findings(path)
    try:
        with open(path, "rb") as file:
            exposed = bool(os.fstat(file.fileno()).st_mode & stat.S_IROTH)
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        findings.add(WHOLE_FILE, (), f"cannot be read: {reason}")
        raise ConfigurationError(findings.problems) from None
    return read_configuration(_decoded(content, findings), path, environ, exposed=exposed)


def read_small_file(path: str) -> bytes:
    """The content of a file that holds a secret; nothing beyond 64 KiB is read."""
    with open(path, "rb") as file:
        return file.read(1 << 16)


def read_configuration(
    text: str,
    filename: str,
    environ: Mapping[str, str],
    *,
    read_file: Callable[[str], bytes] = read_small_file,
    exposed: bool = False,
) -> Configuration:
    """
    The configuration that `text` says, with every default filled in.

    Raises `ConfigurationError` with all mistakes, sorted by position, and
    nothing else.  `read_file` is asked for the files that secrets refer to;
    `exposed` says that other users can read the configuration file.
    """
    findings = Findings(filename)
    root = compose(text, findings, _OPAQUE)
    draft = _Reader(findings, Surroundings(environ, read_file)).draft(root)
    checks.check(draft, findings)
    if findings.problems:
        raise ConfigurationError(findings.problems)
    return _configuration(draft, tuple(_warnings(draft, findings)) if exposed else ())


def _decoded(content: bytes, findings: Findings) -> str:
    try:
        if len(content) > MAX_BYTES:
            findings.add(WHOLE_FILE, (), "larger than 1 MiB: expected a configuration")
        else:
            return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        position = Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        findings.add(position, (), f"not UTF-8: the byte 0x{content[error.start]:02x} does not belong here")
    raise ConfigurationError(findings.problems)


def _configuration(draft: Draft, warnings: tuple[Problem, ...]) -> Configuration:
    default = draft.logging.default
    routes = tuple(
        RouteOptions(name=route.name, line=route.position.line, **{"logging": default, **route.values})
        for route in draft.routes
    )
    return Configuration(
        draft.server, draft.http_client, draft.logging, draft.logging_server, routes, warnings
    )


def _warnings(draft: Draft, findings: Findings) -> Iterator[Problem]:
    token = draft.logging_server.token
    if token is not None and token.written_out:
        message = "every local user can read it: make the file private, or use {file: path} or {env: NAME}"
        yield findings.problem(findings.position(checks.TOKEN), checks.TOKEN, message)


class _Reader:
    """Nodes to values, by the table of keys."""

    def __init__(self, findings: Findings, surroundings: Surroundings) -> None:
        self._findings = findings
        self._surroundings = surroundings

    def draft(self, root: Node | None) -> Draft:
        nodes = {entry.key: entry for entry in self._top_level(root)}
        sections = {
            name: section(**self._section(nodes, name, section)) for name, section in SECTIONS.items()
        }
        routes = nodes.get("routes")
        return Draft(**sections, routes=tuple(self._routes(routes)) if routes else ())

    def _top_level(self, root: Node | None) -> Iterator[Entry]:
        if root is None or (isinstance(root, Scalar) and root.type == "null"):
            position = root.position if root else Position(1, 1)
            self._findings.add(position, (), f"the file is empty: expected {_one_of(TOP_LEVEL)}")
            return
        for entry in self._entries(root, root.position, ()):
            if entry.key in TOP_LEVEL:
                yield entry
            else:
                self._unknown(entry, (), TOP_LEVEL)

    def _section(self, nodes: Mapping[str, Entry], name: str, section: type) -> dict[str, Any]:
        entry = nodes.get(name)
        return self._values(entry.value, entry.position, (name,), section) if entry else {}

    def _routes(self, routes: Entry) -> Iterator[RouteDraft]:
        for entry in self._entries(routes.value, routes.position, ("routes",)):
            path = ("routes", key_name(("routes",), entry.key))
            if not (entry.key.isprintable() and 0 < len(entry.key) <= MAX_ROUTE_NAME):
                message = f"not a name for a route: expected 1 to {MAX_ROUTE_NAME} printable characters"
                self._findings.add(entry.position, path, message)
            values = self._values(entry.value, entry.position, path, RouteOptions)
            yield RouteDraft(entry.key, entry.position, values)

    def _values(self, node: Node, position: Position, path: KeyPath, section: type) -> dict[str, Any]:
        """The values of a section's keys; what is left out or mistaken is not among them."""
        entries = {entry.key: entry for entry in self._entries(node, position, path)}
        values = {}
        for name, entry in entries.items():
            key = keys_of(section).get(name)
            if key is None:
                self._unknown(entry, path, tuple(keys_of(section)))
                continue
            self._findings.place((*path, name), entry.position)
            try:
                if not isinstance(entry.value, Refused):
                    values[name] = key.kind.read(entry.value, self._surroundings)
            except Mistake as mistake:
                self._findings.add(entry.position, (*path, name), str(mistake))
        self._check_required(entries, position, path, section)
        return values

    def _check_required(
        self, entries: Mapping[str, Entry], position: Position, path: KeyPath, section: type
    ) -> None:
        if not self._findings.sound(path):
            return
        for name, key in keys_of(section).items():
            if name not in entries and is_required(section, name):
                self._findings.add(position, (*path, name), f"missing: expected {key.kind.expected()}")

    def _entries(self, node: Node, position: Position, path: KeyPath) -> tuple[Entry, ...]:
        if isinstance(node, MappingNode):
            return node.entries
        absent = isinstance(node, Scalar) and node.type == "null"
        if not absent and not isinstance(node, Refused):
            # What stands here is not quoted: "token:secret", without a space, is a text.
            self._findings.add(position, path, f"expected a mapping of keys, not {shown_type(node)}")
        return ()

    def _unknown(self, entry: Entry, path: KeyPath, known: tuple[str, ...]) -> None:
        shown = (*path, key_name(path, entry.key))
        self._findings.add(entry.position, shown, f"unknown key{_hint(entry.key, path, known)}")


def _hint(key: str, path: KeyPath, known: tuple[str, ...]) -> str:
    if key_name(path, key) == "?":
        return f" (is a space missing after its colon?): expected {_one_of(known)}"
    homes = [name for name, section in SECTIONS.items() if key in keys_of(section)]
    if homes and len(path) < 2:
        return f", it belongs under {' or '.join(homes)}"
    return nearest(key, known) or f": expected {_one_of(known)}"


def _one_of(names: tuple[str, ...]) -> str:
    return f"one of {', '.join(names)}"
