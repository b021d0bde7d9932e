"""The cost of single parts in isolation: parsing, route matching, recording, writing segments, indexing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from twisted.internet.task import Clock

from benchmarks.index import BATCH, Generator
from benchmarks.timing import LEAST_NS, REPEATS, per_call
from logging_proxy.http.bodies import ChunkedReader, chunk
from logging_proxy.http.heads import HeadCache, parse_request_head, parse_response_head
from logging_proxy.index import Entry, Filters, SqliteIndex, entry_of
from logging_proxy.recording.records import Kind, encode
from logging_proxy.recording.ring import Ring
from logging_proxy.recording.spool import Spool
from logging_proxy.recording.writer import CaptureWriter
from logging_proxy.routing.mux import Mux
from logging_proxy.routing.patterns import parse

REQUEST = (
    b"POST /bench/v1/chat/completions HTTP/1.1\r\nHost: localhost:5601\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54.0\r\nX-Stainless-Lang: python\r\n"
    b"Authorization: Bearer sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nContent-Length: 442\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Sat, 13 Sep 2025 00:11:09 GMT\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nX-Request-Id: req_0123456789abcdef\r\n\r\n"
)
EVENT = b'data: {"id":"chatcmpl-123","choices":[{"index":0,"delta":{"content":"token "}}]}\n\n'
FIELDS = 200
RING, PIECE, LIMIT = 8 << 20, 64 << 10, 1 << 30


@dataclass(frozen=True, slots=True)
class Cost:
    """The processor time of one unit of a part, in nanoseconds."""

    name: str
    unit: str
    ns: float


def costs(least_ns: int = LEAST_NS) -> Iterator[Cost]:
    """The costs of all parts; each repeat takes at least `least_ns`."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for part in (_heads, _bodies, _routes, _records, _spool, _index):
            yield from part(Path(folder), least_ns)


def _heads(folder: Path, least: int) -> Iterator[Cost]:
    cache = HeadCache(parse_request_head, FIELDS)
    cache.parse(REQUEST)
    yield Cost("request head, seen before", "head", per_call(lambda: cache.get(REQUEST), least))
    yield Cost("request head, new", "head", per_call(lambda: parse_request_head(REQUEST, FIELDS), least))
    yield Cost("response head, new", "head", per_call(lambda: parse_response_head(RESPONSE, FIELDS), least))


def _bodies(folder: Path, least: int) -> Iterator[Cost]:
    one, many, large = chunk(EVENT), chunk(EVENT) * 100, chunk(bytes(PIECE - 8))
    feed = ChunkedReader().feed
    yield Cost("chunked body, an event in a read", "event", per_call(lambda: feed(one), least))
    yield Cost("chunked body, 100 events in a read", "event", per_call(lambda: feed(many), least) / 100)
    yield Cost("chunked body, chunks of 64 KiB", "MiB", per_call(lambda: feed(large), least) * 16)


def _routes(folder: Path, least: int) -> Iterator[Cost]:
    for count in (10, 10_000):
        mux: Mux[int] = Mux()
        for number in range(count):
            mux.add(parse(f"/other/{number}/"), number)
        target = f"/other/{count // 2}/v1/chat/completions".encode()
        cost = per_call(lambda mux=mux, target=target: mux.match(b"POST", target, b"localhost"), least)  # type: ignore[misc]
        yield Cost(f"route among {count:,}", "look-up", cost)


def _records(folder: Path, least: int) -> Iterator[Cost]:
    """Storing an event in the ring, which is emptied at once."""
    with (folder / "ring").open("w+b") as file, closing(Ring.create(file.fileno(), RING, 0)) as ring:
        writer = CaptureWriter(ring, lambda: ring.take(ring.stored - ring.taken), True, Clock())
        records = [(int(Kind.RESPONSE_PIECE), 0, EVENT)]
        yield Cost("event recorded", "event", per_call(lambda: writer.write(1, records), least))


def _spool(folder: Path, least: int) -> Iterator[Cost]:
    """Writing the ring's content to segment files, without syncs."""
    spool = Spool(folder / "spool", folder, RING, LIMIT, lambda: None)
    record = encode(Kind.RESPONSE_PIECE, 0, 1, 0, bytes(PIECE - 64))

    def write_out() -> None:
        while spool.ring.room > len(record):
            spool.ring.store(record)
        spool.write_out()

    size = RING // len(record) * len(record)
    yield Cost("spool written out", "MiB", per_call(write_out, least) / size * (1 << 20))
    spool.close()


def _index(folder: Path, least: int) -> Iterator[Cost]:
    """Indexing and querying exchanges; `benchmarks/index.py` measures more queries on a larger index."""
    generator = Generator()
    batches = iter([_entries(generator) for _ in range(REPEATS + 1)])
    words = cycle(generator.words[:100])
    with closing(SqliteIndex(str(folder / "index.sqlite3"))) as index:
        taking_in = per_call(lambda: index.add(next(batches)), least_ns=0)
        yield Cost("index, exchange taken in", "exchange", taking_in / BATCH)
        yield Cost("index, newest listed", "question", per_call(lambda: index.list(Filters()), least))
        searching = per_call(lambda: index.list(Filters(q=next(words))), least)
        yield Cost("index, word searched", "question", searching)


def _entries(generator: Generator) -> list[Entry]:
    return [
        entry_of(request, response, lambda name, limit, bodies=bodies: bodies[name])
        for request, response, bodies in generator.exchanges(BATCH)
    ]
