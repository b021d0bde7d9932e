"""Paging: every exchange exactly once, and no cursor but ours."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.index import BadCursor, Filters, SqliteIndex
from logging_proxy.index.cursors import read_cursor, write_cursor
from logging_proxy.index.values import MAX_LIMIT
from logging_proxy.test.index_stage import START, IndexTestCase, entry

offsets = st.one_of(st.integers(0, 3), st.integers(0, 10_000_000))
"""Starts in microseconds: often the same."""


class CursorTests(IndexTestCase):
    @given(st.integers(-(1 << 63), (1 << 63) - 1))
    def test_round_trip(self, position: int) -> None:
        """A cursor holds its position and is fit for a URL."""
        cursor = write_cursor(position)
        self.assertEqual(read_cursor(cursor), position)
        self.assertRegex(cursor, r"\A[A-Za-z0-9_-]+\Z")

    @given(st.one_of(st.text(max_size=40), st.text("ABCabc019-_=", min_size=18, max_size=18)))
    def test_refused(self, cursor: str) -> None:
        """Anything else is refused with `BadCursor`."""
        self.assertRaises(BadCursor, read_cursor, cursor)

    @given(st.integers(0, 1 << 60), st.integers(0, 17), st.sampled_from("Aa0-_b"))
    def test_changed(self, position: int, place: int, character: str) -> None:
        """A cursor with one character changed is refused, or means the same."""
        cursor = write_cursor(position)
        changed = cursor[:place] + character + cursor[place + 1 :]
        try:
            self.assertEqual(read_cursor(changed), position)
        except BadCursor:
            self.assertNotEqual(changed, cursor)

    def test_index_refuses(self) -> None:
        """A listing with a bad cursor raises `BadCursor`."""
        self.assertRaises(BadCursor, self.make().list, Filters(), "x")


class PagingTests(IndexTestCase):
    def pages(
        self, index: SqliteIndex, filters: Filters, limits: list[int], oldest: bool = False
    ) -> list[str]:
        """The ids of all pages; each but the last is full."""
        found: list[str] = []
        cursor = None
        for turn in range(1000):
            limit = limits[turn % len(limits)]
            page = index.list(filters, cursor, limit, oldest)
            found += self.ids(page)
            cursor = page.next
            if cursor is None:
                return found
            self.assertEqual(len(page.rows), limit)
        raise AssertionError("paging does not end")

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(offsets, max_size=30),
        st.lists(st.integers(1, 7), min_size=1, max_size=4),
        st.booleans(),
        st.sampled_from([Filters(), Filters(route="a"), Filters(q="word"), Filters(status=4, q="-other")]),
    )
    def test_every_row_once(
        self, starts: list[int], limits: list[int], oldest: bool, filters: Filters
    ) -> None:
        """Any rows, any limits, any filter, either order: each exchange exactly once, in order."""
        index = self.make(os.path.join(self.mktemp(), "x"))
        index.add(
            entry(number, "word", started=START + start, route="a", status=404)
            for number, start in enumerate(starts)
        )
        found = self.pages(index, filters, limits, oldest)
        self.assertEqual(sorted(found), sorted(entry(number).row.id for number in range(len(starts))))
        self.assertEqual(found, self.ids(index.list(filters, limit=MAX_LIMIT, oldest_first=oldest)))
        if len(set(starts)) == len(starts) and all(b - a > 40 for a, b in _neighbours(starts)):
            order = sorted(range(len(starts)), key=lambda number: starts[number], reverse=not oldest)
            self.assertEqual(found, [entry(number).row.id for number in order])

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(offsets, max_size=20),
        st.lists(st.lists(offsets, max_size=4), max_size=8),
        st.integers(1, 5),
        st.booleans(),
    )
    def test_while_rows_are_added(
        self, starts: list[int], later: list[list[int]], limit: int, replaced: bool
    ) -> None:
        """Rows that come, or are written again, between two pages hide and double nothing."""
        index = self.make(os.path.join(self.mktemp(), "x"))
        index.add(entry(number, started=START + start) for number, start in enumerate(starts))
        count, found, cursor = len(starts), [], None
        for turn in range(1000):
            page = index.list(Filters(), cursor, limit)
            found += self.ids(page)
            cursor = page.next
            if cursor is None:
                break
            if turn < len(later):
                added = [
                    entry(count + place, started=START + start) for place, start in enumerate(later[turn])
                ]
                count += len(added)
                index.add(added)
            if replaced:
                index.add([entry(turn % len(starts), "again", started=START + starts[turn % len(starts)])])
        self.assertEqual(len(set(found)), len(found))
        self.assertLessEqual({entry(number).row.id for number in range(len(starts))}, set(found))

    def test_no_cursor_after_the_last(self) -> None:
        """`next` is None exactly when nothing follows."""
        index = self.make()
        self.assertIsNone(index.list(Filters()).next)
        index.add([entry(1), entry(2)])
        self.assertIsNone(index.list(Filters(), limit=2).next)
        self.assertIsNotNone(index.list(Filters(), limit=1).next)

    def test_limits(self) -> None:
        """A limit out of bounds is brought within them."""
        index = self.make()
        index.add(entry(number) for number in range(3))
        self.assertEqual(len(index.list(Filters(), limit=-5).rows), 1)
        self.assertEqual(len(index.list(Filters(), limit=1 << 70).rows), 3)

    def test_many_at_one_time(self) -> None:
        """Ten thousand exchanges of one microsecond are added and paged through in reasonable time."""
        index = self.make()
        for at in range(0, 10_000, 1000):
            index.add(entry(number, started=START) for number in range(at, at + 1000))
        self.assertEqual(len(set(self.pages(index, Filters(), [1000]))), 10_000)
        self.assertEqual(len(index.list(Filters(since=START, until=START + 1)).rows), 50)
        self.assertEqual(index.list(Filters(since=START + 1)).rows, [])
        self.assertEqual(index.list(Filters(until=START)).rows, [])


def _neighbours(starts: list[int]) -> list[tuple[int, int]]:
    ordered = sorted(starts)
    return list(zip(ordered, ordered[1:], strict=False))
