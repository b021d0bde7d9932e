"""
Gemini `generateContent` and `streamGenerateContent`, at Google AI and at Vertex.

A stream is server-sent events, or without `alt=sse` one JSON array that arrives in pieces.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
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
    total,
    word,
)

_BY_PROVIDER = ("executableCode", "codeExecutionResult")


class GeminiReader(AnswerReader):
    """Reads candidates."""

    def document(self, value: Any, status: int | None = None) -> None:
        super().document(value, status)
        if isinstance(value, list) and self.answer.failure is None:
            for each in mappings(value):
                self._document(each)

    def _document(self, value: dict[str, Any]) -> None:
        self._value("", value)

    def _value(self, kind: str, value: dict[str, Any]) -> EventClass:
        # Code Assist wraps each answer.
        value = mapping(value.get("response")) or value
        self.answer.names(value.get("modelVersion"), value.get("responseId"))
        if usage := mapping(value.get("usageMetadata")):
            self.answer.raw_usage = usage
            self.answer.usage = gemini_usage(usage)
        if failure := failure_in(value, IN_STREAM):
            self.answer.fail(failure)
            return EventClass.ERROR
        found = EventClass.OTHER
        for candidate in mappings(value.get("candidates")):
            said = self._candidate(candidate)
            found = said if found is EventClass.OTHER else found
        if blocked := word(mapping(value.get("promptFeedback")).get("blockReason")):
            self.answer.blocked = blocked
            self.ends()
        return EventClass.TERMINAL if self.answer.is_terminal and found is EventClass.OTHER else found

    def _candidate(self, candidate: dict[str, Any]) -> EventClass:
        index = number(candidate.get("index")) or 0
        found = self.parts(mapping(candidate.get("content")).get("parts"), index)
        if reason := word(candidate.get("finishReason")):
            self.answer.choice(index).finish_reason = reason
            self.ends()
        return found

    def parts(self, parts: Any, index: int = 0) -> EventClass:
        """Take the parts of a candidate, or of a model's turn."""
        found = EventClass.OTHER
        for part in mappings(parts):
            said = self._part(part, index)
            found = said if said is not EventClass.OTHER else found
        return found

    def _part(self, part: dict[str, Any], index: int) -> EventClass:
        if text := string(part.get("text")):
            is_thought = part.get("thought") is True
            self.answer.say(Kind.THINKING if is_thought else Kind.TEXT, text, index)
            return EventClass.THINKING if is_thought else EventClass.TEXT
        if call := mapping(part.get("functionCall")):
            self.call(call, index)
            return EventClass.TOOL
        for name in _BY_PROVIDER:
            if name in part:
                self._ran(name, mapping(part[name]), index)
                return EventClass.TOOL
        if data := mapping(part.get("inlineData")) or mapping(part.get("fileData")):
            media = string(data.get("mimeType"))
            kind = Kind.AUDIO if media.startswith("audio/") else Kind.IMAGE
            self.answer.choice(index).part(kind).media = media or None
            return EventClass.TEXT
        return EventClass.OTHER

    def call(self, call: dict[str, Any], index: int = 0) -> None:
        added = self.answer.choice(index).add(Kind.TOOL_CALL)
        added.id, added.name = word(call.get("id")), word(call.get("name"))
        self.answer.grow(added, as_text(call.get("args")))

    def _ran(self, name: str, value: dict[str, Any], index: int) -> None:
        """Code that the provider ran, and what it printed."""
        kind = Kind.TOOL_CALL if name == "executableCode" else Kind.TOOL_RESULT
        part = self.answer.choice(index).add(kind)
        part.name, part.by_provider = name, True
        self.answer.grow(part, string(value.get("code")) or string(value.get("output")))


def gemini_usage(usage: dict[str, Any]) -> Usage:
    """Usage of Gemini: thoughts are not in its `candidatesTokenCount`."""
    thoughts = number(usage.get("thoughtsTokenCount"))
    said = number(usage.get("candidatesTokenCount"))
    if said is None:
        said = number(usage.get("responseTokenCount"))
        # The Live API counts its thoughts among the tokens of the response.
        return (
            Usage(number(usage.get("promptTokenCount")), None, None, said, thoughts)
            if said
            else _part_of(usage)
        )
    asked = total(number(usage.get("promptTokenCount")), number(usage.get("toolUsePromptTokenCount")))
    return Usage(asked, number(usage.get("cachedContentTokenCount")), None, total(said, thoughts), thoughts)


def _part_of(usage: dict[str, Any]) -> Usage:
    """Usage without an answer, or of a model that has only thought."""
    thoughts = number(usage.get("thoughtsTokenCount"))
    asked = total(number(usage.get("promptTokenCount")), number(usage.get("toolUsePromptTokenCount")))
    return Usage(asked, number(usage.get("cachedContentTokenCount")), None, thoughts, thoughts)
