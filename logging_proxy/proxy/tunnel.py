"""
A tunnel: the two connections of an exchange after a switch of protocols (RFC 9110 §7.8).

Raw bytes pass in two directions, each with its own flow control, and each piece is
recorded before it is passed on.  A half-close of one direction is passed on and
leaves the other open; the tunnel is complete when both have ended.  TLS has no
half-close: after a close in good order the other side has a moment to end too, and
bytes that can no longer be delivered make the tunnel incomplete.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from logging_proxy.http.faults import ClientGivenUp
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.delayed_reset import reset_when_received
from logging_proxy.proxy.directions import Direction
from logging_proxy.proxy.failures import Verdict, cut_short
from logging_proxy.recording.events import Capture
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.recording.writer import Passed

_LAST = int(Flag.LAST)


class TunnelDirection(Direction):
    """One direction of a tunnel; the `TunnelEnd` of the connection that it comes from."""

    __slots__ = ("_tunnel", "done", "over")

    kind: int

    def __init__(
        self, tunnel: Tunnel, source: ServerConnection | ProxyClient, capture: Capture | None
    ) -> None:
        super().__init__(source, capture)
        self._tunnel = tunnel
        self.done = False
        """The source has ended its sending."""
        self.over = False
        """The source has ended its sending, and everything from it has been handed over."""

    def bytesReceived(self, data: bytes) -> None:
        if self.sink is None:
            self._tunnel.undeliverable(self)
            return
        self._counted += len(data)
        if self._capture is not None:
            self._capture.passed((self.kind, 0, data))
        self.pass_on(data)

    def sendingEnded(self) -> None:
        if not (self.done or self._tunnel.ended):
            self.done = True
            self._tunnel.direction_done(self)
            self.finished()

    def connectionLost(self, reason: Failure) -> None:
        self._tunnel.lost(self, reason)

    def ended(self) -> None:
        self.over = True
        self._tunnel.direction_over(self)


class ToUpstream(TunnelDirection):
    """The direction of bytes from the client."""

    __slots__ = ("_upstream",)

    kind = int(Kind.TUNNEL_CLIENT)

    def __init__(
        self, tunnel: Tunnel, client: ServerConnection, upstream: ProxyClient, capture: Capture | None
    ) -> None:
        super().__init__(tunnel, client, capture)
        self._upstream = upstream
        self.sink = upstream

    def bytesReceived(self, data: bytes) -> None:
        super().bytesReceived(data)
        self._upstream.sending()


class ToClient(TunnelDirection):
    """The direction of bytes from the upstream."""

    __slots__ = ("_client", "_cut")

    kind = int(Kind.TUNNEL_UPSTREAM)

    def __init__(
        self, tunnel: Tunnel, upstream: ProxyClient, client: ServerConnection, capture: Capture | None
    ) -> None:
        super().__init__(tunnel, upstream, capture)
        self._client = client
        self._cut = False
        self.sink = client

    def cut(self) -> None:
        """No more bytes come: the client gets those that were received, and is reset."""
        self._cut = True
        self.finished()

    def ended(self) -> None:
        if self._cut:
            self.stop()
            reset_when_received(self._client)
        else:
            super().ended()

    def sink_stalls(self) -> None:
        self._client.stalls()

    def sink_flows(self) -> None:
        self._client.flows()


class Tunnel:
    """
    Both directions of one exchange's tunnel, and how it ends.

    `publish_end` is that of the exchange.  `over` is called when the exchange has ended and its
    connections are released; perhaps more than once.
    """

    __slots__ = (
        "_capture",
        "_client",
        "_client_gone",
        "_over",
        "_publish_end",
        "_upstream",
        "ended",
        "to_client",
        "to_upstream",
    )

    def __init__(
        self,
        client: ServerConnection,
        upstream: ProxyClient,
        capture: Capture | None,
        publish_end: Callable[[Passed, str, str], None],
        over: Callable[[], None],
    ) -> None:
        self.to_upstream = ToUpstream(self, client, upstream, capture)
        self.to_client = ToClient(self, upstream, client, capture)
        self._client = client
        self._upstream = upstream
        self._capture = capture
        self._publish_end = publish_end
        self._over = over
        self._client_gone = False
        self.ended = False
        """The END record is written."""

    def begin(self, first: bytes, size: int) -> None:
        """Send `first`, which is recorded already, and let bytes pass.  Its last `size` are the tunnel's."""
        self.to_client.count(size)
        self.to_client.pass_on(first)
        self._upstream.switch(self.to_client)
        self._client.switch(self.to_upstream)

    def interrupt(self, verdict: Verdict) -> None:
        """The proxy ends now."""
        if not self.ended:
            self._fail(verdict.outcome, verdict.error)

    # --- ends in good order ---------------------------------------------------------------

    def direction_done(self, direction: TunnelDirection) -> None:
        """The source of `direction` has ended its sending."""
        last = (direction.kind, _LAST, b"")
        if self.to_client.done and self.to_upstream.done:
            self.ended = True
            self._publish_end((last,), "complete", "")
        elif self._capture is not None:
            self._capture.passed(last)

    def direction_over(self, direction: TunnelDirection) -> None:
        """Everything of `direction` has been handed over: pass its end on."""
        sink = direction.sink
        direction.stop()
        if self.to_client.over and self.to_upstream.over:
            self._close()
        elif isinstance(sink, ServerConnection | ProxyClient):
            sink.endSending()

    def _close(self) -> None:
        self.to_upstream.stop()
        self.to_client.stop()
        self._upstream.close()
        self._over()
        self._client.finish(False)

    # --- other ends -------------------------------------------------------------------------

    def lost(self, direction: TunnelDirection, reason: Failure) -> None:
        """The connection that `direction` comes from is gone."""
        if self.ended:
            self._close()
        elif reason.check(ConnectionDone):
            self._closed(direction)
        elif direction is self.to_upstream or self._client_gone:
            self._fail("client_closed", "" if direction is self.to_client else _text(reason))
        else:
            ruling = cut_short(reason, self.to_client.size, self._upstream.seconds, "")
            self._fail(ruling.outcome, ruling.error)

    def _closed(self, direction: TunnelDirection) -> None:
        """The source has closed in good order; the other side has a moment to end too, if nothing waits."""
        back = self.to_client if direction is self.to_upstream else self.to_upstream
        self._client_gone = direction is self.to_upstream
        if back.withdraw():
            self.undeliverable(back)
            return
        direction.sendingEnded()
        if self.ended:
            return
        if self._client_gone:
            self._upstream.hurry()
        else:
            self._client.hurry()

    def undeliverable(self, direction: TunnelDirection) -> None:
        """Bytes were received for a connection that is lost, or after the end of the tunnel."""
        if self.ended:
            return
        if direction is self.to_client:
            self._fail("client_closed", "")
        else:
            self._fail("upstream_closed", "")

    def _fail(self, outcome: str, error: str) -> None:
        self.ended = True
        self._publish_end((), outcome, error)
        self.to_upstream.stop()
        self._upstream.discard()
        self._over()
        if outcome == "client_closed":
            self.to_client.stop()
            self._client.abort()
        else:
            self.to_client.cut()


def _text(reason: Failure) -> str:
    """Why the client was given up; empty if it has simply left."""
    return str(reason.value) if reason.check(ClientGivenUp) else ""
