"""
Keyset cursors: the position after the last row of a page, as opaque text.

A checksum makes truncated or invented cursors invalid.  A cursor is not a secret and grants no access.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

_FORM = struct.Struct(">BqI")
_VERSION = 1
_LENGTH = 18


class BadCursor(ValueError):
    """The text is not a valid cursor."""


def write_cursor(position: int) -> str:
    """The cursor for a 64-bit position."""
    raw = _FORM.pack(_VERSION, position, _check(position))
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def read_cursor(cursor: str) -> int:
    """The position in a cursor.  Raises `BadCursor`."""
    try:
        if len(cursor) != _LENGTH or not cursor.isascii():
            raise BadCursor
        raw = base64.b64decode(cursor + "==", altchars=b"-_", validate=True)
        version, position, check = _FORM.unpack(raw)
    except (BadCursor, binascii.Error, struct.error):
        raise BadCursor("not a cursor") from None
    if version != _VERSION or check != _check(int(position)):
        raise BadCursor("not a cursor")
    return int(position)


def _check(position: int) -> int:
    return zlib.crc32(b"logging-proxy cursor" + position.to_bytes(8, "big", signed=True))
