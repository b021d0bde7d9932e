"""Ingest of remote spools: batches from a shipper are appended, and acknowledged when they are on disk."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import Request

from logging_proxy.logserver.ingest.remote import Beyond, NoRoom, RemoteSpools
from logging_proxy.logserver.threads import Run
from logging_proxy.logserver.web.answers import (
    Answer,
    Problem,
    ProblemResource,
    Refused,
    give_later,
    json_answer,
    refuse,
)
from logging_proxy.logserver.web.bodies import BODY_LIMIT, read_body
from logging_proxy.logserver.web.parameters import read_parameters
from logging_proxy.recording.segments import SPOOL_NAME

_OFFSET = re.compile(r"[0-9]{1,19}", re.ASCII)

MOST_OFFSET = (1 << 63) - 1
"""Offsets are 64 bits in the names of segments and in their blocks."""


class SpoolIngest(ProblemResource):
    """`/api/spools`: has a child for each spool."""

    def __init__(self, spools: RemoteSpools, run: Run, stored: Callable[[], None]) -> None:
        super().__init__()
        self.spools = spools
        self.run = run
        self.stored = stored

    def getChild(self, path: bytes, request: Request) -> Resource:
        return SpoolResource(self, path.decode("latin-1"))


class SpoolResource(ProblemResource):
    """`GET /api/spools/{spool}`: the offset up to which the stream is stored."""

    def __init__(self, ingest: SpoolIngest, name: str) -> None:
        super().__init__()
        self._ingest = ingest
        self._name = name

    def getChild(self, path: bytes, request: Request) -> Resource:
        return AppendResource(self._ingest, self._name, path.decode("latin-1"))

    def render_GET(self, request: Request) -> bytes | int:
        if not SPOOL_NAME.fullmatch(self._name):
            return refuse(request, Problem.BAD_NAME)
        return give_later(request, self._ingest.run(self._ask))

    def _ask(self) -> Answer:
        offset = self._ingest.spools.offset(self._name)
        if offset is None:
            raise Refused(Problem.UNKNOWN_SPOOL, offset=None)
        return json_answer({"offset": offset})


class AppendResource(ProblemResource):
    """
    `POST /api/spools/{spool}/{offset}`: appends the stream's bytes from `offset` on.

    Answers 409 with the stored offset when bytes before `offset` are missing, unless `?gap=1` declares them
    lost.
    """

    def __init__(self, ingest: SpoolIngest, name: str, offset: str) -> None:
        super().__init__()
        self._ingest = ingest
        self._name = name
        self._offset = offset

    def render_POST(self, request: Request) -> bytes | int:
        if not SPOOL_NAME.fullmatch(self._name):
            return refuse(request, Problem.BAD_NAME)
        if not _OFFSET.fullmatch(self._offset) or int(self._offset) > MOST_OFFSET:
            return refuse(request, Problem.BAD_OFFSET)
        try:
            gap = read_parameters(request, ("gap",)).get("gap")
            if gap not in (None, "1"):
                raise Refused(Problem.BAD_PARAMETER, "gap: not 1", parameter="gap")
            data = decoded_body(request)
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        return give_later(request, self._ingest.run(lambda: self._keep(data, gap is not None)))

    def _keep(self, data: bytes, gap: bool) -> Answer:
        try:
            end = self._ingest.spools.append(self._name, int(self._offset), data, gap)
        except Beyond as beyond:
            raise Refused(Problem.MISSING_BYTES, str(beyond), offset=beyond.stored) from None
        except NoRoom as full:
            raise Refused(Problem.NO_ROOM, str(full)) from None
        self._ingest.stored()
        return json_answer({"offset": end})


def decoded_body(request: Request) -> bytes:
    """The decoded body.  Raises `Refused` when it is too large, truncated or in an unknown coding."""
    data = read_body(request)
    coding = (request.getHeader("Content-Encoding") or "identity").lower()
    if coding == "identity":
        return data
    if coding != "gzip":
        raise Refused(Problem.BAD_BODY, "only gzip is understood")
    return _unzip(data)


def _unzip(data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(data, BODY_LIMIT)
    except zlib.error:
        raise Refused(Problem.BAD_BODY, "no gzip") from None
    if decoder.unconsumed_tail:
        raise Refused(Problem.TOO_LARGE)
    if not decoder.eof or decoder.unused_data:
        raise Refused(Problem.BAD_BODY, "no gzip")
    return plain
