"""Errors of connections through an outbound proxy.  No text contains credentials."""

from __future__ import annotations

from logging_proxy.http.faults import NotConnected


class ProxyConnectFailed(NotConnected):
    """The outbound proxy did not connect to the destination; the text gives the reason."""


class ProxyAuthenticationFailed(ProxyConnectFailed):
    """The outbound proxy requires credentials, or rejected those that it was given."""


class ProxyUnreachable(ProxyConnectFailed):
    """The outbound proxy itself cannot be reached."""


class ProxyTimedOut(ProxyConnectFailed):
    """Connecting to the proxy and the destination took too long in all."""
