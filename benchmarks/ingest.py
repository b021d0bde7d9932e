"""
Measures how fast a logging server takes in a spool: files, index, feed and metrics.

    python benchmarks/ingest.py --exchanges 5000 [--stream] [--log-dir DIR]

The storage thread and the index thread of a logging server, without HTTP, run on one processor.  The
exchanges are small JSON POSTs, or with `--stream` responses of 50 server-sent events.  The target is 2,000
small exchanges a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index import Indexer
from logging_proxy.index.opening import open_index
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.live.feed import Feed
from logging_proxy.logserver.live.observers import Observers
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.recording.records import Flag, Kind, RequestHead, encode, encode_request_head
from logging_proxy.recording.segments import block_header, segment_name
from logging_proxy.service.bootstrap import spare_the_collector

WALL_NS = 1_757_722_269_123_456_789
BLOCK = 64 << 10
EVENTS = 50
IDLE = 0.005
WORDS = (
    "the model answers with words that are neither all the same nor all different so that the full text"
    " has something to do in every exchange while numbers names and some code stand between them too"
).split()

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:1234\r\nContent-Length: 450\r\n"
    b"Content-Type: application/json\r\nAuthorization: Bearer sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 600\r\nX-Request-Id: req_1\r\n\r\n"


def exchange(number: int, stream: bool, pick: random.Random) -> Iterator[bytes]:
    """The spool records of one exchange."""
    clock = 10**12 + number * 250_000

    def record(kind: Kind, payload: bytes, last: bool = False) -> bytes:
        nonlocal clock
        clock += 20_000
        return encode(kind, Flag.LAST if last else 0, number, clock, payload)

    id = uuid.UUID(int=pick.getrandbits(128)).bytes
    urls = (
        b"http://localhost:5601/lmstudio/v1/chat/completions",
        b"http://127.0.0.1:1234/v1/chat/completions",
    )
    opening = RequestHead(
        id, WALL_NS + clock, b"127.0.0.1 50001", b"lmstudio", b"/lmstudio/", urls[0], urls[1], HEAD
    )
    yield record(Kind.REQUEST_HEAD, encode_request_head(opening))
    question = " ".join(pick.choices(WORDS, k=70))
    asked = {"model": "mock", "stream": stream, "messages": [{"role": "user", "content": question}]}
    yield record(Kind.REQUEST_PIECE, json.dumps(asked).encode(), last=True)
    yield record(Kind.RESPONSE_HEAD, ANSWER % (b"text/event-stream" if stream else b"application/json"))
    pieces = list(_events(pick) if stream else _answer(pick))
    for piece in pieces[:-1]:
        yield record(Kind.RESPONSE_PIECE, piece)
    yield record(Kind.RESPONSE_PIECE, pieces[-1], last=True)
    yield record(Kind.END, b"\x00")


def _answer(pick: random.Random) -> Iterator[bytes]:
    message = {"role": "assistant", "content": " ".join(pick.choices(WORDS, k=70))}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 92, "completion_tokens": 70, "total_tokens": 162}
    value = {"id": f"chatcmpl-{pick.getrandbits(64):x}", "object": "chat.completion", "created": 1757722269}
    yield json.dumps({**value, "model": "mock", "choices": choices, "usage": usage}).encode()


def _events(pick: random.Random) -> Iterator[bytes]:
    id = f"chatcmpl-{pick.getrandbits(64):x}"
    for word in pick.choices(WORDS, k=EVENTS):
        choices = [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]
        value = {"id": id, "object": "chat.completion.chunk", "model": "mock", "choices": choices}
        yield b"data: " + json.dumps(value).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def make_spool(directory: str, count: int, stream: bool) -> None:
    """Write a spool as a proxy does: blocks of many records in a segment."""
    os.makedirs(directory, mode=0o700)
    pick, offset, waiting = random.Random(1), 0, bytearray()
    with open(os.path.join(directory, segment_name(0)), "wb") as file:
        for number in range(1, count + 1):
            for record in exchange(number, stream, pick):
                waiting += record
            if len(waiting) >= BLOCK or number == count:
                file.write(block_header(offset, bytes(waiting)) + waiting)
                offset += len(waiting)
                waiting.clear()


def take_in(log_dir: str, count: int, clocks: tuple[Callable[[], float], ...]) -> list[list[float]]:
    """Stores and indexes `count` exchanges; what `clocks` say before, when all is stored, and at the end."""
    store = FileStore(LogDirectory(log_dir))
    index = open_index(log_dir)
    assert index is not None
    observers = Observers(Feed(time.monotonic, 0))
    observers.indexer = Indexer(CaptureReader(log_dir), index, observers.indexed)
    root = os.path.join(log_dir, ".spool")
    spools = Spools(store, root, time.monotonic, observers)
    readings = [[clock() for clock in clocks]]
    observers.indexer.start()
    while spools.status.stored < count:
        if not spools.turn():
            time.sleep(IDLE)
    spools.settle()
    readings.append([clock() for clock in clocks])
    observers.indexer.stop()
    readings.append([clock() for clock in clocks])
    if index.counts().exchanges != count:
        raise SystemExit(f"{count} exchanges were stored, {index.counts().exchanges} are in the index")
    index.close()
    spools.close()
    return readings


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the logging server from the spool to the index.")
    parser.add_argument("--exchanges", type=int, default=5000)
    parser.add_argument("--stream", action="store_true", help="answers of 50 server-sent events")
    parser.add_argument("--log-dir", help="a directory to make; default: a temporary one")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="ingest-benchmark-")
    log_dir = options.log_dir or os.path.join(folder, "logs")
    spare_the_collector()
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    try:
        os.makedirs(log_dir, mode=0o700)
        make_spool(os.path.join(log_dir, ".spool", "5601"), options.exchanges, options.stream)
        count = options.exchanges
        began, stored, ended = take_in(log_dir, count, (time.monotonic, time.process_time))
    finally:
        shutil.rmtree(folder)
    wall, cpu = ended[0] - began[0], ended[1] - began[1]
    print(f"{count / wall:,.0f} exchanges a second, {1e6 * cpu / count:,.0f} µs CPU per exchange")
    print(f"stored after {stored[0] - began[0]:.2f} s, indexed after {wall:.2f} s, CPU {cpu:.2f} s")


if __name__ == "__main__":
    main()
