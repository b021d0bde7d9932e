"""Verdicts and sentences, for every way in which an answer can end."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.answer_streams import AnswerStream
from logging_proxy.understanding.dialects.recognise import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Dialect
from logging_proxy.understanding.sentences import sentence
from logging_proxy.understanding.verdicts import Class, Ending, Verdict, verdict

EVENTS = "text/event-stream"


def chunk(finish: str | None = None, **delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


TEXT = chunk(content="Hello")
CALL = chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "Edit", "arguments": '{"a'}}])
STOP = chunk("stop")
LENGTH = chunk("length")


def streamed(*data: str, dialect: Dialect = CHAT, status: int = 200, step: int = 1_000_000) -> AnswerStream:
    """A stream of events with these data, `step` microseconds apart."""
    stream = AnswerStream(dialect, EVENTS, status)
    for number, each in enumerate(data):
        stream.feed(f"data: {each}\n\n".encode(), number * step)
    stream.finish()
    return stream


def whole(value: Any, dialect: Dialect = CHAT, status: int = 200) -> AnswerStream:
    """An answer that is one document."""
    stream = AnswerStream(dialect, "application/json", status)
    stream.feed((value if isinstance(value, str) else json.dumps(value)).encode(), 1)
    stream.finish()
    return stream


def message(content: str | None = "Hi", finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish, "message": {"content": content, **more}}]}


def error(kind: str | None = None, text: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "message": text, **more}}


OVER = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
FAILED = json.dumps(
    {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}}
)

CASES: list[tuple[str, str | None, int | None, Dialect | None, AnswerStream | None, Verdict]] = [
    ("under way", None, 200, CHAT, streamed(TEXT), Verdict.RUNNING),
    ("no connection", "connect_failed", 502, CHAT, None, Verdict.UNREACHABLE),
    ("no TLS", "tls_failed", 502, None, None, Verdict.UNREACHABLE),
    ("429", "complete", 429, CHAT, whole(error(), status=429), Verdict.RATE_LIMITED),
    (
        "quota in a 403",
        "complete",
        403,
        CHAT,
        whole(error("insufficient_quota"), status=403),
        Verdict.RATE_LIMITED,
    ),
    ("529", "complete", 529, MESSAGES, whole(OVER, MESSAGES, 529), Verdict.OVERLOADED),
    (
        "503 with a text",
        "complete",
        503,
        CHAT,
        whole(error(None, "Model is overloaded"), status=503),
        Verdict.OVERLOADED,
    ),
    ("503 without", "complete", 503, CHAT, whole("busy", status=503), Verdict.SERVER_ERROR),
    ("400, cut", "upstream_reset", 400, CHAT, whole('{"err', status=400), Verdict.REJECTED),
    ("500", "complete", 500, CHAT, whole(error(), status=500), Verdict.SERVER_ERROR),
    (
        "an error in a stream",
        "complete",
        200,
        CHAT,
        streamed(TEXT, json.dumps(error()), "[DONE]"),
        Verdict.ERROR_INSIDE,
    ),
    (
        "an overload in a stream",
        "complete",
        200,
        MESSAGES,
        streamed(OVER, dialect=MESSAGES),
        Verdict.OVERLOADED,
    ),
    (
        "a failed response",
        "complete",
        200,
        RESPONSES,
        streamed(FAILED, dialect=RESPONSES),
        Verdict.ERROR_INSIDE,
    ),
    ("an error in a body", "complete", 200, CHAT, whole(error()), Verdict.ERROR_INSIDE),
    ("a stream", "complete", 200, CHAT, streamed(TEXT, STOP, "[DONE]"), Verdict.COMPLETE),
    ("a stream without [DONE]", "complete", 200, CHAT, streamed(TEXT, STOP), Verdict.COMPLETE),
    (
        "a stream that the client left after the end",
        "client_closed",
        200,
        CHAT,
        streamed(TEXT, STOP, "[DONE]"),
        Verdict.COMPLETE,
    ),
    (
        "a stream that was reset after the end",
        "upstream_reset",
        200,
        CHAT,
        streamed(TEXT, STOP, "[DONE]"),
        Verdict.COMPLETE,
    ),
    ("a stream with nothing", "complete", 200, CHAT, streamed(chunk()), Verdict.EMPTY),
    ("a stream without an end", "complete", 200, CHAT, streamed(TEXT), Verdict.UNFINISHED),
    (
        "a stream without an end, Messages",
        "complete",
        200,
        MESSAGES,
        streamed(
            '{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}',
            '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}',
            dialect=MESSAGES,
        ),
        Verdict.UNFINISHED,
    ),
    ("a stream that was left", "client_closed", 200, CHAT, streamed(TEXT), Verdict.CLIENT_LEFT),
    ("a stream that was cut", "upstream_reset", 200, CHAT, streamed(TEXT, STOP), Verdict.CUT),
    ("a stream that was closed", "upstream_closed", 200, CHAT, streamed(TEXT), Verdict.CUT),
    ("a stream that fell silent", "upstream_timeout", 200, CHAT, streamed(TEXT), Verdict.WENT_SILENT),
    ("bad HTTP", "protocol_error", 200, CHAT, streamed(TEXT), Verdict.BAD_HTTP),
    ("the proxy died", "interrupted", 200, CHAT, streamed(TEXT), Verdict.END_UNKNOWN),
    ("a limit", "complete", 200, CHAT, streamed(TEXT, LENGTH, "[DONE]"), Verdict.TOKEN_LIMIT),
    ("a limit before any text", "complete", 200, CHAT, whole(message("", "length")), Verdict.TOKEN_LIMIT),
    ("a filter", "complete", 200, CHAT, whole(message("", "content_filter")), Verdict.REFUSED),
    ("a refusal", "complete", 200, CHAT, whole(message(None, refusal="I cannot")), Verdict.REFUSED),
    ("a document", "complete", 200, CHAT, whole(message()), Verdict.COMPLETE),
    ("an unknown reason", "complete", 200, CHAT, whole(message(finish="eos")), Verdict.COMPLETE),
    ("an empty document", "complete", 200, CHAT, whole(message("")), Verdict.EMPTY),
    ("vectors", "complete", 200, EMBEDDINGS, whole({"data": []}, EMBEDDINGS), Verdict.COMPLETE),
    ("half a document", "upstream_closed", 200, CHAT, whole('{"choices": ['), Verdict.CUT),
    ("a page", "complete", 200, CHAT, whole("<html>"), Verdict.UNREADABLE),
    ("no model, 200", "complete", 200, None, None, Verdict.COMPLETE),
    ("no model, 404", "complete", 404, None, None, Verdict.REJECTED),
    ("no model, left", "client_closed", 200, None, None, Verdict.CLIENT_LEFT),
]


class VerdictTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Each way to end has its verdict, and a sentence."""
        for name, outcome, status, dialect, stream, expected in CASES:
            ending = Ending(outcome, status, duration=61_200_000, size=38_100)
            found = verdict(ending, dialect, stream)
            self.assertIs(found, expected, name)
            said = sentence(found, ending, stream)
            self.assertTrue(said[0].isupper() and said[-1] in ".…!?", said)

    def test_turned_away(self) -> None:
        """An answer of the proxy is not taken for the provider's."""
        for status in (404, 405, 429, 503):
            ending = Ending("complete", status, by_proxy=True)
            self.assertIs(verdict(ending, CHAT, whole(error(), status=status)), Verdict.TURNED_AWAY)

    def test_classes(self) -> None:
        """Every verdict has a class, and every class a verdict."""
        self.assertEqual({each.kind for each in Verdict}, set(Class))


class SentenceTests(SynchronousTestCase):
    def say(self, stream: AnswerStream | None, outcome: str, status: int = 200, **more: Any) -> str:
        ending = Ending(outcome, status, **more)
        return sentence(verdict(ending, CHAT, stream), ending, stream)

    def test_cut_in_arguments(self) -> None:
        """A cut is told with its side, extent, place and silence."""
        said = self.say(streamed(TEXT, CALL), "upstream_reset", duration=42_000_000, size=38_100)
        self.assertEqual(
            said,
            "The upstream reset the connection after 2 events, 38 kB and 42.0 s, in the arguments of tool"
            " call `Edit`; last progress 41.0 s before.",
        )

    def test_left_before_the_first_token(self) -> None:
        said = self.say(streamed(chunk(role="assistant")), "client_closed", duration=500_000, size=90)
        self.assertEqual(
            said,
            "The client closed the connection after 1 event, 90 B and 500 ms, before the first token.",
        )

    def test_complete(self) -> None:
        """A whole answer is told by what the model did."""
        self.assertEqual(
            self.say(streamed(TEXT, STOP, "[DONE]"), "complete", duration=7_900_000),
            "The model finished its answer (stop) after 7.90 s.",
        )
        calls = [{"index": at, "function": {"name": name}} for at, name in enumerate("abcd")]
        self.assertEqual(
            self.say(streamed(chunk("tool_calls", tool_calls=calls), "[DONE]"), "complete"),
            "The model called `a`, `b` and 2 more (tool_calls).",
        )

    def test_secrets(self) -> None:
        """A provider's words are shown without the key that it repeats."""
        key = "sk-proj-" + "a1B2" * 10
        said = self.say(whole(error("x", f"Incorrect API key: {key}."), status=401), "complete", 401)
        self.assertNotIn(key, said)
        self.assertIn("The provider rejected the request (401 x): Incorrect API key", said)
