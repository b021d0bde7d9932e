"""
Measures the speed of the index: ingest, listing, filtering, fetching and searching.

    python benchmarks/index.py --rows 100000

Ingest starts from the metadata and the bodies of small LLM exchanges (about 1 KB of text), half of them
streamed; reading files is not included.  The targets with a million rows: ingest of 2,000 exchanges a second
on one core; list, filter and fetch in 20 ms; search in 200 ms at the median.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from logging_proxy.index import Filters, SqliteIndex, entry_of
from logging_proxy.index.columns import iso_time
from logging_proxy.index.cursors import write_cursor

START = 1_757_722_269_123_456
BATCH = 512
WORDS = 30_000
MODELS = ("gpt-5", "claude-sonnet-5", "smollm2", "qwen3-30b", "gemini-3-pro")
ROUTES = ("lmstudio", "openrouter", "anthropic", "openai", "local")
OUTCOMES = ("complete",) * 95 + ("client_closed",) * 3 + ("upstream_reset", "upstream_timeout")
STATUSES = (200,) * 90 + (400, 401, 404, 429, 429, 500, 502, 503, 529, 201)

Document = dict[str, Any]


class Generator:
    """Generates exchanges with word frequencies as in a language (Zipf's law), reproducible by seed."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        letters = "etaoinshrdlcumwfgypbvkjxqz"
        self.words = [
            "".join(self.random.choice(letters) for _ in range(self.random.randint(2, 10)))
            for _ in range(WORDS)
        ]
        self._weights: list[float] = []
        total = 0.0
        for rank in range(WORDS):
            total += 1 / (rank + 5)
            self._weights.append(total)
        self._texts = [self.text(75) for _ in range(20_000)]
        self._started = START

    def text(self, count: int) -> str:
        return " ".join(self.random.choices(self.words, cum_weights=self._weights, k=count))

    def exchanges(self, count: int) -> Iterator[tuple[Document, Document, dict[str, bytes]]]:
        """The metadata of both halves, and the bodies by file name."""
        for _ in range(count):
            self._started += self.random.randint(100, 50_000)
            yield self._exchange(self._started)

    def _exchange(self, started: int) -> tuple[Document, Document, dict[str, bytes]]:
        pick = self.random.choice
        id = f"{self.random.getrandbits(128):032x}"
        id = f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"
        model, stream, status = pick(MODELS), self.random.random() < 0.5, pick(STATUSES)
        asked = json.dumps(
            {"model": model, "stream": stream, "messages": [{"role": "user", "content": pick(self._texts)}]}
        ).encode()
        answered = _streamed(model, pick(self._texts)) if stream else _whole(model, pick(self._texts))
        common = {
            "id": id,
            "route": pick(ROUTES),
            "pattern": "/v1/",
            "method": "POST",
            "source_url": "http://localhost:5601/v1/chat/completions",
            "destination_url": "http://127.0.0.1:1234/v1/chat/completions",
            "client": {"address": "127.0.0.1", "port": 50001},
            "outcome": pick(OUTCOMES),
            "error": None,
        }
        session = f"session-{started // 60_000_000}"
        request = {
            **_half(common, "request", started, asked, "application/json"),
            "status": None,
        }
        request["headers"] += [("X-Claude-Code-Session-Id", session), ("Authorization", "Bearer secret")]
        response = {
            **_half(
                common,
                "response",
                started + 1000,
                answered,
                "text/event-stream" if stream else "application/json",
            ),
            "status": status,
            "answered_by": "destination",
        }
        return request, response, {request["filename"]: asked, response["filename"]: answered}


def _half(common: Document, side: str, started: int, body: bytes, kind: str) -> Document:
    return {
        **common,
        "stream_type": side,
        "started_at": iso_time(started),
        "completed_at": iso_time(started + 1_000_000),
        "headers": [("Host", "127.0.0.1:1234"), ("Content-Type", kind), ("User-Agent", "bench/1")],
        "bytes": len(body),
        "filename": f"2025-09-13_02-11-09.123_{common['id'][:8]}_{side}.bin",
    }


def _whole(model: str, text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "chatcmpl-1", "model": model, "choices": [choice]}).encode()


def _streamed(model: str, text: str) -> bytes:
    """A stream of ten chunks, like a short answer."""
    size = len(text) // 10 + 1
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    events = [
        json.dumps(
            {"id": "chatcmpl-1", "model": model, "choices": [{"index": 0, "delta": {"content": chunk}}]}
        )
        for chunk in chunks
    ]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def ingest(index: SqliteIndex, generator: Generator, rows: int) -> None:
    spent = wall = 0.0
    slowest = 0.0
    for at in range(0, rows, BATCH):
        batch = list(generator.exchanges(min(BATCH, rows - at)))
        cpu, began = time.process_time(), time.perf_counter()
        index.add(
            [
                entry_of(request, response, lambda name, limit, bodies=bodies: bodies[name])
                for request, response, bodies in batch
            ]
        )
        spent += time.process_time() - cpu
        took = time.perf_counter() - began
        wall, slowest = wall + took, max(slowest, took)
    print(f"ingest: {rows / wall:,.0f} exchanges/s ({rows / spent:,.0f} per CPU second);", end=" ")
    size = index.counts().index_bytes / rows
    print(f"slowest batch of {BATCH}: {slowest * 1000:.0f} ms; {size:,.0f} bytes each")


def measure(name: str, question: Callable[[], Any], times: int) -> None:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        question()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    print(
        f"{name:32} median {statistics.median(took):8.2f} ms   95 % {took[int(len(took) * 0.95)]:8.2f} ms"
        f"   most {took[-1]:8.2f} ms"
    )


def ask(index: SqliteIndex, generator: Generator, times: int) -> None:
    pick = generator.random
    newest = index.list(Filters(), limit=500).rows
    ids = [row.id for row in newest]
    words = generator.words

    def search(q: str, **others: Any) -> None:
        index.list(Filters(q=q, **others))

    def rank(highest: int) -> str:
        return words[pick.randrange(highest)]

    deep = index.list(Filters(), limit=1000).next
    middle = write_cursor((START + newest[0].started) // 2)
    span = (newest[0].started - START) or 1
    measure("list", lambda: index.list(Filters()), times)
    measure("list, second page", lambda: index.list(Filters(), deep), times)
    measure("filter route", lambda: index.list(Filters(route=pick.choice(ROUTES))), times)
    measure("filter status 529", lambda: index.list(Filters(status=529)), times)
    measure("filter 5xx and model", lambda: index.list(Filters(status=5, model=pick.choice(MODELS))), times)
    measure(
        "filter four at once",
        lambda: index.list(Filters(route="local", model="gpt-5", status=429, outcome="upstream_reset")),
        times,
    )
    measure("filter session", lambda: index.list(Filters(session=newest[pick.randrange(500)].session)), times)
    measure("filter that nothing meets", lambda: index.list(Filters(route="local", model="no")), times)
    measure("filter since", lambda: index.list(Filters(since=START + pick.randrange(span))), times)
    measure(
        "filter until and route", lambda: index.list(Filters(until=START + span // 2, route="local")), times
    )
    measure("filter route, deep page", lambda: index.list(Filters(route="local"), middle), times)
    measure("oldest first", lambda: index.list(Filters(), oldest_first=True), times)
    measure("fetch", lambda: index.get(pick.choice(ids)), times)
    measure("counts", index.counts, times)
    measure("search, any word", lambda: search(rank(WORDS)), times)
    measure("search, frequent word", lambda: search(rank(50)), times)
    measure("search, two words", lambda: search(f"{rank(1000)} {rank(1000)}"), times)
    measure(
        "search, frequent and rare", lambda: search(f"{rank(20)} {words[-pick.randrange(1, 5000)]}"), times
    )
    measure("search, five words", lambda: search(" ".join(rank(1000) for _ in range(5))), times)
    measure("search, phrase", lambda: search(f'"{rank(100)} {rank(100)}"'), times)
    measure("search, beginning", lambda: search(f"{rank(WORDS)[:3]}*"), times)
    measure("search, two letters", lambda: search(f"{rank(WORDS)[:2]}*"), times)
    measure("search, without", lambda: search(f"{rank(1000)} -{rank(100)}"), times)
    measure("search, word and route", lambda: search(rank(5000), route=pick.choice(ROUTES)), times)
    measure("search, frequent word, 529", lambda: search(rank(50), status=529), times)
    measure("search, nothing found", lambda: search("nosuchword"), times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the index.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=50, help="how often each question is asked")
    parser.add_argument("--keep", metavar="FILE", help="make the index here, or measure the one that is here")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="index-benchmark-")
    path = options.keep or os.path.join(folder, "index.sqlite3")
    try:
        index = SqliteIndex(path)
        generator = Generator()
        if not index.counts().exchanges:
            ingest(index, generator, options.rows)
        print(f"with {index.counts().exchanges:,} rows, {index.counts().index_bytes / 1e6:,.0f} MB:")
        ask(index, generator, options.times)
        index.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
