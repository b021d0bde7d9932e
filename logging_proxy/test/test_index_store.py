"""The index in SQLite: what goes in comes out, is replaced and goes; its file and its versions."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import zlib
from contextlib import ExitStack, closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.index import (
    Abandoned,
    Counts,
    Entry,
    Filters,
    Index,
    IndexTrouble,
    SqliteIndex,
    Texts,
    TooSlow,
    pool,
    schema,
)
from logging_proxy.index.questions import SEARCHES, uri_of
from logging_proxy.test.index_stage import START, IndexTestCase, entry, everything, full_row, id_of

FULL = full_row(7, method="GET", status=404, outcome="upstream_reset", request_bytes=9, response_bytes=10)

texts = st.text("ab \n日é", max_size=12)
actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.lists(
                st.tuples(st.integers(0, 5), texts, st.integers(0, 3), st.sampled_from("ab")), max_size=4
            ),
        ),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 6), max_size=4)),
    ),
    max_size=12,
)


class RowTests(IndexTestCase):
    def test_is_an_index(self) -> None:
        """`SqliteIndex` is an `Index`, by its types."""
        index: Index = self.make()
        self.assertEqual(index.counts().exchanges, 0)

    def test_round_trip(self) -> None:
        """Every value of a row and its texts come out as they went in."""
        index = self.make()
        index.add([Entry(FULL, Texts("what was asked", "é 日本"))])
        self.assertEqual(index.get(FULL.id), FULL)
        self.assertEqual(index.list(Filters()).rows, [FULL])
        self.assertEqual(index.texts(FULL.id), Texts("what was asked", "é 日本"))

    def test_missing(self) -> None:
        """What is not there, or is no id, is None."""
        index = self.make()
        index.add([entry(1)])
        for id in (id_of(2), "", "x", id_of(1)[:8], id_of(1).upper(), id_of(1) + "0", "\ud800"):
            self.assertIsNone(index.get(id))
            self.assertIsNone(index.texts(id))
            self.assertEqual(index.delete([id]), 0)
        self.assertIsNotNone(index.get(id_of(1)))

    def test_unstorable_values(self) -> None:
        """Values that SQLite cannot take are stored as near as can be."""
        index = self.make()
        index.add([entry(1, "a\x00b \ud800", route="\ud800x\x00", duration=1 << 70)])
        row = index.get(id_of(1))
        assert row is not None
        self.assertEqual((row.route, row.duration), ("?x ", (1 << 63) - 1))

    def test_missing_and_empty(self) -> None:
        """What is missing comes back as missing, an empty text and a zero as they are."""
        index = self.make()
        for number, value in enumerate((None, "", "0")):
            index.add([entry(number, error=value, session=value, model=value)])
            row = index.get(id_of(number))
            assert row is not None
            self.assertEqual((row.error, row.session, row.model), (value, value, value))
            self.assertIs(type(row.stream), bool)

    def test_all_or_nothing(self) -> None:
        """An entry that cannot be added leaves the others of its call out, too, and the index usable."""
        index = self.make()
        bad = entry(2)._replace(row=entry(2).row._replace(source_url=None))  # type: ignore[arg-type]
        self.assertRaises(IndexTrouble, index.add, [entry(1), bad])
        self.assertEqual(index.list(Filters()).rows, [])
        index.add([entry(1)])
        self.assertEqual(len(index.list(Filters()).rows), 1)

    @settings(deadline=None, max_examples=60)
    @given(actions)
    def test_like_a_dictionary(self, script: list[tuple[str, Any]]) -> None:
        """After any additions, replacements and deletions everything agrees with a plain dictionary."""
        index = self.make(os.path.join(self.mktemp(), "x"))
        model: dict[int, Entry] = {}
        for action, values in script:
            if action == "add":
                entries = [
                    (number, entry(number, text, started=START + start, route=route, request_bytes=len(text)))
                    for number, text, start, route in values
                ]
                index.add(e for _, e in entries)
                model.update(entries)
            else:
                there = {number for number in values if model.pop(number, None)}
                self.assertEqual(index.delete(id_of(number) for number in values), len(there))
        self.compare(index, model)

    def compare(self, index: SqliteIndex, model: dict[int, Entry]) -> None:
        rows = [e.row for e in model.values()]
        self.assertCountEqual(index.list(Filters()).rows, rows)
        for route in "ab":
            expected = [row for row in rows if row.route == route]
            self.assertCountEqual(index.list(Filters(route=route)).rows, expected)
            self.assertEqual(index.counts().values.get("route", {}).get(route, 0), len(expected))
        for word in ("a", "b", "aa", "日"):
            expected = [e.row for e in model.values() if word in _words(e.texts.request)]
            self.assertCountEqual(index.list(Filters(q=word)).rows, expected)
        counts = index.counts()
        self.assertEqual(counts.exchanges, len(rows))
        self.assertEqual(counts.body_bytes, sum(row.request_bytes for row in rows))
        if not model:
            self.assertNotIn("日".encode(), everything(index.path))

    def test_nothing_is_left_of_the_deleted(self) -> None:
        """No word, text, row or count of a deleted exchange remains."""
        index = self.make()
        index.add(Entry(FULL._replace(id=id_of(n)), Texts("canary", "kanarienvogel")) for n in range(50))
        index.delete(id_of(n) for n in range(50))
        self.assertEqual(index.counts().exchanges, 0)
        left = everything(index.path)
        for word in (b"canary", b"kanarienvogel", b"upstream_reset", b"request_file"):
            self.assertNotIn(word, left)


class FilterTests(IndexTestCase):
    def test_each_filter(self) -> None:
        """Every filter keeps what it says and drops the rest; together they must all hold."""
        index = self.make()
        index.add([Entry(FULL), entry(1, route="other", status=200), entry(2)])
        wanted: dict[str, Any] = {
            "route": "route", "method": "GET", "status": 404, "outcome": "upstream_reset", "model": "model",
            "session": "session", "until": START + 1,
        }  # fmt: skip
        for name, value in wanted.items():
            self.assertEqual(index.list(Filters(**{name: value})).rows, [FULL], name)
        self.assertEqual(index.list(Filters(**wanted, since=START)).rows, [FULL])
        self.assertEqual(index.list(Filters(status=4)).rows, [FULL])
        self.assertEqual(index.list(Filters(status=405)).rows, [])
        self.assertEqual(index.list(Filters(**{**wanted, "model": "x"})).rows, [])

    def test_odd_status(self) -> None:
        """A status above 599 is as good as a 5xx (RFC 9110 §15)."""
        index = self.make()
        index.add([entry(1, status=999), entry(2, status=499), entry(3, status=503)])
        found = index.list(Filters(status=5)).rows
        self.assertEqual([row.id for row in found], [id_of(3), id_of(1)])

    def test_times(self) -> None:
        """`since` is in, `until` is out, to the microsecond."""
        index = self.make()
        index.add(entry(number, started=START + number * 100) for number in range(5))
        found = index.list(Filters(since=START + 100, until=START + 300))
        self.assertEqual(self.ids(found), [id_of(2), id_of(1)])
        self.assertEqual(len(index.list(Filters(since=-(1 << 62), until=(1 << 63) - 1)).rows), 5)

    def test_counts(self) -> None:
        """Totals and values are those of what is there, replacements counted once."""
        index = self.make()
        self.assertEqual(index.counts(), Counts(index_bytes=index.counts().index_bytes))
        for _ in range(2):
            index.add([Entry(FULL), entry(1, status=404, response_bytes=5)])
        counts = index.counts()
        self.assertEqual((counts.exchanges, counts.body_bytes), (2, 24))
        self.assertEqual((counts.oldest, counts.newest), (START, START + 1_000_000))
        self.assertEqual(counts.values["status"], {"404": 2})
        self.assertEqual(counts.values["outcome"], {"upstream_reset": 1, "complete": 1})
        self.assertGreater(counts.index_bytes, 1000)

    def test_known(self) -> None:
        """`known` tells which files' exchanges are in."""
        index = self.make()
        id = id_of(3)
        names = [f"2025-09-13_02-11-09.123_{id[:8]}{suffix}_request.bin" for suffix in ("", "-2")]
        index.add([entry(3, request_file=names[0])])
        self.assertEqual(index.known([*names, "../../etc/passwd", "", id_of(4)]), {names[0]})


class FileTests(IndexTestCase):
    def test_private(self) -> None:
        """The directory is 0700 and every file in it 0600, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        index = self.make()
        index.add([entry(1)])
        folder = os.path.dirname(index.path)
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)
        names = os.listdir(folder)
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            self.assertEqual(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode), 0o600, name)

    def test_opened_again(self) -> None:
        """What was added is there after closing and opening; `whole` only if it was said."""
        index = self.make()
        self.assertFalse(index.whole)
        index.add([entry(1, "word")])
        index.mark_whole(True)
        index.close()
        again = self.make(index.path)
        self.assertTrue(again.whole)
        self.assertEqual(self.found(again, "word"), [id_of(1)])
        again.mark_whole(False)
        self.assertFalse(self.make(index.path).whole)

    def test_not_a_database(self) -> None:
        """A file that is no database, and a place that cannot be, raise `IndexTrouble`."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"no database" * 1000)
        self.assertRaises(IndexTrouble, SqliteIndex, path)
        self.assertRaises(IndexTrouble, SqliteIndex, os.path.join(path, "x"))

    def test_link(self) -> None:
        """A link in the database's place is not followed."""
        target, path = self.mktemp(), self.mktemp()
        os.symlink(target, path)
        self.assertRaises(IndexTrouble, SqliteIndex, path)
        self.assertFalse(os.path.exists(target))

    def test_closed(self) -> None:
        """A closed index raises `IndexTrouble`."""
        index = self.make()
        index.close()
        for call in (lambda: index.get(id_of(1)), lambda: index.add([entry(1)]), index.counts):
            self.assertRaises(IndexTrouble, call)

    def test_readers_do_not_wait(self) -> None:
        """While a transaction is open readers go on and see the state before it."""
        index = self.make()
        index.add([entry(1)])
        with closing(sqlite3.connect(index.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM exchanges")
            self.assertEqual(len(index.list(Filters()).rows), 1)
            other.execute("ROLLBACK")

    def test_many_threads(self) -> None:
        """More threads than connections read while another writes; each sees whole transactions."""
        index = self.make()
        wrong: list[int] = []

        def read() -> None:
            for _ in range(30):
                counts, rows = index.counts(), index.list(Filters(q="word"), limit=1000).rows
                if counts.exchanges % 10 or len(rows) % 10:
                    wrong.append(len(rows))

        threads = [threading.Thread(target=read) for _ in range(10)]
        for thread in threads:
            thread.start()
        for at in range(0, 200, 10):
            index.add(entry(number, "word") for number in range(at, at + 10))
        for thread in threads:
            thread.join()
        self.assertEqual((wrong, index.counts().exchanges), ([], 200))

    def test_too_slow(self) -> None:
        """A question over its time is broken off with `TooSlow`, and the next one is answered."""
        index = self.make()
        index.add(entry(number, "word") for number in range(3000))
        now = [0.0]
        readers = pool.ReaderPool(uri_of(index.path, "mode=rw"), 1, lambda: now[0])
        self.addCleanup(readers.close)

        def wait(seconds: float) -> int:
            """In the middle of a question."""
            now[0] += seconds
            readers.interrupt_needless()
            return 0

        def ask(seconds: float) -> int:
            with readers.reader() as reader:
                reader.create_function("wait", 1, wait)
                return len(reader.execute(f"SELECT e.id, wait({seconds}) FROM exchanges e").fetchall())

        self.assertEqual(ask(pool.QUERY_SECONDS / 3001), 3000)
        self.assertRaises(TooSlow, ask, pool.QUERY_SECONDS / 2999)
        self.assertEqual(ask(0), 3000)

    def test_abandoned(self) -> None:
        """A question that is abandoned while it is asked ends with `Abandoned`; before, it is not asked."""
        index = self.make()
        index.add(entry(number, "word") for number in range(3000))
        readers = pool.ReaderPool(uri_of(index.path, "mode=rw"), 1)
        self.addCleanup(readers.close)
        left: list[bool] = []
        asked: list[int] = []

        def leave() -> int:
            left.append(True)
            readers.interrupt_needless()
            return len(asked)

        def ask() -> int:
            with readers.reader(lambda: bool(left)) as reader:
                asked.append(1)
                reader.create_function("leave", 0, leave)
                return len(reader.execute("SELECT e.id, leave() FROM exchanges e").fetchall())

        self.assertRaises(Abandoned, ask)
        self.assertLess(len(left), 3000)
        self.assertRaises(Abandoned, ask)
        self.assertEqual(len(asked), 1)
        left.clear()
        self.assertRaises(Abandoned, index.list, Filters(q="word"), abandoned=lambda: True)
        self.assertEqual(len(index.list(Filters(q="word")).rows), 50)

    def test_lookups(self) -> None:
        """One exchange is looked up though all connections for searches are busy, and for ever."""
        index = self.make()
        index.add([entry(1, "word")])
        with ExitStack() as busy:
            for _ in range(SEARCHES):
                busy.enter_context(index._searches.reader())
            row = index.get(id_of(1))
            self.assertEqual(row and row.id, id_of(1))
            self.assertEqual(index.counts().exchanges, 1)
            self.assertEqual(index.known(["x"]), set())

    def test_closed_meanwhile(self) -> None:
        """A question that is being asked does not hold up the end."""
        index = self.make()
        with index._searches.reader() as reader:
            index.close()
            self.assertEqual(reader.execute("SELECT 1").fetchone(), (1,))
        self.assertRaises(IndexTrouble, index.list, Filters())


class VersionTests(IndexTestCase):
    def upgraded(self, path: str, *migrations: schema.Migration) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            schema.upgrade(connection, path, (*schema.MIGRATIONS, *migrations))

    def test_upgrade(self) -> None:
        """A step is taken once, keeps what is there, and leaves a private copy of the version before."""
        index = self.make()
        index.add([entry(1)])
        index.close()
        steps: list[int] = []
        for _ in range(2):
            self.upgraded(index.path, "ALTER TABLE exchanges ADD COLUMN x TEXT;", lambda _: steps.append(1))
        self.assertEqual(steps, [1])
        with closing(sqlite3.connect(index.path)) as connection:
            self.assertEqual(connection.execute("SELECT x FROM exchanges").fetchall(), [(None,)])
            self.assertEqual(schema.version_of(connection), len(schema.MIGRATIONS) + 2)
        copy = f"{index.path}.v{len(schema.MIGRATIONS)}.bak"
        self.assertEqual(stat.S_IMODE(os.stat(copy).st_mode), 0o600)
        self.assertEqual(self.ids(self.make(copy).list(Filters())), [id_of(1)])

    def test_compressed_texts(self) -> None:
        """Texts that an earlier version compressed, however short, are read and can be deleted."""
        index = self.make()
        index.add([entry(1, "apple", "pear" * 500)])
        with closing(sqlite3.connect(index.path)) as connection:
            connection.execute("UPDATE texts SET request = ?", (zlib.compress(b"apple"),))
            connection.commit()
        self.assertEqual(index.texts(id_of(1)), Texts("apple", "pear" * 500))
        index.delete([id_of(1)])
        self.assertEqual(self.found(index, "apple"), [])

    def test_failed_upgrade(self) -> None:
        """A step that fails changes nothing."""
        index = self.make()
        index.close()
        self.assertRaises(
            sqlite3.OperationalError, self.upgraded, index.path, "CREATE TABLE extra (a);\nNO SQL AT ALL;"
        )
        with closing(sqlite3.connect(index.path)) as connection:
            self.assertEqual(schema.version_of(connection), len(schema.MIGRATIONS))
            names = connection.execute("SELECT name FROM sqlite_master WHERE name = 'extra'").fetchall()
        self.assertEqual(names, [])

    def test_newer(self) -> None:
        """A database of a newer version is refused and not touched."""
        index = self.make()
        index.close()
        self.upgraded(index.path, "CREATE TABLE extra (a);")
        self.assertRaises(IndexTrouble, SqliteIndex, index.path)


def _words(text: str) -> list[str]:
    return text.replace("日", " 日 ").split()
