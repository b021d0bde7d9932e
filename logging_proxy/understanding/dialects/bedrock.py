"""
Amazon Bedrock: Converse, and `invoke` with the bodies of the models' own makers.

Streams are frames; those of `invoke-with-response-stream` hold the model's own events in base64.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.asked import Asked, Path, flattened
from logging_proxy.understanding.dialects.anthropic_messages import MessagesReader, messages_request
from logging_proxy.understanding.dialects.base import (
    IN_STREAM,
    AnswerReader,
    EventClass,
    Failure,
    Kind,
    as_text,
    mapping,
    mappings,
    number,
    string,
    total,
    word,
)
from logging_proxy.understanding.lenient import parse_json


class ConverseReader(AnswerReader):
    """Reads Converse."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        if kind == "contentBlockDelta":
            return self._delta(value)
        if kind == "contentBlockStart":
            use = mapping(mapping(value.get("start")).get("toolUse"))
            if use:
                self._call(use, value.get("contentBlockIndex"))
                return EventClass.TOOL
        elif kind == "messageStop":
            self.answer.choice().finish_reason = word(value.get("stopReason"))
        elif kind == "metadata":
            self._usage(mapping(value.get("usage")))
            self.ends()
            return EventClass.TERMINAL
        elif is_exception(kind):
            self.answer.fail(exception(kind, value))
            return EventClass.ERROR
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        message = mapping(mapping(value.get("output")).get("message"))
        for place, block in enumerate(mappings(message.get("content"))):
            use = mapping(block.get("toolUse"))
            if use:
                self._call(use, place)
            thought = mapping(mapping(block.get("reasoningContent")).get("reasoningText"))
            self.answer.say(Kind.THINKING, string(thought.get("text")))
            self.answer.say(Kind.TEXT, string(block.get("text")))
        self.answer.choice().finish_reason = word(value.get("stopReason"))
        self._usage(mapping(value.get("usage")))

    def _delta(self, value: dict[str, Any]) -> EventClass:
        delta, place = mapping(value.get("delta")), value.get("contentBlockIndex")
        if text := string(delta.get("text")):
            self.answer.say(Kind.TEXT, text, key=("text", place))
            return EventClass.TEXT
        if text := string(mapping(delta.get("reasoningContent")).get("text")):
            self.answer.say(Kind.THINKING, text, key=("thinking", place))
            return EventClass.THINKING
        if use := mapping(delta.get("toolUse")):
            part = self.answer.choice().part(Kind.TOOL_CALL, ("tool", place))
            self.answer.grow(part, string(use.get("input")))
            return EventClass.TOOL
        return EventClass.OTHER

    def _call(self, use: dict[str, Any], place: Any) -> None:
        part = self.answer.choice().part(Kind.TOOL_CALL, ("tool", place))
        part.id, part.name = word(use.get("toolUseId")), word(use.get("name"))
        if use.get("input"):
            self.answer.grow(part, as_text(use["input"]))

    def _usage(self, usage: dict[str, Any]) -> None:
        if usage:
            read, written = (number(usage.get(f"cache{each}InputTokens")) for each in ("Read", "Write"))
            asked = number(usage.get("inputTokens"))
            self.answer.raw_usage = usage
            self.answer.usage = Usage(
                None if asked is None else total(asked, read, written),
                read,
                written,
                number(usage.get("outputTokens")),
                None,
            )


class TextReader(AnswerReader):
    """Reads Titan's, Llama's and Mistral's own completions; each has one text and one reason to stop."""

    _TEXTS = ("outputText", "generation")

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        for output in (value, *mappings(value.get("results")), *mappings(value.get("outputs"))):
            self._output(output)
        self._usage(value)
        return EventClass.TEXT if self.answer.choices else EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        self.take_value("", value)

    def _output(self, value: dict[str, Any]) -> None:
        text = next((value[name] for name in self._TEXTS if isinstance(value.get(name), str)), None)
        if text is None:
            return
        self.answer.say(Kind.TEXT, text)
        reason = word(value.get("completionReason")) or word(value.get("stop_reason"))
        if reason:
            self.answer.choice().finish_reason = reason
            self.ends()

    def _usage(self, value: dict[str, Any]) -> None:
        metrics = mapping(value.get("amazon-bedrock-invocationMetrics"))
        names = (
            ("inputTextTokenCount", "prompt_token_count"),
            ("totalOutputTextTokenCount", "generation_token_count"),
        )
        asked, said = (
            next((number(value[name]) for name in each if value.get(name) is not None), None)
            for each in names
        )
        asked = number(metrics.get("inputTokenCount")) if metrics else asked
        said = number(metrics.get("outputTokenCount")) if metrics else said
        known = self.answer.usage or Usage()
        if asked is not None or said is not None:
            self.answer.raw_usage = (
                self.answer.raw_usage
                | {name: value[name] for name in (*names[0], *names[1]) if value.get(name) is not None}
                | metrics
            )
            self.answer.usage = Usage(
                known.input_tokens if asked is None else asked,
                None,
                None,
                known.output_tokens if said is None else said,
                None,
            )


class InvokeReader(AnswerReader):
    """Reads the answers of `invoke`: those of the model's maker."""

    def __init__(self) -> None:
        super().__init__()
        self._inner: AnswerReader | None = None

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        if is_exception(kind):
            self.answer.fail(exception(kind, value))
            return EventClass.ERROR
        inner = value
        if isinstance(value.get("bytes"), str):
            inner = mapping(parse_json(_decoded(value["bytes"])))
        return self._of(inner).take_value("", inner)

    def _document(self, value: dict[str, Any]) -> None:
        self._of(value)._document(value)

    def _of(self, value: dict[str, Any]) -> AnswerReader:
        """The reader for the model's own format, which its first event tells."""
        if self._inner is None:
            is_message = isinstance(value.get("type"), str) or "completion" in value
            self._inner = MessagesReader() if is_message else TextReader()
            self._inner.answer = self.answer
        return self._inner


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def is_exception(kind: str) -> bool:
    """Whether a frame reports a failure, by its type: `throttlingException`, `modelStreamErrorException` …"""
    return kind.endswith("Exception")


def exception(kind: str, value: dict[str, Any]) -> Failure:
    message = word(value.get("message")) or word(value.get("originalMessage"))
    return Failure(IN_STREAM, number(value.get("originalStatusCode")), kind, None, message)


# --- requests ------------------------------------------------------------------------


def converse_request(value: dict[str, Any]) -> Asked:
    """A request to Converse.  The model stands in the URL."""
    asked = Asked()
    asked.set(value, ("messages", "system", "toolConfig", "inferenceConfig"))
    asked.set_more(mapping(value.get("inferenceConfig")))
    for tool in mappings(mapping(value.get("toolConfig")).get("tools")):
        spec = mapping(tool.get("toolSpec"))
        asked.offer(spec.get("name"), mapping(spec.get("inputSchema")).get("json"), tool)
    _take_blocks(asked, "system", value.get("system"), ("system",))
    for place, message in enumerate(mappings(value.get("messages"))):
        asked.messages += 1
        role = string(message.get("role")) or "user"
        _take_blocks(asked, role, message.get("content"), ("messages", place, "content"))
    return asked


def _take_blocks(asked: Asked, role: str, blocks: Any, path: Path) -> None:
    for place, block in enumerate(mappings(blocks)):
        _take_block(asked, role, block, (*path, place))


def _take_block(asked: Asked, role: str, block: dict[str, Any], path: Path) -> None:
    if isinstance(block.get("text"), str):
        asked.say(role, Kind.TEXT, path, string(block["text"]))
    elif use := mapping(block.get("toolUse")):
        name, id = word(use.get("name")), word(use.get("toolUseId"))
        asked.say(role, Kind.TOOL_CALL, path, name=name, id=id, arguments=use.get("input"))
    elif result := mapping(block.get("toolResult")):
        status = word(result.get("status"))
        text, id = flattened(result.get("content")), word(result.get("toolUseId"))
        failed = None if status is None else status == "error"
        asked.say("tool", Kind.TOOL_RESULT, path, text, id=id, failed=failed)
    elif "cachePoint" in block and asked.parts:
        asked.parts[-1].cached_to_here = True
    elif thought := mapping(mapping(block.get("reasoningContent")).get("reasoningText")):
        asked.say(role, Kind.THINKING, path, string(thought.get("text")))
    else:
        name = next(iter(block), "")
        kind = {"image": Kind.IMAGE, "document": Kind.DOCUMENT}.get(name, Kind.OTHER)
        asked.say(role, kind, path, name=name or None, media=word(mapping(block.get(name)).get("format")))


def invoke_request(value: dict[str, Any]) -> Asked:
    """A request to `invoke`: that of the model's maker."""
    if isinstance(value.get("messages"), list):
        return messages_request(value)
    asked = Asked()
    asked.set(value, ("inputText", "prompt", "textGenerationConfig"))
    asked.set_more(mapping(value.get("textGenerationConfig")))
    for name in ("inputText", "prompt"):
        if isinstance(value.get(name), str):
            asked.messages += 1
            asked.say("user", Kind.TEXT, (name,), value[name])
    return asked
