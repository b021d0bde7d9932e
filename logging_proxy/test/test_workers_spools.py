"""Where workers record, and what is done with the spools of those that are no more."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.disk import SegmentFiles
from logging_proxy.recording.records import Kind, encode
from logging_proxy.recording.rings import lock_spool, open_ring
from logging_proxy.test.capture_stage import records
from logging_proxy.workers.spools import end_sessions, former_spools, spool_directories


class SpoolsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir(mode=0o700)

    def spool(self, name: str, *kinds: Kind) -> Path:
        """A spool with records of these kinds."""
        spool = self.root / name
        spool.mkdir(mode=0o700)
        files = SegmentFiles(spool, 0, 1 << 30)
        for kind in kinds:
            files.append(encode(kind, 0, 1, 2, b"{}"))
        files.close()
        return spool

    def kinds(self, spool: Path) -> list[Kind]:
        return [record.kind for record in records(spool)]

    def test_names(self) -> None:
        """They are named after the port and the worker; the first is the same however many there are."""
        found = [path.name for path in spool_directories(self.root, 5601, 3)]
        self.assertEqual(found, ["5601", "5601-2", "5601-3"])
        self.assertEqual(spool_directories(self.root, 5601, 1), [self.root / "5601"])

    def test_former(self) -> None:
        """Those of workers beyond the number are former ones, if they hold anything; others' are not."""
        for name in ("5601", "5601-2", "5601-3", "5601-12", "5602-3", "560"):
            self.spool(name, Kind.SESSION)
        self.spool("5601-4")
        found = [path.name for path in former_spools(self.root, 5601, 2)]
        self.assertEqual(found, ["5601-12", "5601-3"])
        self.assertEqual(former_spools(self.root / "none", 5601, 2), [])

    def test_end(self) -> None:
        """Another session begins in a spool that nobody writes: what is under way there was interrupted."""
        spool = self.spool("5601-2", Kind.SESSION, Kind.REQUEST_HEAD)
        end_sessions([spool])
        self.assertEqual(self.kinds(spool), [Kind.SESSION, Kind.REQUEST_HEAD, Kind.SESSION])

    def test_in_use(self) -> None:
        """A spool that somebody writes, or whose ring could not be emptied, is left as it is."""
        spool = self.spool("5601-2", Kind.SESSION)
        lock = lock_spool(spool)
        end_sessions([spool])
        os.close(lock)
        other = self.spool("5601-3", Kind.SESSION)
        ring, _ = open_ring(other, self.root / "none", 4096)
        ring.close()
        end_sessions([other])
        self.assertEqual((self.kinds(spool), self.kinds(other)), ([Kind.SESSION], [Kind.SESSION]))

    def test_trouble(self) -> None:
        """A spool that cannot be written does not keep the others from being ended."""
        spool = self.spool("5601-2", Kind.SESSION)
        end_sessions([self.root / "gone", spool])
        self.assertEqual(self.kinds(spool), [Kind.SESSION, Kind.SESSION])
