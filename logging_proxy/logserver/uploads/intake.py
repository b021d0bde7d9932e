"""
Halves of exchanges that are put one by one, as the first logging proxies did: `PUT /{id}/request`.

The body is the raw HTTP message.  It is written under a temporary name as it
comes, gets its own name and its metadata when it is whole, and is never
interpreted but for its head.  What was cut is kept as `interrupted`.

`UploadStore` works on the disk, in the storage thread.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger

from logging_proxy.captures import metadata
from logging_proxy.captures.exchanges import Exchange, Half, Opening, Side
from logging_proxy.captures.heads import framing_of_request, framing_of_response, parse_head
from logging_proxy.captures.metadata import StoredBody
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.uploads.files import UploadFiles

MOST_BYTES = 16 << 30
"""Of one message."""

HEAD_LIMIT = 1 << 20

MOST_OPEN = 128
"""Messages that may come at one time; each has a descriptor."""

REMEMBERED = 16_384
"""Halves put lately, which the index may not have yet."""

_PATH = re.compile(rb"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(request|response)")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]")
_STATUS_LINE = re.compile(rb"HTTP/[0-9](\.[0-9])? [1-5][0-9][0-9]( [\t -~\x80-\xff]*)?")

CUT = "the upload ended early"


class Exists(Exception):
    """This half is stored already, or is just coming."""


class TooMany(Exception):
    """`MOST_OPEN` uploads are under way."""


class BadMessage(ValueError):
    """The bytes are no HTTP message.  Text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which half of which exchange."""

    id: str
    side: Side


def parse_target(path: bytes) -> Target | None:
    """The target in a raw path; None when it is not exactly of the form `/{id}/{side}`."""
    match = _PATH.fullmatch(path)
    return Target(match[1].decode("ascii"), Side(match[2].decode("ascii"))) if match else None


def is_upload_path(path: bytes) -> bool:
    """Whether a path is meant as one of ours, right or not."""
    return path.count(b"/") == 2 and path.endswith((b"/request", b"/response"))


@dataclass(slots=True, eq=False)
class Message:
    """A message on its way to the disk."""

    target: Target
    client: bytes
    wall_ns: int
    began: int
    fd: int
    half: Half = field(default_factory=lambda: Half(b""))
    size: int = 0
    whole_head: bool = False
    beginning: bytearray = field(default_factory=bytearray)
    """Of the head, until it is whole: it may come in many small pieces."""
    digest: Any = field(default_factory=hashlib.sha256)

    def take(self, data: bytes, now: int) -> None:
        """Looks at bytes that came at `now`.  Raises `BadMessage`."""
        half = self.half
        self.size += len(data)
        if not self.whole_head:
            # Only what is new, and the three bytes before it, can hold the end.
            beginning = self.beginning
            start = max(0, len(beginning) - 3)
            beginning += data
            end = beginning.find(b"\r\n\r\n", start)
            if end < 0:
                if len(beginning) > HEAD_LIMIT:
                    raise BadMessage("its head has no end")
                return
            half.head, data = bytes(beginning[: end + 4]), bytes(beginning[end + 4 :])
            self.whole_head, self.beginning = True, bytearray()
            check_start_line(half.head, self.target.side)
        if data:
            self.digest.update(data)
            half.add(len(data), now - self.began)


def check_start_line(head: bytes, side: Side) -> None:
    """Raises `BadMessage` when `head` does not begin as a message of that side does."""
    line = head.partition(b"\r\n")[0]
    form = _REQUEST_LINE if side is Side.REQUEST else _STATUS_LINE
    if not form.fullmatch(line):
        raise BadMessage(f"it does not begin as a {side.value} does")


class UploadStore:
    """
    Writes messages that are put.  Only for the storage thread.

    `is_known` says whether a half is stored already; halves that were put in the last minutes, which
    it may not know yet, are remembered here.  `on_published` gets the metadata of each half that
    has its files, whatever becomes of its request.
    """

    _log = Logger()

    def __init__(
        self,
        directory: LogDirectory,
        is_known: Callable[[Target], bool],
        on_published: Callable[[dict[str, Any]], None] = lambda document: None,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._directory = directory
        self._files = UploadFiles(directory)
        self._is_known = is_known
        self._on_published = on_published
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._open: dict[Target, Message] = {}
        self._lately: OrderedDict[Target, None] = OrderedDict()

    def begin(self, target: Target, client: bytes) -> Message:
        """Raises `Exists`, `TooMany`, OSError or `UnsafeDirectory`."""
        if target in self._open or target in self._lately or self._is_known(target):
            raise Exists
        if len(self._open) >= MOST_OPEN:
            raise TooMany
        self._directory.open()
        fd = self._files.create_upload(_temporary(target))
        message = Message(target, client, self._wall_ns(), self._monotonic_ns(), fd)
        self._open[target] = message
        return message

    def write(self, message: Message, data: bytes) -> None:
        """Raises `BadMessage` or OSError; then `drop` it."""
        at = message.size
        message.take(data, self._monotonic_ns())
        self._directory.write(message.fd, data, at)

    def finish(self, message: Message, whole: bool) -> dict[str, Any]:
        """
        Publishes a message, as cut unless it is `whole`; its metadata.

        Raises `BadMessage` when there is no head, and OSError.
        """
        if not message.whole_head:
            raise BadMessage("its head has no end")
        document = self._publish(message, *_verdict(message, whole))
        self._on_published(document)
        self._lately[message.target] = None
        if len(self._lately) > REMEMBERED:
            self._lately.popitem(last=False)
        self._close(message)
        return document

    def drop(self, message: Message) -> None:
        """Forgets a message and what was written of it."""
        try:
            self._files.remove_upload(_temporary(message.target))
        except FileNotFoundError:
            pass
        finally:
            self._close(message)

    def close(self) -> None:
        """The server stops: what is under way is cut."""
        for message in list(self._open.values()):
            self._cut(message)

    def recover(self) -> list[dict[str, Any]]:
        """Publishes, as cut, what an earlier life left; the metadata."""
        return [document for name in self._files.upload_names() if (document := self._recover(name))]

    def _recover(self, name: str) -> dict[str, Any] | None:
        target = parse_target(b"/" + name.removesuffix(".tmp").replace("_", "/").encode("ascii", "replace"))
        if target is None or target in self._open:
            return None
        fd, modified = self._files.open_upload(name)
        message = Message(target, b"", modified, 0, fd)
        self._open[target] = message
        try:
            for chunk in self._directory.read(fd, 0, self._directory.size(fd)):
                message.take(chunk, 0)
        except BadMessage:
            message.whole_head = False
        return self._cut(message)

    def _cut(self, message: Message) -> dict[str, Any] | None:
        try:
            return self.finish(message, whole=False)
        except BadMessage:
            self.drop(message)
        except OSError as error:
            self._log.error("an upload cannot be stored: {reason}", reason=error.strerror)
            self._close(message)
        return None

    def _close(self, message: Message) -> None:
        del self._open[message.target]
        self._directory.close_file(message.fd)

    def _publish(self, message: Message, outcome: str, error: str) -> dict[str, Any]:
        target, stamp = message.target, metadata.file_stamp(message.wall_ns)
        base = self._files.adopt_upload(_temporary(target), message.fd, stamp, target.id, target.side.value)
        try:
            document = self._describe(message, base, outcome, error)
        except BaseException:
            self._files.give_back(base, _temporary(target))
            raise
        self._directory.release(base)
        self._directory.sync_names()
        return document

    def _describe(self, message: Message, base: str, outcome: str, error: str) -> dict[str, Any]:
        """Writes the metadata of a message whose bytes have their name, and gives them theirs."""
        target, elapsed = message.target, message.half.last
        exchange = _exchange(message, outcome, error, elapsed)
        body = StoredBody(f"{base}.bin", message.digest.hexdigest())
        texts = metadata.texts(exchange, body, body)
        text = texts[0] if target.side is Side.REQUEST else texts[1]
        name = self._directory.write_temporary(base, target.id, text.encode("ascii"))
        self._directory.sync_named([name])
        self._directory.publish(base, target.id)
        document: dict[str, Any] = json.loads(text)
        return document


def _temporary(target: Target) -> str:
    return f"{target.id}_{target.side.value}.tmp"


def _verdict(message: Message, whole: bool) -> tuple[str, str]:
    """Outcome and error text: bytes that the head promises and that did not come are missed."""
    if not whole:
        return "interrupted", CUT
    head = parse_head(message.half.head)
    framing = (
        framing_of_request(head) if message.target.side is Side.REQUEST else framing_of_response(head, "")
    )
    declared = next((v for n, v in reversed(head.headers) if n.lower() == "content-length"), "")
    # An empty body may be that of an answer to HEAD.
    if framing == "content-length" and message.half.size and declared != str(message.half.size):
        return "interrupted", f"Content-Length is {declared[:20]}, {message.half.size} bytes came"
    return "complete", ""


def _exchange(message: Message, outcome: str, error: str, elapsed: int) -> Exchange:
    """The exchange of which this half is all that is known here."""
    half = message.half
    half.completed = elapsed
    head = half.head if message.target.side is Side.REQUEST else b""
    source, destination = _urls(head)
    id = bytes.fromhex(message.target.id.replace("-", ""))
    opening = Opening(b"", b"", source, destination, head)
    request = half if message.target.side is Side.REQUEST else Half(b"")
    response = half if message.target.side is Side.RESPONSE else None
    exchange = Exchange(0, id, message.wall_ns, message.client, opening, 0, request, response)
    exchange.elapsed, exchange.outcome, exchange.error = elapsed, outcome, error
    return exchange


def _urls(head: bytes) -> tuple[bytes, bytes]:
    """What the client called, and where the request went, as far as the head tells."""
    parsed = parse_head(head)
    fields = {name.lower(): value for name, value in parsed.headers}
    target = parsed.second
    if "://" not in target and fields.get("host"):
        target = f"http://{fields['host']}{target}"
    return fields.get("x-proxy-path", target).encode("latin-1"), target.encode("latin-1")
