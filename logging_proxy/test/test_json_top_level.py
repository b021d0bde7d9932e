"""The top level of JSON that is not parsed whole."""

from __future__ import annotations

import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import json_top_level
from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.json_top_level import LONGEST_MEMBER, TopLevel, top_level

values = st.recursive(
    st.text() | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
objects = st.dictionaries(st.text(), values, max_size=5)

FACTS = {"model": "m", "stream": True, "metadata": {"session_id": "s"}, "n": 1.5}


class TopLevelTests(SynchronousTestCase):
    def test_members(self) -> None:
        """All short members of an object are found, whatever is in front of it or follows."""
        text = json.dumps(FACTS, indent=1)
        for each in (text, f"\ufeff \n{text}\n", text + "} trailing {"):
            self.assertEqual(top_level(each), FACTS)

    def test_names(self) -> None:
        """Of given names only those are kept, and the last of several members of one name, as in a parser."""
        text = '{"a": 1, "model": "x", "b": {"model": "inner"}, "mod\\u0065l": "y"}'
        self.assertEqual(top_level(text, ["model", "c"]), {"model": "y"})

    def test_long_members(self) -> None:
        """A long member is skipped, and does not hide the ones behind it."""
        for long in ("x" * LONGEST_MEMBER * 9, [{"a": "]}"}] * LONGEST_MEMBER, '\\"' * LONGEST_MEMBER):
            text = json.dumps({"before": 1, "long": long, **FACTS})
            self.assertEqual(top_level(text), {"before": 1, **FACTS})
        self.assertEqual(top_level(json.dumps({"x" * LONGEST_MEMBER * 2: 1, "a": 2})), {"a": 2})

    def test_deep(self) -> None:
        """A hundred thousand levels are passed over like any other member."""
        for deep in ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000):
            self.assertEqual(top_level(f'{{"deep": {deep}, "model": "m"}}'), {"model": "m"})

    def test_cut(self) -> None:
        """What is complete before a cut is found, and what is not complete is not guessed."""
        text = '{"model": "m", "n": 15, "messages": [{"content": "wor'
        self.assertEqual(top_level(text), {"model": "m", "n": 15})
        self.assertEqual(top_level(text[:21]), {"model": "m"})

    def test_no_object(self) -> None:
        """Other values, and text that is no JSON, have no members."""
        for text in ("", " ", "[1]", '"a"', "1", "words: {}", "{", "}", '{"a"', '{"a": wrong}', "{,:,:}"):
            self.assertEqual(top_level(text), {}, text)

    def test_bounded(self) -> None:
        """Neither a long text nor many members take memory, and time ends with the allowance."""
        text = "{" + ",".join(f'"{number}":1' for number in range(100_000)) + "}"
        strings = '{"a": [' + '"x",' * 1_000_000
        tracemalloc.start()
        try:
            self.assertEqual(len(top_level(text)), json_top_level.MOST_MEMBERS)
            self.assertEqual(top_level(strings), {})
            self.assertLess(tracemalloc.get_traced_memory()[1], 3 << 20)
        finally:
            tracemalloc.stop()
        times = iter([0.0, 2.0])
        spent = Allowance(1.0, lambda: next(times), 1)
        self.patch(json_top_level, "PIECE", 8)
        self.assertEqual(top_level('{"a": 1, "b": 2, "c": 3}', None, spent), {"a": 1})

    @given(objects, st.lists(st.integers(0, 400)), st.booleans())
    def test_any_split(self, value: dict[str, object], cuts: list[int], escaped: bool) -> None:
        """An object that comes in any pieces has the members of the whole."""
        text = json.dumps(value, ensure_ascii=escaped)
        scanner = TopLevel()
        edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
        for start, end in zip(edges, edges[1:], strict=False):
            scanner.feed(text[start:end])
        self.assertEqual(scanner.members, value)
        self.assertTrue(scanner.is_over)

    @given(objects, st.integers(0, 400))
    def test_any_prefix(self, value: dict[str, object], length: int) -> None:
        """Whatever is found in a beginning stands in the whole."""
        for name, member in top_level(json.dumps(value)[:length]).items():
            self.assertEqual(value[name], member)

    @given(st.text(st.sampled_from('{}[]",:\\ a1\n'), max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text at all gives members or none; where a parser finds an object they are the same."""
        found = top_level(text)
        try:
            value = json.loads(text)
        except ValueError:
            return
        self.assertEqual(found, value if isinstance(value, dict) else {})
