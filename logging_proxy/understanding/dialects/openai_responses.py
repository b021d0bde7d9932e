"""
OpenAI Responses, over HTTP and as the answers on a WebSocket.

Pieces belong to an item by its id, or by `output_index` where the id is not known: GitHub Copilot changes it
with every event, llama.cpp sends no indexes, and xAI's are all zero.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import AnswerPart, Failure, Usage
from logging_proxy.understanding.asked import Asked, Path, flattened, offer_functions
from logging_proxy.understanding.dialects.base import (
    IN_STREAM,
    AnswerReader,
    EventClass,
    Kind,
    as_text,
    failure_in,
    items,
    mapping,
    mappings,
    number,
    string,
    word,
)
from logging_proxy.understanding.dialects.openai_chat import take_content
from logging_proxy.understanding.lenient import parse_json

_ENDS = frozenset(
    [
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
        # Realtime has one for all of them.
        "response.done",
    ]
)
_RAN_BY_PROVIDER = frozenset(["mcp_call"])

_GROWS = {
    "response.output_text.delta": (Kind.TEXT, "text"),
    "response.refusal.delta": (Kind.REFUSAL, "refusal"),
    "response.reasoning_summary_text.delta": (Kind.THINKING, "summary"),
    "response.reasoning_text.delta": (Kind.THINKING, "reasoning"),
    "response.function_call_arguments.delta": (Kind.TOOL_CALL, "call"),
    "response.custom_tool_call_input.delta": (Kind.TOOL_CALL, "call"),
    "response.audio_transcript.delta": (Kind.TEXT, "text"),
    "response.output_audio_transcript.delta": (Kind.TEXT, "text"),
    "response.text.delta": (Kind.TEXT, "text"),
}
"""Events that carry a piece; the last four are those of Realtime."""

_CLASSES = {Kind.THINKING: EventClass.THINKING, Kind.TOOL_CALL: EventClass.TOOL}


class ResponsesReader(AnswerReader):
    """Reads a `response`."""

    DONE = frozenset(["[DONE]"])

    def __init__(self) -> None:
        super().__init__()
        self._streamed: set[tuple[str, int]] = set()
        """Groups of pieces, with the number of their item, of which some have come in a delta."""
        self._by_id: dict[str, int] = {}
        self._by_place: dict[int, int] = {}
        self._count = 0
        """Items so far; their numbers count from 1."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        kind = string(value.get("type")) or kind
        if kind in _GROWS:
            return self._piece(kind, value)
        if kind in _ENDS:
            self.ends()
            self._response(mapping(value.get("response")))
            if kind == "response.failed":
                self._fail(mapping(mapping(value.get("response")).get("error")))
            return EventClass.TERMINAL
        if kind == "error":
            self.ends()
            self.answer.fail(failure_in(value, IN_STREAM) or _failure(value))
            return EventClass.ERROR
        if kind in ("response.output_item.added", "response.output_item.done"):
            return self._item_of(value, kind.endswith("done"))
        if "response" in value:
            self._names(mapping(value["response"]))
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        self._response(value)

    # --- pieces ----------------------------------------------------------------------

    def _piece(self, kind: str, value: dict[str, Any]) -> EventClass:
        part_kind, group = _GROWS[kind]
        item = self._item_number(value.get("item_id"), value.get("output_index"))
        key = (group, item, value.get("summary_index"), value.get("content_index") or 0)
        if group == "call":
            key = (group, item, None, 0)
        self._streamed.add((group, item))
        part = self._part(part_kind, key)
        delta = value.get("delta")
        self.answer.grow(part, string(delta))
        return _CLASSES.get(part_kind, EventClass.TEXT) if delta else EventClass.OTHER

    def _part(self, kind: Kind, key: tuple[object, ...]) -> AnswerPart:
        return self.answer.choice().part(kind, key)

    def _item_number(self, id: Any, place: Any, begins: bool = False) -> int:
        """The number of the item with this id, or else at this place; a new one if it is not known."""
        id, place = string(id), place if isinstance(place, int) else -1
        known = self._by_id.get(id) or (None if begins else self._by_place.get(place))
        if known is None:
            self._count += 1
            known = self._count
        if id:
            self._by_id.setdefault(id, known)
        if place >= 0:
            self._by_place[place] = known
        return known

    # --- items -----------------------------------------------------------------------

    def _item_of(self, value: dict[str, Any], is_done: bool) -> EventClass:
        item = mapping(value.get("item"))
        at = self._item_number(item.get("id"), value.get("output_index"), begins=not is_done)
        kind = string(item.get("type"))
        if kind in ("function_call", "custom_tool_call"):
            self._call(item, at)
            return EventClass.TOOL
        if is_done:
            self._item(item, at)
        return EventClass.OTHER

    def _call(self, item: dict[str, Any], at: int) -> None:
        part = self._part(Kind.TOOL_CALL, ("call", at, None, 0))
        part.id = part.id or word(item.get("call_id")) or word(item.get("id"))
        part.name = part.name or word(item.get("name"))
        if not part.pieces:
            self.answer.grow(part, as_text(item.get("arguments", item.get("input"))))

    def _item(self, item: dict[str, Any], at: int) -> None:
        """Take a whole item; of what has come in pieces nothing is taken twice."""
        kind = string(item.get("type"))
        if kind in ("function_call", "custom_tool_call"):
            self._call(item, at)
        elif kind == "message":
            # A compacted response repeats what the user has said.
            if item.get("role") in (None, "assistant"):
                self._contents(item.get("content"), at)
        elif kind == "reasoning":
            self._thoughts(item, at)
        elif kind:
            self._other(item, kind, at)

    def _contents(self, contents: Any, at: int) -> None:
        for number_, part in enumerate(mappings(contents)):
            if part.get("type") == "refusal":
                self._whole(Kind.REFUSAL, ("refusal", at, None, number_), string(part.get("refusal")))
            else:
                text = string(part.get("text")) or string(part.get("transcript"))
                self._whole(Kind.TEXT, ("text", at, None, number_), text)

    def _thoughts(self, item: dict[str, Any], at: int) -> None:
        for number_, part in enumerate(mappings(item.get("summary"))):
            self._whole(Kind.THINKING, ("summary", at, number_, 0), string(part.get("text")))
        for number_, part in enumerate(mappings(item.get("content"))):
            self._whole(Kind.THINKING, ("reasoning", at, None, number_), string(part.get("text")))

    def _whole(self, kind: Kind, key: tuple[str, int, object, object], text: str) -> None:
        if text and key[:2] not in self._streamed and not self.answer.choice().has(key):
            self.answer.grow(self._part(kind, key), text)

    def _other(self, item: dict[str, Any], kind: str, at: int) -> None:
        """An item of a tool that the provider runs itself, or of another kind."""
        key = ("other", at, None, 0)
        if self.answer.choice().has(key):
            return
        self.answer.other.append(kind)
        is_call = kind.endswith("_call")
        part = self._part(Kind.TOOL_CALL if is_call else Kind.OTHER, key)
        part.by_provider, part.word = is_call, kind
        part.id, part.name = word(item.get("id")), word(item.get("name")) or kind
        if kind in _RAN_BY_PROVIDER:
            self.answer.grow(part, as_text(item.get("arguments")))

    # --- the response ------------------------------------------------------------------

    def _names(self, response: dict[str, Any]) -> None:
        self.answer.names(response.get("model"), response.get("id"))

    def _response(self, response: dict[str, Any]) -> None:
        self.answer.model = word(response.get("model")) or self.answer.model
        self.answer.response_id = word(response.get("id")) or self.answer.response_id
        if status := word(response.get("status")):
            self.answer.choice().finish_reason = status
        self.answer.incomplete_reason = word(mapping(response.get("incomplete_details")).get("reason"))
        if usage := mapping(response.get("usage")):
            self.answer.raw_usage = usage
            self.answer.usage = responses_usage(usage)
        for place, item in enumerate(mappings(response.get("output"))):
            self._item(item, self._item_number(item.get("id"), place))

    def _fail(self, error: dict[str, Any]) -> None:
        self.answer.fail(_failure(error))


def _failure(error: dict[str, Any]) -> Failure:
    """The failure of an `error` event or of a failed response; its code serves as its type."""
    code = word(error.get("code"))
    kind = word(error.get("type"))
    return Failure(
        IN_STREAM, None, code if kind in (None, "error") else kind, code, word(error.get("message"))
    )


def responses_usage(usage: dict[str, Any]) -> Usage:
    """Usage of Responses, and of Realtime, whose names are in the singular."""
    about_input = mapping(usage.get("input_tokens_details")) or mapping(usage.get("input_token_details"))
    about_output = mapping(usage.get("output_tokens_details")) or mapping(usage.get("output_token_details"))
    return Usage(
        number(usage.get("input_tokens")),
        number(about_input.get("cached_tokens")),
        number(about_input.get("cache_write_tokens")),
        number(usage.get("output_tokens")),
        number(about_output.get("reasoning_tokens")),
    )


# --- requests ------------------------------------------------------------------------


def responses_request(value: dict[str, Any]) -> Asked:
    """A request for a response, or a `response.create` on a WebSocket."""
    asked = Asked()
    asked.set(value, ("input", "instructions", "tools", "type"))
    offer_functions(asked, value.get("tools"))
    if instructions := string(value.get("instructions")):
        asked.say("system", Kind.TEXT, ("instructions",), instructions)
    given = value.get("input")
    if isinstance(given, str):
        asked.messages = 1
        asked.say("user", Kind.TEXT, ("input",), given)
    for place, item in enumerate(mappings(given)):
        asked.messages += 1
        take_item(asked, item, ("input", place))
    return asked


def take_item(asked: Asked, item: dict[str, Any], path: Path) -> None:
    """Take an item of the input."""
    kind = string(item.get("type")) or "message"
    id = word(item.get("call_id")) or word(item.get("id"))
    name = word(item.get("name"))
    if kind == "message":
        role, content = string(item.get("role")) or "user", item.get("content")
        if isinstance(content, str):
            asked.say(role, Kind.TEXT, (*path, "content"), content)
        for place, part in enumerate(items(content)):
            take_content(asked, role, part, (*path, "content", place))
    elif kind in ("function_call", "custom_tool_call"):
        text = as_text(item.get("arguments", item.get("input")))
        asked.say("assistant", Kind.TOOL_CALL, path, name=name, id=id, arguments=parse_json(text, text))
    elif kind.endswith("_output"):
        asked.say("tool", Kind.TOOL_RESULT, path, flattened(item.get("output")), id=id)
    elif kind == "reasoning":
        texts = [*mappings(item.get("summary")), *mappings(item.get("content"))]
        thought = "".join(string(each.get("text")) for each in texts)
        asked.say("assistant", Kind.THINKING, path, thought, id=word(item.get("id")))
    else:
        asked.say("assistant", Kind.OTHER, path, name=kind, id=id)
