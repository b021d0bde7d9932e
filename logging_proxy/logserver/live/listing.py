"""Pages of exchanges: the rows of the index, merged with the exchanges under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from logging_proxy.index import Filters, Index, Page, Row
from logging_proxy.index.cursors import read_cursor, write_cursor
from logging_proxy.index.values import never

Ask = Callable[[str | None, int], Page]
"""Cursor and limit to a page of the index."""


def list_exchanges(
    index: Index,
    under_way: Callable[[Filters], list[Row]],
    filters: Filters,
    cursor: str | None,
    limit: int,
    abandoned: Callable[[], bool] = never,
) -> Page:
    """
    A page, newest first.  An exchange that ends between two requests is on exactly one of their pages.

    Raises the exceptions of `Index.list`.
    """
    # Read before the index: an exchange that leaves it meanwhile is in the index by then.
    waiting = under_way(filters)
    position = None if cursor is None else read_cursor(cursor)
    if position is not None:
        waiting = [row for row in waiting if row.started < position]

    def ask(cursor: str | None, limit: int) -> Page:
        return index.list(filters, cursor, limit, abandoned=abandoned)

    return merged(ask, waiting, cursor, limit)


def merged(ask: Ask, waiting: Sequence[Row], cursor: str | None, limit: int) -> Page:
    """A page of the index, merged with the sorted rows in `waiting`."""
    page = ask(cursor, limit)
    known = {row.id for row in page.rows}
    waiting = [row for row in waiting if row.id not in known]
    if page.next is not None:
        end = read_cursor(page.next)
        waiting = [row for row in waiting if row.started >= end]
    if not waiting:
        return page
    rows = sorted([*page.rows, *waiting], key=lambda row: row.started, reverse=True)
    if len(rows) <= limit:
        return Page(rows, page.next)
    return _cut(ask, rows, waiting, cursor, limit)


def _cut(ask: Ask, rows: list[Row], waiting: Sequence[Row], cursor: str | None, limit: int) -> Page:
    """
    The first `limit` of `rows`, and the cursor behind them.

    Only the index knows the keys of its rows, so the cursor comes from a second query with a smaller limit.
    """
    last = rows[limit - 1]
    # A cursor cannot point between exchanges that started in the same microsecond: all are kept.
    kept = [row for row in rows if row.started >= last.started]
    ids = {row.id for row in waiting}
    indexed = sum(row.id not in ids for row in kept)
    if len(kept) == len(rows):
        return Page(kept, ask(cursor, limit).next)
    if last.id in ids or not indexed:
        return Page(kept, write_cursor(last.started))
    return Page(kept, ask(cursor, indexed).next or write_cursor(last.started))
