"""An endpoint that connects through an outbound proxy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from logging_proxy.http.gathering import Gathering
from logging_proxy.http.limits import RESPONSE_HEAD_LIMIT
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.connect import ConnectHandshake
from logging_proxy.outbound.failures import ProxyConnectFailed, ProxyTimedOut, ProxyUnreachable
from logging_proxy.outbound.handshakes import Handshake, NoHandshake
from logging_proxy.outbound.ourselves import LeadsToOurselves
from logging_proxy.outbound.resolving import Find, find_addresses
from logging_proxy.outbound.socks import Socks5Handshake
from logging_proxy.routing.mapping import Destination
from logging_proxy.tls.reasons import explain


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    Connects to `destination` through `proxy`, which is reached by `to_proxy`.

    Name resolution, the connection to the proxy, TLS with an https:// proxy and the
    handshake together take at most `timeout` seconds.  Fails with `ProxyConnectFailed`
    or a subclass, whose texts name the proxy without its credentials, or with
    `DNSLookupError` for the destination.  The protocol gets the transport of the
    connection to the proxy, and any bytes that the destination has already sent.
    """

    def __init__(
        self,
        reactor: Any,
        proxy: ProxyAddress,
        to_proxy: IStreamClientEndpoint,
        destination: Destination,
        timeout: float,
        find: Find = find_addresses,
    ) -> None:
        self._reactor = reactor
        self._find = find
        self._proxy = proxy
        self._to_proxy = to_proxy
        self._destination = destination
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<ProxyEndpoint {self._destination.authority.decode()} through {self._proxy}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        connecting.addTimeout(self._timeout, self._reactor, self._timed_out)
        return connecting

    def _timed_out(self, reason: object, seconds: float) -> NoReturn:
        raise ProxyTimedOut(f"{self._proxy}: not connected within {seconds:g} s")

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            handshake = await self._handshake()
            secure = self._proxy.scheme == "https"
            tunnel = await self._to_tunnel(_Tunnels(factory, handshake, secure, self._reactor))
            return await tunnel.ready
        except ProxyConnectFailed as failure:
            named = type(failure)(f"{self._proxy}: {failure}")
            named.kept = failure.kept
            raise named from None

    async def _to_tunnel(self, tunnels: _Tunnels) -> _Tunnel:
        try:
            tunnel: Any = await self._to_proxy.connect(tunnels)
        except (CancelledError, LeadsToOurselves):
            raise
        except Exception as error:
            raise ProxyUnreachable(explain(Failure(error))) from error
        assert isinstance(tunnel, _Tunnel)
        return tunnel

    async def _handshake(self) -> Callable[[], Handshake]:
        proxy, destination = self._proxy, self._destination
        if proxy.speaks_http:
            if destination.scheme == "http":
                return NoHandshake
            return partial(ConnectHandshake, destination.host, destination.port, proxy.credentials)
        host = destination.host
        if proxy.scheme == "socks5":
            host = await _resolved(self._reactor, self._find, host)
        return partial(Socks5Handshake, host, destination.port, proxy.credentials)


class _Tunnels(Factory):
    """Wraps the protocol in a tunnel for each attempt at a connection."""

    noisy = False

    def __init__(
        self,
        inner: IProtocolFactory,
        handshake: Callable[[], Handshake],
        secure: bool,
        clock: IReactorTime,
    ) -> None:
        self._inner = inner
        self._handshake = handshake
        self._secure = secure
        self._clock = clock

    def doStart(self) -> None:
        self._inner.doStart()
        super().doStart()  # type: ignore[no-untyped-call]

    def doStop(self) -> None:
        self._inner.doStop()
        super().doStop()  # type: ignore[no-untyped-call]

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        assert addr is not None
        inner = self._inner.buildProtocol(addr)
        return None if inner is None else _Tunnel(inner, self._handshake(), self._secure, self._clock)


@implementer(IHandshakeListener)
class _Tunnel(Protocol):
    """
    Performs the handshake with the proxy, then hands the transport to the inner protocol.

    `ready` fires with the inner protocol, or fails.
    """

    transport: Any

    def __init__(self, inner: IProtocol, handshake: Handshake, secure: bool, clock: IReactorTime) -> None:
        self.ready: Deferred[IProtocol] = Deferred(lambda _: self.transport.abortConnection())
        self._inner: Any = inner
        self._handshake = handshake
        self._awaits_tls = secure
        self._handed_over = False
        self._clock = clock
        self._heard = b""
        """Bytes received from the proxy, up to the limit for a response head."""
        self._gathering: Gathering | None = None
        if IHalfCloseableProtocol.providedBy(inner):
            directlyProvides(self, IHalfCloseableProtocol, IHandshakeListener)

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        if not self._awaits_tls:
            self._say(self._handshake.start)

    def handshakeCompleted(self) -> None:
        """The https:// proxy's certificate is verified; only now may credentials be sent."""
        self._awaits_tls = False
        self._say(self._handshake.start)

    def dataReceived(self, data: bytes) -> None:
        if self._gathering is not None:
            self._gathering.add(data)
            return
        self._heard += data[: RESPONSE_HEAD_LIMIT - len(self._heard)]
        self._say(lambda: self._handshake.feed(data))

    def _say(self, step: Callable[[], bytes]) -> None:
        try:
            words = step()
        except ProxyConnectFailed as failure:
            self._refuse(failure)
            return
        if words:
            self.transport.write(words)
        if self._handshake.done:
            self._hand_over()

    def _hand_over(self) -> None:
        inner, rest = self._inner, self._handshake.rest
        self._handed_over = True
        self._heard = b""
        self.dataReceived = inner.dataReceived  # type: ignore[method-assign]
        inner.makeConnection(self.transport)
        self.ready.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, failure: ProxyConnectFailed) -> None:
        """Fail with the proxy's answer, which may have been received in pieces."""
        if self._heard:
            self._gathering = Gathering(
                self._clock, RESPONSE_HEAD_LIMIT, lambda kept: self._fail(failure, kept)
            )
            self._gathering.begin(self._heard)
        else:
            self._fail(failure, b"")

    def _fail(self, failure: ProxyConnectFailed, kept: bytes) -> None:
        if not self.ready.called:
            failure.kept = kept
            self.ready.errback(Failure(failure))
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        if self._handed_over:
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if self._handed_over:
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._handed_over:
            self._inner.connectionLost(reason)
        elif self._gathering is not None:
            self._gathering.finish()
        else:
            kind = ProxyUnreachable if self._awaits_tls else ProxyConnectFailed
            self._fail(kind(f"lost before it had connected us: {explain(reason)}"), self._heard)


async def _resolved(reactor: Any, find: Find, host: str) -> str:
    """Resolve `host`.  IPv4 addresses are preferred, because more proxies can reach them."""
    try:
        return str(ip_address(host))
    except ValueError:
        found = await find(reactor, host, 0)
    return min((address.host for address in found), key=lambda address: ":" in address)
