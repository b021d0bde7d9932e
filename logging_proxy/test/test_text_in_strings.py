"""The words of JSON that is the content of a string: arguments and results of tools, whole and streamed."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.json_strings import expanded
from logging_proxy.understanding.text import text_of

JSON = "application/json"
EVENTS = "text/event-stream"

CODE = "import alpha\nfrom beta import gamma\n\n\tdef delta(x):\r\n        return 数据\n"
ARGUMENTS: dict[str, Any] = {
    "path": "/src/main.py",
    "content": CODE,
    "port": 5432,
    "password": "canary1",
    "api_key": ["canary2", 3],
    "nested": {"client_secret": "canary3", "visible": "epsilon"},
}
WANTED = "path /src/main.py import alpha from beta gamma def delta(x): return 数据 port 5432 visible epsilon"


def chat(text: str) -> Any:
    return {
        "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}]
    }


def messages(text: str) -> Any:
    delta = {"type": "input_json_delta", "partial_json": text}
    return {"type": "content_block_delta", "index": 1, "delta": delta}


def responses(text: str) -> Any:
    return {
        "type": "response.function_call_arguments.delta",
        "item_id": "i",
        "output_index": 0,
        "delta": text,
    }


def events(*values: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in values)


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


class InStringsTests(SynchronousTestCase):
    def check(self, text: str) -> None:
        words = text.split()
        for word in WANTED.split():
            self.assertIn(word, words)
        self.assertNotIn("canary", text)

    def test_whole(self) -> None:
        """Every word of arguments and results is there, those of secrets are not; at any depth."""
        for ascii in (True, False):
            arguments = json.dumps(ARGUMENTS, ensure_ascii=ascii)
            for body in (
                {"messages": [{"tool_calls": [{"function": {"name": "w", "arguments": arguments}}]}]},
                {"input": [{"type": "function_call_output", "output": json.dumps({"output": arguments})}]},
                {"messages": [{"role": "tool", "content": f"  \n{arguments}"}]},
                {"messages": [{"role": "tool", "content": json.dumps([json.dumps([arguments])])}]},
                json.dumps(arguments),
            ):
                self.check(text_of(json.dumps(body).encode(), JSON))

    def test_streamed(self) -> None:
        """The pieces are joined before they are read, whatever their size."""
        arguments = json.dumps(ARGUMENTS)
        for event in (chat, messages, responses):
            for size in (1, 7, 1000):
                self.check(text_of(events(*map(event, pieces(arguments, size)), "[DONE]"), EVENTS))

    def test_values_in_events(self) -> None:
        """Clients of Ollama and Gemini get arguments as objects, whose results may be JSON again."""
        call = {
            "message": {"tool_calls": [{"function": {"arguments": {"a": json.dumps(ARGUMENTS)}}}]},
            "done": True,
        }
        self.check(text_of(json.dumps(call).encode() + b"\n", "application/x-ndjson"))
        part = {"functionCall": {"args": {"a": json.dumps(ARGUMENTS)}}}
        self.check(text_of(events({"candidates": [{"content": {"parts": [part]}}]}), EVENTS))

    def test_cut(self) -> None:
        """Of arguments that are cut, or have other text around, the words are there as well."""
        arguments = json.dumps({"password": "canary", "text": "one\ntwo \u6570\u636e", "last": "three\nfour"})
        for string in (arguments[:-6], f"{arguments} and\nmore", f"[{arguments}\n{arguments}"):
            text = text_of(json.dumps({"arguments": string}).encode(), JSON)
            for word in ("one", "two", "数据", "three"):
                self.assertIn(word, text.replace('"', " ").split(), string)
            self.assertNotIn("canary", text)

    def test_no_json(self) -> None:
        """Text that only begins like JSON stays as it is."""
        for string in (
            "[INFO] it's \\new",
            "{{ template }}",
            "[1] see\\n below",
            "  indented\\n",
            "[",
            "{",
            "[]x",
        ):
            self.assertEqual(text_of(json.dumps({"a": string}).encode(), JSON), string)

    def test_pieces_without_delta(self) -> None:
        """Text that Gemini and text completions send in pieces is joined, also from one list of values."""

        def gemini(text: str) -> Any:
            return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]}

        def completion(text: str) -> Any:
            return {"object": "text_completion", "choices": [{"text": text, "index": 0}]}

        def llama(text: str) -> Any:
            return {"content": text, "stop": False}

        for event in (gemini, completion, llama):
            self.assertIn("Hello world", text_of(events(*map(event, pieces("Hello world", 3))), EVENTS))
        whole = json.dumps([gemini(piece) for piece in pieces("Hello world", 3)]).encode()
        self.assertIn("Hello world", text_of(whole, JSON))

    def test_forms(self) -> None:
        """The same holds for the fields of forms."""
        text = text_of(
            b"payload=%7B%22a%22%3A%22one%5Cntwo%22%2C%22password%22%3A%22canary%22%7D",
            "application/x-www-form-urlencoded",
        )
        self.assertEqual(text.split(), ["a", "one", "two", "password"])

    def test_spent(self) -> None:
        """When the time is over, what may contain a secret is left out and other text stays."""
        allowance = Allowance(seconds=0, now=time.thread_time, step=0)
        strings = ['{"password": "canary"}', "plain", "[INFO] text"]
        self.assertEqual(expanded(strings, allowance), ["plain", "[INFO] text"])
        self.assertTrue(allowance.is_spent)

    @given(
        st.recursive(
            st.text(max_size=8), lambda inner: st.lists(inner, max_size=3).map(json.dumps), max_leaves=9
        )
    )
    def test_any_depth(self, string: str) -> None:
        """Whatever is in a string, it is read without an error."""
        text_of(json.dumps([string]).encode(), JSON)
        text_of(json.dumps([string[:-1]]).encode(), JSON)
