"""
Console lines: one for each exchange, safe to look at.

What a client sent may hold anything; a terminal must see only text.  Whatever
Unicode does not call printable is written as an escape: control characters
(C0, DEL, C1), line and paragraph separators, bidirectional and other invisible
controls.
"""

from __future__ import annotations

from functools import lru_cache

from logging_proxy.redaction.redact import redact_url

LONGEST = 2048
"""Characters of a text that are shown."""

LONGEST_METHOD = 64
"""Characters of a method that are shown; that of any standard has 17 at most."""


def safe(text: str, longest: int = LONGEST) -> str:
    """`text` without what a terminal would act upon, and not longer than `longest`."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else _escape(each) for each in text[:longest])
    return text if len(text) <= longest else text[:longest] + "…"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@lru_cache(maxsize=1024)
def shown(url: bytes) -> str:
    """A request's target or URL as a line shows it: no secrets, no controls, not too long."""
    return safe(redact_url(url[: 4 * LONGEST].decode("utf-8", "backslashreplace")))


def exchange_line(time: str, id: bytes, method: bytes, target: bytes, where: str, recorded: bool) -> str:
    """The line for an exchange, as design.md has it; `id` is the 16 bytes of its UUID."""
    return (
        f"{time} [{id[:4].hex()}] {safe(method.decode('ascii', 'backslashreplace'), LONGEST_METHOD)} "
        f"{shown(target)} -> {shown(where.encode('utf-8', 'surrogateescape'))} "
        f"{'[log]' if recorded else '[no-log]'}"
    )


def trouble_line(time: str, id: bytes, outcome: str, error: str) -> str:
    """The line for an exchange that did not end well, behind its first one."""
    return f"{time} [{id[:4].hex()}] {outcome}: {safe(redact_url(error))}"
