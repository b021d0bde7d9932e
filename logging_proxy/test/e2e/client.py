"""A client that sends exact bytes and reads answers strictly, as far as they come."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import TracebackType

import h11

TIMEOUT = 60.0


class Call:
    """
    A request of exact bytes on a connection of its own, and its answer as it comes.

    `body` grows with every piece that `pieces` gives.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._parser = h11.Connection(h11.CLIENT)
        method = request.partition(b" ")[0]
        # h11 wants to know what it reads an answer to; the bytes on the wire are ours.
        self._parser.send(h11.Request(method=method, target=b"/", headers=[("Host", "unused")]))
        self._parser.send(h11.EndOfMessage())
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.whole = False
        """Whether the answer ended as its framing says, and not just because the connection did."""
        self.send(request)

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send more of the request."""
        self._socket.sendall(data)

    def pieces(self) -> Iterator[bytes]:
        """The pieces of the answer's body, until it ends or the connection does."""
        while True:
            event = self._next_event()
            if isinstance(event, h11.Response):
                self.status, self.headers = event.status_code, event.headers.raw_items()
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.whole = True
                self.trailers = event.headers.raw_items()
                return
            elif not isinstance(event, h11.InformationalResponse):
                return

    def read(self) -> Call:
        """The same, with all of its answer that comes."""
        for _ in self.pieces():
            pass
        return self

    def read_until(self, size: int) -> Call:
        """The same, with at least `size` bytes of the body, if they come."""
        for _ in self.pieces():
            if len(self.body) >= size:
                break
        return self

    def _next_event(self) -> object:
        while True:
            try:
                event = self._parser.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._parser.receive_data(self._socket.recv(65536))
            except (ConnectionError, h11.RemoteProtocolError):
                return None


def request(method: str, path: str, *headers: str, body: bytes = b"", host: str = "proxy.test") -> bytes:
    """A request's bytes; a body gets its length, unless `headers` say how it is framed."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    framed = any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in headers)
    if body and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(port: int, path: str, *headers: str) -> Call:
    """A GET and its whole answer."""
    with Call(port, request("GET", path, *headers)) as call:
        return call.read()


def post(port: int, path: str, body: bytes, *headers: str) -> Call:
    """A POST and its whole answer."""
    with Call(port, request("POST", path, *headers, body=body)) as call:
        return call.read()
