"""
The messages in the recorded bytes of a WebSocket (RFC 6455), one direction at a time.

Fragments are joined, masks are taken off, and permessage-deflate (RFC 7692) is undone.  Input is untrusted:
anything gives messages or none, and output is bounded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_MESSAGE = 16 << 20
"""Maximum bytes kept of a message; the rest of a longer one is left out."""

LONGEST_FRAME = 64 << 20
"""Maximum size of a frame; what says that it is longer is no frame."""

MOST_LOST = 64 << 10
"""Maximum bytes kept of what is no frame."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE = 0, 1, 2, 8
_NAMES = {_TEXT: "text", _BINARY: "binary", _CLOSE: "close", 9: "ping", 10: "pong"}
_TOO_LONG = "it is too long to be shown whole"
_TAIL = b"\x00\x00\xff\xff"
"""What permessage-deflate takes off the end of a message (RFC 7692 §7.2.1)."""


@dataclass(frozen=True, slots=True)
class WebSocketMessage:
    """A message or a control frame."""

    kind: str
    """`text`, `binary`, `close`, `ping`, `pong`; `bytes` for what cannot be read as a frame."""
    data: bytes
    end: int
    """The offset after its last byte, in the bytes of the direction."""
    whole: bool = True
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Deflate:
    """What a handshake agreed about compression in one direction."""

    window: int = 15
    keeps_context: bool = True


def agreed_deflate(extensions: str, from_client: bool) -> Deflate | None:
    """Compression by the Sec-WebSocket-Extensions of the answer; None if there is none."""
    for extension in extensions.split(","):
        name, *parameters = (part.strip().lower() for part in extension.split(";"))
        if name in ("permessage-deflate", "x-webkit-deflate-frame"):
            side = "client" if from_client else "server"
            window = re.search(rf'{side}_max_window_bits\s*=\s*"?(\d+)', ";".join(parameters))
            bits = int(window[1][:3]) if window else 15
            return Deflate(min(max(bits, 9), 15), f"{side}_no_context_takeover" not in parameters)
    return None


class WebSocketReader:
    """
    Takes the bytes of one direction in pieces, and gives the messages that they complete.

    `finish` gives what is incomplete at the end.  After bytes that are no frame the rest is given as it is.
    """

    def __init__(self, deflate: Deflate | None = None) -> None:
        self._deflate = deflate
        self._inflating = _new_inflating(deflate)
        self._held = bytearray()
        self._offset = self._total = 0
        self._kind = ""
        self._compressed = False
        self._message = bytearray()
        self._is_lost = False

    def feed(self, data: bytes) -> Iterator[WebSocketMessage]:
        """The messages that are complete with `data`."""
        self._total += len(data)
        if self._is_lost:
            self._held += data[: max(0, MOST_LOST - len(self._held))]
            return
        self._held += data
        at = 0
        while (frame := _frame(self._held, at)) is not None:
            if not frame.is_sound:
                self._is_lost = True
                break
            if len(self._held) < frame.end:
                break
            payload = frame.payload(self._held)
            at = frame.end
            message = self._take(frame, payload, self._offset + at)
            if message is not None:
                yield message
        self._offset += at
        del self._held[:at]

    def finish(self) -> Iterator[WebSocketMessage]:
        """What is incomplete at the end of the bytes."""
        frame = None if self._is_lost else _frame(self._held, 0)
        if frame is not None and not frame.is_control and frame.is_sound:
            self._begin(frame)
            self._message += frame.payload(self._held)
            self._held.clear()
        if self._kind:
            yield self._ended(self._total - len(self._held), whole=False)
        if self._held:
            trouble = "no frame of a WebSocket" if self._is_lost else ""
            yield WebSocketMessage("bytes", bytes(self._held[:MOST_LOST]), self._total, False, trouble)

    def _take(self, frame: _Frame, payload: bytes, end: int) -> WebSocketMessage | None:
        """Take a frame; the message that it ends, if it ends one."""
        if frame.is_control:
            return WebSocketMessage(_NAMES[frame.opcode], payload, end)
        self._begin(frame)
        if len(self._message) <= LONGEST_MESSAGE:
            self._message += payload
        return self._ended(end, whole=True) if frame.is_final else None

    def _begin(self, frame: _Frame) -> None:
        """Begin a message, unless `frame` continues one.  A continuation of nothing begins one, too."""
        if frame.opcode or not self._kind:
            self._kind = _NAMES[frame.opcode or _BINARY]
            self._compressed = frame.compressed
            self._message = bytearray()

    def _ended(self, end: int, whole: bool) -> WebSocketMessage:
        """The message so far; the next one begins."""
        data, kind, self._kind, self._message = bytes(self._message), self._kind, "", bytearray()
        trouble = ""
        if self._compressed:
            data, trouble = self._inflated(data + _TAIL if whole else data)
        elif len(data) > LONGEST_MESSAGE:
            data, trouble = data[:LONGEST_MESSAGE], _TOO_LONG
        return WebSocketMessage(kind, data, end, whole, trouble)

    def _inflated(self, data: bytes) -> tuple[bytes, str]:
        """The bytes of a compressed message, or those that were sent, with the reason."""
        if self._inflating is None:
            return data, "it is compressed in a way that was not agreed, or not understood"
        keeps_context = self._deflate is not None and self._deflate.keeps_context
        try:
            message = self._inflating.decompress(data, LONGEST_MESSAGE)
            is_long = bool(self._inflating.unconsumed_tail)
        except zlib.error:
            # Every later message would need what this one could not give.
            self._inflating = None if keeps_context else _new_inflating(self._deflate)
            return data, "it could not be decompressed"
        if is_long or not keeps_context:
            self._inflating = _new_inflating(self._deflate)
        return message, _TOO_LONG if is_long else ""


def _new_inflating(deflate: Deflate | None) -> zlib._Decompress | None:
    return None if deflate is None else zlib.decompressobj(-deflate.window)


@dataclass(frozen=True, slots=True)
class _Frame:
    opcode: int
    is_final: bool
    compressed: bool
    is_sound: bool
    mask: bytes
    begin: int
    end: int

    @property
    def is_control(self) -> bool:
        return self.opcode >= _CLOSE

    def payload(self, held: bytearray) -> bytes:
        """The bytes of the frame that are there, without the mask."""
        data = bytes(held[self.begin : self.end])
        if not self.mask or not data:
            return data
        mask = (self.mask * (len(data) // 4 + 1))[: len(data)]
        # The whole numbers make one operation of it; byte by byte would take 50 times as long.
        return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(data), "big")


def _frame(held: bytearray, at: int) -> _Frame | None:
    """The frame that begins at `at`; None if its head is not complete."""
    if len(held) < at + 2:
        return None
    first, second = held[at], held[at + 1]
    size, begin = second & 127, at + 2
    if size > 125:
        width = 2 if size == 126 else 8
        size, begin = int.from_bytes(held[begin : begin + width], "big"), begin + width
    mask = bytes(held[begin : begin + 4]) if second & 128 else b""
    begin += 4 if second & 128 else 0
    if len(held) < begin:
        return None
    opcode = first & 15
    is_sound = not first & 48 and opcode in (_CONTINUATION, *_NAMES) and size <= LONGEST_FRAME
    return _Frame(opcode, bool(first & 128), bool(first & 64), is_sound, mask, begin, begin + size)
