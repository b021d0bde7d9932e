"""Kinds of configuration value that name an address: ports, hosts, paths, URLs, patterns and destinations."""

from __future__ import annotations

import re
from typing import Any

from logging_proxy.configuration import listeners
from logging_proxy.configuration.document import Node, Scalar, Sequence
from logging_proxy.configuration.kinds import Integer, JSONSchema, Kind, Matching, Mistake, Surroundings, Text
from logging_proxy.routing.hosts import fault_of
from logging_proxy.routing.mapping import Destination, DestinationError, parse_destination
from logging_proxy.routing.patterns import Pattern, PatternError, parse, uses_wildcards

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LAST_LABEL_NUMERIC = re.compile(r"(.*\.)?(0[xX])?[0-9]+\.?")


def _check_name(name: str, kind: Kind[Any]) -> None:
    if fault := fault_of(name):
        raise Mistake(f"this name {fault}: expected {kind.expected()}")


class HostKind(Text):
    """A host to listen on: a name or an IP address, without a port."""

    def expected(self) -> str:
        return "a host name or an IP address"

    def check(self, node: Scalar) -> None:
        if listeners.address(node.text):
            return
        if not _NAME.fullmatch(node.text) or _LAST_LABEL_NUMERIC.fullmatch(node.text):
            raise self.unexpected(node, self._hint(node.text))
        _check_name(node.text, self)

    def _hint(self, text: str) -> str:
        if text in ("", "*"):
            return " (0.0.0.0 and :: stand for every address)"
        if text.startswith("["):
            return " (without brackets)"
        if re.fullmatch(r"[^:/]+:[0-9]*", text):
            return " (the port has a key of its own)"
        return ""

    def schema(self) -> JSONSchema:
        return {"type": "string", "pattern": "^[A-Za-z0-9._:%-]+$"}


class HostsKind(Kind[tuple[str, ...]]):
    """A list of host names that clients may use for the proxy in `Host`."""

    def expected(self) -> str:
        return "a list of host names; `*.a.example` stands for every subdomain of `a.example`"

    def read(self, node: Node, surroundings: Surroundings) -> tuple[str, ...]:
        if not isinstance(node, Sequence):
            raise self.unexpected(node, " (put it in brackets)" if isinstance(node, Scalar) else "")
        return tuple(self._name(each) for each in node.items)

    def _name(self, node: Node) -> str:
        if not isinstance(node, Scalar) or not _NAME.fullmatch(node.text.removeprefix("*.")):
            raise self.unexpected(node, " (without a port)" if ":" in getattr(node, "text", "") else "")
        _check_name(node.text.removeprefix("*."), self)
        return node.text

    def schema(self) -> JSONSchema:
        return {"type": "array", "items": {"type": "string", "pattern": r"^(\*\.)?[A-Za-z0-9._-]+$"}}


class ServerNameKind(Matching):
    """A host name or IP address for SNI and for certificate verification."""

    def check(self, node: Scalar) -> None:
        super().check(node)
        if listeners.address(node.text):
            return
        if ":" in node.text:
            raise self.unexpected(node)
        _check_name(node.text, self)


class URLKind(Text):
    """The URL of a logging server: a destination without a query."""

    def expected(self) -> str:
        return "an http:// or https:// URL"

    def check(self, node: Scalar) -> None:
        if not {"?", "#"}.isdisjoint(node.text):
            raise Mistake(f"expected {self.expected()} without query and fragment")
        _destination(node.text)

    def schema(self) -> JSONSchema:
        return {"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^/@?#\s]+(/[^?#\s]*)?$"}


class PatternKind(Kind[Pattern]):
    """A Go `http.ServeMux` pattern without wildcards."""

    def expected(self) -> str:
        return "a pattern such as /v1/ or GET api.example/v1/{$}"

    def read(self, node: Node, surroundings: Surroundings) -> Pattern:
        if not isinstance(node, Scalar) or node.type == "null":
            raise self.unexpected(node)
        try:
            pattern = parse(node.text)
        except PatternError as error:
            raise Mistake(f"{error.reason} (at offset {error.offset}): expected {self.expected()}") from None
        if uses_wildcards(pattern):
            raise Mistake("wildcards are not supported: expected none but a final {$}")
        return pattern

    def schema(self) -> JSONSchema:
        return {"type": "string", "pattern": r"^([^{]*/[^{]*|[^{]*/\{\$\})$"}


class DestinationKind(Kind[Destination]):
    """The URL to which a route forwards."""

    def expected(self) -> str:
        return "an http:// or https:// URL"

    def read(self, node: Node, surroundings: Surroundings) -> Destination:
        if not isinstance(node, Scalar) or node.type == "null":
            raise self.unexpected(node)
        return _destination(node.text)

    def schema(self) -> JSONSchema:
        return {"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^/@?#\s]+([/?][^#\s]*)?$"}


def _destination(text: str) -> Destination:
    try:
        return parse_destination(text)
    except DestinationError as error:
        raise Mistake(f"{error}: expected a URL such as http://127.0.0.1:1234/") from None


PORT = Integer(0, 65535, "a port")
HOST = HostKind()
HOSTS = HostsKind()
URL = URLKind()
PATTERN = PatternKind()
DESTINATION = DestinationKind()
_PATH = r"[^~\x00-\x1f\x7f][^\x00-\x1f\x7f]*"
DIRECTORY = Matching("a directory, relative to this file (~ is not expanded)", _PATH)
PATH = Matching("a path, relative to this file (~ is not expanded)", _PATH)
SERVER_NAME = ServerNameKind("a host name or an IP address", r"[A-Za-z0-9._:-]{1,254}")
NO_PROXY = Matching("domains, addresses and networks, separated by commas", r"[ -~]*")
NOT_FOUND_PATH = Matching("a path that begins with /, or an empty text", r"(/[!-\"$->@-z|~]*)?")
