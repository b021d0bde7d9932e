"""LM Studio's native chat, `/api/v1/chat`: named events, and at the end the whole result."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.dialects.base import (
    IN_STREAM,
    AnswerReader,
    EventClass,
    Failure,
    Kind,
    as_text,
    failure_in,
    mapping,
    mappings,
    number,
    string,
    word,
)


class LMStudioReader(AnswerReader):
    """Reads a chat."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        kind = string(value.get("type")) or kind
        text = string(value.get("content"))
        if kind == "message.delta":
            self.answer.say(Kind.TEXT, text)
            return EventClass.TEXT if text else EventClass.OTHER
        if kind == "reasoning.delta":
            self.answer.say(Kind.THINKING, text)
            return EventClass.THINKING if text else EventClass.OTHER
        if kind.startswith("tool_call."):
            return self._call(kind, value)
        if kind == "error":
            self.answer.fail(
                failure_in(value, IN_STREAM) or Failure(IN_STREAM, message=word(value.get("message")))
            )
            return EventClass.ERROR
        if kind == "chat.start":
            self.answer.names(value.get("model_instance_id"), None)
        if kind == "chat.end":
            self._end(mapping(value.get("result")))
            self.ends()
            return EventClass.TERMINAL
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        for item in mappings(value.get("output")):
            kind = string(item.get("type"))
            text = string(item.get("content"))
            if kind == "tool_call":
                self._whole_call(item)
            else:
                self.answer.say(Kind.THINKING if kind == "reasoning" else Kind.TEXT, text)
        self._end(value)

    def _call(self, kind: str, value: dict[str, Any]) -> EventClass:
        choice = self.answer.choice()
        if kind == "tool_call.start":
            part = choice.add(Kind.TOOL_CALL, "call")
            part.name, part.by_provider = word(value.get("tool")), True
        elif kind == "tool_call.arguments":
            part = choice.part(Kind.TOOL_CALL, "call")
            if not part.pieces:
                self.answer.grow(part, as_text(value.get("arguments")))
        return EventClass.TOOL

    def _whole_call(self, item: dict[str, Any]) -> None:
        part = self.answer.choice().add(Kind.TOOL_CALL)
        part.name, part.by_provider = word(item.get("tool")), True
        self.answer.grow(part, as_text(item.get("arguments")))

    def _end(self, result: dict[str, Any]) -> None:
        self.answer.names(result.get("model_instance_id"), result.get("response_id"))
        stats = mapping(result.get("stats"))
        if stats:
            self.answer.raw_usage = stats
            self.answer.usage = Usage(
                number(stats.get("input_tokens")),
                None,
                None,
                number(stats.get("total_output_tokens")),
                number(stats.get("reasoning_output_tokens")),
            )


def lm_studio_request(value: dict[str, Any]) -> Asked:
    """A request for a chat."""
    asked = Asked()
    asked.set(value, ("input", "system_prompt", "integrations"))
    if system := string(value.get("system_prompt")):
        asked.say("system", Kind.TEXT, ("system_prompt",), system)
    given = value.get("input")
    if isinstance(given, str):
        asked.messages = 1
        asked.say("user", Kind.TEXT, ("input",), given)
    for place, item in enumerate(mappings(given)):
        asked.messages += 1
        text = string(item.get("content"))
        kind = Kind.IMAGE if item.get("type") == "image" else Kind.TEXT
        asked.say("user", kind, ("input", place), text)
    return asked
