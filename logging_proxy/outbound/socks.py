"""SOCKS5 (RFC 1928) with username/password authentication (RFC 1929): the client's side."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from logging_proxy.outbound.addresses import Credentials
from logging_proxy.outbound.failures import ProxyAuthenticationFailed, ProxyConnectFailed

_VERSION = 5
_NO_AUTHENTICATION, _USER_AND_PASSWORD, _NO_ACCEPTABLE_METHOD = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class _Incomplete(Exception):
    """More bytes are needed to parse the reply."""


class Socks5Handshake:
    """Asks a SOCKS5 proxy for a connection to `host`; the proxy resolves it if it is a name."""

    def __init__(self, host: str, port: int, credentials: Credentials | None) -> None:
        self.done = False
        self.rest = b""
        self._host = host
        self._port = port
        self._request = b""
        self._credentials = credentials
        self._buffer = b""
        self._receive: Callable[[], bytes] = self._receive_method

    def start(self) -> bytes:
        """May also raise `ProxyConnectFailed` for a name that SOCKS cannot encode."""
        self._request = bytes([_VERSION, _CONNECT, 0]) + _address(self._host) + self._port.to_bytes(2, "big")
        methods = [_NO_AUTHENTICATION]
        if self._credentials is not None:
            methods.append(_USER_AND_PASSWORD)
        return bytes([_VERSION, len(methods), *methods])

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        answers = []
        while not self.done:
            try:
                answers.append(self._receive())
            except _Incomplete:
                break
        if self.done:
            self.rest, self._buffer = self._buffer, b""
        return b"".join(answers)

    def _peek(self, size: int) -> bytes:
        if len(self._buffer) < size:
            raise _Incomplete
        return self._buffer[:size]

    def _take(self, size: int) -> bytes:
        taken = self._peek(size)
        self._buffer = self._buffer[size:]
        return taken

    def _check_version(self, version: int) -> None:
        if self._peek(1)[0] != version:
            raise ProxyConnectFailed("the outbound proxy does not speak SOCKS5")

    def _receive_method(self) -> bytes:
        self._check_version(_VERSION)
        method = self._take(2)[1]
        if method == _NO_AUTHENTICATION:
            self._receive = self._receive_reply
            return self._request
        if method == _USER_AND_PASSWORD and self._credentials is not None:
            self._receive = self._receive_status
            user, password = self._credentials.user, self._credentials.password
            return bytes([1, len(user)]) + user + bytes([len(password)]) + password
        if method == _NO_ACCEPTABLE_METHOD:
            what = "takes no credentials of this kind" if self._credentials else "wants credentials"
            raise ProxyAuthenticationFailed(f"the outbound proxy {what}")
        raise ProxyConnectFailed("the outbound proxy chose a method that was not offered")

    def _receive_status(self) -> bytes:
        self._check_version(1)  # of the subnegotiation, not of SOCKS (RFC 1929 §2)
        if self._take(2)[1] != 0:
            raise ProxyAuthenticationFailed("the outbound proxy refused our credentials")
        self._receive = self._receive_reply
        return self._request

    def _receive_reply(self) -> bytes:
        self._check_version(_VERSION)
        reply = self._peek(2)[1]
        if reply != 0:
            reason = _REPLIES.get(reply, f"reply {reply}")
            raise ProxyConnectFailed(f"the outbound proxy could not connect: {reason}")
        self._take(self._reply_size())
        self.done = True
        return b""

    def _reply_size(self) -> int:
        """Size of the whole reply; the address in it, from which the proxy connects, is ignored."""
        kind = self._peek(4)[3]
        if kind == _NAME:
            return 4 + 1 + self._peek(5)[4] + 2
        if kind not in (_IPV4, _IPV6):
            raise ProxyConnectFailed("the outbound proxy's reply has an address of no known type")
        return 4 + (4 if kind == _IPV4 else 16) + 2


def _address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise ProxyConnectFailed("the destination's name is too long for SOCKS") from None
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed
