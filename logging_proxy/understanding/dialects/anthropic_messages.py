"""Anthropic Messages, also inside Bedrock's `invoke`, and the legacy text completions."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import AnswerPart, Usage
from logging_proxy.understanding.asked import Asked, Path, base64_size, flattened
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
    total,
    word,
)

_BY_PROVIDER = frozenset(["server_tool_use", "mcp_tool_use"])


class MessagesReader(AnswerReader):
    """Reads a `message`."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        kind = string(value.get("type")) or kind
        if kind == "content_block_delta":
            return self._delta(value)
        if kind == "content_block_start":
            return self._begin(value)
        if kind == "message_start":
            self._message(mapping(value.get("message")))
        elif kind == "message_delta":
            self._end(mapping(value.get("delta")), mapping(value.get("usage")))
        elif kind == "message_stop":
            self.ends()
            return EventClass.TERMINAL
        elif kind == "ping":
            return EventClass.KEEP_ALIVE
        elif kind == "error":
            self.answer.fail(failure_in(value, IN_STREAM) or Failure(IN_STREAM))
            return EventClass.ERROR
        elif kind == "completion":
            return self._completion(value)
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        if "completion" in value:
            self._completion(value)
            return
        self._message(value)
        for place, block in enumerate(mappings(value.get("content"))):
            self._block(place, block)
        self._end(value, {})

    def _message(self, message: dict[str, Any]) -> None:
        self.answer.names(message.get("model"), message.get("id"))
        self._usage(mapping(message.get("usage")))

    def _begin(self, value: dict[str, Any]) -> EventClass:
        part = self._block(value.get("index"), mapping(value.get("content_block")))
        return EventClass.TOOL if part.kind is Kind.TOOL_CALL else EventClass.OTHER

    def _block(self, place: Any, block: dict[str, Any]) -> AnswerPart:
        """Begin a block; in a document it is whole."""
        word_ = string(block.get("type"))
        choice = self.answer.choice()
        part = choice.add(_kind_of(word_), place)
        part.word = word_ or None
        part.id, part.name = word(block.get("id")), word(block.get("name"))
        if part.kind is Kind.TOOL_CALL:
            part.by_provider, part.reads_cut = word_ in _BY_PROVIDER, True
            if block.get("input"):
                self.answer.grow(part, as_text(block["input"]))
        elif part.kind is Kind.TOOL_RESULT:
            part.id = word(block.get("tool_use_id"))
            self.answer.grow(part, as_text(block.get("content")))
        else:
            self.answer.grow(part, string(block.get("text")) or string(block.get("thinking")))
        return part

    def _delta(self, value: dict[str, Any]) -> EventClass:
        delta, place = mapping(value.get("delta")), value.get("index")
        choice = self.answer.choice()
        for name, kind, found in _DELTAS:
            text = delta.get(name)
            if isinstance(text, str):
                self.answer.grow(choice.part(kind, place), text)
                return found if text else EventClass.OTHER
        return EventClass.OTHER

    def _end(self, delta: dict[str, Any], usage: dict[str, Any]) -> None:
        if reason := word(delta.get("stop_reason")):
            self.answer.choice().finish_reason = reason
        self._usage(usage)

    def _usage(self, usage: dict[str, Any]) -> None:
        """Overwrite what is known: the counts of a `message_delta` are cumulative."""
        told = {name: value for name, value in usage.items() if value is not None}
        if told:
            self.answer.raw_usage = self.answer.raw_usage | told
            self.answer.usage = messages_usage(self.answer.raw_usage)

    def _completion(self, value: dict[str, Any]) -> EventClass:
        """A legacy completion, or a piece of one."""
        self.answer.names(value.get("model"), value.get("id"))
        text = string(value.get("completion"))
        self.answer.say(Kind.TEXT, text)
        if reason := word(value.get("stop_reason")):
            self.answer.choice().finish_reason = reason
            self.ends()
        return EventClass.TEXT if text else EventClass.OTHER


_DELTAS = (
    ("text", Kind.TEXT, EventClass.TEXT),
    ("partial_json", Kind.TOOL_CALL, EventClass.TOOL),
    ("thinking", Kind.THINKING, EventClass.THINKING),
    ("content", Kind.OTHER, EventClass.OTHER),
)


def _kind_of(block: str) -> Kind:
    if block == "text":
        return Kind.TEXT
    if block in ("thinking", "redacted_thinking"):
        return Kind.THINKING
    if block == "tool_use" or block in _BY_PROVIDER:
        return Kind.TOOL_CALL
    return Kind.TOOL_RESULT if block.endswith("_result") else Kind.OTHER


def messages_usage(usage: dict[str, Any]) -> Usage:
    """Usage of Messages: its `input_tokens` leave out what was read from and written to the cache."""
    written = number(usage.get("cache_creation_input_tokens"))
    read = number(usage.get("cache_read_input_tokens"))
    asked = number(usage.get("input_tokens"))
    thought = number(mapping(usage.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(
        None if asked is None else total(asked, written, read),
        read,
        written,
        number(usage.get("output_tokens")),
        thought,
    )


# --- requests ------------------------------------------------------------------------


def messages_request(value: dict[str, Any]) -> Asked:
    """A request for a message, or for a legacy completion."""
    asked = Asked()
    asked.set(value, ("messages", "system", "tools", "prompt"))
    for tool in mappings(value.get("tools")):
        asked.offer(tool.get("name") or tool.get("mcp_server_name"), tool.get("input_schema"), tool)
    if prompt := string(value.get("prompt")):
        asked.messages = 1
        asked.say("user", Kind.TEXT, ("prompt",), prompt)
    _take_blocks(asked, "system", value.get("system"), ("system",))
    for place, message in enumerate(mappings(value.get("messages"))):
        asked.messages += 1
        role = string(message.get("role")) or "user"
        _take_blocks(asked, role, message.get("content"), ("messages", place, "content"))
    return asked


def _take_blocks(asked: Asked, role: str, content: Any, path: Path) -> None:
    if isinstance(content, str):
        asked.say(role, Kind.TEXT, path, content)
    for place, block in enumerate(mappings(content)):
        _take_block(asked, role, block, (*path, place))


def _take_block(asked: Asked, role: str, block: dict[str, Any], path: Path) -> None:
    kind = string(block.get("type"))
    cached = isinstance(block.get("cache_control"), dict)
    if kind == "tool_use" or kind in _BY_PROVIDER:
        name, id = word(block.get("name")), word(block.get("id"))
        asked.say(
            role, Kind.TOOL_CALL, path, name=name, id=id, arguments=block.get("input"), cached_to_here=cached
        )
    elif kind.endswith("tool_result"):
        failed = block.get("is_error")
        asked.say(
            "tool",
            Kind.TOOL_RESULT,
            path,
            flattened(block.get("content")),
            id=word(block.get("tool_use_id")),
            failed=failed if isinstance(failed, bool) else None,
            cached_to_here=cached,
        )
        _take_images(asked, block.get("content"), (*path, "content"))
    elif kind in ("image", "document"):
        _take_source(asked, role, block, path, cached)
    else:
        text = string(block.get("text")) or string(block.get("thinking"))
        part = asked.say(role, _kind_of(kind or "text"), path, text, cached_to_here=cached)
        part.name = kind if part.kind is Kind.OTHER else None


def _take_images(asked: Asked, content: Any, path: Path) -> None:
    """The images in a tool's result."""
    for place, block in enumerate(mappings(content)):
        if block.get("type") in ("image", "document"):
            _take_source(asked, "tool", block, (*path, place), False)


def _take_source(asked: Asked, role: str, block: dict[str, Any], path: Path, cached: bool) -> None:
    source = mapping(block.get("source"))
    data = string(source.get("data"))
    is_text = source.get("type") == "text"
    asked.say(
        role,
        Kind.IMAGE if block.get("type") == "image" else Kind.DOCUMENT,
        path,
        data if is_text else "",
        name=word(block.get("title")),
        media=word(source.get("media_type")),
        size=base64_size(data) if data and not is_text else None,
        cached_to_here=cached,
    )
