"""HTTP's CONNECT (RFC 9110 §9.3.6), the client's side."""

from __future__ import annotations

from logging_proxy.http.diagnosis import response_fault
from logging_proxy.http.faults import ResponseFault
from logging_proxy.http.heads import parse_tunnel_head
from logging_proxy.http.limits import RESPONSE_FIELDS, RESPONSE_HEAD_LIMIT
from logging_proxy.outbound.addresses import Credentials
from logging_proxy.outbound.failures import ProxyAuthenticationFailed, ProxyConnectFailed


class ConnectHandshake:
    """
    Asks an HTTP proxy for a tunnel to `host`:`port`.

    The request contains the target and the credentials, nothing else.
    """

    def __init__(self, host: str, port: int, credentials: Credentials | None) -> None:
        self.done = False
        self.rest = b""
        self._authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
        self._credentials = credentials
        self._buffer = b""

    def start(self) -> bytes:
        lines = [b"CONNECT %b HTTP/1.1" % self._authority, b"Host: %b" % self._authority]
        if self._credentials is not None:
            lines.append(b"Proxy-Authorization: " + self._credentials.basic())
        return b"\r\n".join([*lines, b"", b""])

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        while not self.done:
            if not self._buffer.startswith(b"HTTP/1."[: len(self._buffer)]):
                raise ProxyConnectFailed("the outbound proxy's answer is not HTTP/1.1")
            end = self._buffer.find(b"\r\n\r\n") + 4
            if (end if end >= 4 else len(self._buffer)) > RESPONSE_HEAD_LIMIT:
                raise ProxyConnectFailed("the outbound proxy's answer is too long")
            if end < 4:
                break
            raw, self._buffer = self._buffer[:end], self._buffer[end:]
            self.done = self._is_final(raw)
        if self.done:
            # A 2xx response to CONNECT has no body, whatever its fields say (RFC 9110 §9.3.6).
            self.rest, self._buffer = self._buffer, b""
        return b""

    def _is_final(self, raw: bytes) -> bool:
        """Whether the tunnel is established; informational responses are skipped."""
        try:
            status = parse_tunnel_head(raw, RESPONSE_FIELDS).status
        except ResponseFault:
            fault = response_fault(raw, RESPONSE_FIELDS, RESPONSE_HEAD_LIMIT)
            raise ProxyConnectFailed(f"the outbound proxy's answer will not do: {fault}") from None
        if status in (401, 407):  # tinyproxy answers 407 for missing credentials and 401 for wrong ones
            what = "refused our credentials" if self._credentials else "wants credentials"
            raise ProxyAuthenticationFailed(f"the outbound proxy {what} ({status})")
        if status == 101 or status >= 300:
            raise ProxyConnectFailed(f"the outbound proxy answered CONNECT with {status}")
        return status >= 200
