"""
Warnings about routes that are valid, and probably not what was meant.

Go's `http.ServeMux` accepts all of these patterns, so they are no mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator

from logging_proxy.configuration import listeners
from logging_proxy.configuration.base_urls import VERSION, is_provider, provider_of
from logging_proxy.configuration.checks import Draft, RouteDraft
from logging_proxy.configuration.problems import Findings, Problem
from logging_proxy.routing.mapping import Destination, destination_url
from logging_proxy.routing.paths import END, clean_path
from logging_proxy.routing.patterns import Pattern, printable

_ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
"""Ends of URLs that are an operation of an API, where a base URL is expected."""


def warnings(draft: Draft, findings: Findings) -> Iterator[Problem]:
    """Warn about routes that do not do what they look like."""
    if not draft.routes and findings.sound(("routes",)):
        message = "no routes: every request is answered 404"
        yield findings.problem(findings.position(("routes",)), ("routes",), message)
    subtrees = {route.values["pattern"].text for route in draft.routes if "pattern" in route.values}
    for route in draft.routes:
        for key, message in _of_route(route, subtrees, draft.server.allowed_hosts):
            path = (*route.path, key)
            yield findings.problem(findings.position(path), path, message)


def _of_route(
    route: RouteDraft, patterns: set[str], allowed_hosts: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Pairs of a key and a message."""
    pattern: Pattern | None = route.values.get("pattern")
    destination: Destination | None = route.values.get("destination")
    if pattern is None:
        return
    trap = _method(pattern) or _host(pattern, allowed_hosts) or _path(pattern)
    if trap:
        yield "pattern", trap
    if destination is None:
        return
    if not trap and (trap := _single_path(pattern, destination, patterns)):
        yield "pattern", trap
    if trap := _plain(destination) or _endpoint(pattern, destination) or _version(pattern, destination):
        yield "destination", trap


# --- the pattern ------------------------------------------------------------------------


def _path_of(pattern: Pattern) -> str:
    _, _, path = pattern.text.partition("/")
    return printable(f"/{path}")


def _method(pattern: Pattern) -> str:
    method = pattern.method.decode("latin-1")
    if method == method.upper():
        return ""
    return f"methods are compared as they are written: only '{method}' matches, expected {method.upper()}"


def _host(pattern: Pattern, allowed_hosts: tuple[str, ...]) -> str:
    host = printable(pattern.host.decode("utf-8", "replace"))
    if not host:
        return ""
    path = _path_of(pattern)
    if host in ("http:", "https:"):
        meant = path.lstrip("/")
        return f"a pattern has no scheme: '{host}' is taken for a host, and never matches; expected {meant}"
    if "*" in host:
        return f"* is no wildcard: only requests for a host that is called '{host}' match"
    if host.startswith("["):
        bare = host.strip("[]")
        return f"only requests without a port match; with one, as clients send it, the host is {bare}"
    if listeners.address(host):
        return ""
    if ":" in host:
        return f"the host of a pattern has no port: '{host}' never matches"
    if "" in host.removesuffix(".").split("."):
        return f"the host '{host}' has an empty label: it never matches"
    if host != host.lower():
        return f"hosts are compared as they are written, and clients send {host.lower()}"
    if "." in host or host == "localhost" or host in allowed_hosts:
        return ""
    meant = f"for the path write /{host}{path}"
    return f"'{host}' is a host here: only requests for http://{host}{path} match; {meant}"


def _path(pattern: Pattern) -> str:
    path = _path_of(pattern)
    for segment in pattern.segments:
        text = printable(segment.value.decode("utf-8", "replace"))
        if not segment.wild and segment.value != END and ("*" in text or text.startswith(":")):
            start = path[: path.find(text)]
            meant = f"for everything below {start} write {start}"
            return f"'{text}' is no wildcard, it matches itself alone; {meant}"
    if "//" in path:
        return "an empty segment matches any one segment, and clients are redirected to paths without '//'"
    if clean_path(path.encode()) != path.encode():
        return "it never matches: clients are redirected to paths without '.' and '..'"
    return ""


def _single_path(pattern: Pattern, destination: Destination, patterns: set[str]) -> str:
    """A pattern for one path, and a destination that looks like the base of many."""
    path, text = _path_of(pattern), printable(pattern.text)
    if pattern.is_subtree or pattern.segments[-1].value == END or f"{pattern.text}/" in patterns:
        return ""
    to = destination.path.decode()
    if not (to.endswith("/") or VERSION.fullmatch(_last(to))):
        return ""
    return f"this is the path {path} alone, without what is below it; for all of that write {text}/"


# --- the destination --------------------------------------------------------------------


def _plain(destination: Destination) -> str:
    if destination.scheme == "https" or not is_provider(destination):
        return ""
    return "API keys would be sent without encryption: expected https://"


def _endpoint(pattern: Pattern, destination: Destination) -> str:
    to = destination.path.decode().rstrip("/")
    if not pattern.is_subtree or not to.endswith(_ENDPOINTS):
        return ""
    base = next(to.removesuffix(end) for end in _ENDPOINTS if to.endswith(end))
    return f"what is below the pattern is appended to this URL: expected {_url(destination, base)}"


def _version(pattern: Pattern, destination: Destination) -> str:
    """A version such as `/v1` that would be there twice, or not at all."""
    if not pattern.is_subtree:
        return ""
    to, path = destination.path.decode().rstrip("/"), _path_of(pattern).rstrip("/")
    theirs, ours = _last(to), _last(path)
    if VERSION.fullmatch(theirs) and ours != theirs:
        meant = f"{_url(destination, to.removesuffix(theirs))}, or the pattern {path}{theirs}/"
        asked, sent = f"{path}{theirs}/models", f"{to}{theirs}/models"
    elif VERSION.fullmatch(ours) and provider_of(destination) is not None and ours not in to:
        meant = _url(destination, to + ours)
        asked, sent = f"{path}/models", f"{to}/models"
    else:
        return ""
    return f"a request for {asked} would go to {sent}: expected {meant}"


def _url(destination: Destination, path: str) -> str:
    return destination_url(destination, f"{path}/".encode()).decode()


def _last(path: str) -> str:
    """The last segment with its slash."""
    return path[path.rfind("/") :]
