"""
OpenAI Chat Completions, and the many servers that speak it: OpenRouter, Groq, Mistral, llama.cpp, Azure …

Their differences are small and cannot be told by the host, so all of them are read at once: where thinking and
usage stand, which members are missing, and how a stream ends.  Legacy completions and Writer are read too.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Choice, Usage
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

_WHOLE = "chat.completion.done"
"""The object of Perplexity's last chunk, which repeats the whole message."""


class ChatReader(AnswerReader):
    """Reads chat completions."""

    DONE = frozenset(["[DONE]"])

    def _value(self, kind: str, value: dict[str, Any]) -> EventClass:
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
