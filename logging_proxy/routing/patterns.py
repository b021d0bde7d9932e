"""Route patterns: Go 1.27's ``http.ServeMux`` patterns, parsed once at the start.

``[METHOD ][HOST]/[PATH]``, where a path that ends in ``/`` matches the whole subtree and ``{$}`` the
path that ends exactly there. Wildcards (``{name}``, ``{name...}``) are implemented, so that all published
test cases of Go's patterns apply; the configuration refuses them with `uses_wildcards`.

Text is converted to bytes here (UTF-8), because requests are bytes and a pattern's ``é`` matches both the raw
and the escaped one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.routing.paths import END, clean_path, unescape_segment

_METHOD_AND_REST = re.compile(rb"([^ \t]*)[ \t]+(.*)", re.DOTALL)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class PatternError(ValueError):
    """A text that is not a pattern; `reason` says why, `offset` where (in bytes of the UTF-8 text)."""

    def __init__(self, text: str, offset: int, reason: str) -> None:
        super().__init__(f'parsing "{printable(text)}": at offset {offset}: {reason}')
        self.text = text
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a pattern's path.

    The `value` of a literal is its decoded bytes (``{$}`` is the literal `END`), that of a wildcard its name.
    A `multi` matches one or more segments, and has no name if it comes from a final slash.
    """

    value: bytes
    wild: bool = False
    multi: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. `method` and `host` are empty if the pattern does not restrict them."""

    text: str
    method: bytes
    host: bytes
    segments: tuple[Segment, ...]

    @property
    def multi(self) -> bool:
        """Whether the pattern ends in a multi wildcard: a final slash or ``{name...}``."""
        return self.segments[-1].multi

    @property
    def is_subtree(self) -> bool:
        """Whether the pattern ends in ``/``, and so is cut off in the destination's target."""
        return self.segments[-1].multi and not self.segments[-1].value

    def __str__(self) -> str:
        """Return the text, printable in one line of a message."""
        return printable(self.text)


def parse(text: str) -> Pattern:
    """Parse a pattern, or raise `PatternError`."""
    # YAML can express half of a surrogate pair; such a pattern is accepted and never matches.
    raw = text.encode("utf-8", "surrogatepass")
    if not raw:
        raise PatternError(text, 0, "invalid pattern: it is empty")
    split = _METHOD_AND_REST.fullmatch(raw)
    method, rest = split.groups() if split else (b"", raw)
    if method and not _TOKEN.fullmatch(method):
        raise PatternError(text, 0, f'invalid method "{_show(method)}"')
    start = len(raw) - len(rest)
    host, slash, path = rest.partition(b"/")
    if not slash:
        raise PatternError(text, start, "host/path missing /")
    if b"{" in host:
        raise PatternError(text, start + host.index(b"{"), "host contains '{' (missing initial '/'?)")
    path = slash + path
    start += len(host)
    if method not in (b"", b"CONNECT") and path != clean_path(path):
        reason = "an unclean path with a method other than CONNECT can never match"
        raise PatternError(text, start, reason)
    return Pattern(text, method, host, tuple(_parse_path(text, path, start)))


def printable(text: str) -> str:
    """Return `text` with line breaks, control characters and the like written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def uses_wildcards(pattern: Pattern) -> bool:
    """Tell whether the pattern holds a ``{...}`` other than ``{$}``."""
    return any(segment.wild and segment.value for segment in pattern.segments)


def _parse_path(text: str, path: bytes, start: int) -> Iterator[Segment]:
    names: set[bytes] = set()
    pieces = path[1:].split(b"/")
    offset = start + 1
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        if last and not piece:
            yield Segment(b"", wild=True, multi=True)
        elif b"{" not in piece:
            yield Segment(unescape_segment(piece))
        else:
            try:
                segment = _parse_braces(piece, last)
            except ValueError as error:
                raise PatternError(text, offset, str(error)) from None
            if segment.wild:
                if segment.value in names:
                    raise PatternError(text, offset, f'duplicate wildcard name "{_show(segment.value)}"')
                names.add(segment.value)
            yield segment
        offset += len(piece) + 1


def _parse_braces(piece: bytes, last: bool) -> Segment:
    """Parse a piece with a brace: ``{$}``, ``{name}`` or ``{name...}``, or raise a `ValueError`."""
    if not piece.startswith(b"{"):
        raise ValueError("bad wildcard segment (must start with '{')")
    if not piece.endswith(b"}"):
        raise ValueError("bad wildcard segment (must end with '}')")
    name = piece[1:-1]
    if name == b"$":
        if not last:
            raise ValueError("{$} not at end")
        return Segment(END)
    multi = name.endswith(b"...")
    name = name.removesuffix(b"...")
    if multi and not last:
        raise ValueError("{...} wildcard not at end")
    if not name:
        raise ValueError("empty wildcard")
    if not _is_name(name.decode("utf-8", "replace")):
        raise ValueError(f'bad wildcard name "{_show(name)}"')
    return Segment(name, wild=True, multi=multi)


def _is_name(name: str) -> bool:
    """Tell whether `name` is a Go identifier: letters, ``_`` and, except at the start, decimal digits."""
    letters = all(char == "_" or char.isalpha() or char.isdecimal() for char in name)
    return letters and not name[0].isdecimal()


def _show(raw: bytes) -> str:
    return printable(raw.decode("utf-8", "replace"))
