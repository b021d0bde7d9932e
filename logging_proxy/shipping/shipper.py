"""
The shipper: replicates a local spool to a logging server that runs elsewhere.

It asks the server for the offset up to which the spool is stored, sends the bytes after it, and deletes
acknowledged segments.  Sending bytes twice does no harm, so after any error the shipper waits and asks again.
"""

from __future__ import annotations

import gzip
import json
import os
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.url import URL
from twisted.web.client import readBody

from logging_proxy.configuration.listeners import is_loopback
from logging_proxy.net.pause import Pause
from logging_proxy.recording.segments import SPOOL_NAME
from logging_proxy.recording.tail import (
    BUSY_INTERVAL,
    FIRST_IDLE,
    LONGEST_IDLE,
    Piece,
    SpoolLock,
    SpoolTail,
    load_json,
    save_durably,
)
from logging_proxy.tls.reasons import explain

BATCH, LEAST_BATCH = 1 << 20, 4 << 10
"""The largest and the smallest batch in bytes: the size is halved when a batch is not sent in time."""

FIRST_WAIT, LONGEST_WAIT = 0.25, 10.0
"""Seconds between attempts while the server does not answer; doubled after each attempt."""

ANSWER_TIMEOUT = 30.0
QUICK = ANSWER_TIMEOUT / 4
"""A batch that is acknowledged within so many seconds doubles the size of the next."""

NAME_FILE = "spool.json"

_Headers = dict[bytes | str, bytes | str]


class NotTaken(Exception):
    """The server answered, but did not store what was sent.  The text gives its answer."""


class Batch:
    """Consecutive bytes of the stream that are sent in one request."""

    def __init__(self, piece: Piece) -> None:
        self.start = piece.start
        self.data = piece.data
        self.damaged = piece.damaged
        """Whether the spool is damaged just before these bytes."""

    @property
    def end(self) -> int:
        return self.start + len(self.data)


def spool_name(directory: str, new_name: Callable[[], str]) -> str:
    """The name by which servers know a spool; created at the first call and kept beside the segments."""
    known = load_json(directory, NAME_FILE)
    name = known.get("name") if isinstance(known, dict) else None
    if isinstance(name, str) and SPOOL_NAME.fullmatch(name):
        return name
    return give_name(directory, new_name())


def give_name(directory: str, name: str) -> str:
    save_durably(directory, NAME_FILE, json.dumps({"name": name}).encode())
    return name


class SpoolReader:
    """The local side: reads batches to send, and deletes segments that are acknowledged."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._tail = SpoolTail(directory)
        self._ahead: Piece | None = None

    def seek(self, offset: int | None) -> None:
        """Continues at `offset`; with None, at the oldest byte of the spool."""
        self._tail.close()
        self._tail = SpoolTail(self._directory, offset)
        self._ahead = None

    @property
    def rewound(self) -> bool:
        """Whether the server has more of the spool than there is here, so that the spool was begun anew."""
        return self._tail.rewound

    def batch(self, most: int = BATCH) -> Batch | None:
        """The next bytes, up to `most`; None when there are no more yet."""
        piece, self._ahead = self._ahead or self._tail.read(), None
        if piece is None:
            return None
        if len(piece.data) > most:
            self._ahead = Piece(piece.start + most, piece.data[most:])
            return Batch(Piece(piece.start, piece.data[:most], piece.damaged))
        parts, end = [piece.data], piece.start + len(piece.data)
        while (following := self._tail.read()) is not None:
            if following.start != end or following.damaged or end - piece.start + len(following.data) > most:
                self._ahead = following
                break
            parts.append(following.data)
            end += len(following.data)
        return Batch(Piece(piece.start, b"".join(parts), piece.damaged))

    def delete_before(self, offset: int) -> None:
        self._tail.delete_before(offset)

    def close(self) -> None:
        self._tail.close()


class _AsWritten(URL):
    """A URL that goes out as it is: treq would refuse hosts that IDNA does not allow, such as `my_logs`."""

    def to_uri(self) -> URL:
        return self


class Shipper(Service):
    """
    Sends the spool in `spool_dir` to the logging server at `url`, from start to stop.

    `client` makes the requests; `new_name` makes a name for a spool that has none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spool_dir: str,
        url: str,
        token: str | None,
        client: HTTPClient,
        new_name: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._clock = clock
        self._directory = spool_dir
        self._url = url.rstrip("/")
        self._client = client
        self._new_name = new_name
        self._compress = not is_loopback(urlsplit(url).hostname or "")
        self._headers: _Headers = {"User-Agent": "logging-proxy"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = SpoolLock(spool_dir)
        self._reader = SpoolReader(spool_dir)
        self._stopping = False
        self._wait = FIRST_WAIT
        self._idle = FIRST_IDLE
        self._most = BATCH
        """The current size of batches in bytes, adapted to the speed of the connection."""
        self._trouble = ""
        self._draining: list[Deferred[None]] = []
        self._pause = Pause(clock)
        self._asking: Deferred[Any] | None = None
        self._done: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._done = Deferred.fromCoroutine(self._work())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        if self._asking is not None:
            self._asking.cancel()
        self._pause.end()
        return self._done

    def wake(self) -> None:
        """Looks at the spool now, because there may be bytes to send."""
        self._idle = FIRST_IDLE
        if not self._trouble:
            self._pause.end()

    def drain(self) -> Deferred[None]:
        """Fires when everything is sent, or when an attempt fails; the spool keeps the rest."""
        drained: Deferred[None] = Deferred()
        self._draining.append(drained)
        self._pause.end()
        return drained

    # --- the loop

    async def _work(self) -> None:
        while not self._stopping:
            try:
                await self._replicate()
            except CancelledError:
                continue
            except Exception as error:
                self._say(_describe(error))
                self._drained()
                await self._sleep(self._wait)
                self._wait = min(self._wait * 2, LONGEST_WAIT)
        self._reader.close()
        self._lock.release()
        self._drained()

    async def _replicate(self) -> None:
        """Sends everything from the offset that the server has, until a request fails."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._lock.release()
        if not self._lock.acquire():
            raise NotTaken("another process reads the spool")
        name = spool_name(self._directory, self._new_name)
        stored = await self._stored_offset(name)
        self._reader.seek(stored)
        self._say("")
        while not self._stopping:
            batch = self._reader.batch(self._most)
            if batch is not None:
                if batch.damaged:
                    self._log.error("{path}: damaged before {at}", path=self._directory, at=batch.start)
                stored = await self._send_in_time(name, batch, stored)
                self._reader.delete_before(stored)
                self._wait = FIRST_WAIT
                continue
            if self._reader.rewound:
                self._log.warn("{path}: the server has more of this spool; renamed", path=self._directory)
                give_name(self._directory, self._new_name())
                return
            self._drained()
            await self._sleep(self._next_idle())

    def _next_idle(self) -> float:
        delay, self._idle = self._idle, min(self._idle * 1.5, LONGEST_IDLE)
        return delay

    async def _stored_offset(self, name: str) -> int | None:
        status, value = await self._ask("GET", f"/api/spools/{name}", None, {})
        if status == 404 and "offset" in value:
            return None
        if status != 200:
            raise self._not_taken(status, value)
        return int(value["offset"])

    async def _send_in_time(self, name: str, batch: Batch, stored: int | None) -> int:
        """Sends a batch; halves the size of the next after a timeout, doubles it after a quick answer."""
        began = self._clock.seconds()
        try:
            stored = await self._send(name, batch, stored)
        except TimeoutError:
            self._most = max(LEAST_BATCH, self._most // 2)
            raise
        if self._clock.seconds() - began < QUICK:
            self._most = min(BATCH, 2 * self._most)
        return stored

    async def _send(self, name: str, batch: Batch, stored: int | None) -> int:
        gap = "?gap=1" if stored is not None and batch.start > stored else ""
        data = bytes(batch.data)
        headers: _Headers = {"Content-Type": "application/octet-stream"}
        if self._compress:
            data, headers["Content-Encoding"] = gzip.compress(data, 1), "gzip"
        path = f"/api/spools/{name}/{batch.start}{gap}"
        status, value = await self._ask("POST", path, data, headers)
        if status != 200 or int(value["offset"]) < batch.end:
            raise self._not_taken(status, value)
        self._idle = BUSY_INTERVAL
        return int(value["offset"])

    async def _ask(
        self, method: str, path: str, data: bytes | None, headers: _Headers
    ) -> tuple[int, dict[str, Any]]:
        """The status of an answer, and the JSON object in it, empty if there is none."""
        self._asking = Deferred.fromCoroutine(self._exchange(method, path, data, headers))
        self._asking.addTimeout(ANSWER_TIMEOUT, self._clock)
        try:
            return await self._asking  # type: ignore[no-any-return]
        finally:
            self._asking = None

    async def _exchange(
        self, method: str, path: str, data: bytes | None, headers: _Headers
    ) -> tuple[int, dict[str, Any]]:
        response = await self._client.request(
            method,
            _AsWritten.from_text(self._url + path),
            data=data,
            headers={**self._headers, **headers},
            allow_redirects=False,  # the token is for this server alone
            unbuffered=True,
        )
        # Cancelled, this closes the connection; treq's own way to read a body leaves it open.
        content = await readBody(response)
        try:
            value = json.loads(content)
        except ValueError:
            value = {}
        return response.code, value if isinstance(value, dict) else {}

    def _not_taken(self, status: int, value: dict[str, Any]) -> NotTaken:
        if status != 401:
            title = value.get("title")
            return NotTaken(f"it answers {status}" + (f", {title[:100]}" if isinstance(title, str) else ""))
        what = "refuses the token" if "Authorization" in self._headers else "asks for a token"
        return NotTaken(
            f"it {what}: the proxy presents logging_server.token too, set that to the token of the server"
        )

    # --- waiting and logging

    async def _sleep(self, seconds: float) -> None:
        """Ends early when there is something to do; a stop does not wait at all."""
        if not self._stopping:
            await self._pause.sleep(seconds)

    def _drained(self) -> None:
        draining, self._draining = self._draining, []
        for drained in draining:
            drained.callback(None)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self._log.warn("{url}: captures wait in the spool: {reason}", url=self._url, reason=trouble)
        elif self._trouble and not trouble:
            self._log.info("{url}: sending captures again", url=self._url)
        self._trouble = trouble


class Shippers(MultiService):
    """Several shippers as one, each with its own spool."""

    def __init__(self, shippers: Sequence[Shipper]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shippers = shippers
        for shipper in shippers:
            shipper.setServiceParent(self)  # type: ignore[no-untyped-call]

    def wake(self) -> None:
        """Looks at the spool now, because there may be bytes to send."""
        for shipper in self._shippers:
            shipper.wake()

    def drain(self) -> Deferred[None]:
        """Fires when each shipper has sent everything, or an attempt of it has failed."""
        return gatherResults([shipper.drain() for shipper in self._shippers]).addCallback(lambda _: None)


def _describe(error: BaseException) -> str:
    """The reason in one line, without the wrapper that the agent puts around errors of a connection."""
    wrapped = getattr(error, "reasons", None)
    return _describe(wrapped[0].value) if wrapped else explain(Failure(error))
