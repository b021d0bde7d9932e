"""
OpenAI Chat Completions, and the many servers that speak it: OpenRouter, Groq, Mistral, llama.cpp, Azure …

Their differences are small, and the host does not tell them, so all are read at once: where thinking and
usage stand, which members are missing, and how a stream ends.  Legacy completions and Writer are read too.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Choice, Usage
from logging_proxy.understanding.asked import Asked, Path, base64_size, flattened, media_of, offer_functions
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
from logging_proxy.understanding.lenient import parse_json

_WHOLE = "chat.completion.done"
"""The object of Perplexity's last chunk, which repeats the whole message."""


class ChatReader(AnswerReader):
    """Reads chat completions."""

    DONE = frozenset(["[DONE]"])

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        self._names(value)
        found = EventClass.OTHER
        ends = value.get("object") == _WHOLE
        if failure := failure_in(value, IN_STREAM):
            self.answer.fail(failure)
            found = EventClass.ERROR
        for choice in mappings(value.get("choices")):
            said = self._choice(choice, "delta", not ends)
            found = said if found is EventClass.OTHER else found
        if ends:
            self.ends()
            return EventClass.TERMINAL
        return found

    def _document(self, value: dict[str, Any]) -> None:
        self._names(value)
        for choice in mappings(value.get("choices")):
            self._choice(choice, "message", True)

    def _names(self, value: dict[str, Any]) -> None:
        self.answer.names(value.get("model"), value.get("id"))
        usage = mapping(value.get("usage")) or mapping(mapping(value.get("x_groq")).get("usage"))
        if usage:
            self.answer.raw_usage = usage
            self.answer.usage = chat_usage(usage)

    def _choice(self, choice: dict[str, Any], member: str, has_text: bool) -> EventClass:
        """Take a choice; whether text, thinking or a tool call was in it."""
        index = number(choice.get("index")) or 0
        if reason := word(choice.get("finish_reason")):
            self.answer.choice(index).finish_reason = reason
        message = mapping(choice.get(member))
        if not has_text:
            return EventClass.OTHER
        found = [self._thinking(message, index), self._text(choice, message, index)]
        found += [self._tools(message, index), self._searches(message, index)]
        return next((each for each in reversed(found) if each is not EventClass.OTHER), EventClass.OTHER)

    def _thinking(self, message: dict[str, Any], index: int) -> EventClass:
        text = next(
            (
                word(message.get(name))
                for name in ("reasoning_content", "reasoning")
                if word(message.get(name))
            ),
            None,
        ) or "".join(map(_detail_text, mappings(message.get("reasoning_details"))))
        if not text:
            return EventClass.OTHER
        self.answer.say(Kind.THINKING, text, index)
        return EventClass.THINKING

    def _text(self, choice: dict[str, Any], message: dict[str, Any], index: int) -> EventClass:
        content = message.get("content")
        # A legacy completion has its text in the choice itself.
        text = content if isinstance(content, str) else string(choice.get("text"))
        found = self._parts(content, index) if isinstance(content, list) else EventClass.OTHER
        # Groq names the channel of gpt-oss's thoughts.
        kind = Kind.THINKING if message.get("channel") == "analysis" else Kind.TEXT
        if text:
            self.answer.say(kind, text, index)
            found = EventClass.THINKING if kind is Kind.THINKING else EventClass.TEXT
        if refusal := string(message.get("refusal")):
            self.answer.say(Kind.REFUSAL, refusal, index)
            found = EventClass.TEXT
        if audio := mapping(message.get("audio")):
            found = self._audio(audio, index)
        return found

    def _parts(self, content: list[Any], index: int) -> EventClass:
        """Mistral's list of parts, in which thinking is a list of parts again."""
        found = EventClass.OTHER
        for part in mappings(content):
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                thought = (
                    inner
                    if isinstance(inner, str)
                    else "".join(string(each.get("text")) for each in mappings(inner))
                )
                self.answer.say(Kind.THINKING, thought, index)
                found = EventClass.THINKING if thought else found
            elif text := string(part.get("text")):
                self.answer.say(Kind.TEXT, text, index)
                found = EventClass.TEXT
        return found

    def _audio(self, audio: dict[str, Any], index: int) -> EventClass:
        """Spoken answers: the transcript is their text."""
        transcript = string(audio.get("transcript"))
        self.answer.say(Kind.TEXT, transcript, index)
        return EventClass.TEXT if transcript or audio.get("data") else EventClass.OTHER

    def _tools(self, message: dict[str, Any], index: int) -> EventClass:
        found = EventClass.OTHER
        for at, call in enumerate(mappings(message.get("tool_calls"))):
            self._call(self.answer.choice(index), call, at)
            found = EventClass.TOOL
        if function := mapping(message.get("function_call")):
            self._call(self.answer.choice(index), {"index": -1, "function": function}, 0)
            found = EventClass.TOOL
        return found

    def _call(self, choice: Choice, call: dict[str, Any], at: int) -> None:
        """Take a tool call, or a piece of one; pieces are joined by `index`."""
        place = number(call.get("index"))
        part = choice.part(Kind.TOOL_CALL, ("tool", at if place is None else place))
        function = mapping(call.get("function")) or mapping(call.get("custom"))
        part.id = part.id or word(call.get("id"))
        part.name = part.name or word(function.get("name"))
        self.answer.grow(part, as_text(function.get("arguments", function.get("input"))))

    def _searches(self, message: dict[str, Any], index: int) -> EventClass:
        """Tools that Groq's compound models ran themselves."""
        for tool in mappings(message.get("executed_tools")):
            key = ("run", number(tool.get("index")) or 0)
            choice = self.answer.choice(index)
            is_new = not choice.has(key)
            part = choice.part(Kind.TOOL_CALL, key)
            part.by_provider = True
            part.name = part.name or word(tool.get("type"))
            if is_new:
                self.answer.grow(part, as_text(tool.get("arguments")))
        return EventClass.OTHER


def _detail_text(detail: dict[str, Any]) -> str:
    """The text of one of OpenRouter's `reasoning_details`; encrypted ones have none."""
    return string(detail.get("text")) or string(detail.get("summary"))


def chat_usage(usage: dict[str, Any]) -> Usage:
    """Usage of Chat Completions on our scale."""
    asked, said = number(usage.get("prompt_tokens")), number(usage.get("completion_tokens"))
    about_input = mapping(usage.get("prompt_tokens_details"))
    about_output = mapping(usage.get("completion_tokens_details"))
    thought = number(about_output.get("reasoning_tokens"))
    together = number(usage.get("total_tokens"))
    # xAI counts reasoning beside the completion; the total tells.
    if thought and asked is not None and said is not None and together == asked + said + thought:
        said += thought
    return Usage(
        asked,
        number(about_input.get("cached_tokens")),
        number(about_input.get("cache_write_tokens")),
        said,
        thought,
    )


# --- requests ------------------------------------------------------------------------

_BESIDES = ("messages", "prompt", "tools", "functions")


def chat_request(value: dict[str, Any]) -> Asked:
    """A request for a chat completion, or for a legacy completion."""
    asked = Asked()
    asked.set(value, _BESIDES)
    offer_functions(asked, value.get("tools"))
    offer_functions(asked, value.get("functions"))
    for place, prompt in enumerate(_prompts(value.get("prompt"))):
        asked.messages += 1
        asked.say("user", Kind.TEXT, ("prompt", place), prompt)
    for place, message in enumerate(mappings(value.get("messages"))):
        asked.messages += 1
        take_message(asked, message, ("messages", place))
    return asked


def _prompts(prompt: Any) -> list[str]:
    if isinstance(prompt, str):
        return [prompt]
    return [each for each in items(prompt) if isinstance(each, str)]


def take_message(asked: Asked, message: dict[str, Any], path: Path) -> None:
    """Take a message with everything in it."""
    role = string(message.get("role")) or "user"
    for name in ("reasoning_content", "reasoning", "thinking"):
        if thought := string(message.get(name)):
            asked.say(role, Kind.THINKING, (*path, name), thought)
    content = message.get("content")
    if role in ("tool", "function"):
        named, id = word(message.get("name")), word(message.get("tool_call_id"))
        asked.say("tool", Kind.TOOL_RESULT, (*path, "content"), flattened(content), name=named, id=id)
    elif isinstance(content, str):
        if content or not message.get("tool_calls"):
            asked.say(role, Kind.TEXT, (*path, "content"), content)
    else:
        for place, part in enumerate(items(content)):
            take_content(asked, role, part, (*path, "content", place))
    if refusal := string(message.get("refusal")):
        asked.say(role, Kind.REFUSAL, (*path, "refusal"), refusal)
    for place, image in enumerate(items(message.get("images"))):
        size = base64_size(image) if isinstance(image, str) else None
        asked.say(role, Kind.IMAGE, (*path, "images", place), size=size)
    _take_calls(asked, role, message, path)


def _take_calls(asked: Asked, role: str, message: dict[str, Any], path: Path) -> None:
    calls = [((*path, "tool_calls", at), call) for at, call in enumerate(mappings(message.get("tool_calls")))]
    if function := mapping(message.get("function_call")):
        calls.append(((*path, "function_call"), {"function": function}))
    for place, call in calls:
        function = mapping(call.get("function")) or mapping(call.get("custom"))
        text = as_text(function.get("arguments", function.get("input")))
        asked.say(
            role,
            Kind.TOOL_CALL,
            place,
            name=word(function.get("name")),
            id=word(call.get("id")),
            arguments=parse_json(text, text),
        )


def take_content(asked: Asked, role: str, part: Any, path: Path) -> None:
    """Take a part of a message's content, of Chat Completions or of Responses."""
    if isinstance(part, str):
        asked.say(role, Kind.TEXT, path, part)
        return
    part = mapping(part)
    kind = string(part.get("type"))
    cached = "cache_control" in part
    if kind in ("text", "input_text", "output_text", "summary_text", ""):
        asked.say(role, Kind.TEXT, path, string(part.get("text")), cached_to_here=cached)
    elif "image" in kind:
        url = part.get("image_url")
        media, size = media_of(string(url) or string(mapping(url).get("url")))
        asked.say(role, Kind.IMAGE, path, media=media, size=size, cached_to_here=cached)
    elif "audio" in kind:
        audio = mapping(part.get("input_audio"))
        asked.say(
            role,
            Kind.AUDIO,
            path,
            media=word(audio.get("format")),
            size=base64_size(string(audio.get("data"))),
        )
    elif "file" in kind or kind.startswith("document"):
        about = mapping(part.get("file")) or part
        media, size = media_of(string(about.get("file_data")))
        asked.say(role, Kind.DOCUMENT, path, name=word(about.get("filename")), media=media, size=size)
    elif kind == "refusal":
        asked.say(role, Kind.REFUSAL, path, string(part.get("refusal")))
    elif kind == "thinking":
        asked.say(role, Kind.THINKING, path, flattened(part.get("thinking")))
    else:
        asked.say(role, Kind.OTHER, path, as_text(part), name=kind)
