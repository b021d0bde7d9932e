"""Indexes in temporary files, and entries and captures to put into them, for the tests of the index."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.exchanges import Exchange, Half, Opening
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Entry, Filters, Page, Row, SqliteIndex, Texts
from logging_proxy.index.columns import FIELDS

START = 1_757_722_269_123_456
"""2025-09-13 00:11:09.123456 UTC."""


def id_of(number: int) -> str:
    """An id whose every part differs from those of other numbers."""
    text = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def entry(number: int, request: str = "", response: str = "", /, **fields: Any) -> Entry:
    """Exchange `number`, which started that many seconds after `START` unless `fields` say else."""
    row = Row(id_of(number), START + number * 1_000_000, method="POST", outcome="complete")
    return Entry(row._replace(**fields), Texts(request, response))


def full_row(number: int, **fields: Any) -> Row:
    """A row with a value in every column: `fields`, else one that is derived from the column."""
    values = {each.name: {str: each.name, int: 100 + each.at, bool: True}[each.type] for each in FIELDS}
    return Row(**{**values, "id": id_of(number), "started": START, **fields})


class IndexTestCase(SynchronousTestCase):
    def make(self, path: str | None = None) -> SqliteIndex:
        index = SqliteIndex(path or os.path.join(self.mktemp(), "index.sqlite3"))
        self.addCleanup(index.close)
        return index

    def ids(self, page: Page) -> list[str]:
        return [row.id for row in page.rows]

    def found(self, index: SqliteIndex, q: str) -> list[str]:
        return self.ids(index.list(Filters(q=q)))

    def assertNoCanary(self, index: SqliteIndex, id: str) -> None:
        """What is visible of an exchange is in the index, redacted, and "canary" nowhere."""
        kept = everything(index.path)
        self.assertIn(b"visible", kept)
        self.assertIn(b"redacted", kept)
        with open(index.path, "rb") as file:
            raw = file.read()
        texts = index.texts(id)
        for place in (kept, raw, repr(texts).encode(), repr(index.list(Filters()).rows).encode()):
            self.assertNotIn(b"canary", place.lower())


def everything(path: str) -> bytes:
    """All that a database keeps, as text: every row of every table, and every word of the full text."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab('main', 'words', 'row')")
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("words")
        ]
        rows = [connection.execute(f"SELECT * FROM {name}").fetchall() for name in names]
        rows.append(connection.execute("SELECT term FROM temp.vocabulary").fetchall())
        return repr(rows).encode()
    finally:
        connection.close()


# --- captures ----------------------------------------------------------------------


def documents(
    number: int, request: bytes = b"", response: bytes = b"", **fields: Any
) -> list[dict[str, Any]]:
    """The two metadata documents of exchange `number`, as the logging server writes them."""
    id = id_of(number)
    common = {
        "id": id,
        "route": "lmstudio",
        "pattern": "/lmstudio/",
        "method": "POST",
        "source_url": "http://localhost:5601/lmstudio/v1/chat",
        "destination_url": "http://127.0.0.1:1234/v1/chat",
        "client": {"address": "127.0.0.1", "port": 50001},
        "outcome": "complete",
        "error": None,
        **fields,
    }
    halves = []
    for side, body, second in (("request", request, 9), ("response", response, 10)):
        stamp = f"2025-09-13_00-{11 + number // 60:02}-{number % 60:02}.{second:03}"
        halves.append(
            {
                "id": id,
                "stream_type": side,
                **common,
                "started_at": f"2025-09-13T00:{11 + number // 60:02}:{number % 60:02}.{second:03}000+00:00",
                "completed_at": f"2025-09-13T00:{11 + number // 60:02}:{number % 60:02}.5+00:00",
                "headers": [["Content-Type", "application/json"]],
                "status": 200 if side == "response" else None,
                "bytes": len(body),
                "framing": "content-length",
                "filename": f"{stamp}_{id[:8]}_{side}.bin",
                "pieces": [[0, 1]],
            }
        )
    return halves


def stored(number: int, request: bytes = b"", response: bytes = b"") -> Stored:
    """Exchange `number` as the store tells of it when its files are there."""
    about = documents(number)
    wall_ns = int(datetime.fromisoformat(about[0]["started_at"]).timestamp()) * 1_000_000_000 + 9_000_000
    urls = [about[0][name].encode() for name in ("source_url", "destination_url")]
    head = b"POST / HTTP/1.1\r\nContent-Type: application/json\r\n"
    opening = Opening(b"lmstudio", b"/lmstudio/", urls[0], urls[1], head)
    answer = Half(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", 1_000_000, size=len(response))
    id = bytes.fromhex(id_of(number).replace("-", ""))
    asked = Half(head, size=len(request))
    exchange = Exchange(number, id, wall_ns, b"127.0.0.1 50001", opening, 0, asked, answer)
    exchange.outcome = "complete"
    return Stored(exchange, about[0]["filename"], about[1]["filename"])


def write_capture(
    log_dir: str, number: int, request: bytes = b"", response: bytes = b"", **fields: Any
) -> None:
    """The four files of exchange `number`."""
    bodies = (request, response)
    for document, body in zip(documents(number, request, response, **fields), bodies, strict=True):
        path = os.path.join(log_dir, document["filename"])
        with open(path, "wb") as file:
            file.write(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + body)
        with open(path.removesuffix(".bin") + "_metadata.json", "w") as file:
            json.dump(document, file)
