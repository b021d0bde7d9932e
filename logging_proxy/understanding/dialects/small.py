"""
Calls that are no conversations: embeddings, counting tokens, moderation, lists of models; and watsonx's text.

They have a model and usage, but nothing that was said.
"""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.answers import Usage
from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.dialects.anthropic_messages import messages_request
from logging_proxy.understanding.dialects.base import (
    AnswerReader,
    EventClass,
    Kind,
    mapping,
    mappings,
    number,
    string,
    word,
)
from logging_proxy.understanding.dialects.gemini import gemini_request, gemini_usage
from logging_proxy.understanding.dialects.openai_chat import chat_usage
from logging_proxy.understanding.dialects.openai_responses import responses_request


class FiguresReader(AnswerReader):
    """Reads the figures of an answer: model, id and usage."""

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        self._document(value)
        return EventClass.OTHER

    def _document(self, value: dict[str, Any]) -> None:
        self.answer.names(value.get("model"), value.get("id"))
        usage = mapping(value.get("usage"))
        if usage:
            asked = chat_usage(usage)
            self._takes(usage, Usage(asked.input_tokens, asked.cached_tokens))
        elif mapping(value.get("usageMetadata")):
            self._takes(value["usageMetadata"], gemini_usage(value["usageMetadata"]))
        elif (count := _counted(value)) is not None:
            names = ("input_tokens", "totalTokens", "promptTokensDetails", "object")
            self._takes({name: value[name] for name in names if name in value}, Usage(count))

    def _takes(self, raw: dict[str, Any], usage: Usage) -> None:
        self.answer.raw_usage, self.answer.usage = raw, usage


def _counted(value: dict[str, Any]) -> int | None:
    """The result of counting tokens: Anthropic's and OpenAI's, or Gemini's."""
    count = number(value.get("input_tokens"))
    return number(value.get("totalTokens")) if count is None else count


class WatsonxReader(AnswerReader):
    """Reads watsonx's text generation, whole and streamed."""

    _GOES_ON = "not_finished"

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        self.answer.names(value.get("model_id"), None)
        found = EventClass.OTHER
        for result in mappings(value.get("results")):
            text = string(result.get("generated_text"))
            self.answer.say(Kind.TEXT, text)
            found = EventClass.TEXT if text else found
            reason = word(result.get("stop_reason"))
            if reason not in (None, self._GOES_ON):
                self.answer.choice().finish_reason = reason
            self._count(result)
        return found

    def _document(self, value: dict[str, Any]) -> None:
        self.take_value("", value)

    def _count(self, result: dict[str, Any]) -> None:
        """Each event repeats the count of the output; only the first has the input's."""
        known = self.answer.usage or Usage()
        asked, said = number(result.get("input_token_count")), number(result.get("generated_token_count"))
        if asked is not None or said is not None:
            self.answer.usage = Usage(
                asked or known.input_tokens, None, None, known.output_tokens if said is None else said
            )


_TEXTS = ("input", "inputs", "texts", "content", "prompt")


def figures_request(value: dict[str, Any]) -> Asked:
    """A request that is no conversation: its texts are what the user has given."""
    asked = Asked()
    asked.set(value, (*_TEXTS, "requests", "messages", "contents", "system", "tools"))
    asked.model = asked.model or word(value.get("model_id"))
    for name in _TEXTS:
        given = value.get(name)
        for place, text in enumerate(given if isinstance(given, list) else [given]):
            if isinstance(text, str):
                asked.messages += 1
                asked.say("user", Kind.TEXT, (name, place), text)
    return asked


def counted_request(value: dict[str, Any]) -> Asked:
    """A request to count the tokens of a conversation, of whatever dialect it is."""
    if "contents" in value or "generateContentRequest" in value:
        return gemini_request(mapping(value.get("generateContentRequest")) or value)
    return responses_request(value) if "input" in value else messages_request(value)
