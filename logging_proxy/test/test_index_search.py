"""Full-text search: what is found, and that nothing typed is an error."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.index import Filters, SqliteIndex
from logging_proxy.index.words import MOST_PREFIXES, TERMS, Term, match_expression, parse_search
from logging_proxy.test.index_stage import IndexTestCase, entry, id_of

hostile = st.one_of(
    st.text(max_size=60),
    st.text('"\'*-+^:(){}[]~ANDORNOTEAab \x00\n\ud800', max_size=60),
    st.sampled_from(
        ["AND", "OR OR", "NOT x", "NEAR(a b)", "text:", "{text}: a", "a*b", '"', '""', '-""', "-", "--", "*",
         "^a", "a AND", "(", '"a', "'; DROP TABLE exchanges; --", "a\x00b", "-a -b", "x" * 5000, "a " * 5000,
         "\ud800", "\U0001f600", "日本", "-*", '"*"', 'a"b"c']
    ),
)  # fmt: skip


class ParsingTests(IndexTestCase):
    def test_terms(self) -> None:
        """Words, phrases, what is not wanted, and beginnings; in this order as they were typed."""
        self.assertEqual(
            parse_search('one "two three" -four -"five six" sev* "eight ni"*'),
            [
                Term("one"),
                Term("two three"),
                Term("four", negated=True),
                Term("five six", negated=True),
                Term("sev*", prefix=True),
                Term("eight ni", prefix=True),
            ],
        )

    def test_inner_signs(self) -> None:
        """A hyphen or star inside a word is part of it; a single letter is no beginning."""
        self.assertEqual(parse_search("gpt-4o a*b x*"), [Term("gpt-4o"), Term("a*b"), Term("x*")])

    def test_unclosed(self) -> None:
        """A phrase that is not closed ends with the search."""
        self.assertEqual(parse_search('a "b c'), [Term("a"), Term("b c")])

    def test_nothing(self) -> None:
        """What has neither letter nor digit is no term, and a search is bounded."""
        self.assertEqual(parse_search('!!! - "" * -"."'), [])
        self.assertEqual(len(parse_search("a " * 1000)), TERMS)
        terms = parse_search("".join(f"be{number}* " for number in range(10)) + "word")
        self.assertEqual([term.prefix for term in terms], [True] * MOST_PREFIXES + [False])

    def test_unstorable_characters(self) -> None:
        """NUL separates words as a blank does; half a surrogate pair is a sign like others."""
        self.assertEqual(parse_search("a\x00b \ud800c"), [Term("a"), Term("b"), Term("?c")])

    def test_no_expression(self) -> None:
        """Without filters, or with a blank search, nothing is matched against the full text."""
        self.assertIsNone(match_expression(Filters()))
        self.assertIsNone(match_expression(Filters(since=1, until=2, q="  ")))


class HostileTests(IndexTestCase):
    index: SqliteIndex | None = None

    @settings(deadline=None, max_examples=300)
    @given(hostile)
    def test_never_an_error(self, q: str) -> None:
        """Whatever is typed, alone or with other filters, gives rows or none, never an error."""
        if self.index is None:
            self.index = self.make()
            self.index.add([entry(1, "a ab abc and or not near text", route="r")])
        found = [row.id for row in self.index.list(Filters(q=q)).rows]
        self.assertIn(found, ([], [id_of(1)]))
        self.assertEqual([row.id for row in self.index.list(Filters(q=q, route="r")).rows], found)
        self.assertEqual(self.index.list(Filters(q=q, route="r", status=4)).rows, [])

    @settings(deadline=None, max_examples=300)
    @given(st.text(max_size=40))
    def test_any_filter_value(self, value: str) -> None:
        """The same for the other filters; and an exchange with such values is found by them."""
        if self.index is None:
            self.index = self.make()
        self.index.add([entry(1, route=value, model=value, session=value)])
        found = self.index.list(Filters(route=value, model=value, session=value))
        self.assertEqual(self.ids(found), [id_of(1)])

    @settings(deadline=None, max_examples=100)
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """Whatever text is indexed is found by each of its ASCII words, and gone when it is deleted."""
        if self.index is None:
            self.index = self.make()
        self.index.add([entry(1, text)])
        for word in re.findall(r"(?<![^\s])[a-zA-Z0-9]+(?![^\s])", text)[:5]:
            self.assertEqual(self.found(self.index, word), [id_of(1)], word)
        self.index.delete([id_of(1)])
        self.assertEqual(self.found(self.index, "-nosuchword"), [])


class FindingTests(IndexTestCase):
    def setUp(self) -> None:
        self.index = self.make()
        self.index.add(
            [
                entry(1, "The quick brown fox", "jumps over the lazy dog"),
                entry(2, "a lazy brown cat", "model gpt-4o-mini says: naïve café"),
                entry(3, "日本語の勉強", "brown, quick"),
            ]
        )

    def numbers(self, q: str) -> list[int]:
        known = {id_of(number): number for number in range(10)}
        return [known[id] for id in self.found(self.index, q)]

    def test_words(self) -> None:
        """All words are in either body, in any case; newest first."""
        self.assertEqual(self.numbers("BROWN"), [3, 2, 1])
        self.assertEqual(self.numbers("lazy brown"), [2, 1])
        self.assertEqual(self.numbers("lazy bird"), [])

    def test_phrases(self) -> None:
        """A phrase is words in a row, within one body; so is a word that is several to the tokenizer."""
        self.assertEqual(self.numbers('"quick brown"'), [1])
        self.assertEqual(self.numbers('"brown quick"'), [3])
        self.assertEqual(self.numbers("gpt-4o"), [2])
        self.assertEqual(self.numbers("4o-gpt"), [])

    def test_without(self) -> None:
        """-word leaves out; alone it leaves all others."""
        self.assertEqual(self.numbers("brown -lazy"), [3])
        self.assertEqual(self.numbers('-"quick brown"'), [3, 2])
        self.assertEqual(self.numbers("-brown -fox"), [])

    def test_beginnings(self) -> None:
        """begin* finds words that begin so, from two letters on."""
        self.assertEqual(self.numbers("bro*"), [3, 2, 1])
        self.assertEqual(self.numbers('"lazy d"*'), [])
        self.assertEqual(self.numbers('"lazy do"*'), [1])
        self.assertEqual(self.numbers("b*"), [])

    def test_accents(self) -> None:
        """Accents do not matter, on either side."""
        self.assertEqual(self.numbers("cafe NAÏVE"), [2])

    def test_scripts_without_spaces(self) -> None:
        """In scripts without spaces any piece is found, and only in its order."""
        self.assertEqual(self.numbers("日本"), [3])
        self.assertEqual(self.numbers("勉強"), [3])
        self.assertEqual(self.numbers("本日"), [])

    def test_no_word(self) -> None:
        """A search without a word finds nothing; a blank one is none."""
        self.assertEqual(self.numbers("!!!"), [])
        self.assertEqual(self.numbers("  "), [3, 2, 1])

    def test_with_filters(self) -> None:
        """A search and filters hold together."""
        self.index.add([entry(4, "brown", route="a", status=500), entry(5, "brown", route="b", status=500)])
        self.assertEqual(self.ids(self.index.list(Filters(q="brown", route="b"))), [id_of(5)])
        self.assertEqual(self.ids(self.index.list(Filters(q="brown", status=5))), [id_of(5), id_of(4)])
        rows = self.index.list(Filters(q="brown")).rows
        self.assertTrue(all(a.started > b.started for a, b in pairwise(rows)))

    def test_marks_are_no_text(self) -> None:
        """A text that holds the mark of a route is not taken for an exchange of it."""
        expression = match_expression(Filters(route="a")) or ""
        self.index.add([entry(6, expression)])
        self.assertEqual(self.index.list(Filters(route="a")).rows, [])
