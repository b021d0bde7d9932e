"""Exchanges whose files were deleted by hand leave the index."""

from __future__ import annotations

import os

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index import Filters, Indexer, SqliteIndex, rebuild
from logging_proxy.index import gone as gone_module
from logging_proxy.index.gone import remove_gone, without_files
from logging_proxy.index.sqlite import FILE
from logging_proxy.test.index_stage import IndexTestCase, entry, everything, id_of, write_capture


class GoneTests(IndexTestCase):
    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        os.mkdir(self.log_dir, 0o700)
        self.reader = CaptureReader(self.log_dir)
        self.index = SqliteIndex(os.path.join(self.log_dir, FILE))
        self.addCleanup(self.index.close)
        for number in range(1, 5):
            write_capture(self.log_dir, number, b'{"text": "canary%d"}' % number)
        list(rebuild(self.reader, self.index))

    def delete(self, number: int, *ends: str) -> None:
        for name in os.listdir(self.log_dir):
            if id_of(number)[:8] in name and name.endswith(ends or ("",)):
                os.unlink(os.path.join(self.log_dir, name))

    def without(self) -> set[str]:
        return without_files(self.reader, self.index.list(Filters()).rows)

    def test_gone(self) -> None:
        """An exchange is gone with its last file; bodies alone, which retention deletes, are not enough."""
        self.delete(1)
        self.delete(2, ".bin")
        self.delete(3, "request.bin", "request_metadata.json")
        self.assertEqual(self.without(), {id_of(1)})

    def test_never_had_files(self) -> None:
        """A row that names no file has lost none."""
        self.assertEqual(without_files(self.reader, [entry(9).row]), set())

    def test_another_directory(self) -> None:
        """In a directory that is not there, or not the one with the index, nothing counts as deleted."""
        rows = self.index.list(Filters()).rows
        os.rename(self.log_dir, f"{self.log_dir}.away")
        self.assertEqual(without_files(self.reader, rows), set())
        os.mkdir(self.log_dir)
        self.assertEqual(without_files(self.reader, rows), set())

    def test_removed(self) -> None:
        """All that are gone leave the index, with their words and texts."""
        self.patch(gone_module, "PAGE", 1)
        self.delete(2)
        self.delete(4)
        self.assertEqual(sum(remove_gone(self.reader, self.index)), 2)
        self.assertEqual(sorted(self.ids(self.index.list(Filters()))), sorted([id_of(1), id_of(3)]))
        self.assertIsNone(self.index.texts(id_of(2)))
        left = everything(self.index.path)
        self.assertIn(b"canary1", left)
        self.assertNotIn(b"canary2", left)

    def test_half(self) -> None:
        """Of an exchange of which one half was deleted, the texts of that half leave the index."""
        write_capture(self.log_dir, 8, b'{"text": "visible"}', b'{"text": "canary8"}')
        list(rebuild(self.reader, self.index))
        self.delete(8, "response.bin", "response_metadata.json")
        self.assertEqual(sum(remove_gone(self.reader, self.index)), 0)
        row, texts = self.index.get(id_of(8)), self.index.texts(id_of(8))
        assert row is not None and texts is not None
        self.assertEqual((texts.request, texts.response), ("visible", ""))
        self.assertIsNone(row.response_file)
        self.assertNotIn(b"canary8", everything(self.index.path))

    def test_at_the_start(self) -> None:
        """An indexer looks for them once after its start, in the background."""
        self.delete(1)
        self.index.mark_whole(True)
        indexer = Indexer(self.reader, self.index)
        indexer.start()
        self.addCleanup(indexer.stop)
        for _ in range(1000):
            if self.index.counts().exchanges == 3:
                return
            indexer._stopping.wait(0.01)
        self.fail("the deleted exchange is still there")
