"""
Reads the configuration file into values.

`read_configuration` is a function of text; only `load_configuration` opens the
file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from logging_proxy.configuration import checks, outbound, transport, traps
from logging_proxy.configuration.checks import Draft, RouteDraft
from logging_proxy.configuration.document import Entry, Node, Refused, Scalar, compose
from logging_proxy.configuration.document import Mapping as MappingNode
from logging_proxy.configuration.kinds import Mistake, Surroundings, nearest, shown_type
from logging_proxy.configuration.options import (
    SECTIONS,
    TABLES,
    TOP_LEVEL,
    Configuration,
    RouteOptions,
    Section,
    is_required,
    keys_of,
)
from logging_proxy.configuration.overlay import Given, blamed_on_options, overlay
from logging_proxy.configuration.problems import (
    WHOLE_FILE,
    ConfigurationError,
    Findings,
    KeyPath,
    Position,
    Problem,
    key_name,
    position_of,
)
from logging_proxy.configuration.secret import SecretKind
from logging_proxy.outbound.settings import ProxySettings

MAX_BYTES = 1 << 20
MAX_ROUTE_NAME = 100

_OPAQUE = frozenset(
    name
    for section in TABLES.values()
    for name, key in keys_of(section).items()
    if isinstance(key.kind, SecretKind)
)


def load_configuration(
    path: str, environ: Mapping[str, str], *, tls_files: bool = True, given: tuple[Given, ...] = ()
) -> Configuration:
    """
    Read the file at `path`; raises `ConfigurationError` with all of its mistakes.

    `Configuration.warnings` reports secrets in a world-readable file, a short token, captures that
    every user of the machine can read, and destinations whose certificate is not verified.  If
    `tls_files` is false, certificates and keys are neither read nor checked: the logging server
    does not use them.  Values in `given` replace those of the file.
    """
    findings = Findings(path)
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        findings.add(WHOLE_FILE, (), f"cannot be read: {reason}")
        raise ConfigurationError(findings.problems) from None
    text = _decoded(content, findings)
    return read_configuration(
        text,
        path,
        environ,
        exposed=bool(mode & stat.S_IROTH),
        tls_files=tls_files,
        # What comes through a pipe, as `--config <(...)`, has no directory.
        folder=os.path.dirname(os.path.abspath(path)) if stat.S_ISREG(mode) else os.getcwd(),
        given=given,
    )


def read_small_file(path: str) -> bytes:
    """The content of a file named in the configuration.  A bundle of all public CAs has about 0.2 MiB."""
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)


def read_configuration(
    text: str,
    filename: str,
    environ: Mapping[str, str],
    *,
    read_file: Callable[[str], bytes] = read_small_file,
    exposed: bool = False,
    tls_files: bool = True,
    now: Callable[[], float] = time.time,
    folder: str = "",
    given: tuple[Given, ...] = (),
) -> Configuration:
    """
    Return the configuration in `text`, with defaults filled in.

    Raises `ConfigurationError`, and nothing else, with all mistakes sorted by position.
    `read_file` reads secret files, and TLS files if `tls_files` is true; `exposed` means that
    other users can read the configuration file; certificates must be valid at the time `now`;
    `folder` is the directory that relative paths start from.  Values in `given` replace those
    in `text`.
    """
    findings = Findings(filename)
    root = overlay(compose(text, findings, _OPAQUE), given)

    def read_in_folder(path: str) -> bytes:
        return read_file(os.path.join(folder, path))

    draft = _Reader(findings, Surroundings(environ, read_in_folder, tls_files)).draft(root)
    proxies = outbound.proxy_settings(draft, environ, findings)
    transport.check_tls(draft, now(), findings)
    checks.check(draft, findings)
    if findings.problems:
        raise blamed_on_options(ConfigurationError(findings.problems), given)
    warnings = tuple(sorted(_warnings(draft, exposed, findings), key=position_of))
    return _configuration(_in_folder(draft, folder), proxies, warnings)


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


def _in_folder(draft: Draft, folder: str) -> Draft:
    """The draft with all of its directories below `folder`, unless they are absolute."""
    logging, server = draft.logging, draft.logging_server
    spool_dir = logging.spool_dir if logging.spool_dir is None else os.path.join(folder, logging.spool_dir)
    return replace(
        draft,
        logging=replace(logging, spool_dir=spool_dir, ring_dir=os.path.join(folder, logging.ring_dir)),
        logging_server=replace(server, log_dir=os.path.join(folder, server.log_dir)),
    )


def _configuration(draft: Draft, proxies: ProxySettings, warnings: tuple[Problem, ...]) -> Configuration:
    default = draft.logging.default
    routes = tuple(
        RouteOptions(name=route.name, line=route.position.line, **{"logging": default, **route.values})
        for route in draft.routes
    )
    return Configuration(
        draft.server, draft.http_client, draft.logging, draft.logging_server, routes, proxies, warnings
    )


def _warnings(draft: Draft, exposed: bool, findings: Findings) -> Iterator[Problem]:
    secrets = {checks.TOKEN: draft.logging_server.token, outbound.PROXY_URL: draft.http_client.proxy_url}
    for path, secret in secrets.items():
        # A proxy's URL is secret only if it contains credentials.
        if (
            exposed
            and secret is not None
            and secret.written_out
            and (path == checks.TOKEN or "@" in secret.value)
        ):
            message = (
                "every local user can read it: make the file private, or use {file: path} or {env: NAME}"
            )
            yield findings.problem(findings.position(path), path, message)
    yield from checks.warnings(draft, findings)
    yield from checks.weak_token(draft, findings)
    yield from traps.warnings(draft, findings)
    yield from transport.warnings(draft, findings)


class _Reader:
    """Turns nodes into values, by the table of keys."""

    def __init__(self, findings: Findings, surroundings: Surroundings) -> None:
        self._findings = findings
        self._surroundings = surroundings

    def draft(self, root: Node | None) -> Draft:
        nodes = {entry.key: entry for entry in self._top_level(root)}
        sections = {
            name: section(**self._section(nodes, name, section)) for name, section in SECTIONS.items()
        }
        routes = nodes.get("routes")
        if routes:
            self._findings.place(("routes",), routes.position)
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
        """The values of a section's keys, without those that are absent or mistaken."""
        entries = {entry.key: entry for entry in self._entries(node, position, path)}
        values = {}
        for name, entry in entries.items():
            key = keys_of(section).get(name)
            if key is None:
                self._unknown(entry, path, tuple(keys_of(section)))
                continue
            self._findings.place((*path, name), entry.position)
            try:
                if isinstance(key.kind, Section):
                    values.update(self._nested(entry, (*path, name), key.kind.type))
                elif not isinstance(entry.value, Refused):
                    values[name] = key.kind.read(entry.value, self._surroundings)
            except Mistake as mistake:
                self._findings.add(entry.position, (*path, name), str(mistake))
        self._check_required(entries, position, path, section)
        return values

    def _nested(self, entry: Entry, path: KeyPath, section: type) -> dict[str, Any]:
        """The value of a nested section under its key; empty if a required key is missing there."""
        values = self._values(entry.value, entry.position, path, section)
        if any(is_required(section, name) and name not in values for name in keys_of(section)):
            return {}
        return {entry.key: section(**values)}

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
            # The text is not quoted: "token:secret", without a space, is a string and not a mapping.
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
