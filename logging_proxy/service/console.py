"""
Console lines: one when an exchange begins, and one when it ends.

A client may send any bytes, and a terminal must get only text.  Characters that Unicode does not call
printable are written as escapes: control characters (C0, DEL, C1), line and paragraph separators,
bidirectional and other invisible controls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.figures import elapsed, size

LONGEST = 2048
"""Characters of a text that are shown."""

LONGEST_METHOD = 64
"""Characters of a method that are shown; standard ones have 17 at most."""


class Lines(Protocol):
    """The part of `Output` that takes console lines."""

    def stamp(self) -> str:
        """The time as lines begin with it."""

    def line(self, text: str) -> None:
        """Write `text` as a line."""


@implementer(ILogObserver)
class ConsoleObserver:
    """Writes a line when an exchange begins, and another when it ends."""

    def __init__(
        self, output: Lines, brief: bool = False, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """`brief` leaves out the first line, and the second one tells what was asked for."""
        self._output = output
        self._brief = brief
        self._now = now
        self._under_way: dict[bytes, Progress] = {}

    def __call__(self, event: LogEvent) -> None:
        now = self._now()
        if "method" in event:
            progress = self._begun(event, now)
        else:
            progress = self._under_way[event["exchange"]]
        if "response" in event:
            progress.status = event["response"][9:12].decode("ascii")
            if "ours" not in event:
                progress.first_byte = now - progress.began
        if "outcome" in event:
            del self._under_way[event["exchange"]]
            progress.took = now - progress.began
            self._output.line(self._end_line(event, progress))

    def _begun(self, event: LogEvent, now: float) -> Progress:
        output, id = self._output, event["exchange"]
        method, target = event["method"], event["target"]
        progress = self._under_way[id] = Progress(now, (method, target))
        if not self._brief:
            recorded = event["capture"] is not None
            output.line(exchange_line(output.stamp(), id, method, target, event["where"], recorded))
        return progress

    def _end_line(self, event: LogEvent, progress: Progress) -> str:
        asked = asked_for(*progress.asked) if self._brief else ""
        sizes = (event["sent"], event["received"])
        time = self._output.stamp()
        return end_line(time, event["exchange"], progress, event["outcome"], sizes, asked, event["error"])


class Progress:
    """What is to be told of an exchange when it ends; times in seconds."""

    __slots__ = ("asked", "began", "first_byte", "status", "took")

    def __init__(self, began: float, asked: tuple[bytes, bytes]) -> None:
        self.began = began
        self.asked = asked
        """Method and target of the request."""
        self.status = "-"
        """The status of the response; `-` before there is one."""
        self.first_byte: float | None = None
        """When the destination's response began; None if it has sent none."""
        self.took = 0.0


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
    return f"{asked_for(method, target)} -> {shown(where.encode('utf-8', 'surrogateescape'))}"


@lru_cache(maxsize=1024)
def asked_for(method: bytes, target: bytes) -> str:
    """`POST /v1/chat/completions`."""
    return f"{safe(method.decode('ascii', 'backslashreplace'), LONGEST_METHOD)} {shown(target)}"


def end_line(
    time: str,
    id: bytes,
    progress: Progress,
    outcome: str,
    sizes: tuple[int, int],
    asked: str = "",
    error: str = "",
) -> str:
    """The line of an exchange's end; `sizes` are the bytes of the request's and the response's body."""
    first = "" if progress.first_byte is None else f" · first byte {elapsed(progress.first_byte)}"
    return (
        f"{time} [{id[:4].hex()}] {progress.status} {outcome} {elapsed(progress.took)}{first}"
        f" · {size(sizes[0])} → {size(sizes[1])}"
        f"{' · ' + asked if asked else ''}{': ' + safe(redact_url(error)) if error else ''}"
    )
