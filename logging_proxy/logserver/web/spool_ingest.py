"""The ingest of remote spools: what a shipper sends is appended, and acknowledged when it is on disk."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from twisted.web.server import Request

from logging_proxy.logserver.ingest import SPOOL_NAME, Beyond, RemoteSpools
from logging_proxy.logserver.service import Run
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

_OFFSET = re.compile(r"[0-9]{1,19}", re.ASCII)


class SpoolIngest(ProblemResource):
    """
    `GET /api/spools/{spool}` and `POST /api/spools/{spool}/{offset}`.

    The body is the stream's bytes from `offset` on.  409 with the stored
    offset when bytes in between are missing; `?gap=1` says that they are lost.
    """

    isLeaf = True

    def __init__(self, spools: RemoteSpools, run: Run, stored: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._spools = spools
        self._run = run
        self._stored = stored

    def render_GET(self, request: Request) -> bytes | int:
        name, *more = _path(request)
        if more or not SPOOL_NAME.fullmatch(name):
            return refuse(request, Problem.BAD_NAME)
        return give_later(request, self._run(lambda: self._ask(name)))

    def render_POST(self, request: Request) -> bytes | int:
        name, offset = path if len(path := _path(request)) == 2 else ("", "")
        if not _OFFSET.fullmatch(offset):
            return refuse(request, Problem.BAD_OFFSET)
        if not SPOOL_NAME.fullmatch(name):
            return refuse(request, Problem.BAD_NAME)
        try:
            data = decoded_body(request)
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail)
        gap = request.args is not None and request.args.get(b"gap") == [b"1"]
        return give_later(request, self._run(lambda: self._keep(name, int(offset), data, gap)))

    def _ask(self, name: str) -> Answer:
        offset = self._spools.get(name).offset()
        if offset is None:
            raise Refused(Problem.UNKNOWN_SPOOL, offset=None)
        return json_answer({"offset": offset})

    def _keep(self, name: str, offset: int, data: bytes, gap: bool) -> Answer:
        try:
            end = self._spools.get(name).append(offset, data, gap)
        except Beyond as beyond:
            raise Refused(Problem.MISSING_BYTES, str(beyond), offset=beyond.stored) from None
        self._stored()
        return json_answer({"offset": end})


def _path(request: Request) -> list[str]:
    """What follows the resource's own address; at least one segment."""
    return [segment.decode("latin-1") for segment in request.postpath or [b""]]


def decoded_body(request: Request) -> bytes:
    """The body without its coding.  Raises `Refused` when it is too large, cut or coded in another way."""
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
