"""Spool directories made from records, for the tests of the logging server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from logging_proxy.captures.events import Event
from logging_proxy.captures.stored import Stored
from logging_proxy.recording.records import OUTCOMES, Flag, Kind, RequestHead, encode, encode_request_head
from logging_proxy.recording.segments import block_header, segment_name

WALL_NS = 1_757_722_269_123_456_789
"""2025-09-13 00:11:09.123456 UTC."""

ID = bytes.fromhex("092d04243f1e4f0f8c5b5c0a7d0e9f11")
MS = 1_000_000


def other_id(number: int) -> bytes:
    """An id that has nothing to do with another number's."""
    return (number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big") + number.to_bytes(8, "big")


@dataclass
class Script:
    """Encodes the records of one exchange; `clock` is the proxy's monotonic clock in nanoseconds."""

    number: int = 1
    id: bytes = ID
    clock: int = 5_000 * MS
    wall_ns: int = WALL_NS
    route: bytes = b"lmstudio"
    method: bytes = b"POST"

    def record(self, kind: Kind, payload: bytes, flags: int = 0, after: int = MS) -> bytes:
        self.clock += after
        return encode(kind, flags, self.number, self.clock, payload)

    def head(
        self,
        fields: bytes = b"Host: 127.0.0.1:1234\r\nX-Case: a\r\nx-case: b\r\n",
        head: bytes | None = None,
    ) -> bytes:
        return encode(Kind.REQUEST_HEAD, 0, self.number, self.clock, self.opening(fields, head))

    def opening(self, fields: bytes, head: bytes | None = None) -> bytes:
        return encode_request_head(
            RequestHead(
                self.id,
                self.wall_ns,
                b"127.0.0.1 50001",
                self.route,
                b"/lmstudio/",
                b"http://localhost:5601/lmstudio/v1/chat",
                b"http://127.0.0.1:1234/v1/chat",
                self.method + b" /v1/chat HTTP/1.1\r\n" + fields if head is None else head,
            )
        )

    def request(self, data: bytes, last: bool = False) -> bytes:
        return self.record(Kind.REQUEST_PIECE, data, Flag.LAST if last else 0)

    def response_head(
        self,
        head: bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Caf\xe9: \xff\r\n\r\n",
        flags: int = 0,
    ) -> bytes:
        return self.record(Kind.RESPONSE_HEAD, head, flags)

    def response(self, data: bytes, last: bool = False) -> bytes:
        return self.record(Kind.RESPONSE_PIECE, data, Flag.LAST if last else 0)

    def note(self, note: Any) -> bytes:
        return self.record(Kind.NOTE, json.dumps(note).encode())

    def end(self, outcome: str = "complete", error: str = "") -> bytes:
        return self.record(Kind.END, bytes([OUTCOMES.index(outcome)]) + error.encode())

    def simple(self, request: bytes = b'{"a":1}', response: bytes = b'{"b":2}') -> list[bytes]:
        """A whole exchange, record by record."""
        return [
            self.head(),
            self.request(request, last=True),
            self.response_head(),
            self.response(response, last=True),
            self.end(),
        ]


def session(clock: int = MS, **more: Any) -> bytes:
    payload = json.dumps({"version": "1", "pid": 1, "wall_ns": WALL_NS, **more}).encode()
    return encode(Kind.SESSION, 0, 0, clock, payload)


class SpoolWriter:
    """Writes a spool directory as the proxy does: checked blocks in segments."""

    def __init__(self, directory: str, offset: int = 0) -> None:
        self.directory = directory
        self.offset = offset
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.new_segment()

    def new_segment(self) -> None:
        self.path = os.path.join(self.directory, segment_name(self.offset))
        open(self.path, "ab").close()

    def block(self, data: bytes) -> None:
        self.raw(block_header(self.offset, data) + data)
        self.offset += len(data)

    def blocks(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.block(piece)

    def raw(self, data: bytes) -> None:
        """Bytes at the end of the segment that need not be a block."""
        with open(self.path, "ab") as file:
            file.write(data)


def read_directory(path: str) -> dict[str, bytes]:
    """Every file of a log directory but the spool, by name."""
    found = {}
    for name in sorted(os.listdir(path)):
        full = os.path.join(path, name)
        if os.path.isfile(full) and not os.path.islink(full):
            with open(full, "rb") as file:
                found[name] = file.read()
    return found


def documents(path: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The metadata in a log directory by id and stream type; two of the same are an error."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, content in read_directory(path).items():
        if name.endswith("_metadata.json"):
            document = json.loads(content)
            key = (document["id"], document["stream_type"])
            if key in found:
                raise AssertionError(f"{key} is there twice")
            found[key] = document
    return found


def body_of(path: str, document: dict[str, Any]) -> bytes:
    """The body's bytes in the `.bin` that a metadata document names."""
    with open(os.path.join(path, document["filename"]), "rb") as file:
        content = file.read()
    return content.partition(b"\r\n\r\n")[2]


class Unobserved:
    """The observer of a consumer that only stores."""

    def event(self, event: Event) -> None: ...

    def stored(self, stored: Stored) -> None: ...


class Told:
    """An observer that hands on the exchanges that were stored."""

    def __init__(self, keep: Callable[[Stored], None]) -> None:
        self._keep = keep

    def event(self, event: Event) -> None: ...

    def stored(self, stored: Stored) -> None:
        self._keep(stored)
