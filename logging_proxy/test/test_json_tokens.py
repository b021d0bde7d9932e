"""JSON in pieces, token by token, without its value."""

from __future__ import annotations

import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import json_tokens as module
from logging_proxy.understanding.json_tokens import (
    NAME,
    STRING,
    LongString,
    between_quotes,
    json_tokens,
    string_value,
    told_apart,
)

texts = st.text(st.sampled_from('{}[]",:\\ an1u\n\u2028é😀')) | st.recursive(
    st.text() | st.none() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
).map(json.dumps)


def split(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def joined(pieces: list[str]) -> str:
    """The text of the tokens; long strings by their pieces."""
    found = []
    for token in json_tokens(pieces):
        if isinstance(token, LongString):
            found += ['"', *token.pieces(), '"' if token.has_end else ""]
        else:
            found.append(token)
    return "".join(found)


class TokenTests(SynchronousTestCase):
    @given(texts, st.lists(st.integers(0, 100)))
    def test_nothing_is_lost(self, text: str, cuts: list[int]) -> None:
        """The tokens of any text, in any pieces, are the text."""
        self.assertEqual(joined(split(text, cuts)), text)
        self.assertEqual([*json_tokens(split(text, cuts))], [*json_tokens([text])])

    @given(texts, st.lists(st.integers(0, 100)))
    def test_long(self, text: str, cuts: list[int]) -> None:
        """The same where strings are long, and are given in pieces."""
        self.patch(module, "LONG", 3)
        self.assertEqual(joined(split(text, cuts)), text)

    @given(st.text(), st.lists(st.integers(0, 100)), st.booleans())
    def test_long_values(self, value: str, cuts: list[int], escaped: bool) -> None:
        """The pieces of a long string end with no open escape: their values are the value."""
        self.patch(module, "LONG", 2)
        text = json.dumps([value, 1], ensure_ascii=escaped)
        for token in json_tokens(split(text, cuts)):
            if isinstance(token, LongString):
                self.assertEqual("".join(map(string_value, token.pieces())), value)

    def test_passed_over(self) -> None:
        """A long string that is not read, or not to its end, does not hide what follows."""
        self.patch(module, "LONG", 3)
        for count in (0, 1):
            tokens = []
            for token in json_tokens(['["abc', "def", '\\"ghi", 1]']):
                tokens.append("long" if isinstance(token, LongString) else token)
                if isinstance(token, LongString):
                    for _, _ in zip(range(count), token.pieces(), strict=False):
                        pass
            self.assertEqual(tokens, ["[", "long", ",", " ", "1", "]"])

    def test_bounded(self) -> None:
        """Strings, numbers and spaces without an end are not held."""
        for start in ('"', "1", " ", '"\\', "[" * 9):
            piece = start[-1] * 10_000 if start != '"' else "a" * 10_000
            tracemalloc.start()
            for token in json_tokens(piece if number else start + piece for number in range(1000)):
                del token
            self.assertLess(tracemalloc.get_traced_memory()[1], 5 << 20, start)
            tracemalloc.stop()


class KindTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Names of members are told from other strings."""
        text = '{"a": "1", "b": ["2", {"c": "3"}, "4"], "d": {"e": {}, "f": 5}, "g": null}'
        found = {kind: [between_quotes(str(token)) for each, token in told_apart([text]) if each == kind]
                 for kind in (NAME, STRING)}  # fmt: skip
        self.assertEqual(found, {NAME: list("abcdefg"), STRING: list("1234")})

    @given(texts)
    def test_any_text(self, text: str) -> None:
        """Any text has tokens of some kind."""
        self.assertEqual("".join(str(token) for _, token in told_apart([text])), text)

    def test_deep(self) -> None:
        """The depth is not limited."""
        text = "[" * 100_000 + '"a"' + "]" * 100_000
        self.assertEqual(sum(1 for _ in told_apart([text])), 200_001)

    def test_values(self) -> None:
        """The value of a string is taken as far as it can be."""
        self.assertEqual(string_value(r"\u00e9\n"), "é\n")
        self.assertEqual(string_value("a\nb"), "a\nb")
        self.assertEqual(string_value(r"\x"), r"\x")
        for token, inner in (('"a"', "a"), ('"a', "a"), ('"a\\"', 'a\\"'), ('"', ""), ('""', "")):
            self.assertEqual(between_quotes(token), inner)
