"""
What the tests of strictness share: readers that are not ours, and an upstream that echoes.

`strict` reads requests with no leniency at all and h11 reads them again; the
two must agree, so that neither's blind spot hides what reached the upstream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import READ_SIZE, Stage, Wire

Fields = list[tuple[bytes, bytes]]

_HEAD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-\"$-~]*|\*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


class NotStrict(Exception):
    """The bytes are not what a strict reader takes."""


@dataclass
class Request:
    """A request as a reader has understood it."""

    method: bytes
    target: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


def split_fields(section: bytes) -> Fields:
    found = []
    for line in section.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b" \t")))
    return found


def strict(data: bytes) -> tuple[list[Request], bytes]:
    """All whole requests in `data`, and the rest, which is the beginning of another.  Raises `NotStrict`."""
    found = []
    while data:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if re.search(rb"(?<!\r)\n|\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", data):
                raise NotStrict(f"not the beginning of a head: {data[:200]!r}")
            break
        request = _strict_head(data[:end])
        size = _strict_body(request, data[end:])
        if size is None:
            break
        found.append(request)
        data = data[end + size :]
    return found, data


def _strict_head(head: bytes) -> Request:
    match = _HEAD.fullmatch(head)
    if match is None:
        raise NotStrict(f"not a head: {head[:200]!r}")
    request = Request(match[1], match[2], split_fields(match[3]))
    hosts, lengths = request.values(b"host"), request.values(b"content-length")
    codings = request.values(b"transfer-encoding")
    if len(hosts) != 1 or not hosts[0]:
        raise NotStrict(f"not one Host: {head[:200]!r}")
    if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
        raise NotStrict(f"framing: {lengths} {codings}")
    if lengths and not re.fullmatch(rb"0|[1-9][0-9]*", lengths[0]):
        raise NotStrict(f"length: {lengths}")
    return request


def _strict_body(request: Request, data: bytes) -> int | None:
    """Read the body that `data` begins with into `request`; how long it is there, None if it is not whole."""
    if not request.values(b"transfer-encoding"):
        length = int((request.values(b"content-length") or [b"0"])[0])
        request.body = data[:length]
        return length if len(data) >= length else None
    at = 0
    while at < len(data):
        match = _CHUNK_LINE.match(data, at)
        if match is None:
            if re.fullmatch(rb"[0-9A-Fa-f]{1,15}\r?", data[at:]):
                return None
            raise NotStrict(f"chunk line {data[at : at + 80]!r}")
        start, size = match.end(), int(match[1], 16)
        at = start + size + 2
        if not size:
            return _strict_trailers(request, data, start)
        request.body += data[start : at - 2]
        if not b"\r\n".startswith(data[at - 2 : at]):
            raise NotStrict(f"chunk end {data[at - 2 : at]!r}")
    return None


def _strict_trailers(request: Request, data: bytes, at: int) -> int | None:
    match = re.compile(rb"((?:[^\r\n:]+:[^\r\n]*\r\n)*)\r\n").match(data, at)
    if match is None:
        return None
    request.trailers = split_fields(match[1])
    return match.end()


@dataclass
class Read:
    """What h11 has made of a connection's bytes."""

    whole: list[Request] = field(default_factory=list)
    open: Request | None = None
    """The request whose end has not come, or came malformed."""
    fault: str = ""


def connection_options(request: Request) -> set[bytes]:
    options = b",".join(request.values(b"connection")).split(b",")
    return {option.strip(b" \t").lower() for option in options}


def by_h11(data: bytes) -> Read:
    """The requests in `data`, as a server on h11 gets them; the connection is kept as long as may be."""
    read = Read()
    while data and not (read.open or read.fault):
        rest = _read_one(data, read)
        if rest == data:
            break
        data = rest
    return read


def _read_one(data: bytes, read: Read) -> bytes:
    """Read one request; what follows it, empty if nothing may."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data.removeprefix(b"\r\n"))  # RFC 9112 §2.2, which h11 does not do
    stays = False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                read.open = Request(event.method, event.target, event.headers.raw_items())
                options = connection_options(read.open)
                # h11 itself closes after every HTTP/1.0 request.
                stays = b"close" not in options if event.http_version != b"1.0" else b"keep-alive" in options
            elif isinstance(event, h11.Data):
                assert read.open is not None
                read.open.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert read.open is not None
                read.open.trailers = event.headers.raw_items()
                read.whole.append(read.open)
                read.open = None
                return connection.trailing_data[0] if stays else b""
            else:
                return data
    except h11.RemoteProtocolError as fault:
        read.fault = str(fault)
        return b""


class EchoStage(Stage):
    """A whole proxy whose upstream answers every request with 200 and the request's body."""

    def __init__(self, destination: str = "http://up.example/", pattern: str = "/", **more: object) -> None:
        super().__init__({"all": (pattern, destination)}, **more)  # type: ignore[arg-type]
        self.seen: dict[Wire, bytearray] = {}
        """All that each connection to the upstream was sent."""
        self.reached: list[Request] = []
        """The whole requests that reached the upstream, in their order."""
        self._answered: dict[Wire, int] = {}

    def exchange(self, client: Wire, data: bytes, size: int = READ_SIZE) -> None:
        """The client sends `data` in pieces of `size`, and everybody answers."""
        for at in range(0, len(data), size):
            client.deliver(data[at : at + size])
            self.settle()

    def settle(self) -> None:
        """Let everybody do what is to be done."""
        while True:
            self.turn()
            if not any([self._echo(wire) for wire in self.endpoint.wires]):
                return

    def _echo(self, wire: Wire) -> bool:
        new = wire.received()
        if not new:
            return False
        seen = self.seen.setdefault(wire, bytearray())
        seen += new
        whole, _ = strict(bytes(seen))
        for request in whole[self._answered.get(wire, 0) :]:
            self.reached.append(request)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body)
            wire.deliver(head + (b"" if request.method == b"HEAD" else request.body))
        self._answered[wire] = len(whole)
        return True

    def leaks(self) -> list[str]:
        """
        What must not be: anything at the upstream that is no request of a forwarded exchange.

        To be asked when the clients have left.
        """
        wrong = self.problems()
        begun = 0
        for wire, seen in self.seen.items():
            whole, rest = strict(bytes(seen))
            read = by_h11(bytes(seen))
            begun += len(whole) + bool(rest)
            if whole != read.whole or read.fault:
                wrong.append(f"h11 reads otherwise: {bytes(seen)!r} {read.fault}")
            if rest and not (wire.aborted or wire.lost):
                wrong.append(f"half a request on a connection that lives: {rest!r}")
        forwarded = [each for each in self.captures if each.opening.destination_url]
        if begun != len(forwarded):
            wrong.append(f"{begun} requests at the upstream, {len(forwarded)} exchanges forwarded")
        captured = [each for each in forwarded if each.complete(Kind.REQUEST_PIECE)]
        for request, capture in zip(self.reached, captured, strict=True):
            if (request.body, request.fields) != (
                capture.body(Kind.REQUEST_PIECE),
                split_fields(capture.opening.head.partition(b"\r\n")[2]),
            ):
                wrong.append(f"not what was captured: {request}")
        return wrong
