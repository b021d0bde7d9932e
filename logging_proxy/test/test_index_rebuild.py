"""The index and the files: rebuilt, resumed, kept in step."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from logging_proxy.captures.reader import CaptureReader, OpenFile
from logging_proxy.captures.stored import Stored
from logging_proxy.index import (
    Entry,
    Filters,
    Indexer,
    IndexTrouble,
    Progress,
    SqliteIndex,
    Texts,
    entry_of,
    indexer,
    rebuild,
)
from logging_proxy.logserver.ingest.consumer import SpoolConsumer
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.test.index_stage import IndexTestCase, documents, entry, id_of, stored, write_capture
from logging_proxy.test.logserver_spools import WALL_NS, Script, SpoolWriter, Told, session

BODY = b'{"model": "m", "messages": ["hello"]}'
rebuilding = sys.modules[rebuild.__module__]


class LogDirTestCase(IndexTestCase):
    def setUp(self) -> None:
        self.log_dir = self.mktemp()
        os.mkdir(self.log_dir, 0o700)
        self.index = self.make(os.path.join(self.log_dir, ".index", "x.sqlite3"))

    def capture(self, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            write_capture(self.log_dir, number, BODY, b'{"answer": "world"}', **fields)

    def rebuild(self) -> list[Progress]:
        return list(rebuild(CaptureReader(self.log_dir), self.index))

    def indexed(self) -> list[str]:
        return sorted(self.ids(self.index.list(Filters(), limit=1000)))


class RebuildTests(LogDirTestCase):
    def test_from_files(self) -> None:
        """Every capture is found again with its row and its text."""
        self.capture(*range(10))
        last = self.rebuild()[-1]
        self.assertEqual(last, Progress(20, 20, 10))
        self.assertEqual(self.indexed(), sorted(map(id_of, range(10))))
        self.assertEqual(len(self.found(self.index, "hello world")), 10)
        row = self.index.get(id_of(3))
        assert row is not None
        self.assertEqual((row.model, row.status, row.request_bytes), ("m", 200, len(BODY)))

    def test_again(self) -> None:
        """A second time nothing is added, and what is missing is."""
        self.capture(1, 2)
        self.rebuild()
        self.assertEqual(self.rebuild()[-1].added, 0)
        self.capture(3)
        self.index.delete([id_of(1)])
        self.assertEqual(self.rebuild()[-1].added, 2)
        self.assertEqual(self.indexed(), sorted(map(id_of, (1, 2, 3))))

    def test_broken_off(self) -> None:
        """Broken off after any step it goes on where it was, however the names were portioned."""
        self.patch(rebuilding, "BATCH", 3)
        self.patch(rebuilding, "NAMES_AT_ONCE", 4)
        self.capture(*range(9))
        for steps in range(3):
            progress = rebuild(CaptureReader(self.log_dir), self.index)
            for _ in range(steps):
                next(progress)
            progress.close()
        before = self.index.counts().exchanges
        self.assertGreater(before, 0)
        self.assertEqual(self.rebuild()[-1].added, 9 - before)
        self.assertEqual(self.indexed(), sorted(map(id_of, range(9))))

    def test_progress(self) -> None:
        """Progress rises to the total, with a step for each exchange at least."""
        self.patch(rebuilding, "BATCH", 3)
        self.capture(*range(5))
        steps = self.rebuild()
        done = [step.done for step in steps]
        self.assertEqual((done, done[-1]), (sorted(done), 10))
        self.assertGreaterEqual(len(set(done)), 5)
        self.assertEqual({step.total for step in steps}, {10})

    def test_one_half(self) -> None:
        """A half without the other is indexed."""
        self.capture(1, 2)
        for name in os.listdir(self.log_dir):
            if id_of(1)[:8] in name and "response" in name or id_of(2)[:8] in name and "request" in name:
                os.unlink(os.path.join(self.log_dir, name))
        self.assertEqual(self.rebuild()[-1].added, 2)
        self.assertEqual(self.indexed(), sorted(map(id_of, (1, 2))))

    def test_body_gone(self) -> None:
        """Metadata whose body was removed are indexed without text."""
        self.capture(1)
        for name in os.listdir(self.log_dir):
            if name.endswith(".bin"):
                os.unlink(os.path.join(self.log_dir, name))
        self.rebuild()
        self.assertEqual(self.indexed(), [id_of(1)])
        self.assertEqual(self.found(self.index, "hello"), [])

    def test_foreign_files(self) -> None:
        """Files that we did not write are neither followed nor understood, and hinder nothing."""
        self.capture(1)
        secret = self.mktemp()
        with open(secret, "w") as file:
            json.dump(documents(7)[0], file)
        stamp = "2025-09-13_00-11-09.123_deadbeef"
        os.symlink(os.path.abspath(secret), os.path.join(self.log_dir, f"{stamp}_request_metadata.json"))
        os.mkdir(os.path.join(self.log_dir, f"{stamp}-2_request_metadata.json"))
        os.mkfifo(os.path.join(self.log_dir, f"{stamp}-3_request_metadata.json"))
        for number, text in enumerate(["", "{", "[]", "{}", '{"id": 1}', "[" * 100_000, '{"id": "x"}']):
            with open(
                os.path.join(self.log_dir, f"{stamp}-{4 + number}_response_metadata.json"), "w"
            ) as file:
                file.write(text)
        self.rebuild()
        self.assertEqual(self.indexed(), [id_of(1)])

    def test_foreign_body(self) -> None:
        """A metadata document that names another file as its body does not get it read."""
        secret = os.path.join(self.log_dir, "secret.bin")
        with open(secret, "w") as file:
            file.write("\r\n\r\ncanary")
        for name in ("secret.bin", "../secret.bin", secret):
            self.capture(1, filename=name)
            for written in os.listdir(self.log_dir):
                if written.endswith("_metadata.json"):
                    path = os.path.join(self.log_dir, written)
                    with open(path) as opened:
                        document = json.load(opened)
                    document.update(filename=name, headers=[["Content-Type", "text/plain"]])
                    with open(path, "w") as opened:
                        json.dump(document, opened)
            self.rebuild()
            self.assertEqual(self.found(self.index, "canary"), [])
            self.assertEqual(self.index.delete([id_of(1)]), 1)


class Picky:
    """An index that does not take the exchanges in `refused`: alone, so many times."""

    def __init__(self, index: SqliteIndex) -> None:
        self.index = index
        self.refused: dict[str, int] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        given = list(entries)
        for each in given:
            if self.refused.get(each.row.id, 0):
                self.refused[each.row.id] -= len(given) == 1
                raise OverflowError("too large")
        self.index.add(given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)


class Troubled:
    """An index that cannot be written while `broken`."""

    def __init__(self, index: SqliteIndex) -> None:
        self.index = index
        self.broken = True

    def add(self, entries: Iterable[Entry]) -> None:
        if self.broken:
            raise IndexTrouble("disk full")
        self.index.add(entries)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)


class IndexerTests(LogDirTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(indexer, "RETRY_SECONDS", 0.01)
        self.patch(indexer, "GATHER_SECONDS", 0.01)

    def stored(self, number: int) -> Stored:
        """The exchange as the store reports it, its files on disk."""
        self.capture(number)
        return stored(number, BODY, b'{"answer": "world"}')

    def started(self, index: Any = None) -> Indexer:
        made = Indexer(CaptureReader(self.log_dir), index or self.index)
        made.start()
        return made

    def wait(self, condition: Any) -> None:
        tick = threading.Event()
        for _ in range(6000):
            if condition():
                return
            tick.wait(0.01)
        raise AssertionError("it did not happen")

    def test_in_step(self) -> None:
        """What is stored is indexed by the time `stop` returns, and an index that was whole is so again."""
        self.index.mark_whole(True)
        running = self.started()
        for number in range(20):
            running.on_stored(self.stored(number))
        running.stop()
        self.assertEqual(self.indexed(), sorted(map(id_of, range(20))))
        self.assertEqual(len(self.found(self.index, "hello world")), 20)
        self.assertTrue(self.index.whole)

    def test_not_whole_while_running(self) -> None:
        """From the start to the stop the index is not called whole: a crash is noticed."""
        running = self.started()
        self.assertFalse(self.index.whole)
        running.stop()

    def test_after_a_crash(self) -> None:
        """What an earlier life left out is added."""
        self.capture(1, 2)
        running = self.started()
        self.wait(lambda: self.index.counts().exchanges == 2)
        running.stop()
        self.assertTrue(self.index.whole)

    def test_after_a_clean_stop(self) -> None:
        """After a clean stop the files are not read again."""
        self.started().stop()
        self.index.mark_whole(True)
        self.capture(1)
        running = self.started()
        threading.Event().wait(0.1)
        running.stop()
        self.assertEqual(self.indexed(), [])

    def test_behind_a_consumer(self) -> None:
        """Given to a consumer of a spool, it indexes what passed through the proxy, body and all."""
        spool = os.path.join(self.log_dir, ".spool", "5601")
        writer = SpoolWriter(spool)
        writer.blocks([session(), *Script(id=bytes.fromhex(id_of(1).replace("-", ""))).simple(b"ask", BODY)])
        directory = LogDirectory(self.log_dir)
        directory.open()
        self.addCleanup(directory.close)
        running = self.started()
        consumer = SpoolConsumer(spool, FileStore(directory), lambda: 0.0, Told(running.on_stored))
        consumer.open()
        self.addCleanup(consumer.close)
        while consumer.turn():
            pass
        consumer.settle()
        running.stop()
        self.assertEqual(self.found(self.index, "ask hello"), [id_of(1)])
        row = self.index.get(id_of(1))
        assert row is not None
        self.assertEqual((row.route, row.status, row.started), ("lmstudio", 200, WALL_NS // 1000))
        self.assertEqual(self.rebuild()[-1].added, 0)

    def test_told(self) -> None:
        """`on_indexed` gets the entries once they can be found."""
        told: list[str] = []
        running = Indexer(
            CaptureReader(self.log_dir),
            self.index,
            lambda entries: told.extend(e.row.id for e in entries if self.index.get(e.row.id)),
        )
        running.start()
        running.on_stored(self.stored(1))
        running.stop()
        self.assertEqual(told, [id_of(1)])

    def test_trouble(self) -> None:
        """Trouble never reaches the one who stores; when it is over all is indexed."""
        self.patch(indexer, "QUEUE", 2)
        troubled = Troubled(self.index)
        running = self.started(troubled)
        running.on_stored(self.stored(0))
        self.wait(lambda: running.trouble)
        self.assertEqual(running.trouble, "disk full")
        for number in range(1, 10):
            running.on_stored(self.stored(number))
        troubled.broken = False
        self.wait(lambda: self.index.counts().exchanges == 10 and not running.trouble)
        running.stop()
        self.assertTrue(self.index.whole)
        self.flushLoggedErrors()

    def test_stopped_in_trouble(self) -> None:
        """An indexer that stops in trouble leaves an index that is not whole."""
        running = self.started(Troubled(self.index))
        running.on_stored(self.stored(0))
        running.stop()
        self.assertFalse(self.index.whole)

    def test_one_bad_exchange(self) -> None:
        """An exchange that cannot be understood is left out; the others are not."""
        running = self.started()
        running.on_stored(Stored(None, "x", "x"))  # type: ignore[arg-type]
        running.on_stored(self.stored(1))
        running.stop()
        self.assertEqual(self.indexed(), [id_of(1)])

    def test_no_text(self) -> None:
        """An exchange whose text cannot be had, for whatever reason, is indexed without it."""
        self.index.mark_whole(True)
        for error in (MemoryError(), RecursionError(), KeyError("x"), OSError(errno.EIO, "I/O error")):
            number = self.index.counts().exchanges
            running = self.started()
            real, faults = CaptureReader.body, iter([error])

            def read(*args: Any, real: Any = real, faults: Any = faults) -> Any:
                for fault in faults:
                    raise fault
                return real(*args)

            self.patch(CaptureReader, "body", read)
            running.on_stored(self.stored(number))
            running.on_stored(self.stored(number + 1))
            running.stop()
            self.patch(CaptureReader, "body", real)
            self.assertTrue(self.index.whole)
            texts = [self.index.texts(id_of(each)) for each in (number, number + 1)]
            self.assertEqual([bool(each and each.request) for each in texts], [False, True])

    def test_not_storable(self) -> None:
        """An exchange that the index cannot take is left out, or only its text; it never spoils its batch."""
        made = Picky(self.index)
        made.refused = {id_of(1): 2, id_of(2): 1}
        self.index.mark_whole(True)
        running = self.started(made)
        for number in range(4):
            running.on_stored(self.stored(number))
        running.stop()
        self.assertEqual(self.indexed(), sorted(map(id_of, (0, 2, 3))))
        self.assertEqual(self.index.texts(id_of(2)), Texts())
        self.assertEqual(running.trouble, "")
        self.assertTrue(self.index.whole)

    def test_hanging(self) -> None:
        """An index that hangs holds up the one who stores once, not for every exchange."""
        self.patch(indexer, "QUEUE", 1)
        made = Indexer(CaptureReader(self.log_dir), self.index)
        waits: list[float] = []

        def wait(timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

        made._taken.wait = wait  # type: ignore[method-assign]
        for number in range(5):
            made.on_stored(stored(number))
        self.assertEqual((waits, made.waiting, made.is_whole), ([indexer.PUT_SECONDS], 1, False))
        made._take()
        for number in range(5, 8):
            made.on_stored(stored(number))
        self.assertEqual(len(waits), 2)

    def test_stopped_late(self) -> None:
        """A stop does not wait for ever: what is not indexed by then is added in the next life."""
        self.patch(indexer, "STOP_SECONDS", 0.0)
        running = self.started()
        for number in range(3):
            running.on_stored(self.stored(number))
        running.stop()
        self.assertFalse(self.index.whole)
        self.rebuild()
        self.assertEqual(self.indexed(), sorted(map(id_of, range(3))))


class UnreadableTests(LogDirTestCase):
    """A disk that does not give one file."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(indexer, "RETRY_SECONDS", 0.01)
        self.bad: tuple[str, ...] = ()
        real = CaptureReader._open

        def read(reader: CaptureReader, name: str) -> OpenFile | None:
            if self.bad and id_of(1)[:8] in name and name.endswith(self.bad):
                raise OSError(errno.EIO, "Input/output error")
            return real(reader, name)

        self.patch(CaptureReader, "_open", read)

    def test_metadata(self) -> None:
        """All others are added; it is counted, told of, and added once it can be read."""
        self.capture(*range(5))
        self.bad = ("_metadata.json",)
        last = self.rebuild()[-1]
        self.assertEqual((last.added, last.unreadable), (4, 2))
        self.assertIn("Input/output error", last.example)
        self.bad = ()
        self.assertEqual(self.rebuild()[-1].added, 1)

    def test_body(self) -> None:
        """An exchange whose body cannot be read is indexed without its text."""
        self.capture(*range(5))
        self.bad = (".bin",)
        self.assertEqual(self.rebuild()[-1].added, 5)
        self.assertEqual(len(self.found(self.index, "hello")), 4)

    def test_indexer(self) -> None:
        """It is told as trouble, but the index is whole without it, and it is not tried again at once."""
        self.capture(*range(3))
        self.bad = ("_metadata.json",)
        running = Indexer(CaptureReader(self.log_dir), self.index)
        running._missed.set()
        self.assertTrue(running._add_missed())
        self.assertEqual((running.is_whole, running._is_due()), (True, False))
        self.assertEqual(running.trouble, "2 files of captures cannot be read")
        running._seconds = lambda: running._unreadable_until
        self.assertTrue(running._is_due())
        self.bad = ()
        self.assertTrue(running._add_missed())
        self.assertEqual((running.trouble, self.index.counts().exchanges), ("", 3))

    def test_back_off(self) -> None:
        """What fails is tried again after longer and longer pauses."""
        running = Indexer(CaptureReader(os.path.join(self.log_dir, "missing")), self.index)
        running._missed.set()
        pauses: list[float] = []

        def wait(seconds: float | None = None) -> bool:
            pauses.append(seconds or 0)
            if len(pauses) == 20:
                running._stopping.set()
            return False

        self.patch(running._stopping, "wait", wait)
        running._catch_up()
        self.assertEqual(pauses[:3], [0.02, 0.04, 0.08])
        self.assertEqual(pauses[-1], indexer.LONGEST_RETRY)


class SameIdTests(LogDirTestCase):
    """Whoever sends captures may give them the ids of others."""

    def entries(self) -> list[Entry]:
        """One exchange, and another that says that it is the same."""
        return [
            entry(1, text, request_file=f"{name}_request.bin", response_file=f"{name}_response.bin")
            for name, text in (("a", "genuine"), ("b", "forged"))
        ]

    def check(self) -> None:
        self.assertEqual(self.found(self.index, "genuine"), [id_of(1)])
        (other,) = self.found(self.index, "forged")
        self.assertEqual((other[:8], other == id_of(1)), (id_of(1)[:8], False))
        row = self.index.get(other)
        self.assertEqual(row and row.request_file, "b_request.bin")
        self.assertEqual(self.index.counts().exchanges, 2)

    def test_later(self) -> None:
        """What comes later gets another id, always the same one; the first one stays what it is."""
        genuine, forged = self.entries()
        self.index.add([genuine])
        self.index.add([forged])
        for again in ([forged], [genuine], [genuine, forged]):
            self.index.add(again)
            self.check()

    def test_together(self) -> None:
        """The same in one batch."""
        self.index.add([*self.entries(), *self.entries()])
        self.check()

    def test_halves(self) -> None:
        """The other half of an exchange is no other exchange."""
        whole = entry(1, "word", request_file="a_request.bin", response_file="a_response.bin")
        half = Entry(whole.row._replace(response_file=None), whole.texts)
        self.index.add([half])
        self.index.add([whole])
        self.assertEqual([row.response_file for row in self.index.list(Filters()).rows], ["a_response.bin"])

    def test_half_that_was_missing(self) -> None:
        """A rebuild that finds one half of an exchange in the index adds the other to it."""
        self.capture(1)
        about = documents(1, BODY)
        self.index.add([entry_of(about[0], None, lambda name, limit: b"")])
        self.rebuild()
        (row,) = self.index.list(Filters()).rows
        self.assertEqual((row.id, bool(row.request_file), bool(row.response_file)), (id_of(1), True, True))
