"""
From bytes to characters: the charset of a body, and decoding that neither raises nor hides a byte.

This is the only table of charsets; the index, the API and the command line read by it.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from logging_proxy.understanding.allowance import STEP, Allowance

UTF_8 = "utf-8"

REPLACED = "replace"
"""Shows an invalid byte as U+FFFD: for searching, where an escape would be a word."""
ESCAPED = "backslashreplace"
r"""Shows an invalid byte as `\xff`: for reading, where the byte itself matters."""

INVALID = "some bytes are invalid in their charset"
"""The word about a text with invalid bytes."""

LONGEST_TYPE = 2048
"""Maximum characters read of a content type."""

LOOKED_AT = 1024
"""Bytes in which a page names its own charset, as in HTML 13.2.3.2."""

_PARAMETER = re.compile(r""";\s*charset\s*=\s*["']?([A-Za-z0-9_.:+-]{1,40})""", re.IGNORECASE)
_IN_MARKUP = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([A-Za-z0-9_.:+-]{1,40})""", re.IGNORECASE)
_SEPARATORS = re.compile(r"[-_.: ]")

_BOMS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32 first: its little-endian mark begins with that of UTF-16."""

_WIDE = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}

_CODECS = {
    **dict.fromkeys(["utf8", "unicode11utf8", "utf8mb4", "ascii", "usascii", "ansix341968"], UTF_8),
    **dict.fromkeys(["utf16", "unicode", "ucs2", "iso10646ucs2"], "utf-16"),
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    **dict.fromkeys(["utf32", "ucs4"], "utf-32"),
    "utf32le": "utf-32-le",
    "utf32be": "utf-32-be",
    **dict.fromkeys(["latin1", "l1", "iso88591"], "latin-1"),
    **{f"iso8859{part}": f"iso8859-{part}" for part in (*range(2, 12), *range(13, 17))},
    **dict.fromkeys(["iso88598i", "iso88598e"], "iso8859-8"),
    "latin2": "iso8859-2",
    "latin9": "iso8859-15",
    **{
        f"{maker}{page}": f"cp{page}"
        for maker in ("windows", "cp", "xcp", "win")
        for page in range(1250, 1259)
    },
    **{f"{maker}874": "cp874" for maker in ("windows", "cp", "dos")},
    "tis620": "tis-620",
    **{f"{maker}{page}": f"cp{page}" for maker in ("ibm", "cp") for page in (437, 850, 852, 866)},
    **dict.fromkeys(["koi8r", "koi8", "koi"], "koi8-r"),
    **dict.fromkeys(["koi8u", "koi8ru"], "koi8-u"),
    **dict.fromkeys(["macintosh", "macroman", "xmacroman"], "mac-roman"),
    **dict.fromkeys(
        ["gbk", "xgbk", "gb2312", "xgb2312", "csgb2312", "gb231280", "euccn", "xeuccn"], "gb18030"
    ),
    **dict.fromkeys(["gb18030", "cp936", "ms936", "windows936", "chinese"], "gb18030"),
    **dict.fromkeys(["big5", "big5eten", "xxbig5", "cnbig5", "csbig5", "cp950", "windows950"], "cp950"),
    "big5hkscs": "big5hkscs",
    **dict.fromkeys(
        ["shiftjis", "sjis", "xsjis", "csshiftjis", "mskanji", "windows31j", "cswindows31j"], "cp932"
    ),
    **dict.fromkeys(["cp932", "ms932", "windows932"], "cp932"),
    **dict.fromkeys(["eucjp", "xeucjp", "xeuc", "ujis"], "euc-jp"),
    **dict.fromkeys(["iso2022jp", "csiso2022jp"], "iso2022-jp"),
    **dict.fromkeys(
        ["euckr", "xeuckr", "cseuckr", "ksc56011987", "ksc56011989", "ksc5601", "korean"], "cp949"
    ),
    **dict.fromkeys(["cp949", "ms949", "windows949", "uhc", "ksx1001"], "cp949"),
}
"""
The codec of each charset, by its name without separators.

An allow-list, because some of Python's codecs take quadratic time.  As in browsers, a name stands for the
largest charset that is sent under it: GBK for GB 2312, windows-31j for Shift_JIS, UHC for EUC-KR.
"""


@lru_cache(maxsize=256)
def _declared(content_type: str) -> str:
    """The codec of the charset that a content type declares; empty for none, and for an unknown one."""
    found = _PARAMETER.search(content_type[:LONGEST_TYPE])
    return _codec(found[1]) if found else ""


def _codec(name: str) -> str:
    return _CODECS.get(_SEPARATORS.sub("", name).lower(), "")


def charset_of(content_type: str, start: bytes) -> str:
    """
    The codec for a body that begins with `start`.

    A byte order mark tells it, then the declaration, then the bytes: UTF-16 and UTF-32 by their zeros, a page
    by what it says of itself.  Everything else is UTF-8, and so is ASCII that is declared as UTF-16.
    """
    first = start[:1]
    if first in _MARKED:
        for mark, codec in _BOMS:
            if start.startswith(mark):
                return codec
    declared = _declared(content_type)
    if declared == UTF_8 or (not declared and first == b"{" and start[1:2] != b"\x00"):
        # Nearly all bodies, at no cost.
        return UTF_8
    if declared in _WIDE:
        declared = _WIDE[declared][_looks_big_endian(start[:LOOKED_AT])]
    # ASCII without a zero byte is not UTF-16, although it could be decoded.
    if declared.startswith(("utf-16", "utf-32")) and start[:64].isascii() and 0 not in start[:64]:
        return UTF_8
    return declared or _undeclared(start)


_MARKED = frozenset(mark[:1] for mark, _ in _BOMS)


def _looks_big_endian(start: bytes) -> bool:
    """Whether more of the first bytes of UTF-16 and UTF-32 units are zero than of the last ones."""
    return start[::2].count(0) > start[1::2].count(0)


def _undeclared(start: bytes) -> str:
    if b"\x00" in start[:4]:
        return _by_zeros(start[:4])
    if start[:64].lstrip().startswith(b"<"):
        found = _IN_MARKUP.search(start, 0, LOOKED_AT)
        codec = _codec(found[1].decode("ascii")) if found else ""
        # A page that could be read this far is not UTF-16, whatever it says.
        return UTF_8 if codec.startswith(("utf-16", "utf-32")) else codec or UTF_8
    return UTF_8


_ZEROS: dict[tuple[int, ...], str] = {
    (1, 0, 1, 0): "utf-16-le",
    (0, 1, 0, 1): "utf-16-be",
    (1, 0, 0, 0): "utf-32-le",
    (0, 0, 0, 1): "utf-32-be",
}


def _by_zeros(four: bytes) -> str:
    """The charset of a text whose first characters are ASCII, as in RFC 4627 §3."""
    shape = tuple(0 if byte == 0 else 1 if byte < 0x80 else 2 for byte in four)
    return _ZEROS.get(shape, UTF_8)


def decode_text(
    body: bytes,
    charset: str,
    cut: bool = False,
    errors: str = REPLACED,
    allowance: Allowance | None = None,
) -> str:
    """
    The characters of `body`, without a byte order mark.

    `cut` means that `body` is only a beginning, and may end within a character.  Decoding stops early when
    the `allowance` is spent, which only invalid bytes can do.
    """
    try:
        text = body.decode(charset)
    except UnicodeDecodeError:
        pieces = []
        decoder = TextDecoder(charset, errors)
        for at in range(0, len(body), STEP):
            if allowance is not None and not allowance.spend(STEP):
                cut = True
                break
            pieces.append(decoder.feed(body[at : at + STEP]))
        if not cut:
            pieces.append(decoder.finish())
        return "".join(pieces)
    return text.removeprefix("\ufeff")


class TextDecoder:
    """
    Decodes a text that comes in pieces, which may end within a character.

    `invalid` is set once a byte was not valid; such bytes are shown as `errors` says.
    """

    def __init__(self, charset: str, errors: str = REPLACED) -> None:
        self.invalid = False
        self._errors = errors
        self._decoder = codecs.getincrementaldecoder(charset)("strict")
        self._begun = False

    def feed(self, data: bytes) -> str:
        """The characters that `data` completes."""
        return self._decode(data, False)

    def finish(self) -> str:
        """What stands for a character that was not completed."""
        return self._decode(b"", True)

    def _decode(self, data: bytes, final: bool) -> str:
        decoder = self._decoder
        state = decoder.getstate()
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError:
            self.invalid = True
            decoder.setstate(state)
            decoder.errors = self._errors
            text = decoder.decode(data, final)
            decoder.errors = "strict"
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        return text
