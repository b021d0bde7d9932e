"""Answers and requests of recorded exchanges, compared with what the providers' own SDKs make of them."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.conformance_llm import Recording, recordings
from logging_proxy.understanding.answer_streams import AnswerStream
from logging_proxy.understanding.answers import Answer, Kind
from logging_proxy.understanding.dialects.cohere import PLAN
from logging_proxy.understanding.dialects.recognise import Dialect, recognise
from logging_proxy.understanding.dialects.sockets import socket_for
from logging_proxy.understanding.lenient import mapping, parse_json
from logging_proxy.understanding.verdicts import Ending, verdict

VARIANTS = {"openrouter", "groq", "mistral", "llama.cpp", "lmstudio"}
"""Names that the corpus gives to providers of dialects that others speak, too."""

VERDICTS = {
    "complete": {"complete", "token_limit", "refused"},
    "no-terminal-event": {"complete", "unfinished"},
    "cut": {"cut"},
    "error-status": {"rejected", "rate_limited", "overloaded", "server_error"},
    "error-in-stream": {"error_inside", "rate_limited"},
    "error-in-body": {"error_inside"},
}

REPORTED = {
    "chat-gpt5-moderation-stream": "the last chunk but one has the usage, which a later null overwrites"
}
"""Recordings whose usage stands on the wire, though the SDK drops it."""


def dialect_of(recording: Recording) -> tuple[Dialect, Any]:
    """The dialect of a recording, and the JSON of its request."""
    head, body = recording.message("request")
    fields = {name.lower(): value for name, value in head.headers}
    asked = parse_json(body.decode("utf-8", "replace"))
    dialect = recognise(recording.about["path"], fields, asked)
    assert dialect is not None, recording.id
    return dialect, asked


def answer_of(recording: Recording, cuts: int = 0) -> AnswerStream:
    """The answer of a recording, which comes whole or in pieces."""
    head, body = recording.message("response")
    fields = {name.lower(): value for name, value in head.headers}
    dialect, _ = dialect_of(recording)
    stream = AnswerStream(dialect, fields.get("content-type", ""), recording.about["status"])
    chosen = random.Random(recording.id)
    places = [0, *sorted(chosen.choices(range(len(body) + 1), k=cuts)), len(body)]
    for at, (start, end) in enumerate(zip(places, places[1:], strict=False)):
        stream.feed(body[start:end], at)
    stream.finish()
    return stream


def told(answer: Answer) -> dict[str, Any]:
    """An answer in the corpus's form."""
    choice = answer.first
    usage = asdict(answer.usage) if answer.usage else {}
    return {
        "model": answer.model,
        "response_id": answer.response_id,
        "text": choice.joined(Kind.TEXT),
        "thinking": choice.joined(Kind.THINKING),
        "refusal": choice.joined(Kind.REFUSAL),
        "thinking_plan": "".join(part.text for part in choice.parts if part.word == PLAN),
        "tool_calls": [{"id": e.id, "name": e.name, "arguments": e.arguments} for e in choice.tool_calls],
        "finish_reason": choice.finish_reason,
        "error": asdict(answer.failure) if answer.failure else None,
        "usage": {
            "input_tokens_total": usage.get("input_tokens"),
            **{name: usage.get(name) for name in ("cached_tokens", "cache_write_tokens")},
            **{name: usage.get(name) for name in ("output_tokens", "reasoning_tokens")},
        },
    }


def with_answers() -> list[Recording]:
    return [each for each in recordings() if "text" in each.expected]


class RecordedTests(SynchronousTestCase):
    def check(self, recording: Recording, cuts: int) -> AnswerStream:
        stream = answer_of(recording, cuts)
        expected, found = recording.expected, told(stream.answer)
        for name in found.keys() & expected.keys():
            if name != "usage" or recording.id not in REPORTED:
                self.assertEqual(found[name], expected[name], f"{recording.id}: {name}")
        for name, value in (expected.get("usage_raw") or {}).items():
            self.assertEqual(stream.answer.raw_usage.get(name), value, f"{recording.id}: {name}")
        if "stream" in expected:
            wanted = expected["stream"]
            figures = stream.format, stream.clocks.events, stream.answer.is_terminal
            self.assertEqual(figures, (wanted["format"], wanted["events"], wanted["terminal"]), recording.id)
        return stream

    def test_whole(self) -> None:
        """An answer that comes whole is understood as the SDK understands it."""
        for recording in with_answers():
            self.check(recording, 0)

    def test_in_pieces(self) -> None:
        """So is one that comes in pieces."""
        for recording in with_answers():
            self.check(recording, 200)

    def test_usage_on_the_wire(self) -> None:
        """Usage is what the wire has, where the SDK has lost it."""
        for recording in with_answers():
            if recording.id in REPORTED:
                self.assertIsNone(recording.expected["usage"]["input_tokens_total"])
                self.assertIsNotNone(answer_of(recording).answer.usage)

    def test_further_choices(self) -> None:
        """Further choices are kept apart."""
        (recording,) = [each for each in with_answers() if "choices" in each.expected]
        choices = answer_of(recording).answer.choices
        texts = [choices[at].joined(Kind.TEXT) for at in sorted(choices)]
        self.assertEqual(texts, [each["text"] for each in recording.expected["choices"]])

    def test_verdicts(self) -> None:
        """The verdict is of the kind that the corpus names."""
        for recording in with_answers():
            wanted = recording.expected["verdict"]
            outcome = "upstream_closed" if wanted == "cut" else "complete"
            ending = Ending(outcome, recording.about["status"])
            found = verdict(ending, dialect_of(recording)[0], answer_of(recording))
            self.assertIn(found, VERDICTS[wanted], recording.id)

    def test_dialects(self) -> None:
        """The dialect is the one that the corpus names, where it is none of a provider's own."""
        for recording in recordings():
            named = recording.about["dialect"]
            if named not in VARIANTS | {"other"} and recording.about["status"] != 101:
                self.assertEqual(dialect_of(recording)[0].name, named, recording.id)

    def test_any_prefix(self) -> None:
        """Whatever has come of an answer, it has a verdict, and no more text than the whole one."""
        for recording in with_answers()[::4]:
            head, body = recording.message("response")
            kind = next((value for name, value in head.headers if name.lower() == "content-type"), "")
            dialect, _ = dialect_of(recording)
            for length in {len(body) * share // 7 for share in range(8)}:
                stream = AnswerStream(dialect, kind, recording.about["status"])
                stream.feed(body[:length], 1)
                stream.finish()
                self.assertTrue(
                    verdict(Ending("upstream_closed", recording.about["status"]), dialect, stream)
                )
                self.assertTrue(recording.expected["text"].startswith(stream.answer.first.joined(Kind.TEXT)))


class SocketTests(SynchronousTestCase):
    def test_calls(self) -> None:
        """Each call on a WebSocket has its own answer."""
        sockets = [each for each in recordings() if each.about["status"] == 101]
        for recording in sockets:
            found_socket = socket_for(recording.about["path"])
            assert found_socket is not None
            _, reader = found_socket
            for side, text in recording.messages():
                (reader.client if side == "client" else reader.server)(text)
            expected = recording.expected["responses"]
            self.assertEqual(len(reader.answers), len(expected), recording.id)
            for answer, wanted in zip(reader.answers, expected, strict=True):
                found = told(answer)
                for name in found.keys() & wanted.keys():
                    self.assertEqual(found[name], wanted[name], f"{recording.id}: {name}")
                self.assertTrue(answer.is_terminal)


class RequestTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """Model, tools, messages, tool results and images of a request are those that the corpus counts."""
        for recording in recordings():
            expected = recording.expected.get("request")
            if not expected or recording.about["dialect"] == "other" or recording.about["status"] == 101:
                continue
            dialect, value = dialect_of(recording)
            asked = dialect.request(mapping(value))
            wanted = dict(expected)
            # A point of caching among Bedrock's tools is no tool.
            wanted["tools"] = [name for name in wanted.get("tools", ()) if name != "cachePoint"]
            found = {
                "model": asked.model,
                "stream": asked.stream,
                "system": asked.has_system,
                "tools": [tool.name for tool in asked.tools],
                "tool_results": len(asked.of(Kind.TOOL_RESULT)),
                "images": len(asked.of(Kind.IMAGE)),
                "messages": asked.messages,
            }
            if expected.get("model_in_path"):
                del found["model"]
            if dialect.name == "embeddings":
                del found["messages"]
            for name in found.keys() & wanted.keys():
                self.assertEqual(found[name], wanted[name], f"{recording.id}: {name}")
