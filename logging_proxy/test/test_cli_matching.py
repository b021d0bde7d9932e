"""Searching without an index finds what the index finds."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.matching import AROUND, Search
from logging_proxy.index import Filters, SqliteIndex
from logging_proxy.test.index_stage import entry

TEXT = "The rate-limit was reached: try again in 20 s. Café au lait. 日本語"


class MatchTests(SynchronousTestCase):
    def test_searches(self) -> None:
        """Words, phrases, what must not be there, and beginnings."""
        for text, found in (
            ("rate", True),
            ("RATE limit", True),
            ('"rate limit"', True),
            ('"limit rate"', False),
            ("rat", False),
            ("rat*", True),
            ("rate -limit", False),
            ("rate -other", True),
            ("-other", True),
            ("cafe", True),
            ("日本", True),
            ("本日", False),
            ("", False),
            ("...", False),
            ('"', False),
        ):
            self.assertEqual(Search(text).matches(TEXT), found, text)

    def test_over_both(self) -> None:
        """What is wanted may stand in either body, what is not in neither."""
        self.assertTrue(Search("one two").matches("one", "two"))
        self.assertFalse(Search("one -two").matches("one", "two"))
        self.assertFalse(Search('"one two"').matches("one", "two"))

    def test_as_the_index(self) -> None:
        """A search without the index has the answer that the index has."""
        index = SqliteIndex(os.path.join(self.mktemp(), "index.sqlite3"))
        self.addCleanup(index.close)
        words = st.sampled_from(["rate", "limit", "Café", "x_y", "20", "日本", "re-try", "ß", "it's"])

        @settings(max_examples=60, deadline=None)
        @given(
            st.lists(words, max_size=5).map(" ".join),
            st.lists(st.tuples(st.sampled_from(["", "-"]), words, st.sampled_from(["", "*"])), max_size=3),
        )
        def check(text: str, terms: list[tuple[str, str, str]]) -> None:
            q = " ".join(map("".join, terms))
            index.add([entry(1, text)])
            found = bool(index.list(Filters(q=q)).rows) if q else False
            self.assertEqual(Search(q).matches(text), found, (text, q))

        check()

    def test_snippet(self) -> None:
        """A snippet is one line around the first place, with what was left out marked."""
        text = "a " * 100 + "the needle\n\n here" + " b" * 100
        snippet = Search("needle").snippet(text)
        self.assertRegex(snippet, r"^…[a ]+ the needle here [b ]+…$")
        self.assertLess(len(snippet), 2 * AROUND + 20)
        self.assertEqual(Search("other").snippet(text), "")
        self.assertEqual(Search("needle").snippet("needle"), "needle")

    @given(st.text(max_size=40), st.text(max_size=10))
    def test_never_fails(self, text: str, q: str) -> None:
        """Whatever is searched in whatever text, the places found are in it."""
        search = Search(q)
        search.matches(text)
        for start, end in search.spans(text):
            self.assertTrue(0 <= start < end <= len(text))
