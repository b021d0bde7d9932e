"""
Downloads of captured bytes, in a form that no browser executes.

Captured content is hostile: it is always served as an attachment of type application/octet-stream with a file
name of ours, whatever its own headers say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from logging_proxy.captures.exchanges import Side
from logging_proxy.captures.reader import OpenFile
from logging_proxy.logserver.threads import Run
from logging_proxy.logserver.web.answers import (
    Answer,
    Problem,
    Refused,
    answer_for_failure,
    give,
    problem_answer,
    watch_for_leaving,
)

_log = Logger()

CHUNK = 256 << 10

HEADERS = {
    "Content-Type": "application/octet-stream",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Accept-Ranges": "bytes",
}

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to `end`; `partial` for the answer to a Range request."""

    start: int
    end: int
    partial: bool = False


def read_range(value: str | None, size: int) -> Span:
    """
    The part of a file of `size` bytes that a Range header asks for (RFC 9110 §14.2).

    A header that is not a single byte range is ignored, as the RFC allows.  Raises `Refused` when the range
    is outside the file.
    """
    match = _RANGE.fullmatch((value or "").strip())
    if match is None or not (match[1] or match[2]):
        return Span(0, size)
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), size if not match[2] else min(int(match[2]) + 1, size)
        if match[2] and int(match[2]) < start:
            return Span(0, size)
    if start >= size or (not match[1] and int(match[2]) == 0):
        raise Refused(Problem.BAD_RANGE)
    return Span(start, end, True)


def give_file(request: Request, run: Run, opening: Deferred[OpenFile], side: Side) -> int:
    """Responds with the file that `opening` fires with, or with the problem of its failure."""
    transfer = _Transfer(request, run, side)
    sending = Deferred.fromCoroutine(transfer.send(opening))
    sending.addErrback(lambda failure: _log.failure("sending a file", failure=failure))
    return NOT_DONE_YET


@implementer(IPushProducer)
class _Transfer:
    """The download of one file: read in threads, written under the client's back-pressure."""

    def __init__(self, request: Request, run: Run, side: Side) -> None:
        self._request = request
        self._run = run
        self._side = side
        self._has_left = watch_for_leaving(request)
        self._paused = False
        self._resumed: Deferred[None] | None = None

    async def send(self, opening: Deferred[OpenFile]) -> None:
        opened: Deferred[OpenFile | Answer] = opening.addErrback(answer_for_failure)
        file = await opened
        if isinstance(file, Answer):
            self._finish(file)
            return
        try:
            await self._send_file(file)
        finally:
            await self._run(file.close)

    async def _send_file(self, file: OpenFile) -> None:
        try:
            span = read_range(self._request.getHeader("Range"), file.size)
        except Refused as refused:
            self._request.setHeader("Content-Range", f"bytes */{file.size}")
            self._finish(problem_answer(refused))
            return
        self._begin_answer(span, file.size)
        if self._has_left() or self._request.method == b"HEAD":
            span = Span(span.end, span.end)
        else:
            self._request.registerProducer(self, True)
        self._end(await self._pass_on(file, span))

    async def _pass_on(self, file: OpenFile, span: Span) -> bool:
        at = span.start
        while at < span.end and not self._has_left():
            data: bytes = await self._run(partial(file.read, at, min(CHUNK, span.end - at)))
            if not data:
                return False
            at += len(data)
            if self._paused and not self._has_left():
                self._resumed = Deferred()
                await self._resumed
            if not self._has_left():
                self._request.write(data)
        return True

    def _begin_answer(self, span: Span, size: int) -> None:
        for name, value in HEADERS.items():
            self._request.setHeader(name, value)
        self._request.setHeader("Content-Disposition", f'attachment; filename="{self._side.value}.bin"')
        self._request.setHeader("Content-Length", str(span.end - span.start))
        if span.partial:
            self._request.setResponseCode(206)
            self._request.setHeader("Content-Range", f"bytes {span.start}-{span.end - 1}/{size}")

    def _end(self, whole: bool) -> None:
        if self._has_left():
            return
        self._request.unregisterProducer()
        if whole:
            self._request.finish()
        else:
            # The body is shorter than its Content-Length: only a lost connection tells the client.
            self._request.loseConnection()

    def _finish(self, answer: Answer) -> None:
        if not self._has_left():
            self._request.write(give(self._request, answer))
            self._request.finish()

    # --- IPushProducer

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """Called when the connection is lost."""
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)
