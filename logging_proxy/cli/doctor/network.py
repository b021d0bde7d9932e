"""Checks of the network: the proxy's ports, and connections to the destinations.  No request is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from OpenSSL import crypto
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.cli.doctor.check import Check, fail, ok, warn
from logging_proxy.configuration import Configuration, RouteOptions
from logging_proxy.configuration.listeners import is_loopback
from logging_proxy.net.listening import CannotListen, bind
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.settings import proxy_for
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.proxy.failures import verdict
from logging_proxy.routing.mapping import destination_url, parse_destination

PATIENCE = 10.0
"""Seconds for a connection, TLS included."""

SOON = 14
"""Days before a certificate expires from which that is mentioned."""


# --- ports --------------------------------------------------------------------------------


def check_ports(configuration: Configuration, runs: Callable[[], bool]) -> Iterator[Check]:
    """Whether the proxy can listen; `runs` tells whether the configuration's logging server answers."""
    server, store = configuration.server, configuration.logging_server
    yield _port("port", server.host, server.port, "server", "--port", runs)
    if configuration.embedded:
        yield _port("log port", store.host, store.port, "logging_server", "logging_server.port", runs)


def _port(name: str, host: str, port: int, section: str, change: str, runs: Callable[[], bool]) -> Check:
    if port == 0:
        return ok(name, f"{host}: the system chooses a free port")
    try:
        for listener in bind(host, port):
            listener.close()
    except CannotListen as error:
        if runs():
            return ok(name, f"{host}:{port}: in use, a proxy with this configuration runs")
        return fail(name, str(error), f"stop what listens there, or choose another port with {change}")
    return ok(name, f"{host}:{port} is free")


# --- destinations ---------------------------------------------------------------------------


@implementer(IHandshakeListener)
class _Probe(Protocol):
    """Waits until the connection stands, TLS included, and closes it."""

    transport: Any

    def __init__(self, secure: bool) -> None:
        self.done: Deferred[datetime | None] = Deferred()
        """Fires with the time until which the certificate is valid."""
        self._secure = secure

    def connectionMade(self) -> None:
        if not self._secure:
            self._succeed(None)

    def handshakeCompleted(self) -> None:
        self._succeed(_expiry(self.transport.getPeerCertificate()))

    def _succeed(self, expiry: datetime | None) -> None:
        self.done.callback(expiry)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(reason)


def _expiry(certificate: crypto.X509 | None) -> datetime | None:
    return None if certificate is None else certificate.to_cryptography().not_valid_after_utc


def check_destinations(
    reactor: Any,
    configuration: Configuration,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    patience: float = PATIENCE,
) -> Deferred[list[Check]]:
    """A connection to the destination of every route, and to a separate logging server, all at once."""
    checks = [
        Deferred.fromCoroutine(_Destination(reactor, configuration, route, now, patience).check())
        for route in _different(configuration.routes)
    ]
    return gatherResults(checks)


def _different(routes: tuple[RouteOptions, ...]) -> Iterator[RouteOptions]:
    """The first route of those that lead to the same server in the same way."""
    seen = set()
    for route in routes:
        to = route.destination
        key = (to.scheme, to.host, to.port, route.tls)
        if key not in seen:
            seen.add(key)
            yield route


class _Destination:
    """The check of one destination."""

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        route: RouteOptions,
        now: Callable[[], datetime],
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._route = route
        self._to = route.destination
        self._now = now
        self._patience = min(patience, configuration.http_client.connect_timeout)
        self._proxy: ProxyAddress | None = proxy_for(route.destination, configuration.proxies)
        self._name = f"route {route.name}"
        self._url = destination_url(self._to, self._to.path).decode("latin-1")

    async def check(self) -> Check:
        began = self._reactor.seconds()
        probe = _Probe(self._to.scheme == "https")
        try:
            expiry = await self._connect(probe).addTimeout(self._patience, self._reactor)
        except Exception:
            return self._failed(Failure())
        took = f"{1000 * (self._reactor.seconds() - began):.0f} ms"
        return self._connected(took, expiry)

    def _connect(self, probe: _Probe) -> Deferred[datetime | None]:
        endpoint = endpoint_for(self._reactor, self._to, self._patience, self._route.tls, self._proxy)
        factory = Factory.forProtocol(lambda: probe)
        factory.noisy = False
        done = probe.done
        connecting: Deferred[Any] = endpoint.connect(factory)
        return connecting.addCallback(lambda _: done)

    def _connected(self, took: str, expiry: datetime | None) -> Check:
        how = f" through {self._proxy}" if self._proxy is not None else ""
        text = f"{self._url}{how}: connected in {took}"
        if self._to.scheme != "https":
            return ok(self._name, text)
        if self._route.tls is not None and not self._route.tls.verify:
            return warn(self._name, f"{text}, certificate not verified", "set verify: true")
        if expiry is None:
            return ok(self._name, f"{text}, certificate verified")
        days = (expiry - self._now()).days
        text += f", certificate valid until {expiry:%Y-%m-%d}"
        return ok(self._name, text) if days >= SOON else warn(self._name, text, "it has to be renewed soon")

    def _failed(self, failure: Failure) -> Check:
        found = verdict(failure)
        how = f" through {self._proxy}" if self._proxy is not None else ""
        text = f"{self._url}{how}: {found.error.rstrip('.')}"
        if self._proxy is None and is_loopback(self._to.host):
            return warn(self._name, text, "start the server there, if you want to use this route")
        return fail(self._name, text, _ADVICE.get(found.outcome, "check the destination"))


_ADVICE = {
    "tls_failed": "check the name in the URL, and tls.ca_file if the authority is a private one",
    "connect_failed": "check the URL, the network, and http_client.proxy_url if you need an outbound proxy",
}


def check_server_url(reactor: Any, configuration: Configuration) -> Deferred[list[Check]]:
    """A connection to the separate logging server, if there is one."""
    url = configuration.logging.server_url
    if url is None:
        return gatherResults([])
    to = parse_destination(url)
    probe = _Probe(to.scheme == "https")
    factory = Factory.forProtocol(lambda: probe)
    factory.noisy = False
    done = probe.done
    connecting: Deferred[Any] = endpoint_for(reactor, to, PATIENCE).connect(factory)
    connecting.addCallback(lambda _: done).addTimeout(PATIENCE, reactor)
    advice = "start the logging server, or check logging.server_url; captures wait in the spool until then"

    def failed(failure: Failure) -> Check:
        return warn("server_url", f"{url}: {verdict(failure).error.rstrip('.')}", advice)

    connecting.addCallbacks(lambda _: ok("server_url", f"{url}: connected"), failed)
    return gatherResults([connecting])
