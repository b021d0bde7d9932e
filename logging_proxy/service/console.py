"""
Console lines: one for each exchange, and a second one if it does not end well.

A client may send any bytes, and a terminal must get only text.  Characters that Unicode does not call
printable are written as escapes: control characters (C0, DEL, C1), line and paragraph separators,
bidirectional and other invisible controls.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from logging_proxy.redaction.redact import redact_url

LONGEST = 2048
"""Characters of a text that are shown."""

LONGEST_METHOD = 64
"""Characters of a method that are shown; standard ones have 17 at most."""

_GOOD = frozenset({"complete", "client_closed"})
"""Outcomes that get no line of their own: clients may leave whenever they like."""


class Lines(Protocol):
    """The part of `Output` that takes console lines."""

    def stamp(self) -> str:
        """The time as lines begin with it."""

    def line(self, text: str) -> None:
        """Write `text` as a line."""


@implementer(ILogObserver)
class ConsoleObserver:
    """Writes a line when an exchange starts, and another if it does not end well."""

    def __init__(self, output: Lines) -> None:
        self._output = output

    def __call__(self, event: LogEvent) -> None:
        output = self._output
        if "method" in event:
            recorded = event["capture"] is not None
            method, target, where = event["method"], event["target"], event["where"]
            output.line(exchange_line(output.stamp(), event["exchange"], method, target, where, recorded))
        if "outcome" in event and event["outcome"] not in _GOOD:
            output.line(trouble_line(output.stamp(), event["exchange"], event["outcome"], event["error"]))


def safe(text: str, longest: int = LONGEST) -> str:
    """`text` with escapes for characters that a terminal would act upon, and not longer than `longest`."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else _escape(each) for each in text[:longest])
    return text if len(text) <= longest else text[:longest] + "…"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(url: bytes) -> str:
    """A request's target or URL as a line shows it: no secrets, no controls, not too long."""
    return safe(redact_url(url[: 4 * LONGEST].decode("utf-8", "backslashreplace")))


def exchange_line(time: str, id: bytes, method: bytes, target: bytes, where: str, recorded: bool) -> str:
    """The line for an exchange, as design.md has it; `id` is the 16 bytes of its UUID."""
    return f"{time} [{id[:4].hex()}] {_way(method, target, where)} {'[log]' if recorded else '[no-log]'}"


@lru_cache(maxsize=1024)
def _way(method: bytes, target: bytes, where: str) -> str:
    """The middle of a line, which equal requests have in common."""
    return (
        f"{safe(method.decode('ascii', 'backslashreplace'), LONGEST_METHOD)} "
        f"{shown(target)} -> {shown(where.encode('utf-8', 'surrogateescape'))}"
    )


def trouble_line(time: str, id: bytes, outcome: str, error: str) -> str:
    """The second line of an exchange that did not end well."""
    return f"{time} [{id[:4].hex()}] {outcome}: {safe(redact_url(error))}"
