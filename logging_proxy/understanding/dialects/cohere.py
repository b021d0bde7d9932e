"""Cohere's v2 chat.  Its `tool_plan` says why it calls tools; it is told apart from thinking."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.dialects.base import (
    AnswerReader,
    EventClass,
    Kind,
    as_text,
    mapping,
    mappings,
    number,
    string,
    word,
)

PLAN = "tool_plan"
"""The word of parts that hold a plan."""


class CohereReader(AnswerReader):
    """Reads a message."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        kind = string(value.get("type")) or kind
        delta = mapping(value.get("delta"))
        message = mapping(delta.get("message"))
        if kind == "message-start":
            self.answer.names(None, value.get("id"))
        elif kind == "message-end":
            self._end(delta)
            self.ends()
            return EventClass.TERMINAL
        elif kind in ("content-start", "content-delta"):
            return self._content(mapping(message.get("content")))
        elif kind == "tool-plan-delta":
            return self._plan(string(message.get("tool_plan")))
        elif kind in ("tool-call-start", "tool-call-delta"):
            self._call(mapping(message.get("tool_calls")), value.get("index"))
            return EventClass.TOOL
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        message = mapping(value.get("message"))
        self.answer.names(None, value.get("id"))
        self._plan(string(message.get("tool_plan")))
        for content in mappings(message.get("content")):
            self._content(content)
        for place, call in enumerate(mappings(message.get("tool_calls"))):
            self._call(call, place)
        self._end(value)

    def _content(self, content: dict[str, Any]) -> EventClass:
        thought, text = string(content.get("thinking")), string(content.get("text"))
        self.answer.say(Kind.THINKING, thought)
        self.answer.say(Kind.TEXT, text)
        return EventClass.TEXT if text else EventClass.THINKING if thought else EventClass.OTHER

    def _plan(self, text: str) -> EventClass:
        if not text:
            return EventClass.OTHER
        part = self.answer.choice().part(Kind.OTHER, PLAN)
        part.word = PLAN
        self.answer.grow(part, text)
        return EventClass.THINKING

    def _call(self, call: dict[str, Any], place: Any) -> None:
        part = self.answer.choice().part(Kind.TOOL_CALL, ("call", place if isinstance(place, int) else 0))
        function = mapping(call.get("function"))
        part.id = part.id or word(call.get("id"))
        part.name = part.name or word(function.get("name"))
        self.answer.grow(part, as_text(function.get("arguments")))

    def _end(self, value: dict[str, Any]) -> None:
        self.answer.choice().finish_reason = word(value.get("finish_reason"))
        usage = mapping(value.get("usage"))
        if usage:
            tokens = mapping(usage.get("tokens"))
            self.answer.raw_usage = usage
            self.answer.usage = Usage(
                number(tokens.get("input_tokens")),
                number(usage.get("cached_tokens")),
                None,
                number(tokens.get("output_tokens")),
                number(tokens.get("reasoning_tokens")),
            )
