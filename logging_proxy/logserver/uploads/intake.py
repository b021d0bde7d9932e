"""
Uploads of single halves of exchanges, with `PUT /{id}/request` and `PUT /{id}/response`.

The body of the PUT is the raw HTTP message.  It is written to a temporary file while it arrives, and gets its
name and metadata when it is complete; only its head is parsed.  A message that was cut off is kept as
`interrupted`.

`UploadStore` does the work on the disk, in the storage thread.
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
"""The largest message, in bytes."""

HEAD_LIMIT = 1 << 20

MOST_OPEN = 128
"""The most concurrent uploads; each holds a descriptor."""

REMEMBERED = 16_384
"""The number of recent uploads that are remembered, because the index may not have them yet."""

_PATH = re.compile(rb"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(request|response)")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]")
_STATUS_LINE = re.compile(rb"HTTP/[0-9](\.[0-9])? [1-5][0-9][0-9]( [\t -~\x80-\xff]*)?")

CUT = "the upload ended early"


class Exists(Exception):
    """This half is stored already, or its upload is under way."""


class TooMany(Exception):
    """`MOST_OPEN` uploads are under way."""


class BadMessage(ValueError):
    """The bytes are not an HTTP message.  The text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One half of one exchange."""

    id: str
    side: Side


def parse_target(path: bytes) -> Target | None:
    """The target in a raw path; None unless the path has exactly the form `/{id}/{side}`."""
    match = _PATH.fullmatch(path)
    return Target(match[1].decode("ascii"), Side(match[2].decode("ascii"))) if match else None


def is_upload_path(path: bytes) -> bool:
    """Whether a path looks like one of an upload, valid or not."""
    return path.count(b"/") == 2 and path.endswith((b"/request", b"/response"))


@dataclass(slots=True, eq=False)
class Message:
    """A message while it is uploaded."""

    target: Target
    client: bytes
    wall_ns: int
    began: int
    fd: int
    half: Half = field(default_factory=lambda: Half(b""))
    size: int = 0
    whole_head: bool = False
    beginning: bytearray = field(default_factory=bytearray)
    """The beginning of the head, until the head is complete: it may arrive in many small pieces."""
    digest: Any = field(default_factory=hashlib.sha256)

    def take(self, data: bytes, now: int) -> None:
        """Parses and hashes bytes that arrived at `now`.  Raises `BadMessage`."""
        half = self.half
        self.size += len(data)
        if not self.whole_head:
            # The end of the head can only be in the new bytes and the three bytes before them.
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
    """Raises `BadMessage` unless `head` begins with a start line of that side."""
    line = head.partition(b"\r\n")[0]
    form = _REQUEST_LINE if side is Side.REQUEST else _STATUS_LINE
    if not form.fullmatch(line):
        raise BadMessage(f"it does not begin as a {side.value} does")


class UploadStore:
    """
    Writes uploaded messages.  Only for the storage thread.

    `is_known` asks the index whether a half is stored; halves uploaded in the last minutes, which the index
    may not have yet, are remembered here.  `on_published` receives the metadata of each half once its files
    exist, even if the client has disconnected.
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
        Publishes a message, as interrupted unless it is `whole`; returns its metadata.

        Raises `BadMessage` without a complete head, and OSError.
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
        """Drops a message and its file."""
        try:
            self._files.remove_upload(_temporary(message.target))
        except FileNotFoundError:
            pass
        finally:
            self._close(message)

    def close(self) -> None:
        """Ends all uploads under way as interrupted, because the server stops."""
        for message in list(self._open.values()):
            self._cut(message)

    def recover(self) -> list[dict[str, Any]]:
        """Publishes uploads left from before a restart, as interrupted; returns their metadata."""
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
        """Writes and publishes the metadata of a message whose `.bin` has its name."""
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
    """Outcome and error text; a body shorter than its Content-Length is interrupted."""
    if not whole:
        return "interrupted", CUT
    head = parse_head(message.half.head)
    framing = (
        framing_of_request(head) if message.target.side is Side.REQUEST else framing_of_response(head, "")
    )
    declared = next((v for n, v in reversed(head.headers) if n.lower() == "content-length"), "")
    # An empty body may belong to the response to a HEAD request.
    if framing == "content-length" and message.half.size and declared != str(message.half.size):
        return "interrupted", f"Content-Length is {declared[:20]}, {message.half.size} bytes came"
    return "complete", ""


def _exchange(message: Message, outcome: str, error: str, elapsed: int) -> Exchange:
    """An exchange of which only this half is known."""
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
    """Source and destination URL, as far as the head tells."""
    parsed = parse_head(head)
    fields = {name.lower(): value for name, value in parsed.headers}
    target = parsed.second
    if "://" not in target and fields.get("host"):
        target = f"http://{fields['host']}{target}"
    return fields.get("x-proxy-path", target).encode("latin-1"), target.encode("latin-1")
