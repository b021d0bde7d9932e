"""Escaped paths as in Go's ``net/url`` and ``path``: pure functions on bytes.

A *raw* path is what the client sent. An *escaped* path holds only bytes that are allowed in a path. A *clean*
path holds no literal ``//``, ``.`` or ``..``. Escapes are decoded segment by segment and
for comparison only; results are sent nowhere except in the ``Location`` of a redirect.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

END = b"/"
"""The segment that represents a final slash, and so ``{$}``.

It is the one that Go uses. As a lone ``%2F`` decodes to it, ``/{$}`` also matches ``/%2F``: a quirk to keep.
"""

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPED = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]%/]*")

# When a path has to be encoded anew, Go escapes !'()*[] as well, although they are allowed.
_LEFT_AS_IT_IS = "$&+,/:;=@"


def has_bad_escape(text: bytes) -> bool:
    """Tell whether some ``%`` is not followed by two hexadecimal digits."""
    return _BAD_ESCAPE.search(text) is not None


def is_escaped(path: bytes) -> bool:
    """Tell whether every byte of `path` is allowed in a path."""
    return _ESCAPED.fullmatch(path) is not None


def escape_path(path: bytes) -> bytes:
    """Return `path` unchanged if it is an escaped path, else decode and encode the whole of it."""
    if is_escaped(path):
        return path
    return quote_from_bytes(unquote_to_bytes(path), safe=_LEFT_AS_IT_IS).encode("ascii")


def unescape_segment(segment: bytes) -> bytes:
    """Decode one segment; a segment with a bad escape stays as it is."""
    if b"%" not in segment or has_bad_escape(segment):
        return segment
    return unquote_to_bytes(segment)


def clean_path(path: bytes) -> bytes:
    """Resolve literal ``//``, ``.`` and ``..``, keep a final slash, and make the path absolute."""
    kept: list[bytes] = []
    for piece in path.split(b"/"):
        if piece == b"..":
            if kept:
                kept.pop()
        elif piece not in (b"", b"."):
            kept.append(piece)
    cleaned = b"/" + b"/".join(kept)
    return cleaned + b"/" if kept and path.endswith(b"/") else cleaned


def split_segments(path: bytes) -> list[bytes]:
    """Split an escaped path at its slashes and decode each segment; a final slash is the segment `END`.

    The empty path, which only CONNECT has, has no segments.
    """
    if not path:
        return []
    segments = path[1:].split(b"/")
    if not segments[-1]:
        segments[-1] = END
    return [unescape_segment(segment) for segment in segments] if b"%" in path else segments
