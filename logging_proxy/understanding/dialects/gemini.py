"""
Gemini `generateContent` and `streamGenerateContent`, at Google AI and at Vertex.

A stream is server-sent events, or without `alt=sse` one JSON array that arrives in pieces.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.asked import Asked, Path, base64_size
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
        self.take_value("", value)

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
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


# --- requests ------------------------------------------------------------------------

_BESIDES = ("contents", "systemInstruction", "system_instruction", "tools", "generationConfig", "requests")
_DECLARED = ("functionDeclarations", "function_declarations")


def gemini_request(value: dict[str, Any]) -> Asked:
    """A request for content.  The model stands in the URL."""
    value = mapping(value.get("request")) or value
    asked = Asked()
    asked.set(value, _BESIDES)
    asked.set_more(mapping(value.get("generationConfig")) or mapping(value.get("generation_config")))
    for tool in mappings(value.get("tools")):
        declared = [each for name in _DECLARED for each in mappings(tool.get(name))]
        for function in declared:
            schema = function.get("parameters", function.get("parametersJsonSchema"))
            asked.offer(function.get("name"), schema, function)
        for name in tool if not declared else ():
            asked.offer(name, None, tool)
    for name in ("systemInstruction", "system_instruction"):
        _take_parts(asked, "system", mapping(value.get(name)).get("parts"), (name, "parts"))
    for place, content in enumerate(mappings(value.get("contents"))):
        asked.messages += 1
        role = string(content.get("role")) or "user"
        role = {"model": "assistant", "function": "tool"}.get(role, role)
        _take_parts(asked, role, content.get("parts"), ("contents", place, "parts"))
    return asked


def _take_parts(asked: Asked, role: str, parts: Any, path: Path) -> None:
    # A single part may stand without a list.
    for place, part in enumerate([parts] if isinstance(parts, dict) else mappings(parts)):
        _take_part(asked, role, part, (*path, place))


def _take_part(asked: Asked, role: str, part: dict[str, Any], path: Path) -> None:
    if isinstance(part.get("text"), str):
        kind = Kind.THINKING if part.get("thought") is True else Kind.TEXT
        asked.say(role, kind, path, string(part["text"]))
    elif call := _one_of(part, "functionCall", "function_call"):
        name, id = word(call.get("name")), word(call.get("id"))
        asked.say(role, Kind.TOOL_CALL, path, name=name, id=id, arguments=call.get("args"))
    elif result := _one_of(part, "functionResponse", "function_response"):
        name, id = word(result.get("name")), word(result.get("id"))
        asked.say("tool", Kind.TOOL_RESULT, path, as_text(result.get("response")), name=name, id=id)
    elif data := _one_of(part, "inlineData", "inline_data", "fileData", "file_data"):
        media = string(data.get("mimeType")) or string(data.get("mime_type"))
        family = media.partition("/")[0]
        kind = {"image": Kind.IMAGE, "audio": Kind.AUDIO}.get(family, Kind.DOCUMENT)
        size = base64_size(string(data.get("data"))) if data.get("data") else None
        asked.say(role, kind, path, media=media or None, size=size)
    else:
        asked.say(role, Kind.OTHER, path, as_text(part), name=next(iter(part), None))


def _one_of(part: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((part[name] for name in names if isinstance(part.get(name), dict)), {})
