"""
Calls on a WebSocket: OpenAI Responses, Realtime (OpenAI, xAI) and Gemini Live.

One socket carries many calls, each with an answer of its own.  Responses may run in several lanes at once,
told apart by `stream_id`.
"""

from __future__ import annotations

from typing import Any, Protocol

from logging_proxy.understanding.answers import Answer, EventClass, Kind
from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.dialects.base import failure_in, mapping, mappings, string, word
from logging_proxy.understanding.dialects.gemini import GeminiReader, gemini_request, gemini_usage
from logging_proxy.understanding.dialects.openai_responses import (
    ResponsesReader,
    responses_request,
    take_item,
)
from logging_proxy.understanding.dialects.recognise import RESPONSES, Dialect
from logging_proxy.understanding.lenient import parse_json

REALTIME = Dialect("openai-realtime", ResponsesReader, responses_request)
LIVE = Dialect("gemini-live", GeminiReader, gemini_request)

MOST_CALLS = 10_000
"""Maximum calls of a socket; messages of further ones are dropped."""


class SocketReader(Protocol):
    """Reads the messages of both sides of a socket, in the order of their arrival."""

    @property
    def answers(self) -> list[Answer]:
        """The answers so far, one for each call."""

    @property
    def asked(self) -> Asked:
        """What the client has asked so far."""

    def client(self, text: str) -> EventClass:
        """Take a text message of the client."""

    def server(self, text: str) -> EventClass:
        """Take a text message of the server."""


class ResponsesSocket:
    """Responses and Realtime, whose events differ in names only."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = Asked()
        self._lanes: dict[str, ResponsesReader] = {}

    def client(self, text: str) -> EventClass:
        value = mapping(parse_json(text))
        kind = string(value.get("type"))
        if kind == "response.create":
            self._ask(responses_request({**value, **mapping(value.get("response"))}))
        elif kind == "session.update":
            session = responses_request(mapping(value.get("session")))
            self._ask(session)
        elif kind == "conversation.item.create":
            self.asked.messages += 1
            take_item(self.asked, mapping(value.get("item")), ("item",))
        return EventClass.OTHER

    def server(self, text: str) -> EventClass:
        value = mapping(parse_json(text))
        kind = string(value.get("type"))
        if kind == "ping":
            return EventClass.KEEP_ALIVE
        lane = string(value.get("stream_id"))
        if kind == "session.created" or kind == "session.updated":
            self.asked.model = self.asked.model or word(mapping(value.get("session")).get("model"))
        if not kind.startswith("response.") and kind != "error":
            return EventClass.OTHER
        reader = self._lanes.get(lane)
        if reader is None:
            reader = self._begin(lane)
        found = reader.take_value(kind, value)
        if reader.answer.is_terminal:
            self._lanes.pop(lane, None)
        return found

    def _begin(self, lane: str) -> ResponsesReader:
        reader = ResponsesReader()
        if len(self.answers) < MOST_CALLS:
            self.answers.append(reader.answer)
            self._lanes[lane] = reader
        return reader

    def _ask(self, more: Asked) -> None:
        asked = self.asked
        asked.model = more.model or asked.model
        asked.settings |= more.settings
        asked.tools = more.tools or asked.tools
        asked.messages += more.messages
        asked.parts += more.parts
        asked.previous_response_id = more.previous_response_id or asked.previous_response_id


class LiveSocket:
    """Gemini Live.  What the model speaks is transcribed; the transcript is its text."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = Asked()
        self._reader: GeminiReader | None = None

    def client(self, text: str) -> EventClass:
        value = mapping(parse_json(text))
        setup = mapping(value.get("setup"))
        if setup:
            self.asked.model = word(setup.get("model"))
            self.asked.set_more(mapping(setup.get("generationConfig")))
        content = mapping(value.get("client_content")) or mapping(value.get("clientContent"))
        for turn in mappings(content.get("turns")):
            self.asked.messages += 1
            role = "assistant" if turn.get("role") == "model" else "user"
            for part in mappings(turn.get("parts")):
                self.asked.say(role, Kind.TEXT, ("client_content",), string(part.get("text")))
        return EventClass.OTHER

    def server(self, text: str) -> EventClass:
        value = mapping(parse_json(text))
        content = mapping(value.get("serverContent"))
        found = self._content(content) if content else EventClass.OTHER
        for call in mappings(mapping(value.get("toolCall")).get("functionCalls")):
            self._answer().call(call)
            found = EventClass.TOOL
        if failure := failure_in(value, "stream"):
            self._answer().answer.fail(failure)
            found = EventClass.ERROR
        if (usage := mapping(value.get("usageMetadata"))) and (self._reader or self.answers):
            answer = self._reader.answer if self._reader else self.answers[-1]
            answer.raw_usage, answer.usage = usage, gemini_usage(usage)
        if content.get("turnComplete"):
            return self._end()
        return found

    def _content(self, content: dict[str, Any]) -> EventClass:
        parts = mapping(content.get("modelTurn")).get("parts")
        said = string(mapping(content.get("outputTranscription")).get("text"))
        if not parts and not said:
            return EventClass.OTHER
        reader = self._answer()
        found = reader.parts(parts)
        if said:
            reader.answer.say(Kind.TEXT, said, key="said")
            return EventClass.TEXT
        return found

    def _answer(self) -> GeminiReader:
        if self._reader is None:
            self._reader = GeminiReader()
            if len(self.answers) < MOST_CALLS:
                self.answers.append(self._reader.answer)
        return self._reader

    def _end(self) -> EventClass:
        answer = self._answer().answer
        answer.choice().finish_reason = "turnComplete"
        answer.is_terminal = True
        self._reader = None
        return EventClass.TERMINAL


class PlainSocket:
    """A socket on which no model is called."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = Asked()

    def client(self, text: str) -> EventClass:
        return EventClass.OTHER

    def server(self, text: str) -> EventClass:
        return EventClass.OTHER


def socket_for(path: str) -> tuple[Dialect, SocketReader] | None:
    """The dialect of the socket at `path`, and a reader; None if it is not that of a model."""
    path = path.partition("?")[0].rstrip("/")
    if path.endswith("BidiGenerateContent"):
        return LIVE, LiveSocket()
    if path.endswith("/realtime"):
        return REALTIME, ResponsesSocket()
    return (RESPONSES, ResponsesSocket()) if path.endswith("/responses") else None
