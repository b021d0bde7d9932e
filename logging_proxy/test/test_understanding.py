"""Model, session and streaming of an exchange."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.heads import SESSION_HEADERS, relevant_headers
from logging_proxy.understanding.facts import LONGEST, MEMBERS, SESSION_KEYS, Understanding, understand
from logging_proxy.understanding.urls import Called

UUID = "0f0f0f0f-1111-4222-8333-444444444444"

values = st.recursive(
    st.text() | st.none() | st.integers() | st.booleans(),
    lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["model", "metadata", "user_id", "message"]), x),
)


def session(body: dict[str, Any], *headers: tuple[str, str]) -> str | None:
    return understand(relevant_headers(headers), body, [], "").session


class ModelTests(SynchronousTestCase):
    def test_of_the_request(self) -> None:
        """What was asked for is the model, whatever answered."""
        self.assertEqual(understand({}, {"model": "asked"}, [{"model": "answered"}], "").model, "asked")

    def test_of_the_response(self) -> None:
        """Else it is what answered: on top, or in a stream's first events."""
        for answer in ({"model": "m"}, {"message": {"model": "m"}}, {"response": {"model": "m"}}):
            self.assertEqual(understand({}, None, [{"type": "x"}, answer], "").model, "m")

    @given(values, values)
    def test_anything(self, request: Any, response: Any) -> None:
        """Whatever is in the JSON, model and session are texts of bounded length or None."""
        found = understand({}, request, [response], "")
        for value in (found.model, found.session):
            self.assertTrue(value is None or 0 < len(value) <= LONGEST)


class SessionTests(SynchronousTestCase):
    def test_order_of_trust(self) -> None:
        """The most trusted key wins; without it the next one."""
        headers = [
            ("x-session-id", "5"),
            ("session_id", "3"),
            ("X-Claude-Code-Session-Id", "1"),
            ("Helicone-Session-Id", "8"),
        ]
        body: dict[str, Any] = {
            "metadata": {"user_id": f"user_a_account_b_session_{UUID}"},
            "conversation": {"id": "4"},
            "prompt_cache_key": "4b",
            "litellm_session_id": "7",
        }
        found = []
        for name in ("X-Claude-Code-Session-Id", "metadata", "session_id", "conversation", "prompt_cache_key",
                     "x-session-id", "litellm_session_id", "Helicone-Session-Id"):  # fmt: skip
            found.append(session(body, *headers))
            body.pop(name, None)
            headers = [header for header in headers if header[0] != name]
        self.assertEqual(found, ["1", UUID, "3", "4", "4b", "5", "7", "8"])
        self.assertIsNone(session(body, *headers))

    def test_user_id(self) -> None:
        """Anthropic's user_id holds a session in its old form and as JSON; any other user is no session."""
        self.assertEqual(session({"metadata": {"user_id": json.dumps({"session_id": UUID})}}), UUID)
        for user in ("alice", "{not json", "[1]", 7, None, {"a": 1}):
            self.assertIsNone(session({"metadata": {"user_id": user}}))

    def test_keys(self) -> None:
        """Each key alone tells the session, wherever a client puts it."""
        for place, name in SESSION_KEYS:
            codex = ("User-Agent", "codex_cli_rs/0.40.0 (Debian)")
            if place == "header":
                self.assertIn(name, SESSION_HEADERS)
                self.assertEqual(session({}, codex, (name.title(), "s1")), "s1", name)
            elif name != "user_id":
                body = {name: "s1"} if place == "body" else {place: {name: "s1"}}
                self.assertEqual(session(body), "s1", (place, name))
                self.assertTrue(MEMBERS.issuperset(body), body)

    def test_per_request(self) -> None:
        """An id that is new for each request is no session, unless it is Codex's."""
        for name in ("X-Client-Request-Id", "X-Request-Id", "X-Litellm-Call-Id", "Idempotency-Key"):
            self.assertIsNone(session({}, (name, "1"), ("User-Agent", "OpenAI/Python 3.54.0")), name)
        own = ("X-Client-Request-Id", "1")
        for codex in (
            ("Originator", "codex_vscode"),
            ("User-Agent", "Codex Desktop/0.1"),
            ("X-Codex-Turn-Metadata", "{}"),
        ):
            self.assertEqual(session({}, own, codex), "1")
        self.assertEqual(session({"session_id": "2"}, own), "2")


class StreamTests(SynchronousTestCase):
    def test_stream(self) -> None:
        """An exchange is streamed when that was asked for, or when events came."""
        self.assertTrue(understand({}, {"stream": True}, [], "").stream)
        self.assertTrue(understand({}, None, [], "text/event-stream; charset=utf-8").stream)
        self.assertTrue(understand({}, None, [], "application/vnd.amazon.eventstream").stream)
        self.assertEqual(understand({}, {"stream": "yes"}, [], "application/json"), Understanding())

    def test_url(self) -> None:
        """Without a word in the body, the method in the URL tells."""
        streaming = Called("m", True)
        self.assertTrue(understand({}, {}, [], "", streaming).stream)
        self.assertFalse(understand({}, {"stream": False}, [], "", streaming).stream)
        self.assertEqual(understand({}, {}, [{"model": "answered"}], "", streaming).model, "m")
