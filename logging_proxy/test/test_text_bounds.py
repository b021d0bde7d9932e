"""What a hostile body may cost: time and memory go by its bytes, never by its pieces or its depth."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import charsets, json_streams, json_strings, text
from logging_proxy.understanding.allowance import PIECE, Allowance
from logging_proxy.understanding.clean_text import TEXT_LIMIT, first_and_last
from logging_proxy.understanding.facts import LONGEST_USER, understand
from logging_proxy.understanding.text import read_content

MIB = 1 << 20
JSON = "application/json"
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
FORM = "application/x-www-form-urlencoded"


def deep_event(depth: int, size: int) -> bytes:
    """An event whose many leaves have a path of `depth` names."""
    leaves = ",".join(f'"{number:x}":"a"' for number in range(size // 11))
    return b'data: {"delta":%b{%b}%b}\n\n' % (b'{"a":' * depth, leaves.encode(), b"}" * depth)


def distinct_events(size: int) -> bytes:
    return b"".join(b'data: {"delta":{"%x":"%x"}}\n\n' % (number, number) for number in range(size // 34))


HOSTILE: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "short strings": (JSON, lambda size: b"[" + b'"a",' * (size // 4) + b'"a"]'),
    "empty objects": (JSON, lambda size: b"[" + b"{}," * (size // 3) + b"{}]"),
    "nested pairs": (JSON, lambda size: b"[" + b"[[]]," * (size // 5) + b"[]]"),
    "cut strings": (JSON, lambda size: b"[" + b'"a",' * (size // 4)),
    "names only": (JSON, lambda size: b'"a":' * (size // 4)),
    "brackets": (JSON, lambda size: b"[" * size),
    "objects": (JSON, lambda size: b'{"a":' * (size // 5)),
    "escapes": (JSON, lambda size: b'["' + b"\\n" * (size // 2)),
    "quotes": (JSON, lambda size: b'"' * size),
    "escaped quotes": (JSON, lambda size: b'"' + b'\\"' * (size // 2) + b"\\"),
    "spaces": (JSON, lambda size: (b'""' + b" " * 1000) * (size // 1002)),
    "digits": (JSON, lambda size: b"[1." + b"1" * size + b"]"),
    "wrapped base64": (JSON, lambda size: json.dumps(("A" * 60 + "\n") * (size // 62) + "!").encode()),
    "percent signs": (FORM, lambda size: b"a=" + b"%" * size),
    "percent signs in a name": (FORM, lambda size: b"%" * size),
    "escaped bytes": (FORM, lambda size: b"a=" + b"%41%" * (size // 4)),
    "ampersands": (FORM, lambda size: b"&" * size),
    "fields": (FORM, lambda size: b"a=%41&" * (size // 6)),
    "tags": ("text/html", lambda size: b"<>" * (size // 2)),
    "open tags": ("text/html", lambda size: b"<a" * (size // 2)),
    "data URLs": ("text/plain", lambda size: b"data:" * (size // 5)),
    "not in the charset": ("text/plain; charset=windows-1253", lambda size: b"\xff" * size),
    "not in a wide charset": ("text/plain; charset=utf-32", lambda size: b"\xff" * size),
    "line ends": (EVENTS, lambda size: b"\n" * size),
    "carriage returns": (EVENTS, lambda size: b"\r" * size),
    "empty data": (EVENTS, lambda size: b"data:\n" * (size // 6)),
    "data of one event": (EVENTS, lambda size: b"data: xyz\n" * (size // 10)),
    "empty events": (EVENTS, lambda size: b"data:{}\n\n" * (size // 9)),
    "deep event": (EVENTS, lambda size: deep_event(900, size)),
    "broad event": (EVENTS, lambda size: deep_event(1, size)),
    "distinct events": (EVENTS, distinct_events),
    "large events": (EVENTS, lambda size: b"data: [%b1]\n\n" % (b"1," * (size // 32)) * 16),
    "lines": (LINES, lambda size: b"{}\n" * (size // 3)),
    "lines of text": (LINES, lambda size: b"".join(b"%x!\n" % number for number in range(size // 7))),
    "no type": ("", lambda size: b"[" + b'"a",' * (size // 4)),
}


class CostTests(SynchronousTestCase):
    """Half a MiB of whatever is worst for each form: more of it would only take more time."""

    def peak(self, body: bytes, kind: str) -> int:
        tracemalloc.start()
        try:
            read_content(body, kind)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_memory(self) -> None:
        """Whatever a body is made of, to read it takes no more than some hundred times its bytes."""
        for name, (kind, make) in HOSTILE.items():
            body = make(MIB // 2)
            self.assertLess(self.peak(body, kind), 250 * len(body), name)

    def test_depth_costs_nothing(self) -> None:
        """Members nine hundred levels deep need no more memory than the same ones near the surface."""
        deep, broad = (self.peak(deep_event(depth, MIB // 4), EVENTS) for depth in (900, 30))
        self.assertLess(deep, 2 * broad)

    def test_paths(self) -> None:
        """A path has a bound, however deep a string is, and however deep it is the string is there."""
        value: object = "deep"
        for number in range(500):
            value = [{"index": number, "a": value}]
        ((path, string),) = json_strings.strings(value)
        self.assertEqual((len(path), string), (json_strings.LONGEST_PATH, "deep"))
        self.assertEqual(json_strings.all_strings(value), ["deep"])

    def test_many_values(self) -> None:
        """JSON of too many values is not taken apart, but its strings are found."""
        self.patch(json_strings, "MOST_VALUES", 10)
        content = read_content(b'["one","two",1,2,3,4,5,6,7,8,"three"]', JSON)
        self.assertEqual((content.text, content.documents), ("one\ntwo\nthree", ()))

    def test_stream_that_is_full(self) -> None:
        """Of a stream that says more than is kept the beginning is kept, and its first values."""
        self.patch(json_streams, "MOST_TEXT", 10 * PIECE + json_streams.ENTRY)
        body = b"".join(b'data: {"delta":{"text":"%d."}}\n\n' % number for number in range(10_000))
        content = read_content(body, EVENTS)
        self.assertTrue(content.text.startswith("0.1.2."))
        self.assertLess(len(content.text), 100)

    def test_documents(self) -> None:
        """Large values of a stream are not kept, for each may need a lot of memory."""
        self.patch(json_streams, "DOCUMENTS_SIZE", 100)
        body = b'data: {"a":"%b"}\n\n' % (b"x" * 90) * 5
        self.assertEqual(len(read_content(body, EVENTS).documents), 2)


class TimeTests(SynchronousTestCase):
    def allowance(self, looks: int) -> Allowance:
        """One that is used up after so many looks at the clock, one for each piece."""
        times = iter(range(looks))
        return Allowance(looks - 1.5, lambda: float(next(times)), step=1)

    def test_spend(self) -> None:
        """Time that is over stays over, and small pieces cost no look at the clock."""
        looks: list[float] = []

        def now() -> float:
            looks.append(float(len(looks)))
            return looks[-1]

        allowance = Allowance(1.5, now, step=10 * PIECE)
        self.assertEqual([allowance.spend(0) for _ in range(9)], [True] * 9)
        self.assertEqual(looks, [])
        self.assertEqual([allowance.spend(10 * PIECE) for _ in range(4)], [True, True, False, False])

    def test_every_loop(self) -> None:
        """Whatever is read ends when the time is over, and what was read until then is the text."""
        for kind, body in (
            (JSON, b'["one","two","three","four"'),
            (EVENTS, b"data: one\n\ndata: two\n\ndata: three\n\ndata: four\n\n"),
            (LINES, b"one\ntwo\nthree\nfour"),
            (FORM, b"a=one&a=two&a=three&a=four"),
        ):
            self.patch(text, "Allowance", lambda: self.allowance(4))
            found = read_content(body, kind, cut=True).text
            self.assertIn("one", found, kind)
            self.assertNotIn("four", found, kind)

    def test_charset(self) -> None:
        """Invalid bytes, which take long, are decoded as far as time allows."""
        self.patch(text, "Allowance", lambda: self.allowance(3))
        self.patch(charsets, "STEP", 16)
        body = b"0123456789abcdef" * 2 + b"not reached, and not valid: \xff"
        self.assertEqual(read_content(body, "text/plain; charset=utf-8").text, "0123456789abcdef" * 2)

    def test_long_user(self) -> None:
        """A user's id that is far too long is not looked into, whatever it is made of."""
        for user in ("user_" + "_account_" * 40_000, "user_" + "_session_" * 40_000, "{" * 360_000):
            self.assertEqual(understand({}, {"metadata": {"user_id": user}}, [], "").session, None)
        longest = "user_a_account_b_session_" + "c" * 16
        user = longest[:5] + "x" * (LONGEST_USER - len(longest)) + longest[5:]
        self.assertEqual(understand({}, {"metadata": {"user_id": user}}, [], "").session, "c" * 16)


class EndsTests(SynchronousTestCase):
    def test_first_and_last(self) -> None:
        """Of many strings the first and the last are kept, in their order, as many as an index keeps."""
        strings = [str(number) for number in range(1_000_000)]
        kept = list(first_and_last(iter(strings)))
        self.assertEqual(kept[:100] + kept[-100:], strings[:100] + strings[-100:])
        self.assertLess(sum(map(len, kept)), 2 * TEXT_LIMIT)
        self.assertEqual(list(first_and_last(iter(strings[:1000]))), strings[:1000])
