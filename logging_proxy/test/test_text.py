"""What can be read in a body."""

from __future__ import annotations

import base64
import json
import random
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import clean_text, json_streams, json_strings
from logging_proxy.understanding.clean_text import BINARY, TEXT_LIMIT
from logging_proxy.understanding.text import read_content, text_of

JSON = "application/json"
EVENTS = "text/event-stream"

kinds = st.sampled_from(
    ["", JSON, EVENTS, "application/x-ndjson", "text/html", "text/plain; charset=utf-16",
     "application/x-www-form-urlencoded", "application/problem+json", "image/png", ";;;",
     "multipart/form-data; boundary=B"]
)  # fmt: skip


def events(*values: object) -> bytes:
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values).encode()


class TypeTests(SynchronousTestCase):
    def test_json_strings(self) -> None:
        """Of JSON the strings are text, in their order; names of members and numbers are not."""
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": 'häl\nlo "x"'}],
            "n": 5,
            "t": [["deep"]],
        }
        self.assertEqual(text_of(json.dumps(body).encode(), JSON), 'm\nuser\nhäl\nlo "x"\ndeep')

    def test_charset(self) -> None:
        """A known charset is used; one that is not known, or no charset at all, is UTF-8."""
        self.assertEqual(text_of("é".encode("latin-1"), 'text/plain; charset="ISO-8859-1"'), "é")
        self.assertEqual(text_of("é".encode(), "text/plain; charset=punycode"), "é")
        self.assertEqual(text_of("é".encode(), "text/plain"), "é")
        self.assertEqual(text_of(b"\xef\xbb\xbfabc", "text/plain"), "abc")
        self.assertEqual(text_of('{"a": "针"}'.encode("gbk"), "application/json; charset=gb2312"), "针")

    def test_binary(self) -> None:
        """Binary types, and bodies without a type that are no text, have none."""
        self.assertEqual(text_of(b"abc", "image/png"), "")
        self.assertEqual(text_of(b"\x89PNG\x00\x01", "application/octet-stream"), "")
        self.assertEqual(text_of(b"\x89PNG\x00\x01", ""), "")
        self.assertEqual(text_of(b"ab\x00c", ""), "")

    def test_without_type(self) -> None:
        """Without a type that tells something JSON is taken for JSON and text for text."""
        for kind in ("", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"):
            self.assertEqual(text_of(b' {"a": "b"}', kind), "b", kind)
            self.assertEqual(text_of(b"plain", kind), "plain", kind)

    def test_html(self) -> None:
        """Tags are no text."""
        self.assertEqual(text_of(b"<p class=x>one</p>", "text/html").split(), ["one"])
        self.assertEqual(text_of(b"<p>caf&eacute;&#26085;</p>", "text/html").split(), ["café日"])

    def test_form(self) -> None:
        """A form's values are text, but for those of secret fields."""
        self.assertEqual(
            text_of(
                b"a=one+two&api_key=canary&%63ode=canary&token=canary&pwd=canary&sig=canary&b=%C3%A9",
                "application/x-www-form-urlencoded",
            ),
            "one two\né",
        )

    def test_parts(self) -> None:
        """Of a multipart body fields and text files are text, but for secret fields and binary files."""
        part = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'.format
        body = (
            part("model", "", "whisper-1")
            + part("api_key", "", "canary")
            + part("a", '; filename="b.jsonl"\r\nContent-Type: application/jsonl', '{"c": "line"}\n')
            + part("d", '; filename="sound.mp3"\r\nContent-Type: audio/mpeg', "\0\1")
            + part("e", "\r\nContent-Type: multipart/mixed; boundary=C", "--C\r\n\r\ninner\r\n--C--")
            + "--B--\r\n"
        )
        content = read_content(body.encode(), "multipart/form-data; boundary=B")
        self.assertEqual(content.text, "whisper-1\nb.jsonl\nline\nsound.mp3\ninner")
        self.assertEqual(content.documents, [{"model": "whisper-1", "e": "inner"}])

    def test_parts_of_parts(self) -> None:
        """Parts within parts are read down to a few levels, not as deep as a body is long."""
        body = b"--B\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n" * 1000 + b"--B\r\n\r\ntext"
        self.assertIsInstance(read_content(body, "multipart/mixed; boundary=B").text, str)

    @given(st.binary(max_size=400), kinds, st.booleans())
    def test_anything(self, body: bytes, kind: str, cut: bool) -> None:
        """Any bytes of any type give text that can be stored."""
        self.assert_storable(read_content(body, kind, cut).text)

    @given(
        st.recursive(
            st.text() | st.none() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        )
    )
    def test_any_json(self, value: object) -> None:
        """Any JSON, whole or cut anywhere, gives text that can be stored."""
        body = json.dumps(value).encode()
        for length in {len(body), len(body) // 2}:
            for kind in (JSON, EVENTS, "application/x-ndjson"):
                self.assert_storable(text_of(body[:length], kind))
                self.assert_storable(text_of(b"data: " + body[:length], kind))

    def assert_storable(self, text: str) -> None:
        """`text` is valid UTF-8 without control characters, and not too long."""
        self.assertEqual(text.encode("utf-8", "replace").decode("utf-8"), text)
        self.assertNotRegex(text, BINARY)
        self.assertLessEqual(len(text), TEXT_LIMIT + 1)


class BlobTests(SynchronousTestCase):
    blob = base64.b64encode(random.Random(1).randbytes(3000)).decode()

    def test_data_urls(self) -> None:
        """data: URLs are left out, alone or inside a text."""
        body = {
            "url": f"data:image/png;base64,{self.blob}",
            "text": f"see data:image/png;base64,{self.blob} there",
        }
        self.assertEqual(text_of(json.dumps(body).encode(), JSON).split(), ["see", "there"])

    def test_runs(self) -> None:
        """Long runs of base64 are left out, in one line or wrapped."""
        wrapped = "\n".join(self.blob[at : at + 76] for at in range(0, len(self.blob), 76))
        for blob in (self.blob, wrapped):
            body = json.dumps({"data": blob, "text": f"before {blob} after"}).encode()
            self.assertEqual(text_of(body, JSON).split(), ["before", "after"])

    def test_words_stay(self) -> None:
        """Long words, paths and lines are no blobs."""
        line = "/usr/lib/" + "very/long/" * 10 + "path " + "-" * 100 + " Donaudampfschifffahrtsgesellschaft"
        self.assertEqual(text_of(line.encode(), "text/plain"), line)

    def test_blobs_do_not_use_up_the_limit(self) -> None:
        """A text beside an image larger than the limit is still there."""
        body = {"images": ["A" * 5 * TEXT_LIMIT] * 2, "text": "needle", "more": ["B" * TEXT_LIMIT]}
        self.assertEqual(text_of(json.dumps(body).encode(), JSON).split(), ["needle"])

    def test_limit(self) -> None:
        """Of a long text the beginning and, for the most part, the end are kept."""
        body = "first " + "word " * TEXT_LIMIT + " last"
        text = text_of(body.encode(), "text/plain")
        self.assertTrue(text.startswith("first ") and text.endswith(" last"))
        self.assertLessEqual(len(text), TEXT_LIMIT + 1)

    def test_secrets(self) -> None:
        """Secrets known by their member's name or by their form are left out, in cut JSON too."""
        body = json.dumps(
            {
                "api_key": "canary1",
                "x": {"password": "canary2"},
                "t": "my sk-canary3abcdefghijklmnop",
                "client_secret": ["canary4"],
                "y": "text",
            }
        ).encode()
        for cut in (False, True):
            text = read_content(body, JSON, cut).text
            self.assertNotIn("canary", text)
            self.assertIn("text", text)

    def test_schema_of_a_secret(self) -> None:
        """What a tool says of a secret that it wants is text."""
        body = {"properties": {"password": {"type": "string", "description": "of the user"}}}
        self.assertEqual(text_of(json.dumps(body).encode(), JSON).split("\n"), ["string", "of the user"])


class CutTests(SynchronousTestCase):
    def test_cut_json(self) -> None:
        """Of JSON that ends in the middle the strings so far are text, the last one as far as it goes."""
        body = b'{"messages": [{"content": "one \\u00e9 \\"two\\""}, {"content": "thr'
        self.assertEqual(text_of(body, JSON), 'one é "two"\nthr')

    def test_broken_utf8(self) -> None:
        """A character cut in the middle does not matter."""
        self.assertEqual(text_of("añ".encode()[:-1], "text/plain"), "a\ufffd")

    def test_large_json(self) -> None:
        """JSON that is too large to be parsed gives its strings."""
        self.patch(json_strings, "JSON_LIMIT", 10)
        content = read_content(b'{"model": "m", "content": "hello"}', JSON)
        self.assertEqual((content.text, content.documents), ("m\nhello", ()))

    def test_deep_json(self) -> None:
        """JSON nested beyond what can be parsed does no harm."""
        self.assertEqual(text_of(b"[" * 200_000 + b'"x"', JSON), "x")

    def test_hostile_text(self) -> None:
        """Text made to make the patterns search again and again takes no more time than other text."""
        began = time.process_time()
        for piece in (
            b'\\"',
            b'"',
            b"<a",
            b"data:",
            b"A" * 159 + b" ",
            b"A" * 100 + b"\n ",
            b"data:\n\n",
            b"\\",
        ):
            body = piece * (400_000 // len(piece))
            for kind in (JSON, EVENTS, "text/html"):
                text_of(b'"' + body + b"\\", kind)
        self.assertLess(time.process_time() - began, 20)


class StreamTests(SynchronousTestCase):
    def test_chat_deltas(self) -> None:
        """Deltas of one choice are put together; what every chunk repeats stands there once."""
        body = events(
            *(
                {"id": "c1", "model": "m", "choices": [{"index": index, "delta": {"content": piece}}]}
                for index, piece in [(0, "Hel"), (1, "Good"), (0, "lo wor"), (1, "bye"), (0, "ld")]
            )
        )
        self.assertEqual(text_of(body + b"data: [DONE]\n\n", EVENTS), "c1\nm\nHello world\nGoodbye")

    def test_anthropic_deltas(self) -> None:
        """Text and arguments of different blocks are put together each for itself."""
        body = events(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
            {"type": "ping"},
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "ab"},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "cd"},
            },
        )
        lines = text_of(body, EVENTS).split("\n")
        self.assertEqual(lines[-2:], ["Hello", "abcd"])

    def test_responses_deltas(self) -> None:
        """Deltas that are strings are put together, and not doubled by the whole text that follows."""
        body = events(
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel"},
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "lo"},
            {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hello"},
        )
        self.assertEqual(text_of(body, EVENTS).split("\n").count("Hello"), 1)

    def test_lines(self) -> None:
        """Ollama's lines are put together too."""
        lines = [
            {"model": "m", "message": {"role": "assistant", "content": c}, "done": False}
            for c in ("Hel", "lo")
        ]
        body = "\n".join(map(json.dumps, lines)).encode()
        self.assertIn("Hello", text_of(body, "application/x-ndjson"))

    def test_line_ends(self) -> None:
        """CR, LF and CRLF end lines; data lines of one event are joined; comments are no text."""
        for end in (b"\r", b"\n", b"\r\n"):
            body = end.join([b": comment", b'data: {"a":', b'data:"b"}', b"", b"data: plain", b"", b""])
            self.assertEqual(text_of(body, EVENTS), "b\nplain")

    def test_cut_stream(self) -> None:
        """The last event counts though its blank line is missing, and broken JSON is text."""
        self.assertEqual(text_of(b'data: {"a": "one"}\n\ndata: {"b": "tw', EVENTS), 'one\n{"b": "tw')


class GoingOnTests(SynchronousTestCase):
    """Events that differ from the last one in a piece of text only are not parsed."""

    def read(self, body: bytes, parsed: int) -> str:
        self.patch(json_streams, "DOCUMENTS", parsed)
        return text_of(body, EVENTS)

    def both(self, body: bytes) -> str:
        """What is read, which must be what is read when every event is parsed."""
        text = self.read(body, 0)
        self.assertEqual(text, self.read(body, 1 << 30))
        return text

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "a", "a", "b", "delta", "text"]),
                st.sampled_from(["x", " y", "", '"', "\\", "\n", "é", "delta", "a", "}", "z" * 200]),
                st.booleans(),
            ),
            max_size=12,
        ),
        st.booleans(),
    )
    def test_any_events(self, pieces: list[tuple[str, str, bool]], ascii: bool) -> None:
        """Whatever comes, the text is the same as when every event is parsed."""
        lines = []
        for name, piece, plain in pieces:
            value = {"a": name, "delta": {name: piece}, "done": plain}
            lines.append("data: " + json.dumps(value if plain else {"delta": piece}, ensure_ascii=ascii))
        self.both("\n\n".join(lines).encode())

    def test_long_answer(self) -> None:
        """A long answer is put together, with what changes on the way."""
        values: list[object] = [{"model": "m", "delta": {"text": str(n)}} for n in range(100)]
        values[50:50] = [{"model": "n", "delta": {"text": "-"}}, {"delta": {"text": "+", "more": "!"}}]
        body = events(*values)
        self.assertEqual(len(self.both(body).splitlines()), 4)

    def test_other_form(self) -> None:
        """A name that looks like the piece is not taken for it."""
        line = b'data: {"%b": 1, "delta": {"x": "\\u0061"}}\n\n'
        self.assertEqual(self.both(line % b"a" + line % b"b"), "aa")

    def test_shorter(self) -> None:
        """An event that is shorter than what surrounds the piece is another one."""
        self.assertEqual(self.both(b'data: {"delta":"a"}\n\ndata: {"delta":"}\n\n'), '{"delta":"}\na')


class ShortcutTests(SynchronousTestCase):
    """What is asked or done first to save time changes nothing."""

    @given(
        st.text(alphabet="aZ+/ \n=", max_size=50), st.integers(50, 200), st.text(alphabet="a \n", max_size=80)
    )
    def test_blobs(self, before: str, length: int, after: str) -> None:
        """Where the quick look sees no blob the expression finds none."""
        text = before + ("A" * length + "\n") * 4 + after
        if not clean_text._may_hold_blob(text):
            self.assertIsNone(clean_text._BASE64.search(text))

    @given(
        st.recursive(
            st.text(max_size=5) | st.integers() | st.none(),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["a", "index", "password", "delta"]), inner, max_size=4)
            ),
        )
    )
    def test_depth(self, value: object) -> None:
        """Deep values give the strings and paths that others give."""
        self.assertEqual(list(json_strings.strings(value)), list(json_strings._deep_strings(value, ())))
