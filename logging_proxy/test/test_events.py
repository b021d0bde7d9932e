"""The events of streams, as documents."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.dialects.recognise import CHAT
from logging_proxy.understanding.events import (
    TEXT_LIMIT,
    event_documents,
    socket_events,
    stream_events,
    without_secrets,
)
from logging_proxy.understanding.reading import Message

STREAM = (
    b': wait\n\ndata: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"reasoning": "why"}}]}\n\ndata: [DONE]\n\n'
)


class EventTests(SynchronousTestCase):
    def response(self, body: bytes, kind: str = "text/event-stream") -> Message:
        times = [(at, 1000 * at) for at in range(0, len(body), 10)]
        return Message({"content-type": kind}, body, times, 200)

    def test_chat(self) -> None:
        """An event has its class, its piece of the answer, its place and its time."""
        documents, more = event_documents(stream_events(CHAT, self.response(STREAM)), 0, 10)
        self.assertEqual(
            [each["class"] for each in documents], ["keep-alive", "text", "thinking", "terminal"]
        )
        self.assertEqual([each["text"] for each in documents], ["wait", "Hi", "why", "[DONE]"])
        self.assertIsNone(more)
        for each in documents:
            held = STREAM[each["offset"] : each["offset"] + each["length"]]
            self.assertIn(each["text"].encode(), held)
        self.assertEqual([each["at_ms"] for each in documents], [0.0, 70.0, 130.0, 150.0])
        self.assertEqual([each["gap_ms"] for each in documents], [None, 70.0, 60.0, 20.0])

    def test_pages(self) -> None:
        """A page begins where the one before has ended, with the gap since its last event."""
        first, more = event_documents(stream_events(CHAT, self.response(STREAM)), 0, 3)
        self.assertEqual(more, 3)
        second, end = event_documents(stream_events(CHAT, self.response(STREAM)), 3, 3)
        self.assertEqual(([each["n"] for each in first + second], end), ([0, 1, 2, 3], None))
        self.assertEqual(second[0]["gap_ms"], 20.0)

    def test_no_model(self) -> None:
        """Streams of other servers have events, too."""
        documents, _ = event_documents(stream_events(None, self.response(b"event: tick\ndata: 1\n\n")), 0, 10)
        found = [(each["class"], each["type"], each["text"]) for each in documents]
        self.assertEqual(found, [("other", "tick", "1")])

    def test_no_stream(self) -> None:
        """A document has none."""
        message = self.response(b'{"choices": []}', "application/json")
        self.assertEqual(event_documents(stream_events(CHAT, message), 0, 10), ([], None))

    def test_limits(self) -> None:
        """A text over the limit is cut, and says so; secrets are shown only if they are asked for."""
        key = b"sk-proj-" + b"a1B2" * 10
        body = b"data: %b\n\ndata: %b\n\n" % (b"x" * (TEXT_LIMIT + 1), key)
        long, secret = event_documents(stream_events(None, self.response(body)), 0, 10)[0]
        self.assertEqual((len(long["text"]), long["cut"]), (TEXT_LIMIT, True))
        self.assertNotIn(key.decode(), secret["text"])
        revealed = event_documents(stream_events(None, self.response(body)), 1, 10, reveal=True)[0]
        self.assertEqual(revealed[0]["text"], key.decode())

    def test_secret_in_pieces(self) -> None:
        """A secret that a stream sends in pieces is in none of them."""
        key = "sk-proj-" + "a1B2" * 10
        pieces = [key[at : at + 7] for at in range(0, len(key), 7)]
        data = [json.dumps({"choices": [{"index": 0, "delta": {"content": each}}]}) for each in pieces]
        body = "".join(f"data: {each}\n\n" for each in data).encode()
        shown = without_secrets(CHAT, stream_events(CHAT, self.response(body)))
        documents, _ = event_documents(shown, 0, 100)
        joined = "".join(each["text"] for each in documents)
        self.assertEqual(len(documents), len(pieces))
        self.assertNotIn("a1B2a1", joined)
        self.assertIn("REDACTED", joined)

    def test_sockets(self) -> None:
        """The messages of both sides of a WebSocket are in the order of their arrival."""
        client = Message({}, b"\x81\x82\x00\x00\x00\x00hi", [(0, 5)])
        server = Message({}, b"\x89\x00\x81\x02yo", [(0, 2), (2, 9)], 101)
        documents, _ = event_documents(socket_events("/socket", client, server), 0, 10)
        found = [(each["from"], each["class"], each["type"], each["text"]) for each in documents]
        self.assertEqual(
            found,
            [
                ("server", "keep-alive", "ping", ""),
                ("client", "other", "text", "hi"),
                ("server", "other", "text", "yo"),
            ],
        )
