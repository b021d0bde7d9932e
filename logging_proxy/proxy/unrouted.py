"""
Replies to requests without a route: method and path, the routes, and the base URL that may be meant.

To a client that uses the proxy as a forward proxy (`HTTP_PROXY`) they name the variable to set instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from logging_proxy.configuration.base_urls import BaseURL, base_urls_at, variables_of
from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.faults import shown
from logging_proxy.http.heads import RequestHead
from logging_proxy.proxy.answers import METHODS, ErrorReply
from logging_proxy.proxy.error_kinds import KINDS
from logging_proxy.proxy.guesses import MOST_COMPARED, asked, guessed_url, guesses
from logging_proxy.routing.patterns import Pattern, printable

MOST_LISTED = 20
"""Routes that an answer lists."""

MOST_GUESSES = 3
"""More routes that are equally likely are no guess."""

_MOST_VARIABLES = 4

_PLAIN = "404 page not found"


def no_route(head: RequestHead, path: bytes, routes: Sequence[RouteOptions], root: str) -> ErrorReply:
    """No route matches `path`, the path of the request's target."""
    message = f"no route matches {_asked(head.method, path)}"
    if not head.target.startswith(b"/"):
        message += f"; {_instead(head, routes, root)}"
    else:
        message += _hint(path, routes, root)
    return ErrorReply(KINDS["no_route"], message, "NOT_FOUND", routes=_listed(routes, root))


def plain_not_found() -> ErrorReply:
    """The reply where `server.not_found` is empty: it says nothing about the routes."""
    return ErrorReply(KINDS["no_route"], _PLAIN, "NOT_FOUND")


def method_not_allowed(head: RequestHead, path: bytes, allow: bytes) -> ErrorReply:
    """Routes match `path`, but only with the methods `allow`."""
    message = f"no route matches {_asked(head.method, path)}: it takes {allow.decode('latin-1')} only"
    return ErrorReply(KINDS["method_not_allowed"], message, "METHOD_NOT_ALLOWED", ((b"Allow", allow),))


def bad_target(reason: str) -> ErrorReply:
    """The request's target cannot be parsed, or not be mapped to the destination."""
    return ErrorReply(KINDS["bad_target"], f"the request target is refused: {reason}", "BAD_REQUEST")


def connect_refused(head: RequestHead, routes: Sequence[RouteOptions], root: str) -> ErrorReply:
    """A request for a tunnel.  Of this reply clients show the reason phrase only."""
    message = _instead(head, routes, root)
    fields = ((b"Allow", METHODS),)
    return ErrorReply(KINDS["reverse_proxy"], message, "NOT_FOUND", fields, phrase=message)


def wrong_host(head: RequestHead, routes: Sequence[RouteOptions], root: str) -> ErrorReply:
    """A request to a listener on loopback for a host that is not this machine."""
    if head.target.startswith(b"/"):
        message = (
            "the request is for a host that is no name of this machine, and a listener on loopback answers "
            "for no other: server.allowed_hosts in the configuration adds it"
        )
    else:
        message = _instead(head, routes, root)
    return ErrorReply(KINDS["wrong_host"], message, "WRONG_HOST")


# --- parts of messages ----------------------------------------------------------------------------


def _asked(method: bytes, path: bytes) -> str:
    """Method and path in printable form, without secrets; a query may hold anything and is left out."""
    if method == b"HEAD":
        method = b"GET"  # the length that HEAD is told must be that of GET's answer (RFC 9110 §8.6)
    return shown(method + b" " + path)


def _hint(path: bytes, routes: Sequence[RouteOptions], root: str) -> str:
    """The end of a sentence and a further one, or nothing."""
    found = guesses(path, routes)
    if not 0 < len(found) <= MOST_GUESSES:
        return ""
    only = found[0].pattern
    if len(found) == 1 and not only.multi and _is_below(path, only):
        text = str(only).removesuffix("{$}").rstrip("/")
        return f'. The route "{only}" takes this one path: "{text}/" would take everything below it.'
    style = asked(path).style
    known = [each for each in _urls(routes, root) if any(each.route is route for route in found)]
    *before, last = dict.fromkeys(printable(guessed_url(each, style)) for each in known)
    return f". Did you mean {', '.join(before)}{' or ' if before else ''}{last}?"


def _is_below(path: bytes, pattern: Pattern) -> bool:
    _, _, own = pattern.text.partition("/")
    return path.startswith(f"/{own.removesuffix('{$}').rstrip('/')}/".encode("utf-8", "surrogatepass"))


def _instead(head: RequestHead, routes: Sequence[RouteOptions], root: str) -> str:
    """The variable to set instead of HTTP_PROXY: that of the requested host, or those that there are."""
    urls = _urls(routes, root)
    wanted = _wanted(head)
    meant = [url for url in urls if url.route.destination.host.lower() == wanted]
    known = list(variables_of(meant)) or list(variables_of(urls))[:_MOST_VARIABLES]
    what = (
        " or ".join(f"{name}={printable(url)}" for name, url in known)
        or "the client's base URL to that of a route"
    )
    return f"this is a reverse proxy, which cannot be used as HTTP_PROXY or HTTPS_PROXY: set {what} instead"


def _wanted(head: RequestHead) -> str:
    """The host that a CONNECT or an absolute-form target names."""
    _, _, rest = head.target.rpartition(b"://")
    authority, _, _ = rest.partition(b"/")
    return authority.decode("latin-1").rpartition("@")[2].partition(":")[0].lower()


def _urls(routes: Sequence[RouteOptions], root: str) -> list[BaseURL]:
    """The base URLs of the first routes: the number is limited, because any client can cause the work."""
    return base_urls_at(root, routes[:MOST_COMPARED])


def _listed(routes: Sequence[RouteOptions], root: str) -> tuple[str, ...]:
    urls = _urls(routes, root)[:MOST_LISTED]
    lines = [f"{each.route.pattern} at {printable(each.url)}" for each in urls]
    more = len(routes) - len(lines)
    return (*lines, f"{more} more") if more else tuple(lines)
