"""The table of columns: whatever has to know the columns of an exchange knows those of `Row`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.arguments import parser
from logging_proxy.cli.tables import EXCHANGES, exchange_cells
from logging_proxy.index import Entry, Filters, Row, SqliteIndex, meets, parse_filters
from logging_proxy.index.columns import FIELDS, FILTERS, FROM_BODIES, row_schema
from logging_proxy.index.questions import open_whole
from logging_proxy.test.index_stage import full_row, id_of

ROW = full_row(
    1,
    method="GET",
    status=404,
    outcome="complete",
    answered_by="proxy",
    run="nightly",
    request_file="2025-09-13_02-11-09.123_00000001_request.bin",
)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = str(Path(self.mktemp()).absolute())

    def make(self) -> SqliteIndex:
        index = SqliteIndex(self.path)
        self.addCleanup(index.close)
        return index

    def test_columns(self) -> None:
        """The table of a new index has the columns of a row, in their types."""
        self.make()
        with closing(sqlite3.connect(self.path)) as connection:
            found = {
                name: (kind, bool(not_null))
                for _, name, kind, not_null, *_ in connection.execute("PRAGMA table_info(exchanges)")
            }
        self.assertEqual(found.pop("key"), ("INTEGER", False))
        self.assertEqual(found.pop("id"), ("BLOB", True))
        expected = {
            each.name: ("TEXT" if each.type is str else "INTEGER", not each.nullable) for each in FIELDS[1:]
        }
        self.assertEqual(found, expected)

    def test_older_table(self) -> None:
        """A column that came after an index was made is added when it is opened, and its rows stay."""
        index = self.make()
        index.add([Entry(ROW)])
        index.mark_whole(True)
        index.close()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("ALTER TABLE exchanges DROP COLUMN head_after")
            connection.commit()
        self.assertIsNone(open_whole(self.path))  # what only reads leaves it as it is
        self.assertEqual(self.make().get(ROW.id), ROW._replace(head_after=None))


class DocumentTests(SynchronousTestCase):
    def test_schema(self) -> None:
        """A row's JSON is as its schema says, and has no member beside."""
        schema = row_schema() | {"additionalProperties": False}
        jsonschema.validate(ROW.document(), schema)
        jsonschema.validate(Row(id_of(2), 0, outcome="interrupted").document(), schema)


class HeadingTests(SynchronousTestCase):
    def test_every_heading(self) -> None:
        """Each column with a heading is in the table that `ls` prints, at its place, with its value."""
        headed = sorted(
            (each.column.heading.place, each.column.heading.text)
            for each in FIELDS
            if each.column.heading is not None
        )
        self.assertEqual([column.heading for column in EXCHANGES], [text for _, text in headed])
        self.assertEqual(len({place for place, _ in headed}), len(headed))
        cells = dict(zip([text for _, text in headed], exchange_cells(ROW.document()), strict=True))
        self.assertEqual([cells[name][0] for name in ("ID", "METHOD", "MODEL")], [ROW.id[:8], "GET", "model"])


class FilterTests(SynchronousTestCase):
    def test_everywhere(self) -> None:
        """Each filter is a parameter of the API, an option of a command, and is met by its value."""
        for name in FILTERS:
            value = getattr(ROW, name)
            text = value if isinstance(value, str) else json.dumps(value)
            filters = Filters(**{name: value})
            self.assertEqual(parse_filters({name: text}), filters)
            self.assertEqual(getattr(parser().parse_args(["ls", f"--{name}", text]), name), text)
            self.assertTrue(meets(ROW, filters))
            wanted: dict[str, Any] = {name: 500 if isinstance(value, int) else "OTHER"}
            other = Filters(**wanted)
            self.assertFalse(meets(ROW, other))
            self.assertEqual(meets(ROW, other, with_bodies=False), name in FROM_BODIES)
            self.assertEqual(filters.need_bodies, name in FROM_BODIES)

    def test_unknown(self) -> None:
        """A name that is no filter's is a mistake of the caller's."""
        self.assertRaises(TypeError, Filters, pattern="/")
