"""
`PUT /{id}/request` and `PUT /{id}/response`: uploads that are streamed to disk.

`UploadIntake.receive` is called after the request head and before the body.  An acceptable upload gets a
`StreamedBody`, which is never in memory as a whole; the body of any other is discarded before the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from logging_proxy.logserver.ingest.spools import describe_error
from logging_proxy.logserver.threads import Run, Threads
from logging_proxy.logserver.uploads.intake import (
    MOST_BYTES,
    BadMessage,
    Exists,
    Message,
    Target,
    TooMany,
    UploadStore,
    is_upload_path,
    parse_target,
)
from logging_proxy.logserver.web.answers import (
    Answer,
    Problem,
    ProblemResource,
    Refused,
    give_later,
    json_answer,
    refuse,
)
from logging_proxy.recording.directories import UnsafeDirectory

MOST_WAITING = 1 << 20
"""Bytes of a body that may wait for the disk before back-pressure is applied."""

Document = dict[str, Any]

_log = Logger()


class Upload:
    """One upload, as the storage thread sees it: after its first error it ignores further bytes."""

    def __init__(self, store: UploadStore, target: Target, client: bytes) -> None:
        self._store = store
        self._target = target
        self._client = client
        self._message: Message | None = None
        self._trouble: Refused | None = None

    def begin(self) -> None:
        self._guarded(self._begin)

    def write(self, data: bytes) -> None:
        message = self._message
        if message is not None:
            self._guarded(lambda: self._store.write(message, data))

    def finish(self) -> Document:
        """Raises `Refused`."""
        document = self._end(whole=True)
        if document is None:
            raise self._trouble or Refused(Problem.INTERNAL)
        return document

    def cut(self) -> Document | None:
        """Publishes what has arrived, as interrupted: the client has disconnected."""
        return self._end(whole=False)

    def abandon(self, problem: Problem) -> None:
        """Discards the upload, which then fails with `problem`."""
        self._fail(Refused(problem))

    def _begin(self) -> None:
        self._message = self._store.begin(self._target, self._client)

    def _end(self, whole: bool) -> Document | None:
        message, found = self._message, []
        if message is not None:
            self._guarded(lambda: found.append(self._store.finish(message, whole)))
        self._message = None
        return found[0] if found else None

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exists:
            self._fail(Refused(Problem.EXISTS))
        except TooMany:
            self._fail(Refused(Problem.BUSY))
        except BadMessage as error:
            self._fail(Refused(Problem.BAD_BODY, str(error)))
        except OSError as error:
            self._fail(Refused(Problem.STORAGE_TROUBLE, error.strerror or ""))
        except UnsafeDirectory as error:
            self._fail(Refused(Problem.STORAGE_TROUBLE, str(error)))
        except Exception:
            # A bug: bytes may be missing, so nothing of the upload is kept.
            _log.failure("an upload cannot be stored")
            self._fail(Refused(Problem.INTERNAL))

    def _fail(self, trouble: Refused) -> None:
        self._trouble = self._trouble or trouble
        message, self._message = self._message, None
        if message is not None:
            try:
                self._store.drop(message)
            except Exception as error:
                _log.error("an upload cannot be removed: {reason}", reason=describe_error(error))


class StreamedBody:
    """
    The body of a PUT as twisted.web writes it, passed on to the storage thread.

    `known` fires with whether the index has this half already; storage work waits for it.  One write is under
    way at a time; bytes that arrive meanwhile are gathered, so that many small pieces cost no more memory
    than one large piece.
    """

    def __init__(
        self,
        upload: Upload,
        known: Deferred[bool],
        run_storage: Run,
        channel: Any,
        on_cut: Callable[[Document], object],
    ) -> None:
        self._upload = upload
        self._run_storage = run_storage
        self._channel = channel
        self._on_cut = on_cut
        self._size = 0
        self._gathered = bytearray()
        self._writing = False
        self._over = False
        self._pausing = False
        self._timeout: Any = None
        self._ready = known.addCallbacks(self._begin, self._cannot_begin)

    def _begin(self, known: bool) -> None:
        if known:
            self._run_storage(lambda: self._upload.abandon(Problem.EXISTS))
        else:
            self._run_storage(self._upload.begin)

    def _cannot_begin(self, failure: Failure) -> None:
        _log.failure("an upload cannot be looked up", failure=failure)
        self._run_storage(lambda: self._upload.abandon(Problem.INTERNAL))

    def _run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Runs `work` in the storage thread, behind the upload's beginning and all earlier work."""
        done: Deferred[Any] = Deferred()
        self._ready.addCallback(lambda _: self._run_storage(work).chainDeferred(done))
        return done

    def write(self, data: bytes) -> int:
        self._size += len(data)
        if self._over:
            return len(data)
        if self._size > MOST_BYTES:
            self._over = True
            self._run(lambda: self._upload.abandon(Problem.TOO_LARGE))
            return len(data)
        self._gathered += data
        self._write()
        if len(self._gathered) > MOST_WAITING:
            self._pause()
        return len(data)

    def finish(self) -> Deferred[Document]:
        """Called when the body is complete; fires with the metadata, or fails with `Refused`."""
        self._over = True
        self._finish_writing()
        return self._run(self._upload.finish)

    def tell(self) -> int:
        """Called by twisted.web, which rewinds a body before it processes the request."""
        return self._size

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def close(self) -> None:
        """Called at the end of the request, and when the client disconnects in the middle of the body."""
        if not self._over:
            self._over = True
            self._finish_writing()
            cut: Deferred[Document | None] = self._run(self._upload.cut)
            cut.addCallback(lambda document: self._on_cut(document) if document else None)

    def _write(self) -> None:
        if self._gathered and not self._writing:
            self._writing = True
            self._write_rest().addBoth(self._written)

    def _finish_writing(self) -> None:
        if self._gathered:
            self._write_rest()

    def _write_rest(self) -> Deferred[None]:
        """Writes the gathered bytes; the storage thread keeps the order of writes."""
        data, self._gathered = bytes(self._gathered), bytearray()
        # `Upload.write` does not raise: if this fails, the bytes were not written.
        return self._run(lambda: self._upload.write(data)).addErrback(self._lost)

    def _lost(self, failure: Failure) -> Deferred[None]:
        return self._run(lambda: self._upload.abandon(Problem.INTERNAL))

    def _written(self, _: object) -> None:
        self._writing = False
        self._write()
        if self._pausing and len(self._gathered) <= MOST_WAITING // 2:
            self._pausing = False
            self._channel.resumeProducing()
            self._channel.setTimeout(self._timeout)

    def _pause(self) -> None:
        if not self._pausing:
            self._pausing = True
            # The channel's timer is for slow clients, not for a slow disk.
            self._timeout = self._channel.setTimeout(None)
            self._channel.pauseProducing()


class HalfIndex(Protocol):
    """The index of uploads; both methods block."""

    def is_known(self, target: Target) -> bool:
        """Whether this half is stored already."""

    def add(self, document: Document) -> None:
        """Adds a published half by its metadata."""


class UploadIntake:
    """Accepts uploads: looks each up in `index`, has `store` write it, and adds it to `index`."""

    def __init__(self, store: UploadStore, index: HalfIndex, threads: Threads) -> None:
        self._store = store
        self._index = index
        self._threads = threads

    def receive(self, request: Request, path: bytes, length: int | None) -> StreamedBody | None:
        """The body for an upload that has passed the gate; None when it cannot be accepted."""
        target = parse_target(path)
        if target is None or (length is not None and length > MOST_BYTES):
            return None
        upload = Upload(self._store, target, _client(request.getClientAddress()))
        known = self._threads.files(lambda: self._index.is_known(target))
        return StreamedBody(upload, known, self._threads.storage.run, request.channel, self._add)

    def _add(self, document: Document) -> Deferred[None]:
        return self._threads.indexing(lambda: self._index.add(document))

    async def finish(self, body: StreamedBody) -> Document:
        document = await body.finish()
        await self._add(document)
        return document


def _client(address: IAddress) -> bytes:
    found: Any = address
    return f"{getattr(found, 'host', '')} {getattr(found, 'port', '')}".encode("ascii", "replace")


class Put(ProblemResource):
    """The resource of a path that ends in `/request` or `/response`."""

    isLeaf = True

    def __init__(self, intake: UploadIntake) -> None:
        super().__init__()
        self._intake = intake

    def render_PUT(self, request: Request) -> bytes | int:
        target = parse_target(request.path)
        if target is None:
            return refuse(request, Problem.BAD_ID)
        body: Any = request.content
        if not isinstance(body, StreamedBody):
            return refuse(request, Problem.TOO_LARGE)
        answer = Deferred.fromCoroutine(self._intake.finish(body)).addCallback(_created)
        return give_later(request, answer)


def _created(document: Document) -> Answer:
    shown = ("id", "stream_type", "outcome", "error", "bytes", "filename")
    where = f"/api/exchanges/{document['id']}/{document['stream_type']}"
    answer = json_answer({name: document[name] for name in shown}, 201)
    return replace(answer, headers={"Location": where})


__all__ = ["UploadIntake", "Put", "StreamedBody", "is_upload_path"]
