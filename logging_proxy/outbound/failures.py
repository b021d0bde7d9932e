"""What can go wrong between us and an outbound proxy.  No text holds credentials."""

from __future__ import annotations

from logging_proxy.http.faults import NotConnected


class ProxyConnectFailed(NotConnected):
    """The outbound proxy did not connect us to the destination; the text says why."""


class ProxyAuthenticationFailed(ProxyConnectFailed):
    """It wants credentials, or others than ours."""


class ProxyUnreachable(ProxyConnectFailed):
    """There is no connection to the outbound proxy itself."""


class ProxyTimedOut(ProxyConnectFailed):
    """Proxy and destination together took too long."""
