"""Takes the chunks of signed uploads to Amazon S3 and Bedrock apart."""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_CHUNK_LINE = 1024
_CHUNK_STARTS = (b"", b"\r", *(b"%c" % digit for digit in b"0123456789abcdefABCDEF"))


class AwsChunked:
    """
    The chunks of a signed upload: `size;chunk-signature=...`, the bytes, and at the end trailers.

    It stands as a coding in Content-Encoding, although it frames the body.
    """

    def __init__(self) -> None:
        self.at_end = False
        self._line = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self.at_end:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            line, newline, data = data.partition(b"\n")
            self._line += line
            if len(self._line) > _LONGEST_CHUNK_LINE or self._line[:1] not in _CHUNK_STARTS:
                raise ValueError("no size of a chunk")
            if newline:
                self._begin_chunk(self._line.strip())
                self._line = b""

    def _begin_chunk(self, line: bytes) -> None:
        """Take the line before a chunk; the line end after a chunk is an empty line."""
        if line:
            self._left = int(line.partition(b";")[0], 16)
            self.at_end = self._left <= 0
