"""
Decodes Content-Encoding for indexing and viewing.  Not used on the data path.

Input is untrusted: bad input never raises, and output, ratio, time and number of members are bounded.
`Decoder` is incremental; `decode` takes a whole body.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, Protocol, TypeVar

from logging_proxy.understanding.aws_chunked import AwsChunked

STEP = 64 << 10
"""Maximum bytes that one step consumes or produces."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the decoding of one body."""

    output: int = 64 * MIB
    ratio: int = 1000
    """Maximum ratio of output to input, applied once the output exceeds `ratio_from`."""
    ratio_from: int = MIB
    codings: int = 4
    seconds: float = 2.0
    members: int = 2048
    """Maximum gzip members and zstd frames.  BGZF has one per 64 KiB, so 1,024 at the output limit."""
    window_log: int = 23
    """Base-2 logarithm of the zstd window.  RFC 9659 allows 8 MiB for HTTP."""


DEFAULT_LIMITS = Limits()


class Trouble(StrEnum):
    """Why decoding stopped before the end of the body."""

    CUT = "the body ends in the middle"
    CORRUPT = "the body is not what its coding says"
    OUTPUT = "the decoded body is over the size limit"
    RATIO = "the decoded body is over the limit of output to input"
    TIME = "decoding took too long"
    MEMBERS = "too many parts in one body"
    STACKED = "too many codings on one body"
    UNKNOWN = "a coding that is not known"
    MISSING = "the package for this coding is not installed"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The decoded bytes.  `trouble` is None if the whole body could be decoded."""

    data: bytes
    trouble: Trouble | None = None
    kept: bool = False
    """Whether `data` is the body as it was sent, because nothing of it could be decoded."""

    @property
    def truncated(self) -> bool:
        """Whether `data` is only the beginning of the body."""
        return self.trouble is not None and not self.kept


_NO_CODINGS = frozenset(["", "identity", "none", "binary", "7bit", "8bit", "utf-8", "utf8"])
"""Besides `identity`, names of other things that are sent in this header, and change nothing."""

_MARKS = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_MARKED = frozenset(mark[:2] for mark, _ in _MARKS)


def codings_of(content_encoding: str) -> list[str]:
    """The codings of a Content-Encoding value except `identity`, in the order in which they were applied."""
    names = (name.strip().lower() for name in content_encoding.split(","))
    return [name for name in names if name not in _NO_CODINGS]


def coding_by_bytes(start: bytes) -> str:
    """The coding of a body that declares none, by the mark that it begins with; empty if there is no mark."""
    if start[:2] in _MARKED:
        return next((coding for mark, coding in _MARKS if start.startswith(mark)), "")
    return ""


def is_kept(trouble: Trouble | None) -> bool:
    """Whether a body of which nothing could be decoded is read as it is: its coding is unknown, or untrue."""
    return trouble in (Trouble.CORRUPT, Trouble.UNKNOWN, Trouble.STACKED, Trouble.MISSING)


def decode(
    body: bytes,
    content_encoding: str,
    limits: Limits = DEFAULT_LIMITS,
    seconds: Callable[[], float] = time.monotonic,
) -> Decoded:
    """
    Decode a whole `body` within `limits`.

    A body of which nothing can be decoded is kept as it is: its coding is unknown, or untrue.
    """
    if not codings_of(content_encoding):
        content_encoding = coding_by_bytes(body)
        if not content_encoding:
            return Decoded(body)
    decoder = Decoder(content_encoding, limits, seconds)
    pieces = list(decoder.feed(body))
    decoder.finish()
    if not pieces and is_kept(decoder.trouble):
        return Decoded(body[: limits.output], decoder.trouble, kept=True)
    return Decoded(b"".join(pieces), decoder.trouble)


class Decoder:
    """
    An incremental decoder.

    `feed` yields pieces of at most `STEP` bytes, and nothing once `trouble` is set.  A caller may do other
    work between two pieces, but must exhaust the iterator.
    """

    def __init__(
        self,
        content_encoding: str,
        limits: Limits = DEFAULT_LIMITS,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: Trouble | None = None
        self._limits = limits
        self._seconds = seconds
        self._spent = 0.0
        self._stages: list[_Stage] = []
        try:
            self._stages = _make_stages(codings_of(content_encoding), limits)
        except _Stopped as stopped:
            self.trouble = stopped.trouble

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode `data`; exhaust the iterator before the next call."""
        for at in range(0, len(data), STEP):
            steps = self._run(0, data[at : at + STEP])
            while self.trouble is None:
                piece = self._step(steps)
                if piece is None:
                    break
                if piece:
                    yield piece

    def finish(self) -> None:
        """End the input.  Sets `trouble` if a stream is incomplete; an empty body is complete."""
        if self.trouble is None and any(stage.begun and not stage.at_end for stage in self._stages):
            self.trouble = Trouble.CUT

    def _run(self, number: int, data: bytes) -> Iterator[bytes]:
        if number == len(self._stages):
            yield data
            return
        for piece in self._stages[number].feed(data):
            yield b""
            if piece:
                yield from self._run(number + 1, piece)

    def _step(self, steps: Iterator[bytes]) -> bytes | None:
        began = self._seconds()
        try:
            return next(steps, None)
        except _Stopped as stopped:
            self.trouble = stopped.trouble
            return stopped.rest
        except Exception:
            # Every library raises its own exception for bad input; some also raise ValueError or MemoryError.
            self.trouble = Trouble.CORRUPT
            return None
        finally:
            self._spent += self._seconds() - began
            if self._spent > self._limits.seconds and self.trouble is None:
                self.trouble = Trouble.TIME


# --- pieces with their times -------------------------------------------------------

At = TypeVar("At")


def decode_pieces(pieces: Iterable[tuple[At, bytes]], content_encoding: str) -> Iterator[tuple[At, bytes]]:
    """
    The decoded bytes of each piece of a body, with what the piece came with, such as its time.

    A body of which nothing can be decoded comes as it is.
    """
    pieces = iter(pieces)
    first = next(pieces, None)
    if first is None:
        return
    pieces = itertools.chain([first], pieces)
    coding = content_encoding if codings_of(content_encoding) else coding_by_bytes(first[1])
    yield from _decoded(pieces, coding) if coding else pieces


def _decoded(pieces: Iterator[tuple[At, bytes]], coding: str) -> Iterator[tuple[At, bytes]]:
    decoder = Decoder(coding)
    held: list[tuple[At, bytes]] = []
    is_decoded = False
    for at, data in pieces:
        if not is_decoded:
            held.append((at, data))
        decoded = b"".join(decoder.feed(data))
        if decoded:
            is_decoded = True
            held.clear()
            yield at, decoded
        if decoder.trouble is not None:
            break
    if not is_decoded and is_kept(decoder.trouble):
        yield from held
        yield from pieces


# --- stages: one coding each -----------------------------------------------------


class _Stopped(Exception):
    """A limit was reached; `rest` is the final output within that limit."""

    def __init__(self, trouble: Trouble, rest: bytes = b"") -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.rest = rest


class _Coding(Protocol):
    """Decodes one coding in steps.  Bad input raises the exceptions of the library behind it."""

    @property
    def at_end(self) -> bool: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Stage:
    """One coding, with the limits on its input and output."""

    def __init__(self, coding: _Coding, limits: Limits) -> None:
        self.begun = False
        self._coding = coding
        self._limits = limits
        self._taken = 0
        self._given = 0

    @property
    def at_end(self) -> bool:
        return self._coding.at_end

    def feed(self, data: bytes) -> Iterator[bytes]:
        self.begun = True
        self._taken += len(data)
        for piece in self._coding.feed(data):
            room = self._limits.output - self._given
            self._given += len(piece)
            if len(piece) > room:
                raise _Stopped(Trouble.OUTPUT, piece[:room])
            if self._given > self._limits.ratio_from and self._given > self._limits.ratio * self._taken:
                raise _Stopped(Trouble.RATIO)
            yield piece


def _make_stages(codings: list[str], limits: Limits) -> list[_Stage]:
    """The stages that decode `codings`, the last applied coding first (RFC 9110 §8.4)."""
    if len(codings) > limits.codings:
        raise _Stopped(Trouble.STACKED)
    for coding in codings:
        if coding not in _CODINGS:
            raise _Stopped(Trouble.UNKNOWN)
    return [_Stage(_CODINGS[coding](limits), limits) for coding in reversed(codings)]


class _Gzip:
    """gzip with any number of members.  Bytes after the last member are ignored, as gzip(1) does."""

    def __init__(self, limits: Limits) -> None:
        self.at_end = False
        self._left = limits.members
        self._over = False
        self._carry = b""
        self._stream = zlib.decompressobj(31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        data, self._carry = self._carry + data, b""
        while data and not self._over:
            if self.at_end and not self._next_member(data):
                return
            yield from _inflate(self._stream, data)
            if not self._stream.eof:
                return
            self.at_end = True
            data = self._stream.unused_data

    def _next_member(self, data: bytes) -> bool:
        if data == b"\x1f":
            self._carry = data
            return False
        if data[:2] != b"\x1f\x8b":
            self._over = True
            return False
        self._left -= 1
        if self._left <= 0:
            raise _Stopped(Trouble.MEMBERS)
        self.at_end = False
        self._stream = zlib.decompressobj(31)
        return True


class _Deflate:
    """deflate in the zlib format (RFC 1950), or raw (RFC 1951), which many servers send instead."""

    def __init__(self, limits: Limits) -> None:
        self._head = b""
        self._bare = False
        self._given = False
        self._stream: Any = None

    @property
    def at_end(self) -> bool:
        return self._stream is not None and bool(self._stream.eof)

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._given:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            self._bare = self._bare or not _has_zlib_header(data)
            self._stream = zlib.decompressobj(-15 if self._bare else 15)
        if self._stream.eof:
            return
        try:
            yield from self._inflate(data)
        except zlib.error:
            if self._given or self._bare:
                raise
            self._bare = True
            self._stream = zlib.decompressobj(-15)
            yield from self._inflate(self._head)

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        for piece in _inflate(self._stream, data):
            if piece or len(self._head) > STEP:
                self._given, self._head = True, b""
            yield piece


def _has_zlib_header(data: bytes) -> bool:
    """Whether `data` starts with a zlib header (RFC 1950 §2.2): method 8, and a multiple of 31."""
    return data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _inflate(stream: Any, data: bytes) -> Iterator[bytes]:
    while not stream.eof:
        piece = stream.decompress(data, STEP)
        data = stream.unconsumed_tail
        yield piece
        if not data and len(piece) < STEP:
            return


class _Brotli:
    def __init__(self, limits: Limits) -> None:
        self.at_end = False
        self._stream = _package("brotlicffi").Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.at_end:
            raise ValueError("bytes after the end")
        while not self.at_end:
            piece = self._stream.decompress(data, output_buffer_limit=STEP)
            data = b""
            self.at_end = self._stream.is_finished()
            yield piece
            if self._stream.can_accept_more_data():
                return


class _Zstd:
    """Zstandard with any number of frames."""

    def __init__(self, limits: Limits) -> None:
        self.at_end = False
        self._left = limits.members
        self._library = _package("compression.zstd", "backports.zstd")
        self._options = {self._library.DecompressionParameter.window_log_max: limits.window_log}
        self._stream = self._library.ZstdDecompressor(options=self._options)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self.at_end:
                if not data:
                    return
                self._next_frame()
            piece = self._stream.decompress(data, STEP)
            data, self.at_end = b"", self._stream.eof
            yield piece
            if self.at_end:
                data = self._stream.unused_data
            elif self._stream.needs_input:
                return

    def _next_frame(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise _Stopped(Trouble.MEMBERS)
        self.at_end = False
        self._stream = self._library.ZstdDecompressor(options=self._options)


def _package(*names: str) -> Any:
    """The first installed package of `names`."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise _Stopped(Trouble.MISSING)


_CODINGS: dict[str, Callable[[Limits], _Coding]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
    "aws-chunked": lambda limits: AwsChunked(),
}
