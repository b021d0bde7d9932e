"""
Exchanges whose files somebody has deleted: they leave the index, and their texts with them.

Retention removes its entries itself; this is for files deleted by hand or by other programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from logging_proxy.captures.names import metadata_name
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index.adding import EntryMaker
from logging_proxy.index.columns import Row
from logging_proxy.index.sqlite import FILE
from logging_proxy.index.values import Filters, Index

PAGE = 500


def without_files(reader: CaptureReader, rows: Sequence[Row]) -> set[str]:
    """
    The ids of those rows that have no file any more, although they had.

    Of a directory that is not there, not mounted or replaced, which has no index either, none is gone.
    """
    gone = {row.id for row in rows if _has_lost(reader, row) and not _left(reader, row)}
    return gone if gone and reader.exists(FILE) else set()


def take_out(reader: CaptureReader, index: Index, rows: Sequence[Row]) -> set[str]:
    """
    Removes those of `rows` whose files are gone from `index`, and the texts of halves that are gone.

    Returns the ids of the former.
    """
    lost = [row for row in rows if _has_lost(reader, row)]
    if not lost or not reader.exists(FILE):
        return set()
    gone = {row.id for row in lost if not _left(reader, row)}
    index.delete(gone)
    maker = EntryMaker(reader, index)
    for row in lost:
        if row.id not in gone:
            sides = (row.request_file, row.response_file)
            entry = maker.of_documents(*(_document(reader, name) for name in sides))
            if entry is not None:
                index.delete([row.id])
                index.add([entry])
    return gone


def _document(reader: CaptureReader, name: str | None) -> dict[str, object] | None:
    return None if name is None else reader.metadata(metadata_name(name))


def _has_lost(reader: CaptureReader, row: Row) -> bool:
    """Whether a half has neither bytes nor metadata.  Bytes alone are deleted by retention."""
    return any(not _is_there(reader, name) for name in (row.request_file, row.response_file) if name)


def _left(reader: CaptureReader, row: Row) -> bool:
    return any(_is_there(reader, name) for name in (row.request_file, row.response_file) if name)


def _is_there(reader: CaptureReader, name: str) -> bool:
    return reader.exists(metadata_name(name)) or reader.exists(name)


def remove_gone(reader: CaptureReader, index: Index) -> Iterator[int]:
    """Does `take_out` for all exchanges; yields for each page how many of it were removed."""
    cursor: str | None = None
    while True:
        page = index.list(Filters(), cursor, PAGE, oldest_first=True)
        yield len(take_out(reader, index, page.rows))
        if page.next is None:
            return
        cursor = page.next
