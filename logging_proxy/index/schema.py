"""
The SQLite schema and its migrations.

The table `exchanges` has the columns of `columns.Row`; missing ones are added when an index is opened.

`MIGRATIONS[n]` upgrades version n to n + 1.  Released migrations never change.  A change of the schema, of
the words that `words` makes, or of the text that is extracted needs a new migration, which may empty the
index to have it rebuilt.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

from logging_proxy.index.columns import FIELDS, Field
from logging_proxy.index.values import IndexTrouble

Migration = str | Callable[[sqlite3.Connection], None]

_FIRST = """
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (0);

-- `key` is the start in microseconds, or one of the next ones when that is taken:
-- the order of the table, of pages and of the full text.
CREATE TABLE exchanges (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE
) STRICT;

-- Compressed.  What was put into `words` can only be taken out again with the same text.
CREATE TABLE texts (key INTEGER PRIMARY KEY, request BLOB, response BLOB) STRICT;

CREATE VIRTUAL TABLE words USING fts5(
    text, content='', columnsize=0, detail=full, tokenize='unicode61 remove_diacritics 2'
);
INSERT INTO words (words, rank) VALUES ('hashsize', 8388608);

CREATE TABLE tally (
    name TEXT NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (name, value)
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO facts VALUES ('whole', 0), ('widest', 0);
"""

_PLAIN_TEXTS = ""
"""No change of tables: `texts` may hold uncompressed texts after a zero byte, unreadable for version 1."""

_FOLDED = """
-- Other words, and texts of another length: all is indexed anew from the files.
DROP TABLE texts;
CREATE TABLE texts (key INTEGER PRIMARY KEY, request BLOB, response BLOB, tail INTEGER) STRICT;
CREATE INDEX tails ON texts (tail) WHERE tail IS NOT NULL;
DELETE FROM exchanges;
DELETE FROM tally;
INSERT INTO words (words) VALUES ('delete-all');
UPDATE facts SET value = 0;
"""

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _PLAIN_TEXTS, _FOLDED)
"""The first statement of the first migration creates the table of the version."""


NEWER = "made by a newer version (schema {}, this one knows {})"


def upgrade(
    connection: sqlite3.Connection, path: str, migrations: tuple[Migration, ...] = MIGRATIONS
) -> None:
    """
    Upgrade a database to the newest version, each migration in its own transaction.

    An existing database is first backed up to `path` with `.vN.bak`.  Raises `IndexTrouble` if the database
    was made by a newer version of this program.
    """
    found = version_of(connection)
    if found > len(migrations):
        raise IndexTrouble(NEWER.format(found, len(migrations)))
    if 0 < found < len(migrations):
        _back_up(connection, f"{path}.v{found}.bak")
    for version in range(found, len(migrations)):
        _migrate(connection, migrations[version], version + 1)
    _add_columns(connection)


def _add_columns(connection: sqlite3.Connection) -> None:
    """Add the columns of `Row` that the table lacks; existing rows get the defaults."""
    connection.execute("BEGIN IMMEDIATE")
    for each in missing_columns(connection):
        connection.execute(f"ALTER TABLE exchanges ADD COLUMN {each.definition}")
    connection.execute("COMMIT")


def missing_columns(connection: sqlite3.Connection) -> list[Field]:
    """The columns of `Row` that the table `exchanges` lacks."""
    found = {name for _, name, *_ in connection.execute("PRAGMA table_info(exchanges)")}
    return [each for each in FIELDS if each.name not in found]


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version; 0 for an empty database."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema'").fetchone() is None:
        return 0
    return int(connection.execute("SELECT version FROM schema").fetchone()[0])


def _migrate(connection: sqlite3.Connection, migration: Migration, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if callable(migration):
            migration(connection)
        else:
            for statement in _statements(migration):
                connection.execute(statement)
        connection.execute("UPDATE schema SET version = ?", (version,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """The statements of a script, to run in one transaction: `executescript` would commit first."""
    statements, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


def _back_up(connection: sqlite3.Connection, path: str) -> None:
    make_private_file(f"{path}.tmp")
    with closing(sqlite3.connect(f"{path}.tmp")) as copy:
        connection.backup(copy, pages=1000)
    os.replace(f"{path}.tmp", path)


def make_private_file(path: str) -> None:
    """Create an empty file of mode 0600 if there is none.  SQLite gives its WAL the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
