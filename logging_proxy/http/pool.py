"""
Connections to one destination: idle ones kept for the next request, new ones made.

The youngest idle connection is used first: it is the least likely to have been
closed by the upstream, and the others can reach their idle time-out.  After some
responses a connection rests before it is idle (see `reuse`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.heads import HeadCache, ResponseHead, parse_response_head
from logging_proxy.http.limits import ClientLimits as ClientLimits
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.reuse import REST, Reuse


class _Clients(Factory):
    """Makes the protocol of one connection attempt."""

    noisy = False

    def __init__(self, pool: Pool, secure: bool) -> None:
        self._pool = pool
        self._handshake_until = pool.now() + pool.limits.connect_timeout if secure else None
        self._client: ProxyClient | None = None
        self.connecting: Deferred[IProtocol] | None = None
        self.ready: Deferred[ProxyClient] = Deferred(self._give_up)

    def buildProtocol(self, addr: object) -> ProxyClient:
        self._client = ProxyClient(self._pool, self.ready, self._handshake_until)
        return self._client

    def failed(self, reason: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(reason)

    def _give_up(self, _: object) -> None:
        """TCP is connected; the TLS handshake may still be under way."""
        if self.connecting is not None:
            self.connecting.cancel()
        if self._client is not None:
            self._client.discard()


class Pool:
    """
    The connections to one destination.

    `take` gives an idle connection at once or None; `connect` makes a new one.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        clock: IReactorTime,
        deadlines: Deadlines,
        limits: ClientLimits,
        secure: bool,
        name: str = "",
        parse_head: Callable[[bytes, int], ResponseHead] = parse_response_head,
    ) -> None:
        self.now: Callable[[], float] = clock.seconds
        self.clock = clock
        self.limits = limits
        self.heads = HeadCache(parse_head, limits.header_fields)
        self._endpoint = endpoint
        self._deadlines = deadlines
        self._secure = secure
        self._name = name
        self._idle: list[ProxyClient] = []
        self._resting: deque[ProxyClient] = deque()
        """The oldest first; each becomes idle after its rest."""
        self._open: set[ProxyClient] = set()
        self._closed = False

    def __str__(self) -> str:
        return self._name

    def take(self) -> ProxyClient | None:
        """An idle connection that is still open, as far as can be known; or None."""
        now = self.now()
        while self._resting and self._resting[0].idle_since + REST <= now:
            self._idle.append(self._resting.popleft())
        while self._idle:
            client = self._idle.pop()
            if now - client.born > self.limits.pool_max_age or client.deadline <= now:
                client.close()
            elif not client.looks_closed():
                return client
        return None

    def connect(self) -> Deferred[ProxyClient]:
        """
        A new connection, TLS verified.  Cancelling it gives it up.

        Fails with the endpoint's failure, with `HandshakeFailed`, or with an error of pyOpenSSL.
        """
        factory = _Clients(self, self._secure)
        factory.connecting = self._endpoint.connect(factory)
        factory.connecting.addErrback(factory.failed)
        return factory.ready

    def put_back(self, client: ProxyClient, reuse: Reuse) -> None:
        """The connection's response is complete; it may be used again as `reuse` says."""
        if self._closed or len(self._idle) + len(self._resting) >= self.limits.pool_size:
            client.close()
            return
        keep = self.limits.pool_idle_timeout
        client.deadline = client.idle_since + (keep if keep < reuse.keep else reuse.keep)
        if reuse.rest:
            self._resting.append(client)
        else:
            self._idle.append(client)

    def forget(self, client: ProxyClient) -> None:
        """The connection must not be used again."""
        for kept in (self._idle, self._resting):
            if client in kept:
                kept.remove(client)

    def opened(self, client: ProxyClient) -> None:
        self._open.add(client)
        self._deadlines.watch(client)

    def closed(self, client: ProxyClient) -> None:
        self.forget(client)
        self._open.discard(client)
        self._deadlines.forget(client)

    def close(self) -> None:
        """Close idle connections now, and the others when their responses are complete."""
        self._closed = True
        kept = [*self._idle, *self._resting]
        self._idle.clear()
        self._resting.clear()
        for client in kept:
            client.close()
