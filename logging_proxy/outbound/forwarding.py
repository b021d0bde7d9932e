"""Requests for http:// destinations, as an HTTP proxy is asked for them (RFC 9112 §3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from logging_proxy.http.heads import ResponseHead, parse_response_head
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.failures import ProxyAuthenticationFailed
from logging_proxy.routing.mapping import Destination


@dataclass(frozen=True, slots=True)
class Forwarding:
    """
    What a request head gets on its way to an HTTP proxy: the target in absolute-form, our credentials.

    CONNECT would leave the head alone, but proxies commonly allow it to port 443 only (squid and tinyproxy
    are shipped so).  Like curl and Go we use it for https:// alone.
    """

    prefix: bytes
    authorization: bytes = field(repr=False)

    def head(self, onward: bytes) -> bytes:
        """`onward`, a head for the destination without its blank line, as the proxy is sent it."""
        method, _, rest = onward.partition(b" ")
        return method + b" " + self.prefix + rest + self.authorization


def parse_forwarded_head(raw: bytes, most_fields: int) -> ResponseHead:
    """
    As `parse_response_head`, but 407 is the outbound proxy's own: `ProxyAuthenticationFailed`.

    A client that saw it would think that we want its credentials.
    """
    head = parse_response_head(raw, most_fields)
    if head.status == 407:
        raise ProxyAuthenticationFailed("the outbound proxy wants other credentials (407)")
    return head


def forwarding_for(destination: Destination, proxy: ProxyAddress | None) -> Forwarding | None:
    """How heads for `destination` change on their way through `proxy`; None if they do not."""
    if proxy is None or destination.scheme != "http" or not proxy.speaks_http:
        return None
    authorization = b""
    if proxy.credentials is not None:
        authorization = b"Proxy-Authorization: " + proxy.credentials.basic() + b"\r\n"
    return Forwarding(b"http://" + destination.authority, authorization)
