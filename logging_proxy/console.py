"""
Console lines: one for each exchange, safe to look at.

What a client sent may hold anything; a terminal must see only text.  Control
characters (C0, DEL, C1), line and paragraph separators and the bidirectional
controls are written as escapes.
"""

from __future__ import annotations

import re
from datetime import datetime

LONGEST = 2048
"""Characters of a target that are shown."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_SECRET_PARAMETER = re.compile(
    r"(?i)(?<=[?&])((?:[^=&]*(?:key|token|secret|password|signature|credential)[^=&]*|sig|code)=)[^&#]+"
)
_USERINFO = re.compile(r"(?<=://)[^/@?#]*@")


def safe(text: str) -> str:
    """`text` without what a terminal would act upon, and not too long."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def redacted(url: str) -> str:
    """`url` without credentials: user information, and query parameters that are named like secrets."""
    if "@" in url:
        url = _USERINFO.sub("REDACTED:REDACTED@", url)
    if "?" in url:
        url = _SECRET_PARAMETER.sub(r"\1REDACTED", url)
    return url


def exchange_line(now: datetime, id: bytes, method: bytes, target: bytes, where: str, recorded: bool) -> str:
    """The line for an exchange, as design.md has it; `now` in local time, `id` the 16 bytes of its UUID."""
    return (
        f"{now:%Y-%m-%d %H:%M:%S} [{id[:4].hex()}] {method.decode('ascii')} "
        f"{safe(redacted(target.decode('latin-1')))} -> {safe(redacted(where))} "
        f"{'[log]' if recorded else '[no-log]'}"
    )
