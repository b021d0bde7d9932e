"""The cut between the logging server and the place where captures are kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.events import Ended, Event
from logging_proxy.captures.exchanges import Exchange
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Row
from logging_proxy.index.sqlite import SqliteIndex
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.retention.policy import Limits, Retention
from logging_proxy.logserver.store.protocol import CaptureWriter, Preview, What
from logging_proxy.logserver.telemetry.counters import Sizes
from logging_proxy.test.index_stage import entry, id_of
from logging_proxy.test.logserver_spools import ID, Script, SpoolWriter, Told, Unobserved, session


class MemoryWriter:
    """A `CaptureWriter` that keeps ids."""

    def __init__(self, kept: dict[bytes, str]) -> None:
        self._kept = kept
        self._ended: list[Exchange] = []

    @property
    def finished(self) -> int:
        return len(self._ended)

    @property
    def dirty(self) -> bool:
        return bool(self._ended)

    def handle(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._ended.append(event.exchange)

    def flush(self) -> None: ...

    def commit(self) -> list[Stored]:
        ended, self._ended = self._ended, []
        self._kept.update({exchange.uuid: exchange.outcome for exchange in ended})
        return [Stored(exchange, "", "") for exchange in ended]

    def settle(self) -> list[Stored]:
        return self.commit()

    def close(self) -> None:
        self._ended.clear()

    def finished_exchanges(self) -> list[Exchange]:
        return self._ended

    def preview(self, exchange: Exchange) -> Preview:
        return lambda: ({"id": exchange.id}, None)

    def checkpoint(self) -> list[list[Any]]:
        return []

    def restore(self, exchanges: dict[int, Exchange], state: Iterable[list[Any]]) -> None: ...


class MemoryStore:
    """A `CaptureStore` without files."""

    def __init__(self) -> None:
        self.kept: dict[bytes, str] = {}
        self.deleted: list[tuple[str, What]] = []

    def open(self) -> None: ...

    def check(self) -> None: ...

    def probe(self) -> None: ...

    def close(self) -> None: ...

    def writer(self) -> CaptureWriter:
        return MemoryWriter(self.kept)

    def delete(self, row: Row, what: What) -> int:
        self.deleted.append((row.id, what))
        return 1

    def has_bytes(self, row: Row) -> bool:
        return True

    def measure(self) -> tuple[int, int]:
        return 0, 0


class OtherStoreTests(SynchronousTestCase):
    """A store that keeps no files, in place of the log directory."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.now = 0.0
        self.root = os.path.abspath(self.mktemp())
        os.mkdir(self.root, 0o700)

    def spools(self, observer: Any) -> Spools:
        spools = Spools(self.store, self.root, lambda: self.now, observer)
        self.addCleanup(spools.close)
        return spools

    def test_stored(self) -> None:
        """It is given every exchange of every spool, and the observer is told of each."""
        told: list[Stored] = []
        SpoolWriter(os.path.join(self.root, "5601")).blocks([session(), *Script().simple()])
        spools = self.spools(Told(told.append))
        spools.turn()
        self.assertTrue(spools.settle())
        self.assertEqual(self.store.kept, {ID: "complete"})
        self.assertEqual([stored.exchange.uuid for stored in told], [ID])

    def test_under_way(self) -> None:
        """It makes the metadata of an exchange that is under way."""
        SpoolWriter(os.path.join(self.root, "5601")).blocks([session(), Script().head()])
        spools = self.spools(Unobserved())
        spools.turn()
        preview = spools.preview(ID)
        assert preview is not None
        self.assertEqual(bytes.fromhex(str((preview()[0])["id"]).replace("-", "")), ID)

    def test_deleted(self) -> None:
        """Retention deletes by rows: whole exchanges, or their bytes alone."""
        index = SqliteIndex(os.path.join(self.mktemp(), "index.sqlite3"))
        self.addCleanup(index.close)
        index.add([entry(1)])
        for limits, what in ((Limits(bodies_max_age=1), What.BYTES), (Limits(max_age=1), What.ALL)):
            retention = Retention(limits, index)
            for step in retention.plan(Sizes(), 1 << 60):
                retention.delete_entries(retention.delete_files(step, self.store))
            self.assertEqual(self.store.deleted.pop(), (id_of(1), what))
        self.assertEqual(index.counts().exchanges, 0)
