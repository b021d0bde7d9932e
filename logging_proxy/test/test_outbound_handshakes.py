"""The conversations with outbound proxies, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import RESPONSE_HEAD_LIMIT
from logging_proxy.outbound.addresses import Credentials
from logging_proxy.outbound.connect import ConnectHandshake
from logging_proxy.outbound.failures import ProxyAuthenticationFailed, ProxyConnectFailed
from logging_proxy.outbound.handshakes import Handshake, NoHandshake
from logging_proxy.outbound.socks import Socks5Handshake

ALICE = Credentials(b"alice", b"hunter2")


def fed(handshake: Handshake, pieces: Iterable[bytes]) -> bytes:
    """Everything the handshake says; bytes after its end are appended to `rest`, as the tunnel would."""
    said = handshake.start()
    for piece in pieces:
        if handshake.done:
            handshake.rest += piece
        else:
            said += handshake.feed(piece)
    return said


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


class HandshakeCase(SynchronousTestCase):
    def assertSays(self, make: Callable[[], Handshake], proxy: bytes, said: bytes, rest: bytes = b"") -> None:
        """The conversation is the same whole and byte by byte, and ends with `rest` left over."""
        for pieces in ([proxy], single(proxy)):
            handshake = make()
            self.assertEqual(fed(handshake, pieces), said)
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.rest, rest)

    def assertFails(
        self, make: Callable[[], Handshake], proxy: bytes, text: str, kind: type = ProxyConnectFailed
    ) -> None:
        for pieces in ([proxy], single(proxy)):
            error = self.assertRaises(ProxyConnectFailed, fed, make(), pieces)
            self.assertIs(type(error), kind, error)
            self.assertIn(text, str(error))
            for secret in ("alice", "hunter2"):
                self.assertNotIn(secret, str(error))


class ConnectTests(HandshakeCase):
    """HTTP CONNECT."""

    ASKED = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"

    def plain(self) -> ConnectHandshake:
        return ConnectHandshake("a.example", 443, None)

    def test_request(self) -> None:
        """The request names the destination, and nothing of ours."""
        self.assertEqual(self.plain().start(), self.ASKED)
        self.assertEqual(
            ConnectHandshake("::1", 8443, ALICE).start(),
            b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n"
            b"Proxy-Authorization: Basic YWxpY2U6aHVudGVyMg==\r\n\r\n",
        )

    def test_success(self) -> None:
        """Any 2xx opens the tunnel at its blank line, whatever its fields say of a body."""
        for answer in (
            b"HTTP/1.0 200 Connection established\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nProxy-Agent: x\r\n\r\n",
        ):
            self.assertSays(self.plain, answer, self.ASKED)
            self.assertSays(
                self.plain, answer + b"\x16\x03hello\r\n\r\n", self.ASKED, b"\x16\x03hello\r\n\r\n"
            )

    def test_refused(self) -> None:
        """Any other status is a failure that names it."""
        for status in (b"101", b"302", b"400", b"403", b"502", b"503"):
            answer = b"HTTP/1.1 " + status + b" No\r\n\r\n<html>"
            self.assertFails(self.plain, answer, f"answered CONNECT with {status.decode()}")

    def test_authentication(self) -> None:
        """407 says that credentials are missing, or wrong."""
        answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
        self.assertFails(self.plain, answer, "wants credentials (407)", ProxyAuthenticationFailed)
        wrong = answer.replace(b"407", b"401")
        self.assertFails(self.plain, wrong, "wants credentials (401)", ProxyAuthenticationFailed)
        self.assertFails(
            lambda: ConnectHandshake("a", 1, ALICE),
            answer,
            "refused our credentials",
            ProxyAuthenticationFailed,
        )

    def test_garbage(self) -> None:
        """What is not an HTTP/1.1 head is refused as soon as that can be known."""
        for answer in (
            b"\x05\x00",
            b"SSH-2.0-x\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"\r\n\r\n",
            b"\x15\x03\x01\x00\x02",
        ):
            self.assertFails(self.plain, answer, "not HTTP/1.1")
        for answer in (
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA b:c\r\n\r\n",
        ):
            self.assertFails(self.plain, answer, "will not do")

    def test_framing_means_nothing(self) -> None:
        """A 2xx answer has no body, whatever it says of one (RFC 9110 §9.3.6)."""
        for fields in (
            b"Content-Length: 3\r\nContent-Length: 4\r\n",
            b"Content-Length:\r\n",
            b"Transfer-Encoding: gzip\r\nContent-Length: 0\r\n",
        ):
            handshake = self.plain()
            handshake.feed(b"HTTP/1.0 200 OK\r\n" + fields + b"\r\ntls")
            self.assertEqual((handshake.done, handshake.rest), (True, b"tls"))

    def test_bounded(self) -> None:
        """A head without end is not collected."""
        handshake = self.plain()
        handshake.start()
        endless = b"HTTP/1.1 200 OK\r\nA: " + b"b" * RESPONSE_HEAD_LIMIT
        self.assertRaises(ProxyConnectFailed, handshake.feed, endless)
        self.assertRaises(ProxyConnectFailed, self.plain().feed, endless + b"\r\n\r\n")


GRANTED = bytes([5, 0, 0, 1, 127, 0, 0, 1, 0, 80])


class SocksTests(HandshakeCase):
    """SOCKS5."""

    def name(self) -> Socks5Handshake:
        return Socks5Handshake("a.example", 443, None)

    def alice(self) -> Socks5Handshake:
        return Socks5Handshake("a.example", 443, ALICE)

    REQUEST = b"\x05\x01\x00\x03\x09a.example\x01\xbb"

    def test_without_credentials(self) -> None:
        """Without credentials none are offered."""
        self.assertSays(self.name, b"\x05\x00" + GRANTED, b"\x05\x01\x00" + self.REQUEST)

    def test_with_credentials(self) -> None:
        """Credentials are offered, and sent when the proxy chooses them."""
        said = b"\x05\x02\x00\x02" + b"\x01\x05alice\x07hunter2" + self.REQUEST
        self.assertSays(self.alice, b"\x05\x02" + b"\x01\x00" + GRANTED, said)

    def test_credentials_not_wanted(self) -> None:
        """A proxy that does not want them does not get them."""
        self.assertSays(self.alice, b"\x05\x00" + GRANTED, b"\x05\x02\x00\x02" + self.REQUEST)

    def test_addresses(self) -> None:
        """Addresses of either family go as such, names as names."""
        for host, encoded in {
            "192.0.2.1": b"\x01\xc0\x00\x02\x01",
            "2001:db8::1": b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01",
            "localhost": b"\x03\x09localhost",
        }.items():
            said = b"\x05\x01\x00\x05\x01\x00" + encoded + b"\x00\x50"
            self.assertSays(partial(Socks5Handshake, host, 80, None), b"\x05\x00" + GRANTED, said)

    def test_rest(self) -> None:
        """The reply's address may be of any type; what follows it is the destination's."""
        for address in (b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x03a.b", b"\x03\x00"):
            reply = b"\x05\x00" + b"\x05\x00\x00" + address + b"\x00\x00"
            self.assertSays(self.name, reply + b"\x05hello", b"\x05\x01\x00" + self.REQUEST, b"\x05hello")

    def test_refused(self) -> None:
        """Every reply but success is a failure in words."""
        for code, words in {
            1: "general failure",
            2: "not allowed",
            5: "connection refused",
            99: "reply 99",
        }.items():
            self.assertFails(self.name, bytes([5, 0, 5, code, 0, 1]) + bytes(6), words)

    def test_authentication(self) -> None:
        """Missing and refused credentials are told apart from other failures."""
        kind = ProxyAuthenticationFailed
        self.assertFails(self.name, b"\x05\xff", "wants credentials", kind)
        self.assertFails(self.alice, b"\x05\xff", "takes no credentials of this kind", kind)
        self.assertFails(self.alice, b"\x05\x02\x01\x01", "refused our credentials", kind)

    def test_garbage(self) -> None:
        """What is not SOCKS5 is refused at its first wrong byte."""
        for proxy in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x5a", b"\x05\x00\x00"):
            self.assertFails(self.name, proxy, "does not speak SOCKS5")
        self.assertFails(self.alice, b"\x05\x02\x05", "does not speak SOCKS5")
        self.assertFails(self.name, b"\x05\x02", "not offered")
        self.assertFails(self.alice, b"\x05\x01", "not offered")
        self.assertFails(self.name, b"\x05\x00\x05\x00\x00\x02", "no known type")

    def test_long_name(self) -> None:
        """A name that SOCKS cannot carry is refused."""
        self.assertRaises(ProxyConnectFailed, Socks5Handshake("a" * 256, 80, None).start)


class AnyCutTests(SynchronousTestCase):
    """However the proxy's bytes are cut, the conversation is the same."""

    PROXY = b"\x05\x02\x01\x00\x05\x00\x00\x03\x05proxy\x00\x50and the rest"

    @given(st.lists(st.integers(0, len(PROXY)), max_size=6))
    def test_socks(self, cuts: list[int]) -> None:
        """Words and rest of SOCKS5 do not depend on the cuts."""
        edges = [0, *sorted(cuts), len(self.PROXY)]
        pieces = [self.PROXY[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        handshake = Socks5Handshake("a.example", 443, ALICE)
        self.assertEqual(
            fed(handshake, pieces),
            b"\x05\x02\x00\x02\x01\x05alice\x07hunter2" + SocksTests.REQUEST,
        )
        self.assertEqual(handshake.rest, b"and the rest")

    @given(st.binary(max_size=40))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes give a tunnel, a wait or a `ProxyConnectFailed`."""
        for handshake in (Socks5Handshake("a", 1, ALICE), ConnectHandshake("a", 1, ALICE)):
            try:
                fed(handshake, [data])
            except ProxyConnectFailed:
                pass


class NoHandshakeTests(SynchronousTestCase):
    """A proxy that forwards requests."""

    def test_nothing(self) -> None:
        """Nothing is said, and nothing waited for."""
        handshake = NoHandshake()
        self.assertEqual((handshake.start(), handshake.done, handshake.rest), (b"", True, b""))
