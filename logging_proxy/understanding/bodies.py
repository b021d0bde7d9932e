"""
A body from the bytes that were sent to characters or parts, in one pass and with little memory.

The same steps for every reader: the coding is undone, the bytes tell the charset and the form.  What cannot
be decoded is read as it is, and a word says why.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from logging_proxy.understanding.charsets import ESCAPED, INVALID, TextDecoder, charset_of
from logging_proxy.understanding.decoding import (
    MIB,
    STEP,
    Decoder,
    Limits,
    coding_by_bytes,
    codings_of,
    is_kept,
)
from logging_proxy.understanding.media_types import form_of
from logging_proxy.understanding.multipart import PartHead, boundary_of, parts

START = 64 << 10
"""Decoded bytes by which form and charset are recognised."""

VIEW_LIMITS = Limits(output=1024 * MIB, seconds=60.0)
"""Limits for a person who asked for the whole body: it is not held, so it may be long."""


class Body:
    """
    A body to be read once: by `data`, by `text`, or by `parts`.

    `trouble` says what was wrong, when reading has come to it; empty if nothing was.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        content_type: str,
        content_encoding: str = "",
        limits: Limits = VIEW_LIMITS,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.content_type = content_type
        self._troubles: dict[str, None] = {}
        self._limits, self._seconds = limits, seconds
        decoded = self._decoded(iter(pieces), content_encoding)
        first: list[bytes] = []
        while sum(map(len, first)) < START and (piece := next(decoded, None)) is not None:
            first.append(piece)
        self.start = b"".join(first)
        """The decoded beginning of the body, `START` bytes or a little more if there are as many."""
        self._rest = decoded
        self.charset = charset_of(content_type, self.start)
        self.form = form_of(content_type, self.start)

    @property
    def trouble(self) -> str:
        return "; ".join(self._troubles)

    def data(self) -> Iterator[bytes]:
        """The decoded bytes, in pieces of about `STEP` bytes."""
        for piece in itertools.chain([self.start], self._rest):
            for at in range(0, len(piece), STEP):
                yield piece[at : at + STEP]

    def text(self, errors: str = ESCAPED, data: Iterable[bytes] | None = None) -> Iterator[str]:
        """
        The characters; bytes that are invalid in the charset are shown as `errors` says.

        `data` are the bytes to read instead of those of the body: the same ones redacted, say.
        """
        decoder = TextDecoder(self.charset, errors)
        for piece in self.data() if data is None else data:
            yield decoder.feed(piece)
        if not self._troubles:
            # Where the body was cut, half a character is no fault of its own.
            yield decoder.finish()
        if decoder.invalid:
            self._troubles[INVALID] = None

    def parts(self) -> Iterator[tuple[PartHead, Body]]:
        """The parts of a multipart body; each must be read before the next one is asked for."""
        for head, pieces in parts(self.data(), boundary_of(self.content_type, self.start)):
            yield (
                head,
                Body(pieces, head.content_type, head.content_encoding, self._limits, self._seconds),
            )

    def _decoded(self, pieces: Iterator[bytes], content_encoding: str) -> Iterator[bytes]:
        """The decoded bytes, or the bytes as they are if nothing of them can be decoded."""
        first = next(pieces, b"")
        pieces = itertools.chain([first], pieces)
        if not codings_of(content_encoding):
            content_encoding = coding_by_bytes(first)
            if not content_encoding:
                yield from pieces
                return
        decoder = Decoder(content_encoding, self._limits, self._seconds)
        held: list[bytes] = []
        is_decoded = False
        for piece in pieces:
            if not is_decoded:
                held.append(piece)
            for decoded in decoder.feed(piece):
                is_decoded = True
                held.clear()
                yield decoded
            if decoder.trouble is not None:
                break
        decoder.finish()
        if decoder.trouble is not None:
            self._troubles[str(decoder.trouble)] = None
        if not is_decoded and is_kept(decoder.trouble):
            yield from held
            yield from pieces
