"""Requests for http:// destinations as sent to an HTTP proxy (RFC 9112 §3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from logging_proxy.http.heads import ResponseHead, parse_response_head
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.failures import ProxyAuthenticationFailed
from logging_proxy.routing.mapping import Destination


@dataclass(frozen=True, slots=True)
class Forwarding:
    """
    Changes a request head for an HTTP proxy: the target in absolute-form, and the proxy's credentials.

    CONNECT would leave the head unchanged, but many proxies (squid and tinyproxy by default)
    allow it for port 443 only.  Like curl and Go, we use it for https:// destinations alone.
    """

    prefix: bytes
    authorization: bytes = field(repr=False)

    def head(self, onward: bytes) -> bytes:
        """Rewrite `onward`, a head for the destination without its blank line, for the proxy."""
        method, _, rest = onward.partition(b" ")
        return method + b" " + self.prefix + rest + self.authorization


def parse_forwarded_head(raw: bytes, most_fields: int) -> ResponseHead:
    """
    Like `parse_response_head`, but raises `ProxyAuthenticationFailed` for 407.

    A 407 comes from the outbound proxy; passed on, it would tell the client that this proxy
    asks for credentials.
    """
    head = parse_response_head(raw, most_fields)
    if head.status == 407:
        raise ProxyAuthenticationFailed("the outbound proxy wants other credentials (407)")
    return head


def forwarding_for(destination: Destination, proxy: ProxyAddress | None) -> Forwarding | None:
    """How heads for `destination` are changed for `proxy`; None if they are sent unchanged."""
    if proxy is None or destination.scheme != "http" or not proxy.speaks_http:
        return None
    authorization = b""
    if proxy.credentials is not None:
        authorization = b"Proxy-Authorization: " + proxy.credentials.basic() + b"\r\n"
    return Forwarding(b"http://" + destination.authority, authorization)
