"""Small real proxies for tests: HTTP (CONNECT and absolute-form) and SOCKS5."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class _Onward(Protocol):
    """The proxy's own connection to a destination."""

    def __init__(self, inward: OutboundProxy) -> None:
        self._inward = inward

    def dataReceived(self, data: bytes) -> None:
        self._inward.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._inward.transport.loseConnection()


class OutboundProxy(Protocol):
    """What both kinds share: collecting the handshake, then relaying."""

    transport: Any
    factory: Any

    def __init__(self) -> None:
        self._buffer = b""
        self._onward: Any = None
        self._connecting = False

    def dataReceived(self, data: bytes) -> None:
        if self._onward is not None:
            self._onward.transport.write(data)
            return
        self._buffer += data
        if not self._connecting:
            self.handshake()

    def handshake(self) -> None:
        """Look at the buffer."""

    def refused(self) -> None:
        """The destination did."""

    def take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def connect(self, host: str, port: int, answer: bytes) -> None:
        """Relay between the client and a destination; every name is this machine."""
        self._connecting = True
        self.factory.asked.append((host, port))
        endpoint = HostnameEndpoint(self.factory.reactor, "127.0.0.1", port)
        connecting = endpoint.connect(Factory.forProtocol(lambda: _Onward(self)))
        connecting.addCallbacks(self._connected, lambda _: self.refused(), callbackArgs=(answer,))

    def _connected(self, onward: Any, answer: bytes) -> None:
        self._onward = onward
        if answer:
            self.transport.write(answer)
        if self._buffer:
            onward.transport.write(self.take(len(self._buffer)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._onward is not None:
            self._onward.transport.loseConnection()


class HttpProxy(OutboundProxy):
    """Keeps heads in the factory's `heads`; a request in absolute-form is passed on in origin-form."""

    def handshake(self) -> None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self.take(end)
        self.factory.heads.append(head)
        expected = self.factory.credentials
        if expected and b"Proxy-Authorization: Basic " + b64encode(expected) + b"\r\n" not in head:
            self.transport.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            self.transport.loseConnection()
        elif head.startswith(b"CONNECT "):
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            self.connect(host.strip("[]"), int(port), b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            self._forward(head)

    def _forward(self, head: bytes) -> None:
        parts = re.fullmatch(rb"([A-Z]+) http://([^/:]+):(\d+)(/.*)", head, re.DOTALL)
        assert parts is not None, head
        lines = re.sub(rb"Proxy-Authorization: [^\r]*\r\n", b"", parts[4])
        self._buffer = parts[1] + b" " + lines + self._buffer
        self.connect(parts[2].decode(), int(parts[3]), b"")

    def refused(self) -> None:
        self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        self.transport.loseConnection()


class SocksProxy(OutboundProxy):
    """SOCKS5 with the factory's credentials, if it has some."""

    def __init__(self) -> None:
        super().__init__()
        self._step = self._methods

    def handshake(self) -> None:
        while not self._connecting and self._buffer and self._step():
            pass

    def _methods(self) -> bool:
        if len(self._buffer) < 2 or len(self._buffer) < 2 + self._buffer[1]:
            return False
        offered = self.take(2 + self._buffer[1])[2:]
        method = 2 if self.factory.credentials else 0
        if method not in offered:
            self.transport.write(b"\x05\xff")
            self.transport.loseConnection()
            return False
        self.transport.write(bytes([5, method]))
        self._step = self._user if method else self._request
        return True

    def _user(self) -> bool:
        user = self._buffer[2 : 2 + self._buffer[1]]
        at = 2 + len(user)
        password = self._buffer[at + 1 : at + 1 + self._buffer[at]]
        self.take(at + 1 + len(password))
        good: bool = user + b":" + password == self.factory.credentials
        self.transport.write(bytes([1, 0 if good else 1]))
        if not good:
            self.transport.loseConnection()
        self._step = self._request
        return good

    def _request(self) -> bool:
        kind = self._buffer[3]
        if kind == 3:
            host = self.take(5 + self._buffer[4])[5:].decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self.take(4 + size)[4:])
        self.connect(host, int.from_bytes(self.take(2), "big"), b"\x05\x00\x00\x01" + bytes(6))
        return False

    def refused(self) -> None:
        self.transport.write(b"\x05\x05\x00\x01" + bytes(6))
        self.transport.loseConnection()


class ProxyFactory(Factory):
    """Listens as a proxy; keeps what it was asked for."""

    noisy = False

    def __init__(self, reactor: Any, protocol: type[OutboundProxy], credentials: bytes = b"") -> None:
        self.reactor = reactor
        self.protocol = protocol
        self.credentials = credentials
        self.asked: list[tuple[str, int]] = []
        self.heads: list[bytes] = []
