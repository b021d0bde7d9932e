"""
The parts of a multipart body (RFC 2046 §5.1, RFC 7578), in one pass over pieces of any length.

Input is untrusted: anything has parts or none, and no more is held than a part's head and one boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

LONGEST_HEAD = 16 << 10
"""Maximum bytes of a part's header; a longer one is cut."""

LONGEST_BOUNDARY = 200
"""RFC 2046 allows 70 characters, but clients are lenient."""

_PADDING = 64

MOST_PARTS = 10_000
"""Maximum number of parts that are told apart; the rest belongs to the last one."""

_BOUNDARY = re.compile(r""";\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;]*))""", re.IGNORECASE)
_SEEN = re.compile(rb"\s*--([^\r\n]{1,200}?)[ \t]*\r?\n")
_PARAMETER = re.compile(r""";\s*([\w-]+)(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))""")
_HEAD_END = re.compile(rb"\A\r?\n|\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class PartHead:
    """What a part says of itself."""

    name: str = ""
    """The name of the form field; empty in other kinds of multipart."""
    filename: str = ""
    content_type: str = ""
    content_encoding: str = ""
    """Content-Encoding, or `base64` or `quoted-printable` from Content-Transfer-Encoding."""


def boundary_of(content_type: str, start: bytes) -> bytes:
    """The boundary as declared, or as the first line of the body shows it; empty if there is none."""
    found = _BOUNDARY.search(content_type)
    declared = (found[1] or found[2] or "").encode("latin-1", "replace") if found else b""
    if declared and b"--" + declared in start:
        return declared
    seen = _SEEN.match(start)
    return seen[1] if seen else declared[:LONGEST_BOUNDARY]


def parse_part_head(head: bytes) -> PartHead:
    """The header of a part; any bytes have one."""
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    parameters: dict[str, str] = {}
    for name, extended, quoted, bare in _PARAMETER.findall(fields.get("content-disposition", "")):
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
        parameters[name.lower()] = unquote(value.rpartition("'")[2]) if extended else value
    return PartHead(
        parameters.get("name", ""),
        parameters.get("filename", ""),
        fields.get("content-type", ""),
        fields.get("content-encoding") or fields.get("content-transfer-encoding", ""),
    )


def parts(pieces: Iterable[bytes], boundary: bytes) -> Iterator[tuple[PartHead, Iterator[bytes]]]:
    """
    The parts in order: the head of each, and its body in pieces.

    A body must be read, as far as it is wanted, before the next part is asked for.  What stands before the
    first boundary and after the last one is left out.
    """
    return _Parts(pieces, boundary).all() if boundary else iter(())


class _Parts:
    """Goes through the bytes; `_held` is what was read and belongs to no part yet."""

    def __init__(self, pieces: Iterable[bytes], boundary: bytes) -> None:
        self._pieces = iter(pieces)
        # The first boundary may stand at the very start, without a line end before it.
        self._held = b"\r\n"
        self._delimiter = re.compile(
            rb"\r?\n--%b(--)?[ \t]{0,%d}(?:\r?\n|\Z)" % (re.escape(boundary), _PADDING)
        )
        self._longest = len(boundary) + _PADDING + len(b"\r\n----\r\n")
        self._at_end = False
        self._is_last = False

    def all(self) -> Iterator[tuple[PartHead, Iterator[bytes]]]:
        for _ in self._until_delimiter():
            pass
        number = 0
        while not self._is_last and number < MOST_PARTS:
            number += 1
            head = self._head()
            body = self._until_delimiter()
            yield head, body
            for _ in body:
                pass

    def _head(self) -> PartHead:
        """The header of a part, which is taken with its blank line."""
        while True:
            found = _HEAD_END.search(self._held)
            if found or len(self._held) > LONGEST_HEAD or self._at_end:
                break
            self._read()
        begin, end = found.span() if found else (LONGEST_HEAD, LONGEST_HEAD)
        head, self._held = self._held[:begin], self._held[end:]
        return parse_part_head(head[:LONGEST_HEAD])

    def _until_delimiter(self) -> Iterator[bytes]:
        """The bytes up to the next delimiter, which is taken; at the last one `_is_last` is set."""
        while True:
            found = self._delimiter.search(self._held)
            if found and (self._at_end or found[0].endswith(b"\n")):
                self._is_last = found[1] is not None
                body, self._held = self._held[: found.start()], self._held[found.end() :]
                yield body
                return
            if self._at_end:
                self._is_last = True
                body, self._held = self._held, b""
                yield body
                return
            room = found.start() if found else len(self._held) - self._longest
            if room > 0:
                body, self._held = self._held[:room], self._held[room:]
                yield body
            self._read()

    def _read(self) -> None:
        piece = next(self._pieces, None)
        self._at_end = piece is None
        self._held += piece or b""
