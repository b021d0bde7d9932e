"""
Exchanges whose files somebody has deleted: they leave the index, and their texts with them.

Retention removes its entries itself; this is for files deleted by hand or by other programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from logging_proxy.captures.names import metadata_name
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index.columns import Row
from logging_proxy.index.sqlite import FILE
from logging_proxy.index.values import Filters, Index

PAGE = 500


def without_files(reader: CaptureReader, rows: Sequence[Row]) -> set[str]:
    """
    The ids of those rows that have no file any more, although they had.

    Of a directory that is not there, not mounted or replaced, which has no index either, none is gone.
    """
    gone = {row.id for row in rows if _is_gone(reader, row)}
    return gone if gone and reader.exists(FILE) else set()


def _is_gone(reader: CaptureReader, row: Row) -> bool:
    names = [name for name in (row.request_file, row.response_file) if name]
    return bool(names) and not any(
        reader.exists(metadata_name(name)) or reader.exists(name) for name in names
    )


def remove_gone(reader: CaptureReader, index: Index) -> Iterator[int]:
    """Removes all such exchanges from the index; yields for each page how many of it were removed."""
    cursor: str | None = None
    while True:
        page = index.list(Filters(), cursor, PAGE, oldest_first=True)
        gone = without_files(reader, page.rows)
        yield index.delete(gone) if gone else 0
        if page.next is None:
            return
        cursor = page.next
