"""Ollama's `/api/chat` and `/api/generate`: one JSON object a line, or one object."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.asked import Asked, offer_functions
from logging_proxy.understanding.dialects.base import (
    IN_STREAM,
    AnswerReader,
    EventClass,
    Kind,
    as_text,
    failure_in,
    mapping,
    mappings,
    number,
    string,
    word,
)
from logging_proxy.understanding.dialects.openai_chat import take_message

_FIGURES = (
    "prompt_eval_count",
    "eval_count",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)


class OllamaReader(AnswerReader):
    """Reads the lines of a chat or a completion."""

    def _document(self, value: dict[str, Any]) -> None:
        if "error" not in value:
            self.take_value("", value)

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        if failure := failure_in(value, IN_STREAM):
            self.answer.fail(failure)
            return EventClass.ERROR
        self.answer.names(value.get("model"), None)
        found = self._said(mapping(value.get("message")), value)
        if value.get("done") is True:
            self._done(value)
            return EventClass.TERMINAL if found is EventClass.OTHER else found
        return found

    def _said(self, message: dict[str, Any], value: dict[str, Any]) -> EventClass:
        thought = string(message.get("thinking")) or string(value.get("thinking"))
        text = string(message.get("content")) or string(value.get("response"))
        self.answer.say(Kind.THINKING, thought)
        self.answer.say(Kind.TEXT, text)
        calls = mappings(message.get("tool_calls"))
        for call in calls:
            function = mapping(call.get("function"))
            part = self.answer.choice().add(Kind.TOOL_CALL)
            part.id, part.name = word(call.get("id")), word(function.get("name"))
            self.answer.grow(part, as_text(function.get("arguments")))
        if calls:
            return EventClass.TOOL
        return EventClass.TEXT if text else EventClass.THINKING if thought else EventClass.OTHER

    def _done(self, value: dict[str, Any]) -> None:
        self.ends()
        self.answer.choice().finish_reason = word(value.get("done_reason"))
        asked, said = number(value.get("prompt_eval_count")), number(value.get("eval_count"))
        if asked is not None or said is not None:
            self.answer.raw_usage = {name: value[name] for name in _FIGURES if name in value}
            self.answer.usage = Usage(asked, None, None, said, None)


def ollama_request(value: dict[str, Any]) -> Asked:
    """A request for a chat or a completion.  Streaming is the default."""
    asked = Asked()
    asked.set(value, ("messages", "prompt", "system", "tools", "images", "options"))
    asked.set_more(mapping(value.get("options")))
    offer_functions(asked, value.get("tools"))
    if system := string(value.get("system")):
        asked.say("system", Kind.TEXT, ("system",), system)
    if "prompt" in value:
        take_message(asked, {"content": value["prompt"], "images": value.get("images")}, ())
        asked.messages = 1
    for place, message in enumerate(mappings(value.get("messages"))):
        asked.messages += 1
        take_message(asked, message, ("messages", place))
    return asked
