"""Captures straight from a log directory, with an index and without."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.directory import DirectorySource, open_whole_index
from logging_proxy.cli.rebuilding import InUse, add_missing, rebuild_index
from logging_proxy.cli.sources import Trouble
from logging_proxy.index import BadFilter, Filters, Row, SqliteIndex, meets
from logging_proxy.index.sqlite import FILE
from logging_proxy.test.index_stage import documents, id_of, write_capture


def write_twin(log_dir: str, number: int) -> None:
    """The metadata of another exchange whose id begins as that of exchange `number`."""
    for document in documents(number):
        short = document["id"][:8]
        document["id"] = document["id"][:-1] + "x"
        document["filename"] = document["filename"].replace(f"{short}_", f"{short}-2_")
        with open(os.path.join(log_dir, document["filename"][:-4] + "_metadata.json"), "w") as file:
            json.dump(document, file)


class DirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        os.mkdir(self.log_dir, 0o700)
        for number in range(1, 6):
            body = json.dumps({"model": f"m{number % 2}", "text": f"apples {number}"}).encode()
            write_capture(self.log_dir, number, body, b'{"answer":"pears"}', route=f"r{number}")

    def source(self, sleep: Callable[[float], None] = lambda seconds: None) -> DirectorySource:
        return DirectorySource(self.log_dir, sleep)

    def ids(self, **filters: str) -> list[str]:
        return [row["id"] for row in self.source().list(filters)]


class ListTests(DirectoryCase):
    def check(self) -> None:
        """What every listing promises, with the index and without."""
        self.assertEqual(self.ids(), [id_of(number) for number in (5, 4, 3, 2, 1)])
        for filters, numbers in (
            ({"route": "r2"}, [2]),
            ({"model": "m1"}, [5, 3, 1]),
            ({"model": "m1", "route": "r2"}, []),
            ({"status": "2xx"}, [5, 4, 3, 2, 1]),
            ({"status": "404"}, []),
            ({"outcome": "interrupted"}, []),
            ({"since": "2025-09-13T00:11:04Z"}, [5, 4]),
            ({"until": "2025-09-13T00:11:03Z"}, [2, 1]),
        ):
            self.assertEqual(self.ids(**filters), [id_of(number) for number in numbers], filters)
        found = list(self.source().search("apples 3", {}))
        self.assertEqual([(each.row["id"], each.side) for each in found], [(id_of(3), "request")])
        self.assertIn("apples 3", found[0].text)
        (first, *_) = self.source().search("pears", {"model": "m0"})
        self.assertEqual((first.row["id"], first.side, first.text), (id_of(4), "response", "pears"))

    def test_files(self) -> None:
        """Without an index the files tell all."""
        self.assertIsNone(open_whole_index(self.log_dir))
        self.check()
        self.assertFalse(os.path.exists(os.path.join(self.log_dir, FILE)))

    def test_index(self) -> None:
        """A whole index tells the same."""
        list(rebuild_index(self.log_dir))
        index = open_whole_index(self.log_dir)
        assert index is not None
        index.close()
        self.check()

    def test_unknown_route(self) -> None:
        """A route without captures that is not configured either is told, with an index and without."""
        captured = {str(row["route"]) for row in self.source().list({})}
        for _ in range(2):
            for find in (self.source().list, lambda filters: self.source().search("x", filters)):
                error = self.assertRaises(BadFilter, list, find({"route": "nope"}))
                self.assertEqual((error.name, set(error.known)), ("route", captured))
            known = DirectorySource(self.log_dir, routes=("nope",))
            self.assertEqual(list(known.list({"route": "nope"})), [])
            self.assertEqual(list(self.source().list({"route": captured.copy().pop(), "status": "1xx"})), [])
            list(rebuild_index(self.log_dir))

    def test_index_in_doubt(self) -> None:
        """An index that may lack something, is damaged or from another version is not asked."""
        list(rebuild_index(self.log_dir))
        path = os.path.join(self.log_dir, FILE)
        index = SqliteIndex(path)
        index.delete([id_of(1)])
        index.mark_whole(False)
        index.close()
        self.assertIsNone(open_whole_index(self.log_dir))
        self.check()
        with open(path, "wb") as file:
            file.write(b"not a database" * 1000)
        self.check()

    def test_newer_index(self) -> None:
        """An index of a newer version is an error that says so."""
        list(rebuild_index(self.log_dir))
        with closing(sqlite3.connect(os.path.join(self.log_dir, FILE))) as connection:
            connection.execute("UPDATE schema SET version = 1000")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for ask in (lambda: self.ids(), lambda: list(self.source().search("apples", {}))):
            error = self.assertRaises(Trouble, ask)
            self.assertIn("made by a newer version (schema 1000", str(error))

    def test_nothing_is_written(self) -> None:
        """To look at a directory changes nothing in it, nor beside the index, with an index and without."""
        for prepare in (lambda: None, lambda: list(rebuild_index(self.log_dir))):
            prepare()
            before = self.state()
            self.check()
            list(self.source().get(id_of(3)).row)
            self.assertEqual(self.state(), before)

    def state(self) -> dict[str, tuple[int, int]]:
        """When each file and directory was changed, and its size."""
        found = {}
        for folder, _, names in os.walk(self.log_dir):
            for name in (".", *names):
                status = os.stat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_size)
        return found

    def test_one_half(self) -> None:
        """An exchange of which one half is gone is listed once, at its place."""
        for name in os.listdir(self.log_dir):
            if (id_of(2)[:8] in name and "request" in name) or (id_of(4)[:8] in name and "response" in name):
                os.unlink(os.path.join(self.log_dir, name))
        self.assertEqual(self.ids(), [id_of(number) for number in (5, 4, 3, 2, 1)])

    def test_not_ours(self) -> None:
        """Files that are none of ours, links and metadata that make no sense are passed over."""
        stamp = "2025-09-14_00-00-00.000"
        with open(os.path.join(self.log_dir, f"{stamp}_aaaaaaaa_request_metadata.json"), "w") as file:
            file.write("[1]")
        with open(os.path.join(self.log_dir, f"{stamp}_bbbbbbbb_request_metadata.json"), "w") as file:
            json.dump({"id": "bbbbbbbb", "stream_type": "request", "started_at": 7}, file)
        os.symlink("/etc/passwd", os.path.join(self.log_dir, f"{stamp}_cccccccc_request_metadata.json"))
        self.assertEqual(len(self.ids()), 5)
        with self.assertRaises(Trouble):
            self.source().get("bbbbbbbb")

    def test_meets(self) -> None:
        """Every filter counts; what bodies tell can be left for later."""
        row = Row("x", 10, route="r", method="GET", status=404, outcome="complete", model="m", session="s")
        for wanted, with_bodies, met in (
            (Filters(), True, True),
            (
                Filters(route="r", method="GET", status=4, outcome="complete", model="m", session="s"),
                True,
                True,
            ),
            (Filters(status=404, since=10, until=11), True, True),
            (Filters(until=10), True, False),
            (Filters(since=11), True, False),
            (Filters(status=5), True, False),
            (Filters(session="t"), True, False),
            (Filters(session="t", model="n"), False, True),
        ):
            self.assertEqual(meets(row, wanted, with_bodies), met, wanted)


class GetTests(DirectoryCase):
    def test_prefix(self) -> None:
        """An exchange is found by its id, or by a beginning of it that no other has."""
        for text in (id_of(3), id_of(3)[:4], f"[{id_of(3)[:8].upper()}]", id_of(3)[:11]):
            exchange = self.source().get(text)
            self.assertEqual(exchange.id, id_of(3))
            assert exchange.request is not None and exchange.response is not None
            self.assertEqual(exchange.request["stream_type"], "request")

    def test_refused(self) -> None:
        """What is no id, too short, nobody's or not only one's is refused in one line."""
        write_twin(self.log_dir, 3)
        for text in ("x", "", "12", "ffffffff", id_of(3)[:8]):
            with self.assertRaises(Trouble) as caught:
                self.source().get(text)
            self.assertEqual(len(str(caught.exception).splitlines()), 1)

    def test_bodies(self) -> None:
        """The bytes of a half are those of its file; nothing of what is gone."""
        source = self.source()
        exchange = source.get(id_of(1))
        assert exchange.response is not None
        with open(os.path.join(self.log_dir, exchange.response["filename"]), "rb") as file:
            self.assertEqual(b"".join(source.body(exchange, "response")), file.read())
        os.unlink(os.path.join(self.log_dir, exchange.response["filename"]))
        self.assertEqual(b"".join(source.body(exchange, "response")), b"")

    def test_no_directory(self) -> None:
        """A directory that is not there is a clear mistake."""
        with self.assertRaisesRegex(Trouble, "No such file"):
            DirectorySource(os.path.join(self.log_dir, "none"))


class LiveTests(DirectoryCase):
    def test_new(self) -> None:
        """Exchanges come when their files are there, once."""
        turns = iter([6, 0, 7])

        def sleep(seconds: float) -> None:
            number = next(turns)
            if number:
                write_capture(self.log_dir, number, b'{"model":"new"}')

        live = self.source(sleep).live()
        events = [next(live) for _ in range(5)]
        self.assertEqual([event and event["id"] for event in events], [id_of(6), None, None, id_of(7), None])
        first = events[0]
        assert first is not None
        self.assertEqual((first["type"], first["exchange"]["model"]), ("indexed", "new"))

    def test_half_published(self) -> None:
        """An exchange is shown once, when the metadata that are written last are there, with all of it."""

        def parts() -> Iterator[None]:
            write_capture(self.log_dir, 6, b'{"model":"new"}')
            (request,) = (
                name for name in os.listdir(self.log_dir) if name.endswith("request_metadata.json")
                and id_of(6)[:8] in name
            )  # fmt: skip
            path = os.path.join(self.log_dir, request)
            os.rename(path, f"{path}.later")
            yield
            os.rename(f"{path}.later", path)
            yield

        steps = parts()
        live = self.source(lambda seconds: next(steps)).live()
        self.assertIsNone(next(live))
        event = next(live)
        assert event is not None
        self.assertEqual((event["id"], event["exchange"]["model"]), (id_of(6), "new"))
        self.assertIsNone(next(live))

    def test_not_understood(self) -> None:
        """An exchange that makes no sense does not end the feed."""

        def sleep(seconds: float) -> None:
            write_capture(self.log_dir, 6, error=5)
            write_capture(self.log_dir, 7)

        events = [event for event, _ in zip(self.source(sleep).live(), range(2), strict=False)]
        self.assertEqual([event and event["id"] for event in events], [id_of(7), None])


class RebuildTests(DirectoryCase):
    def count(self) -> int:
        index = SqliteIndex(os.path.join(self.log_dir, FILE))
        try:
            return index.counts().exchanges
        finally:
            index.close()

    def test_anew(self) -> None:
        """A new index has what the files have, and nothing that the old one had besides."""
        list(rebuild_index(self.log_dir))
        for name in os.listdir(self.log_dir):
            if id_of(1)[:8] in name:
                os.unlink(os.path.join(self.log_dir, name))
        (*_, last) = rebuild_index(self.log_dir)
        self.assertEqual((last.added, last.done, last.total), (4, 8, 8))
        self.assertEqual(self.count(), 4)
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".index")), ["exchanges.sqlite3"])

    def test_broken_off(self) -> None:
        """Until the new one is done the old one stays as it was."""
        list(rebuild_index(self.log_dir))
        write_capture(self.log_dir, 6)
        rebuilding = rebuild_index(self.log_dir)
        next(rebuilding)
        rebuilding.close()  # type: ignore[attr-defined]
        self.assertEqual(self.count(), 5)
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".index")), ["exchanges.sqlite3"])

    def test_in_use(self) -> None:
        """An index that a server has open is not replaced, but what is missing can be added to it."""
        list(rebuild_index(self.log_dir))
        write_capture(self.log_dir, 6)
        index = SqliteIndex(os.path.join(self.log_dir, FILE))
        self.addCleanup(index.close)
        index.mark_whole(False)
        with self.assertRaises(InUse):
            next(rebuild_index(self.log_dir))
        (*_, last) = add_missing(self.log_dir)
        self.assertEqual(last.added, 1)
        self.assertEqual(index.counts().exchanges, 6)
        self.assertFalse(index.whole)

    def test_missing(self) -> None:
        """What is missing is added, after which the index is whole."""
        (*_, last) = add_missing(self.log_dir)
        self.assertEqual(last.added, 5)
        index = open_whole_index(self.log_dir)
        assert index is not None
        index.close()

    def test_damaged(self) -> None:
        """A damaged index is made anew."""
        os.mkdir(os.path.join(self.log_dir, ".index"))
        with open(os.path.join(self.log_dir, FILE), "wb") as file:
            file.write(b"no database" * 5000)
        list(rebuild_index(self.log_dir))
        self.assertEqual(self.count(), 5)
