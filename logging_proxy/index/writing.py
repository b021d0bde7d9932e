"""The changes made in a transaction of the writer.  All tables are kept consistent with `exchanges`."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter, itemgetter

from logging_proxy.index import records
from logging_proxy.index.columns import TALLIED, Row
from logging_proxy.index.records import Prepared
from logging_proxy.index.words import indexed_text

_AT_ONCE = 500
"""Maximum parameters of a query."""

_TALLY = (
    "INSERT INTO tally VALUES (?, ?, ?)"
    " ON CONFLICT (name, value) DO UPDATE SET count = count + excluded.count"
)

_MOVE_MARKS_BACK = "UPDATE facts SET value = ? WHERE name BETWEEN 'walk ' AND 'walk ~' AND value > ?"
"""Moves the marks of walks back for late exchanges, such as those of a proxy that was offline."""

Tally = Counter[tuple[str, str]]

_KEY = itemgetter(0)


class Writing:
    """Changes in the open transaction of `connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany

    def replace(self, prepared: Sequence[Prepared]) -> None:
        """
        Insert entries, replacing older entries of the same exchanges.

        An exchange that merely has the id of another one does not replace it.
        """
        taken = self._files_of([item.id for item in prepared])
        own = {}
        for item in prepared:
            files = taken.get(item.id)
            if files is not None and not records.goes_on(*files, item.row):
                item = records.apart(item)
            own[item.id] = item
        self.delete(list(own))
        self.insert(list(own.values()))

    def _files_of(self, ids: Sequence[bytes]) -> dict[bytes, tuple[str | None, str | None]]:
        files = {}
        for at in range(0, len(ids), _AT_ONCE):
            some = ids[at : at + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT id, request_file, response_file FROM exchanges WHERE id IN ({marks})"
            files.update(
                {bytes(id): (request, response) for id, request, response in self._execute(sql, some)}
            )
        return files

    def insert(self, prepared: Sequence[Prepared]) -> None:
        """Insert entries in the order of their start times.  Raises IntegrityError if an id exists."""
        keys = sorted(self._keys(prepared), key=_KEY)
        self._execute_many(records.INSERT, [item.columns(key) for key, item in keys])
        self._execute_many(
            "INSERT INTO texts VALUES (?, ?, ?, nullif(?, 0))",
            [(key, item.request, item.response, item.tail) for key, item in keys],
        )
        self._execute_many(
            "INSERT INTO words (rowid, text) VALUES (?, ?)", [(key, item.text) for key, item in keys]
        )
        widest = max([key - item.row.started for key, item in keys])
        self._execute("UPDATE facts SET value = max(value, ?) WHERE name = 'widest'", (widest,))
        oldest = min([item.row.started for item in prepared])
        self._execute(_MOVE_MARKS_BACK, (oldest, oldest))
        self._count([item.row for item in prepared], 1)

    def delete(self, ids: Sequence[bytes]) -> int:
        """Remove the exchanges with these ids; returns how many there were."""
        found = [row for at in range(0, len(ids), _AT_ONCE) for row in self._stored(ids[at : at + _AT_ONCE])]
        found.sort(key=lambda pair: pair[0])
        keys = [(key,) for key, _, _ in found]
        self._execute_many(
            "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)",
            [(key, text) for key, _, text in found],
        )
        self._execute_many("DELETE FROM texts WHERE key = ?", keys)
        self._execute_many("DELETE FROM exchanges WHERE key = ?", keys)
        self._count([row for _, row, _ in found], -1)
        return len(found)

    def begin_walk(self, mark: str, until: int) -> int:
        self.set_fact(f"walk {mark} late", until)
        return self._fact(f"walk {mark}")

    def end_walk(self, mark: str, position: int) -> int:
        position = min(position, self._fact(f"walk {mark} late"))
        self.set_fact(f"walk {mark}", position)
        return position

    def _fact(self, name: str) -> int:
        found = self._execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return 0 if found is None else int(found[0])

    def set_fact(self, name: str, value: int) -> None:
        self._execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _stored(self, ids: Sequence[bytes]) -> list[tuple[int, Row, str]]:
        """Key, row and indexed text of those exchanges that exist."""
        marks = ", ".join("?" * len(ids))
        found = self._execute(
            f"SELECT t.key, t.request, t.response, {records.COLUMNS} FROM exchanges e"
            f" JOIN texts t ON t.key = e.key WHERE e.id IN ({marks})",
            ids,
        )
        stored = []
        for key, request, response, *columns in found:
            row = records.row_of(tuple(columns))
            stored.append((key, row, indexed_text(row, records.unpack_texts(request, response))))
        return stored

    def _keys(self, prepared: Sequence[Prepared]) -> list[tuple[int, Prepared]]:
        used: set[int] = set()
        taken = self._taken([item.row.started for item in prepared])
        keys = []
        for item in prepared:
            key = item.row.started
            if key in used or key in taken:
                key = self._another_key(item, used)
            used.add(key)
            keys.append((key, item))
        return keys

    def _taken(self, keys: Sequence[int]) -> set[int]:
        """The keys among `keys` that are in use."""
        taken: set[int] = set()
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            found = self._execute(f"SELECT key FROM exchanges WHERE key IN ({marks})", some)
            taken.update(key for (key,) in found)
        return taken

    def _another_key(self, item: Prepared, used: set[int]) -> int:
        candidates = records.key_candidates(item.id, item.row.started)
        return next(key for key in candidates if key not in used and self._is_free(key))

    def _is_free(self, key: int) -> bool:
        return self._execute("SELECT 1 FROM exchanges WHERE key = ?", (key,)).fetchone() is None

    def _count(self, rows: Sequence[Row], by: int) -> None:
        if not rows:
            return
        tally: Tally = Counter()
        tally["total", "exchanges"] = by * len(rows)
        tally["total", "bytes"] = by * sum(row.request_bytes + row.response_bytes for row in rows)
        for name in TALLIED:
            for value, count in Counter(map(attrgetter(name), rows)).items():
                if value is not None:
                    tally[name, str(value)] += by * count
        self._execute_many(_TALLY, [(*name, count) for name, count in tally.items()])
        if by < 0:
            self._execute("DELETE FROM tally WHERE count = 0")
