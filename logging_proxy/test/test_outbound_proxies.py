"""Destinations behind real proxies, TCP and TLS, on this machine's loopback."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from logging_proxy.configuration import UpstreamTLS
from logging_proxy.demo.processes import free_port
from logging_proxy.outbound.addresses import parse_proxy_url
from logging_proxy.outbound.failures import (
    ProxyAuthenticationFailed,
    ProxyConnectFailed,
    ProxyUnreachable,
)
from logging_proxy.outbound.forwarding import forwarding_for
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.test.certificates import AUTHORITY, Identity, identity
from logging_proxy.test.outbound_proxies import HttpProxy, OutboundProxy, ProxyFactory, SocksProxy
from logging_proxy.tls.contexts import server_options
from logging_proxy.tls.pem import PEMFile
from logging_proxy.tls.verification import CertificateRefused

reactor: Any = _reactor

TRUSTED = UpstreamTLS(ca_file=PEMFile("ca.pem", AUTHORITY))


class Echo(Protocol):
    """The destination: says what it hears, between brackets."""

    transport: Any
    heard: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        self.transport.write(b"[" + data + b"]")


@implementer(IHandshakeListener)
class Asking(Protocol):
    """Asks when it may, and waits for so many bytes."""

    transport: Any

    def __init__(self, words: bytes, size: int, secure: bool) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._words = words
        self._size = size
        self._secure = secure
        self._received = b""

    def connectionMade(self) -> None:
        if not self._secure:
            self.transport.write(self._words)

    def handshakeCompleted(self) -> None:
        self.transport.write(self._words)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= self._size and not self.answer.called:
            self.answer.callback(self._received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(reason)
        self.lost.callback(None)


class ProxiesCase(TestCase):
    """Every test ends with all connections closed."""

    def setUp(self) -> None:
        Echo.heard = []

    def listen(self, factory: Factory, who: Identity | None = None) -> int:
        """The port that a factory listens on, with TLS if it is somebody."""
        wrapped: Any = factory
        if who is not None:
            options = server_options(who.certificate, who.key, "1.2")
            wrapped = TLSMemoryBIOFactory(options, False, factory)
        port: Any = reactor.listenTCP(0, wrapped, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def proxy(
        self, protocol: type[OutboundProxy], credentials: bytes = b"", who: Identity | None = None
    ) -> tuple[ProxyFactory, int]:
        factory = ProxyFactory(reactor, protocol, credentials)
        return factory, self.listen(factory, who)

    async def ask(self, url: str, proxy_url: str, words: bytes = b"hello", size: int = 0) -> bytes:
        """What the destination answers to some words through a proxy."""
        destination, proxy = parse_destination(url), parse_proxy_url(proxy_url)
        secure = destination.scheme == "https"
        tls = TRUSTED if secure else None
        endpoint = endpoint_for(reactor, destination, 5, tls, proxy)
        asking: Any = None

        def build() -> Asking:
            nonlocal asking
            made = asking = Asking(words, size or len(words) + 2, secure)
            return made

        await endpoint.connect(Factory.forProtocol(build))
        try:
            answer: bytes = await asking.answer
        finally:
            asking.transport.loseConnection()
            await asking.lost
        return answer


class TunnelTests(ProxiesCase):
    """TLS to the destination runs through the tunnel."""

    async def test_connect(self) -> None:
        """CONNECT carries TLS, with the name for the proxy to look up."""
        factory, proxy = self.proxy(HttpProxy, b"alice:hunter2")
        port = self.listen(Factory.forProtocol(Echo), identity("a.example"))
        answer = await self.ask(f"https://a.example:{port}/", f"http://alice:hunter2@127.0.0.1:{proxy}")
        self.assertEqual(answer, b"[hello]")
        self.assertEqual(factory.asked, [("a.example", port)])

    async def test_socks(self) -> None:
        """SOCKS5 carries TLS and plain bytes, with credentials and without."""
        for credentials in (b"", b"alice:hunter2"):
            factory, proxy = self.proxy(SocksProxy, credentials)
            userinfo = f"{credentials.decode()}@" if credentials else ""
            plain = self.listen(Factory.forProtocol(Echo))
            secure = self.listen(Factory.forProtocol(Echo), identity("a.example", "127.0.0.1"))
            for url, asked in {
                f"http://a.example:{plain}/": ("a.example", plain),
                f"https://a.example:{secure}/": ("a.example", secure),
                f"https://127.0.0.1:{secure}/": ("127.0.0.1", secure),
            }.items():
                answer = await self.ask(url, f"socks5h://{userinfo}127.0.0.1:{proxy}")
                self.assertEqual(answer, b"[hello]")
                self.assertEqual(factory.asked.pop(), asked)

    async def test_socks_local_names(self) -> None:
        """With socks5 the proxy gets an address, and the certificate is still for the name."""
        factory, proxy = self.proxy(SocksProxy)
        port = self.listen(Factory.forProtocol(Echo), identity("localhost"))
        answer = await self.ask(f"https://localhost:{port}/", f"socks5://127.0.0.1:{proxy}")
        self.assertEqual((answer, factory.asked), (b"[hello]", [("127.0.0.1", port)]))

    async def test_tls_in_tls(self) -> None:
        """A proxy that is itself reached by TLS carries TLS."""
        self.trust_system_wide()
        factory, proxy = self.proxy(HttpProxy, b"alice:hunter2", identity("localhost"))
        port = self.listen(Factory.forProtocol(Echo), identity("a.example"))
        big = bytes(range(256)) * 2000
        proxy_url = f"https://alice:hunter2@localhost:{proxy}"
        answer = await self.ask(f"https://a.example:{port}/", proxy_url, big, len(big))
        self.assertEqual(len(b"".join(Echo.heard)), len(big))
        self.assertTrue(answer.startswith(b"["))

    async def test_destination_is_verified(self) -> None:
        """A tunnel to somebody else's certificate carries nothing of ours."""
        for protocol, scheme in ((HttpProxy, "http"), (SocksProxy, "socks5h")):
            _, proxy = self.proxy(protocol)
            port = self.listen(Factory.forProtocol(Echo), identity("b.example"))
            with self.assertRaises(Exception) as caught:
                await self.ask(f"https://a.example:{port}/", f"{scheme}://127.0.0.1:{proxy}")
            self.assertIsInstance(caught.exception, CertificateRefused)
        self.assertEqual(Echo.heard, [])

    def trust_system_wide(self) -> None:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(AUTHORITY)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = os.path.abspath(path)
        if before is None:
            self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        else:
            self.addCleanup(os.environ.__setitem__, "SSL_CERT_FILE", before)


class FailureTests(ProxiesCase):
    """What proxies say no to."""

    async def fails(self, kind: type[Exception], url: str, proxy_url: str) -> str:
        with self.assertRaises(kind) as caught:
            await self.ask(url, proxy_url)
        self.assertNotIn("hunter2", str(caught.exception))
        return str(caught.exception)

    async def test_authentication(self) -> None:
        """Missing and wrong credentials are told, by either kind of proxy."""
        for protocol, scheme in ((HttpProxy, "http"), (SocksProxy, "socks5h")):
            _, proxy = self.proxy(protocol, b"bob:secret")
            for userinfo in ("", "alice:hunter2@"):
                await self.fails(
                    ProxyAuthenticationFailed, "https://a.example/", f"{scheme}://{userinfo}127.0.0.1:{proxy}"
                )

    async def test_destination_refuses(self) -> None:
        """A destination that cannot be reached is the proxy's word for it."""
        nobody = free_port()
        _, http = self.proxy(HttpProxy)
        _, socks = self.proxy(SocksProxy)
        url = f"https://a.example:{nobody}/"
        self.assertIn("with 502", await self.fails(ProxyConnectFailed, url, f"http://127.0.0.1:{http}"))
        self.assertIn("refused", await self.fails(ProxyConnectFailed, url, f"socks5h://127.0.0.1:{socks}"))

    async def test_no_proxy_there(self) -> None:
        """A proxy that does not listen is what cannot be reached."""
        for scheme in ("http", "https", "socks5h"):
            url = f"{scheme}://alice:hunter2@127.0.0.1:{free_port()}"
            await self.fails(ProxyUnreachable, "https://a.example/", url)

    async def test_proxy_is_not_verified(self) -> None:
        """An https:// proxy whose certificate nobody knows hears nothing."""
        factory, proxy = self.proxy(HttpProxy, who=identity("localhost"))
        said = await self.fails(ProxyUnreachable, "https://a.example/", f"https://localhost:{proxy}")
        self.assertIn("an authority that is not trusted", said)
        self.assertEqual(factory.heads, [])

    async def test_wrong_kind(self) -> None:
        """A proxy of the other kind is found out."""
        _, http = self.proxy(HttpProxy)
        port = self.listen(Factory.forProtocol(Echo))
        await self.fails(ProxyConnectFailed, "https://a.example/", f"http://127.0.0.1:{port}")
        await self.fails(ProxyConnectFailed, "https://a.example/", f"socks5h://127.0.0.1:{port}")


class ForwardingTests(ProxiesCase):
    """Plain destinations behind an HTTP proxy."""

    async def test_absolute_form(self) -> None:
        """The proxy is asked in absolute-form, and the destination is sent the head as it was."""
        factory, proxy = self.proxy(HttpProxy, b"alice:hunter2")
        port = self.listen(Factory.forProtocol(Echo))
        destination = parse_destination(f"http://a.example:{port}/")
        proxy_url = f"http://alice:hunter2@127.0.0.1:{proxy}"
        onward = b"POST /v1/?a HTTP/1.1\r\nHost: a.example:%d\r\nContent-Length: 5\r\n" % port
        forwarding = forwarding_for(destination, parse_proxy_url(proxy_url))
        assert forwarding is not None
        words = forwarding.head(onward) + b"\r\nhello"
        answer = await self.ask(f"http://a.example:{port}/", proxy_url, words, len(onward) + 9)
        self.assertEqual(answer, b"[" + onward + b"\r\nhello]")
        self.assertTrue(factory.heads[0].startswith(b"POST http://a.example:%d/v1/?a HTTP/1.1\r\n" % port))
