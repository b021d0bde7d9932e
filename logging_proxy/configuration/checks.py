"""Checks across keys: listeners that collide, a missing token, conflicting routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from logging_proxy.configuration.listeners import collide, is_loopback, reaches
from logging_proxy.configuration.options import (
    HttpClientOptions,
    LoggingOptions,
    LoggingServerOptions,
    ServerOptions,
)
from logging_proxy.configuration.problems import Findings, KeyPath, Position, Problem, key_name
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.routing.mapping import Destination, parse_destination
from logging_proxy.routing.mux import Mux, PatternConflict
from logging_proxy.routing.patterns import Pattern

SERVER_HOST, SERVER_PORT = ("server", "host"), ("server", "port")
LOG_HOST, LOG_PORT, TOKEN = (
    ("logging_server", "host"),
    ("logging_server", "port"),
    ("logging_server", "token"),
)
OPEN_TO = ("logging_server", "open_to")
SERVER_URL = ("logging", "server_url")

SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class RouteDraft:
    """A route with those of its values that could be read."""

    name: str
    position: Position
    values: Mapping[str, Any]

    @property
    def path(self) -> KeyPath:
        return ("routes", key_name(("routes",), self.name))


@dataclass(frozen=True, slots=True)
class Draft:
    """The file with the values that could be read; a key with a mistake has its default."""

    server: ServerOptions
    http_client: HttpClientOptions
    logging: LoggingOptions
    logging_server: LoggingServerOptions
    routes: tuple[RouteDraft, ...]


def check(draft: Draft, findings: Findings) -> None:
    """Add the mistakes that involve several keys.  Keys that already have a mistake are left out."""
    for route in draft.routes:
        _check_destination(route, draft, findings)
    _check_patterns(draft.routes, findings)
    _check_server_url(draft, findings)
    # Listener mistakes are added last, because they would exclude the listeners from the checks above.
    _check_ports(draft, findings)
    _check_token(draft, findings)


def _check_token(draft: Draft, findings: Findings) -> None:
    options = draft.logging_server
    if findings.sound(LOG_HOST, TOKEN) and options.token is None and not is_loopback(options.host):
        message = "others can reach this host: expected logging_server.token to be set, or a loopback host"
        findings.add(findings.position(LOG_HOST), LOG_HOST, message)


def warnings(draft: Draft, findings: Findings) -> Iterator[Problem]:
    """Warn about a logging server that every user of this machine can read."""
    options = draft.logging_server
    if options.open_to != "machine":
        return
    message = "every user of this machine can read all that is captured, keys included"
    if options.token is not None:
        message = "this has no effect: logging_server.token is required from every client"
    yield findings.problem(findings.position(OPEN_TO), OPEN_TO, message)


def weak_token(draft: Draft, findings: Findings) -> Iterator[Problem]:
    """Warn about a token that is short enough to guess, since wrong tokens never lock out correct ones."""
    token = draft.logging_server.token
    if token is not None and len(token.value) < SHORTEST_TOKEN:
        message = f"shorter than {SHORTEST_TOKEN} characters: it may be found by trying"
        yield findings.problem(findings.position(TOKEN), TOKEN, message)


def _check_ports(draft: Draft, findings: Findings) -> None:
    port = draft.server.port
    if draft.logging.server_url is not None or port == 0 or port != draft.logging_server.port:
        return
    paths = (LOG_PORT, SERVER_PORT, LOG_HOST, SERVER_HOST)
    if findings.sound(*paths, SERVER_URL) and collide(draft.server.host, draft.logging_server.host):
        path = findings.given(*paths)
        message = f"the proxy and the embedded logging server both listen on port {port}: expected two ports"
        findings.add(findings.position(path), path, message)


def _check_server_url(draft: Draft, findings: Findings) -> None:
    url = draft.logging.server_url
    if url is None or not findings.sound(SERVER_HOST, SERVER_PORT):
        return
    if arrives(parse_destination(url), draft.server.host, draft.server.port):
        message = "this is the proxy's own listener: expected the address of a logging server"
        findings.add(findings.position(SERVER_URL), SERVER_URL, message)


def _check_destination(route: RouteDraft, draft: Draft, findings: Findings) -> None:
    destination = route.values.get("destination")
    if destination is None:
        return
    for owner, host, port in own_listeners(draft, findings):
        if arrives(destination, host, port):
            path = (*route.path, "destination")
            message = f"this is {owner} own listener: expected another server"
            findings.add(findings.position(path), path, message)


def own_listeners(draft: Draft, findings: Findings) -> Iterator[tuple[str, str, int]]:
    """Section, host and port of every listener without a mistake."""
    if findings.sound(SERVER_HOST, SERVER_PORT):
        yield "the proxy's", draft.server.host, draft.server.port
    if draft.logging.server_url is None and findings.sound(LOG_HOST, LOG_PORT, SERVER_URL):
        yield "the embedded logging server's", draft.logging_server.host, draft.logging_server.port


def arrives(target: Destination | ProxyAddress, host: str, port: int) -> bool:
    """Whether a connection to `target` reaches a listener on `host` and `port`."""
    return target.port == port and reaches(target.host, host)


def _check_patterns(routes: tuple[RouteDraft, ...], findings: Findings) -> None:
    mux: Mux[RouteDraft] = Mux()
    registered: dict[Pattern, RouteDraft] = {}
    for route in routes:
        if "pattern" not in route.values:
            continue
        pattern = route.values["pattern"]
        try:
            mux.add(pattern, route)
            registered[pattern] = route
        except PatternConflict as conflict:
            path, other = (*route.path, "pattern"), registered[conflict.earlier]
            message = f"{conflict} ({'.'.join(other.path)} in line {other.position.line})"
            findings.add(findings.position(path), path, message)
