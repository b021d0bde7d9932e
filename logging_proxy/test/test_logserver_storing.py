"""Files and index together: what is stored is found, also after crashes, damage and the loss of the index."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import Any

from twisted.internet.defer import execute

from logging_proxy.index import Filters, Indexer, IndexTrouble
from logging_proxy.index import indexer as indexer_module
from logging_proxy.index.opening import open_index
from logging_proxy.index.questions import check_version
from logging_proxy.index.sqlite import FILE
from logging_proxy.logserver.storing import StoringAndIndexing
from logging_proxy.test.logserver_spools import documents
from logging_proxy.test.web_stage import ServerTestCase


class OpenTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        self.index.close()
        self.path = os.path.join(self.log_dir, FILE)

    def test_damaged(self) -> None:
        """A damaged index is put aside and made anew."""
        with open(self.path, "wb") as file:
            file.write(b"this is no database" * 1000)
        index = open_index(self.log_dir, self.told.append)
        assert index is not None
        self.addCleanup(index.close)
        self.assertEqual(index.list(Filters()).rows, [])
        self.assertFalse(index.whole)
        self.assertTrue(os.path.exists(f"{self.path}.damaged"))

    def test_newer(self) -> None:
        """An index of a newer version is left alone; captures are stored without one."""
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE schema SET version = 1000")
        connection.commit()
        connection.close()
        self.assertIsNone(open_index(self.log_dir, self.told.append))
        self.assertFalse(os.path.exists(f"{self.path}.damaged"))
        (reason,) = self.told
        self.assertIn("made by a newer version", reason)
        self.assertIn(
            "made by a newer version", str(self.assertRaises(IndexTrouble, check_version, self.path))
        )

    def test_without(self) -> None:
        """Where no index can be made there is none, and no error: storing comes first."""
        os.chmod(os.path.dirname(self.path), 0o700)
        shutil.rmtree(os.path.dirname(self.path))
        with open(os.path.dirname(self.path), "w"):
            pass
        self.spools.close()
        check_version(self.path)
        self.assertIsNone(open_index(self.log_dir, self.told.append))


class ServiceTests(ServerTestCase):
    """With the threads of a real indexer."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        self.patch(indexer_module, "RETRY_SECONDS", 0.01)

    def serve(self) -> StoringAndIndexing:
        assert self.parts.index is not None
        indexer = Indexer(self.parts.reader, self.parts.index, self.parts.observers.indexed)
        self.parts.observers.indexer = indexer
        service = StoringAndIndexing(self.parts.storage, indexer, self.parts.index, execute)
        service.startService()
        return service

    def found(self) -> list[str]:
        """What a fresh look at the index finds."""
        index = open_index(self.log_dir, self.told.append)
        assert index is not None
        rows = index.list(Filters()).rows
        index.close()
        return [row.id for row in rows]

    def run_through(self, *numbers: int) -> None:
        """A life of the server, in which these exchanges come."""
        service = self.serve()
        for number in numbers:
            self.writer.blocks(self.script(number).simple())
        self.clock.pump([0.05] * 10)
        self.successResultOf(service.stopService())

    def test_stop(self) -> None:
        """What is stored when the server has stopped is in the index."""
        self.run_through(1, 2, 3)
        self.assertEqual(self.found(), [self.id_of(number) for number in (3, 2, 1)])

    def test_crash(self) -> None:
        """What was stored and not indexed when the server died is indexed in its next life."""
        self.indexer.held = []
        self.capture(1)
        self.capture(2)
        self.spools.close()
        self.index.close()
        self.build()
        self.run_until_indexed(2)

    def test_index_lost(self) -> None:
        """The index may be deleted: it is built anew from the files."""
        self.run_through(1, 2)
        shutil.rmtree(os.path.join(self.log_dir, ".index"))
        self.build()
        self.run_until_indexed(2)

    def run_until_indexed(self, wanted: int) -> None:
        service = self.serve()
        indexer: Any = self.parts.observers.indexer
        assert self.parts.index is not None
        for _ in range(500):
            if self.parts.index.counts().exchanges == wanted and indexer.progress is None:
                break
            indexer._stopping.wait(0.01)
        self.successResultOf(service.stopService())
        self.assertEqual(len(self.found()), wanted)
        self.assertEqual(len(documents(self.log_dir)), 2 * wanted)
