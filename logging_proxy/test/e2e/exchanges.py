"""
Random exchanges: what a client sends and what an upstream answers, in exact bytes.

Everything follows from a seed.  An exchange is well-formed, but as odd as well-formed messages can be:
any case, duplicates, blanks, bytes beyond ASCII, every framing, any cut.
"""

from __future__ import annotations

import enum
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from logging_proxy.test.e2e.upstream import End, Received, Step

Lines = tuple[bytes, ...]
"""Field lines without their CRLF."""

HOST = b"Proxy.test:81"
"""What clients say they called: nothing is routed by it here."""

_VALUE = [byte for byte in (*range(0x21, 0x7F), *range(0x80, 0x100))]
_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
_QUERY = b"abcXYZ019-._~!$&'()*+,;=:@/?%[]|^`{}<>\"\\"
_METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"BREW", b"m-search")
_STATUS = (b"200 OK", b"200 ", b"201 Created", b"299 \xe9t\xe9 !", b"404 Not Found", b"500 x", b"302 Found")
_BODILESS = (b"204 No Content", b"304 Not Modified")
_CODINGS = {b"br": b"\x8b\x02\x80", b"zstd": b"\x28\xb5\x2f\xfd", b"x-own": b""}


class Cut(enum.Enum):
    """Who ends an exchange before its response is whole."""

    NOBODY = "complete"
    UPSTREAM = "upstream_closed"
    UPSTREAM_RESET = "upstream_reset"
    CLIENT = "client_closed"


@dataclass(frozen=True, slots=True)
class Message:
    """A message's parts; `lines` are all of its head's, framing included."""

    start: bytes
    lines: Lines
    body: bytes
    wire: bytes
    """The body as it is framed, trailers included."""
    framing: str
    trailers: Lines = ()

    @property
    def head(self) -> bytes:
        return b"\r\n".join((self.start, *self.lines, b"", b""))


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange; `path` is its key."""

    path: bytes
    query: bytes
    method: bytes
    request: Message
    interim: tuple[bytes, ...]
    """Heads of interim answers."""
    response: Message
    steps: tuple[Step, ...]
    """What the upstream does."""
    sends: tuple[bytes, ...]
    """What the client writes, piece by piece."""
    passed: int
    """How much of the response's body leaves the upstream."""
    cut: Cut

    def script(self, request: Received) -> tuple[Step, ...]:
        return self.steps


def exchanges(seed: int, count: int) -> Iterator[Exchange]:
    """So many random exchanges."""
    for number in range(count):
        yield _exchange(Random(f"{seed} {number}"), number)


def _exchange(random: Random, number: int) -> Exchange:
    method = random.choice(_METHODS)
    path = b"/%d" % number
    query = b"?" + _some(random, _QUERY, 20) if random.random() < 0.6 else b""
    request = _request(random, method, b"/up" + path + query)
    response = _response(random, method)
    interim = tuple(_interim(random) for _ in range(random.choice((0, 0, 0, 1, 2))))
    cut = (
        random.choice((Cut.UPSTREAM, Cut.UPSTREAM_RESET, Cut.CLIENT))
        if random.random() < 0.15
        else Cut.NOBODY
    )
    if len(response.body) < 2 or response.framing == "close":
        cut = Cut.NOBODY
    steps, passed = _steps(random, interim, response, cut)
    sends = tuple(_pieces(random, request.head + request.wire))
    return Exchange(path, query, method, request, interim, response, steps, sends, passed, cut)


# --- requests --------------------------------------------------------------------------


def _request(random: Random, method: bytes, target: bytes) -> Message:
    minor = 0 if random.random() < 0.06 else 1
    start = b"%b %b HTTP/1.%d" % (method, target, minor)
    extra = [b"Host: " + HOST, *_hop_by_hop(random, (b"TE: trailers", b"Proxy-Connection: keep-alive"))]
    framing = random.choice(("none", "content-length", "chunked") if minor else ("none", "content-length"))
    if method in (b"HEAD", b"OPTIONS"):
        framing = "none"
    if minor == 0 or random.random() < 0.3:
        extra.append(b"Connection: close")
    return _message(random, start, extra, framing)


def _response(random: Random, method: bytes) -> Message:
    version = random.choice((b"HTTP/1.1 ",) * 9 + (b"HTTP/1.0 ",))
    status = random.choice(_BODILESS) if random.random() < 0.12 else random.choice(_STATUS)
    extra = _hop_by_hop(random, (b"Keep-Alive: timeout=5", b"Proxy-Authenticate: Basic"))
    if status in _BODILESS or method == b"HEAD":
        # RFC 9110 §8.6: a 204 has no length.
        if method == b"HEAD" and not status.startswith(b"204") and random.random() < 0.5:
            extra.append(random.choice((b"Content-Length: 12345", b"transfer-encoding: chunked")))
            version = b"HTTP/1.1 "
        extra = extra if version == b"HTTP/1.1 " else []
        return Message(version + status, _mixed(random, extra), b"", b"", "none")
    if version == b"HTTP/1.0 ":
        # It closes, and must not promise to stay.
        return _message(random, version + status, [], random.choice(("close", "content-length")))
    framing = random.choice(("content-length", "chunked", "chunked", "close"))
    return _message(random, version + status, extra, framing)


def _interim(random: Random) -> bytes:
    start = random.choice((b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 102 Processing", b"HTTP/1.1 100 Continue"))
    return b"\r\n".join((start, *(_line(random) for _ in range(random.randrange(3))), b"", b""))


def _message(random: Random, start: bytes, extra: list[bytes], framing: str) -> Message:
    kind, body = _body(random) if framing != "none" else ([], b"")
    extra = extra + kind
    trailers: Lines = ()
    wire = body
    if framing == "content-length":
        extra.append(_cased(random, b"content-length") + b": %d" % len(body))
    elif framing == "chunked":
        extra.append(_cased(random, b"transfer-encoding") + random.choice((b": chunked", b":  Chunked ")))
        trailers = tuple(_line(random) for _ in range(random.choice((0, 0, 0, 1, 3))))
        wire = _chunked(random, body, trailers)
    return Message(start, _mixed(random, extra), body, wire, framing, trailers)


def _steps(
    random: Random, interim: tuple[bytes, ...], response: Message, cut: Cut
) -> tuple[tuple[Step, ...], int]:
    """What the upstream does, and how much of the body that passes."""
    steps: list[Step] = list(interim)
    if cut is Cut.NOBODY:
        for piece in _pieces(random, response.head + response.wire):
            steps += [piece, random.choice((0.0, 0.0, 0.002))]
        # A connection that the head says will close is closed.
        if response.framing == "close" or response.start.startswith(b"HTTP/1.0"):
            steps.append(End.CLOSE)
        return tuple(steps), len(response.body)
    passed = random.randrange(1, len(response.body))
    framed = response.body[:passed]
    if response.framing == "chunked":
        framed = b"%x\r\n" % len(response.body) + framed
    steps += [response.head + framed, 0.05]
    if cut is Cut.CLIENT:
        # The client has gone long before: what follows is for nobody.
        steps.append(0.3)
    steps.append(End.RESET if cut is Cut.UPSTREAM_RESET else End.CLOSE)
    return tuple(steps), passed


# --- parts -----------------------------------------------------------------------------


def _body(random: Random) -> tuple[list[bytes], bytes]:
    """Field lines that tell of a body, and the body."""
    size = int(random.paretovariate(0.6)) % 120_000
    kind = random.randrange(6)
    if kind == 0:
        return [], b""
    if kind == 1:
        return [b"Content-Encoding: gzip"], gzip.compress(random.randbytes(size // 2) * 2, mtime=0)
    if kind == 2:
        name, magic = random.choice(list(_CODINGS.items()))
        return [b"content-encoding: " + name], magic + random.randbytes(size)
    if kind == 3:
        event = f'event: delta\ndata: {{"text": "{random.choice("aé☂𝄞")}"}}\n\n'.encode()
        return [b"Content-Type: text/event-stream"], event * random.randrange(1, 40)
    if kind == 4:
        return [b"Content-Type: text/plain"], b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" * random.randrange(1, 9)
    return [b"Content-Type: application/octet-stream"], random.randbytes(size)


def _chunked(random: Random, body: bytes, trailers: Lines) -> bytes:
    framed = b""
    for piece in _pieces(random, body):
        size = b"%x" % len(piece)
        extension = random.choice((b"", b"", b"", b";a=b", b';x="y;z"'))
        framed += random.choice((size, size.upper(), b"0" + size)) + extension + b"\r\n" + piece + b"\r\n"
    return framed + b"\r\n".join((b"0", *trailers, b"", b""))


def _pieces(random: Random, data: bytes) -> list[bytes]:
    """`data` in a few pieces, cut anywhere; none for nothing."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 2, 5))))
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False) if start < end]


def _mixed(random: Random, needed: list[bytes]) -> Lines:
    """The needed lines among others, in any order; some come twice."""
    lines = [_line(random) for _ in range(random.randrange(8))]
    if lines and random.random() < 0.4:
        lines += [random.choice(lines), random.choice(lines).swapcase()]
    lines += needed
    random.shuffle(lines)
    return tuple(lines)


def _hop_by_hop(random: Random, others: tuple[bytes, ...]) -> list[bytes]:
    """Fields of one connection, which must not be passed on."""
    lines = [line for line in others if random.random() < 0.2]
    if random.random() < 0.15:
        lines += [b"Connection: x-own, Keep-alive", b"X-Own: 1"]
    return lines


def _line(random: Random) -> bytes:
    name = b"X-" + _some(random, _NAME, 12)
    blank = random.choice((b"", b" ", b" ", b" ", b"\t", b"  "))
    words = (bytes(random.choices(_VALUE, k=random.randrange(1, 9))) for _ in range(random.randrange(4)))
    return name + b":" + blank + b" ".join(words) + random.choice((b"", b"", b" \t"))


def _some(random: Random, alphabet: bytes, most: int) -> bytes:
    return bytes(random.choices(alphabet, k=random.randrange(1, most)))


def _cased(random: Random, name: bytes) -> bytes:
    return random.choice((name, name.title(), name.upper()))
