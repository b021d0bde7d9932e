"""The places in a text where the words of a search stand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.matching import AROUND, OVERLAP, WINDOW, Search


class PlaceTests(SynchronousTestCase):
    def test_places(self) -> None:
        """The places are those of the original text, however its letters are written."""
        for text, q, found in (
            ("a rate-limit", "rate", ["rate"]),
            ("a rate-limit", '"rate limit" a', ["a", "rate-limit"]),
            ("rates", "rate", []),
            ("rates", "rat*", ["rates"]),
            ("a rate", "a -rate", ["a"]),
            ("le Cafe\u0301 noir", "café", ["Cafe\u0301"]),
            ("le Café noir", "cafe", ["Café"]),
            ("die ﬁle", "file", ["ﬁle"]),
            ("ein ＡＰＩ　ｋｅｙ", '"api key"', ["ＡＰＩ　ｋｅｙ"]),
            ("これは日本語", "日本", ["日本"]),
            ("ﾃﾞｰﾀ", "デー", ["ﾃﾞｰ"]),
            ("그 데이터베이스에서", "데이터", ["데이터"]),
            ("x getUserName y", "user", ["User"]),
            ("x getUserName y", '"user name"', ["UserName"]),
            ("hello%20world", "world", ["world"]),
            (r"one\ntwo", "two", ["two"]),
            (r"le caf\u00e9", "cafe", [r"caf\u00e9"]),
        ):
            places = Search(q).spans(text)
            self.assertEqual([text[start:end] for start, end in places], found, (text, q))

    def test_snippet(self) -> None:
        """A snippet is one line around the first place, with what was left out marked."""
        text = "a " * 100 + "the needle\n\n here" + " b" * 100
        snippet = Search("needle").snippet(text)
        self.assertRegex(snippet, r"^…[a ]+ the needle here [b ]+…$")
        self.assertLess(len(snippet), 2 * AROUND + 20)
        self.assertEqual(Search("other").snippet(text), "")
        self.assertEqual(Search("needle").snippet("needle"), "needle")

    def test_late_snippet(self) -> None:
        """A word in a long text is found, also where two of the parts meet that are looked through."""
        for place in (WINDOW - 2, WINDOW + OVERLAP - 2, 3 * WINDOW):
            text = " " * place + "needle" + " " * WINDOW
            self.assertEqual(Search("needle").snippet(text), "…needle…", place)

    @given(st.text(max_size=40), st.text(max_size=10))
    def test_never_fails(self, text: str, q: str) -> None:
        """Whatever is searched in whatever text, the places found are in it."""
        for start, end in Search(q).spans(text):
            self.assertTrue(0 <= start < end <= len(text))
