"""
Writes the files of exchanges in an order that keeps them consistent after a power failure.

All bodies are synced first.  Then the response's metadata get their name, and after those are synced, the
request's.  So a metadata file guarantees its `.bin`, and a request's metadata guarantee the whole exchange.

Most exchanges start and end between two commits; their files are written whole, each with one open, write
and close.

Every half gets a `.bin`, an empty one if there was no response, because the file reserves the name.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from logging_proxy.captures import metadata
from logging_proxy.captures.exchanges import Exchange, Side
from logging_proxy.captures.metadata import StoredBody
from logging_proxy.logserver.store.directory import NOT_OURS, PAGE, Found, LogDirectory
from logging_proxy.logserver.store.halves import Finished, HalfFile

KEPT_BODY = 16 << 10
"""Bodies up to this size are written whole, and handed to the index from memory."""

OPEN_LIMIT = 128
"""The most open descriptors of one writer; the default RLIMIT_NOFILE is 1024."""

SINGLE_SYNCS = 64
"""Up to this number files are synced one by one; more, with one sync of the file system."""

FILE_GONE = "its file was removed or cut while it was being written"

_NO_BYTES = hashlib.sha256().hexdigest()

_REQUEST = Side.REQUEST
"""A module constant, because access to an enum member costs as much as a function call."""

_new = tuple.__new__
"""Makes a named tuple without a call of a Python function; this is a hot path."""

Documents = list[tuple[HalfFile, bytes]]
"""Halves and their metadata."""


class Publisher:
    """
    Writes halves, and publishes them with their metadata after their exchange has ended.

    Every method may raise OSError.
    """

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._unsynced: dict[HalfFile, None] = {}
        self._unsynced_names: list[str] = []
        """Names of files that were written whole."""
        self._descriptors: OrderedDict[HalfFile, None] = OrderedDict()
        self._new_names = False
        """Whether there are new names that a power failure may still remove."""
        self._renamed = False
        """Whether files were renamed: a sync of a file makes only its first name durable."""

    @property
    def dirty(self) -> bool:
        """Whether a power failure may still remove something that was written."""
        return bool(self._unsynced or self._unsynced_names or self._new_names)

    def publish(self, finished: list[Finished]) -> None:
        """Writes the metadata of exchanges, whose halves must be complete."""
        requests: Documents = []
        responses: Documents = []
        for item in finished:
            self._document(item, requests, responses)
        self._name_all(requests, responses)
        self._new_names = self._new_names or bool(requests or responses)

    def settle(self) -> None:
        """Makes durable all files and their names."""
        self._sync()
        if self._new_names:
            self._directory.sync_names()
            self._new_names = False

    def take_up(self, half: HalfFile) -> None:
        """Takes over the name of a half that was begun before a restart."""
        if self._directory.reclaim(half.base, half.exchange.id):
            self._found_stored(half)

    def release(self, half: HalfFile) -> None:
        """Releases the name and the descriptor of a half."""
        self._directory.release(half.base)
        if half.fd is not None:
            del self._descriptors[half]
            self._close_descriptor(half)

    def close(self, halves: Iterable[HalfFile]) -> None:
        """Releases all descriptors, and the names of `halves`."""
        for half in self._descriptors:
            self._close_descriptor(half)
        self._descriptors.clear()
        for half in halves:
            self._directory.release(half.base)

    # --- files

    def complete_all(self, finished: list[Finished]) -> int:
        """Writes all bytes of ended exchanges, and their digests; returns how many bytes were buffered."""
        waited = 0
        for exchange, request, response in finished:
            waited += request.waiting_size + response.waiting_size
            short = exchange.id[:8]
            self._complete(request, f"_{short}_request")
            self._complete(response, f"_{short}_response")
        return waited

    def _complete(self, half: HalfFile, suffix: str) -> None:
        if half.base or half.waiting_size > KEPT_BODY:
            if half.waiting or not half.base:
                self.write(half)
            return
        body = bytes(half.gathered())
        content = half.prefix + body
        base = half.stamp + suffix
        if not self._directory.put(base, content):
            self.write(half)
            return
        half.base = base
        half.written = len(content)
        half.whole, half.body = True, body
        half.digest = hashlib.sha256(body).hexdigest() if body else _NO_BYTES
        half.waiting, half.waiting_size = [], 0
        self._unsynced_names.append(f"{base}.bin")

    def write(self, half: HalfFile) -> None:
        """Writes the buffered bytes, so that readers of the file see them."""
        fd = None if half.stored else self._descriptor(half)
        data, at = half.content, half.written
        half.body = bytes(data[len(half.prefix) :]) if not at and len(data) <= KEPT_BODY else None
        if not half.read_back:
            if half.digest is None:
                half.digest = hashlib.sha256()
            half.digest.update(data if at else memoryview(data)[len(half.prefix) :])
        half.waiting, half.waiting_size = [], 0
        half.written += len(data)
        if fd is not None:
            self._directory.write(fd, data, at)
            self._unsynced[half] = None

    def _descriptor(self, half: HalfFile) -> int | None:
        """The open `.bin`; None for a half that turns out to be published already."""
        if half.fd is not None:
            self._descriptors.move_to_end(half)
            return half.fd
        if half.base:
            half.fd = self._reopen(half)
        else:
            self._claim(half)
        if half.fd is None:
            return None
        self._hold(half)
        return half.fd

    def _hold(self, half: HalfFile) -> None:
        self._descriptors[half] = None
        if len(self._descriptors) > OPEN_LIMIT:
            oldest, _ = self._descriptors.popitem(last=False)
            self._close_descriptor(oldest)

    def _close_descriptor(self, half: HalfFile) -> None:
        if half.fd is not None:
            fd, half.fd = half.fd, None
            self._directory.close_file(fd)

    def _reopen(self, half: HalfFile) -> int | None:
        """Reopens the file of a half; if it was removed or replaced, creates another one, with a hole."""
        try:
            fd = self._directory.reopen(half.base)
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            half.lost = True
            self._directory.release(half.base)
            self._claim(half)
            if half.fd is not None:
                self._directory.write(half.fd, half.prefix, 0)
            return half.fd
        half.lost = half.lost or self._directory.size(fd) < half.written
        return fd

    def _claim(self, half: HalfFile) -> None:
        claim = self._directory.claim(half.stamp, half.exchange.id, half.side.value, half.prefix)
        half.base, half.fd = claim.base, claim.fd
        self._new_names = True
        if claim.stored:
            self._found_stored(half)

    def _found_stored(self, half: HalfFile) -> None:
        """The half was published before a restart, perhaps without a sync of its names."""
        half.stored = self._new_names = self._renamed = True
        self._unsynced_names.append(f"{half.base}_metadata.json")

    # --- metadata

    def _document(self, item: Finished, requests: Documents, responses: Documents) -> None:
        """Adds the metadata of the halves that are not published yet."""
        exchange, request, response = item
        asked = _stored_body(request, self._digest_of(request))
        answered = _stored_body(response, self._digest_of(response))
        if request.lost or response.lost:
            exchange.mark_damaged(FILE_GONE)
        request_text, response_text = _texts(exchange, asked, answered)
        if not request.stored:
            requests.append((request, request_text.encode("ascii")))
        if not response.stored:
            responses.append((response, response_text.encode("ascii")))

    def _digest_of(self, half: HalfFile) -> str:
        if half.whole:
            return half.digest  # type: ignore[no-any-return]
        if half.read_back:
            self._digest_file(half)
        return _NO_BYTES if half.digest is None else str(half.digest.hexdigest())

    def _digest_file(self, half: HalfFile) -> None:
        """
        Computes the digest of a half that was begun before a restart from its file.

        A checkpoint cannot hold the state of a hash.
        """
        half.digest, length = hashlib.sha256(), half.written - len(half.prefix)
        fd = self._descriptor(half)
        if fd is None:
            return
        for chunk in self._directory.read(fd, len(half.prefix), length):
            half.digest.update(chunk)
            length -= len(chunk)
        half.lost = half.lost or length > 0

    def _name_all(self, requests: Documents, responses: Documents) -> None:
        """
        Syncs everything that was written, then gives the metadata their names.

        A request's metadata vouch for the whole exchange, so they follow after the response's are synced: a
        power failure may keep unsynced changes in any order.
        """
        for half, text in (*requests, *responses):
            if len(text) > PAGE:
                self._write_temporary(half, text)
        for documents in (responses, requests):
            self._sync()
            if self._renamed:
                self._directory.sync_names()
                self._renamed = False
            for half, text in documents:
                self._name_metadata(half, text)
        self._renamed = False

    def _name_metadata(self, half: HalfFile, text: bytes) -> None:
        name = f"{half.base}_metadata.json"
        if len(text) > PAGE:
            self._rename(half)
        elif self._directory.put_file(name, text):
            self._unsynced_names.append(name)
        else:
            self._settle_clash(half, text)

    def _rename(self, half: HalfFile) -> None:
        self._directory.publish(half.base, half.exchange.id)
        self._renamed = True

    def _write_temporary(self, half: HalfFile, text: bytes) -> None:
        self._unsynced_names.append(self._directory.write_temporary(half.base, half.exchange.id, text))

    def _sync(self) -> None:
        halves, self._unsynced = self._unsynced, {}
        names, self._unsynced_names = self._unsynced_names, []
        names += [f"{half.base}.bin" for half in halves if half.fd is None]
        fds = [half.fd for half in halves if half.fd is not None]
        if len(fds) + len(names) > SINGLE_SYNCS:
            self._directory.sync_everything()
        else:
            self._directory.sync_files(fds)
            self._directory.sync_named(names)

    def _settle_clash(self, half: HalfFile, text: bytes) -> None:
        """Resolves a clash: a file with the name for the metadata of `half` exists already."""
        found = self._directory.found_at(half.base, half.exchange.id)
        if found is Found.OURS:
            # It was published before a restart, and its bytes have been deleted since: they stay deleted.
            if half.whole:
                self._directory.withdraw(half.base)
            self._found_stored(half)
            return
        if found is Found.FOREIGN and half.whole:
            text = self._take_another_name(half)
        if not half.stored:
            self._write_temporary(half, text)
            self._sync()
            self._rename(half)

    def _take_another_name(self, half: HalfFile) -> bytes:
        """Writes a half under another name, because its own is taken; returns the new metadata."""
        self._directory.withdraw(half.base)
        half.base, half.written, half.digest, half.whole = "", 0, None, False
        half.waiting = [half.body or b""]
        self.write(half)
        stored = _stored_body(half, self._digest_of(half))
        texts = metadata.texts(half.exchange, stored, stored)
        return texts[0 if half.side is _REQUEST else 1].encode("ascii")


def _texts(exchange: Exchange, asked: StoredBody, answered: StoredBody) -> tuple[str, str]:
    """The metadata of an exchange, without the values that cannot be encoded."""
    try:
        return metadata.texts(exchange, asked, answered)
    except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
        exchange.reduce(f"what is told of it cannot be stored ({type(error).__name__})")
        return metadata.texts(exchange, asked, answered)


def _stored_body(half: HalfFile, digest: str) -> StoredBody:
    return _new(StoredBody, (f"{half.base}.bin", digest))
