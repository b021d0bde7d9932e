"""Recorded exchanges on their way through spool, logging server and API: conversation and events."""

from __future__ import annotations

import random
from typing import Any

from logging_proxy.recording.records import Flag, Kind, RequestHead, encode, encode_request_head
from logging_proxy.test.conformance_llm import Recording, recordings
from logging_proxy.test.test_dialects_recorded import REPORTED, VERDICTS, with_answers
from logging_proxy.test.web_stage import ServerTestCase

CHAT = (
    b'data: {"model": "m-1", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
)


class UnderstandingCase(ServerTestCase):
    def play(self, number: int, recording: Recording, pieces: int = 3, outcome: str = "complete") -> str:
        """The exchange `number` is the recording, whose bodies come in pieces; its id."""
        (asked, request), (_, response) = recording.raw("request"), recording.raw("response")
        about = recording.about
        script = self.script(number)
        url = f"https://{about['host']}{about['path']}".encode()
        opening = RequestHead(
            script.id, script.wall_ns, b"127.0.0.1 5", b"r", b"/", b"http://localhost:5601/x", url, asked
        )
        records = [encode(Kind.REQUEST_HEAD, 0, number, script.clock, encode_request_head(opening))]
        records.append(script.request(request, last=True))
        records.append(script.response_head(recording.raw("response")[0] + b"\r\n"))
        chosen = random.Random(recording.id)
        places = [0, *sorted(chosen.choices(range(len(response) + 1), k=pieces)), len(response)]
        spans = [(start, end) for start, end in zip(places, places[1:], strict=False) if start < end]
        records += [script.response(response[start:end]) for start, end in spans]
        if outcome == "complete":
            records.append(script.record(Kind.RESPONSE_PIECE, b"", Flag.LAST))
        records.append(script.end(outcome))
        self.record(*records)
        self.publish()
        return self.id_of(number)


class RecordedTests(UnderstandingCase):
    def test_conversations(self) -> None:
        """What the API says of a recorded exchange is what the provider's SDK makes of it."""
        for number, recording in enumerate(with_answers(), 1):
            cut = recording.expected["verdict"] == "cut"
            id = self.play(number % 250 + 1, recording, 5, "upstream_closed" if cut else "complete")
            found = self.get(f"/api/exchanges/{id}/conversation")
            self.compare(found, recording)
            self.compare_figures(self.get(f"/api/exchanges/{id}")["understood"], recording)
            if number % 250 == 249:
                self.build()

    def compare(self, found: dict[str, Any], recording: Recording) -> None:
        expected, answer = recording.expected, found["answer"]
        for name in ("thinking", "tool_calls", "finish_reason", "response_id", "text"):
            if name in expected:
                self.assertEqual(answer[name], expected[name], f"{recording.id}: {name}")
        if recording.about["dialect"] != "other" and "request" in expected:
            tools = [tool["name"] for tool in found["request"]["tools"]]
            self.assertEqual(tools, [each for each in expected["request"]["tools"] if each != "cachePoint"])

    def compare_figures(self, found: dict[str, Any], recording: Recording) -> None:
        expected = recording.expected
        self.assertEqual(found["model"]["answered"], expected["model"], recording.id)
        self.assertIn(found["verdict"], VERDICTS[expected["verdict"]], recording.id)
        self.assertTrue(found["sentence"])
        if expected["error"] is None:
            self.assertIsNone(found["error"], recording.id)
        else:
            for name in ("where", "status", "type", "code"):
                self.assertEqual(found["error"][name], expected["error"][name], recording.id)
        usage, wanted = found["usage"] or {}, expected["usage"]
        if recording.id in REPORTED or usage.get("estimated"):
            return
        self.assertEqual(usage.get("input_tokens"), wanted["input_tokens_total"], recording.id)
        for name in ("cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
            self.assertEqual(usage.get(name), wanted[name], f"{recording.id}: {name}")

    def test_sockets(self) -> None:
        """Each call on a recorded WebSocket is a response."""
        number = 0
        for recording in recordings():
            if recording.about["status"] == 101:
                number += 1
                found = self.get(f"/api/exchanges/{self.play(number, recording)}/conversation")
                wanted = recording.expected["responses"]
                told = found.get("responses", [found["answer"]])
                self.assertEqual([each["text"] for each in told], [each["text"] for each in wanted])


class EventTests(UnderstandingCase):
    def test_events(self) -> None:
        """The events of a stream, each with its time, in pages."""
        script = self.script()
        records = [script.head(), script.request(b'{"model": "m", "messages": []}', last=True)]
        records.append(script.response_head(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"))
        self.record(*records, *map(script.response, CHAT), script.end())
        self.publish()
        address = f"/api/exchanges/{self.id_of(1)}/events"
        found = self.get(address)
        self.assertEqual([each["class"] for each in found["events"]], ["text", "other", "terminal"])
        self.assertEqual([each["gap_ms"] for each in found["events"]], [None, 1.0, 0.0])
        self.assertIsNone(found["next"])
        first = self.get(f"{address}?limit=2")
        rest = self.get(f"{address}?from={first['next']}")
        self.assertEqual(first["events"] + rest["events"], found["events"])

    def test_no_model(self) -> None:
        """An exchange that is no call of a model has no conversation; it is no error."""
        id = self.capture(1, b"a=1", b"plain")
        self.assertIsNone(self.get(f"/api/exchanges/{id}/conversation")["dialect"])
        self.assertEqual(self.get(f"/api/exchanges/{id}/events"), {"events": [], "next": None})

    def test_refused(self) -> None:
        """Wrong parameters and unknown exchanges are refused."""
        id = self.capture(1)
        for query in ("conversation?reveal=1", "events?limit=0", "events?limit=1001", "events?from=x"):
            self.assertEqual(self.ask("GET", f"/api/exchanges/{id}/{query}").problem, "bad-parameter")
        for name in ("conversation", "events"):
            self.assertEqual(self.ask("GET", f"/api/exchanges/{self.id_of(9)}/{name}").status, 404)
            self.assertEqual(self.ask("GET", f"/api/exchanges/{id}/{name}/more").status, 404)

    def test_under_way(self) -> None:
        """What there is so far of an answer under way is shown."""
        script = self.script()
        self.record(script.head(), script.request(b'{"model": "m", "messages": []}', last=True))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        self.record(script.response_head(head), script.response(CHAT[0]))
        found = self.get(f"/api/exchanges/{self.id_of(1)}/conversation")
        self.assertEqual((found["model"], found["answer"]["text"]), ("m-1", "Hi"))
