"""Endpoints for connections to a destination: by address or name, with TLS, through an outbound proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.configuration.options import UpstreamTLS
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.endpoint import ProxyEndpoint
from logging_proxy.outbound.ourselves import LeadsToOurselves, Ourselves
from logging_proxy.outbound.resolving import Address, Find, find_addresses
from logging_proxy.routing.mapping import Destination
from logging_proxy.tls.names import address_of
from logging_proxy.tls.upstream import client_creator

ATTEMPT_DELAY = 0.25
"""Seconds until the next address is tried in parallel (RFC 8305 §8 recommends 250 ms)."""

NOBODY = Ourselves()


def endpoint_for(
    reactor: Any,
    destination: Destination,
    timeout: float,
    tls: UpstreamTLS | None = None,
    proxy: ProxyAddress | None = None,
    ourselves: Ourselves = NOBODY,
) -> IStreamClientEndpoint:
    """
    TCP or TLS to `destination`, through `proxy` if there is one.

    The connection below TLS must be established within `timeout` seconds.  TLS verifies the certificate's
    chain and name before any byte of a request is sent, unless `tls` says otherwise, and offers only
    HTTP/1.1 in ALPN.  A connection that would lead to `ourselves` is not made, and fails with
    `LeadsToOurselves`.
    """
    if proxy is None:
        endpoint = _tcp(reactor, destination, timeout, ourselves)
    else:
        to_proxy = _to_proxy(reactor, proxy, timeout, ourselves)
        endpoint = ProxyEndpoint(reactor, proxy, to_proxy, destination, timeout)
    if destination.scheme == "https":
        endpoint = wrapClientTLS(client_creator(destination.host, tls), endpoint)
    return endpoint


def _to_proxy(
    reactor: Any, proxy: ProxyAddress, timeout: float, ourselves: Ourselves
) -> IStreamClientEndpoint:
    """TCP, or TLS for an https:// proxy, whose certificate is verified with the system's CAs."""
    endpoint = _tcp(reactor, proxy, timeout, ourselves)
    if proxy.scheme == "https":
        endpoint = wrapClientTLS(client_creator(proxy.host), endpoint)
    return endpoint


def _tcp(
    reactor: Any, peer: Destination | ProxyAddress, timeout: float, ourselves: Ourselves
) -> IStreamClientEndpoint:
    """TCP to `peer`; only a name has to be resolved, which needs a thread."""
    address = address_of(peer.host)
    if address is None:
        return NameEndpoint(reactor, peer.host, peer.port, timeout, ourselves)
    endpoint = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
    return AddressEndpoint(
        endpoint(reactor, peer.host, peer.port, timeout=timeout), peer.host, peer.port, timeout, ourselves
    )


@implementer(IStreamClientEndpoint)
class AddressEndpoint:
    """TCP to an address, unless it is our own: listeners may change after the configuration is checked."""

    def __init__(
        self, endpoint: IStreamClientEndpoint, host: str, port: int, timeout: float, ourselves: Ourselves
    ) -> None:
        """`timeout` is the one that `endpoint` has, for the error's text."""
        self._endpoint = endpoint
        self._host = host
        self._port = port
        self._timeout = timeout
        self._ourselves = ourselves

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        try:
            self._ourselves.check(self._host, self._port)
        except LeadsToOurselves:
            return fail()
        return self._endpoint.connect(protocolFactory).addErrback(self._with_time)

    def _with_time(self, reason: Failure) -> Failure:
        return timed_out(self._timeout) if reason.check(error.TimeoutError) else reason


def timed_out(seconds: float) -> Failure:
    """There is no connection after `seconds`."""
    return Failure(error.TimeoutError(f"no connection within {seconds:g} s"))


@implementer(IStreamClientEndpoint)
class NameEndpoint:
    """
    TCP to a name, at the first of its addresses that accepts.

    The addresses are tried in the resolver's order: the next one at once when an attempt fails, and in
    parallel when an attempt has taken `ATTEMPT_DELAY`.  (Twisted's `HostnameEndpoint` waits for its delay
    even after a refusal: 300 ms for each connection to a `localhost` that listens on 127.0.0.1 only.)
    `timeout` seconds are for all of this, name resolution included.  Addresses that lead to `ourselves` are
    not tried.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        ourselves: Ourselves = NOBODY,
        find: Find = find_addresses,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._ourselves = ourselves
        self._find = find

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempts = _Attempts(self._reactor, protocolFactory, self._timeout, self._ourselves)
        attempts.begin(self._find(self._reactor, self._host, self._port))
        return attempts.winner


class _Attempts:
    """The attempts of one `connect`.  `winner` fires or fails once; then the others are cancelled."""

    def __init__(self, reactor: Any, factory: IProtocolFactory, timeout: float, ourselves: Ourselves) -> None:
        self.winner: Deferred[IProtocol] = Deferred(lambda _: self._end())
        self._reactor = reactor
        self._factory = factory
        self._timeout = timeout
        self._ourselves = ourselves
        self._addresses: list[Address] = []
        self._pending: list[Deferred[IProtocol]] = []
        self._next: IDelayedCall | None = None
        self._over = False
        self._failure: Failure | None = None
        self._deadline: IDelayedCall = reactor.callLater(timeout, self._timed_out)

    def begin(self, finding: Deferred[list[Address]]) -> None:
        finding.addCallbacks(self._found, self._not_found)

    def _found(self, addresses: list[Address]) -> None:
        for address in addresses:
            try:
                self._ourselves.check(address.host, address.port)
                self._addresses.append(address)
            except LeadsToOurselves:
                self._failure = Failure()
        self._try_next()

    def _not_found(self, reason: Failure) -> None:
        self._failure = reason
        self._try_next()

    def _try_next(self) -> None:
        """Try one more address, or fail when none is left and none is pending."""
        if self._over:
            return
        self._cancel_next()
        if not self._addresses:
            if not self._pending:
                self._end()
                self.winner.errback(self._failure)
            return
        attempt = self._endpoint(self._addresses.pop(0)).connect(self._factory)
        self._pending.append(attempt)
        if self._addresses:
            self._next = self._reactor.callLater(ATTEMPT_DELAY, self._try_next)
        attempt.addCallbacks(self._connected, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _endpoint(self, address: Address) -> IStreamClientEndpoint:
        kind = TCP4ClientEndpoint if isinstance(address, IPv4Address) else TCP6ClientEndpoint
        return kind(self._reactor, address.host, address.port, timeout=self._timeout)

    def _connected(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._pending.remove(attempt)
        if not self._over:
            self._end()
            self.winner.callback(protocol)

    def _failed(self, reason: Failure, attempt: Deferred[IProtocol]) -> None:
        self._pending.remove(attempt)
        if not self._over:
            if self._failure is None or not self._failure.check(LeadsToOurselves):
                self._failure = reason
            self._try_next()

    def _timed_out(self) -> None:
        self._end()
        self.winner.errback(timed_out(self._timeout))

    def _end(self) -> None:
        self._over = True
        self._cancel_next()
        if self._deadline.active():
            self._deadline.cancel()
        pending: Sequence[Deferred[IProtocol]] = tuple(self._pending)
        for attempt in pending:
            attempt.cancel()

    def _cancel_next(self) -> None:
        following, self._next = self._next, None
        if following is not None and following.active():
            following.cancel()
