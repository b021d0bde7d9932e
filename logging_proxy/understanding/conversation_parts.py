"""
A conversation as the API's document: what was asked and what was answered, as parts.

Texts over `TEXT_LIMIT` are cut, and say how long they are.  Secrets are redacted unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from logging_proxy.redaction.members import is_secret_member
from logging_proxy.redaction.values import REDACTED
from logging_proxy.understanding.answers import Answer, AnswerPart, Choice, Kind
from logging_proxy.understanding.asked import Asked, Part
from logging_proxy.understanding.dialects.recognise import Dialect
from logging_proxy.understanding.redacted import redact_body
from logging_proxy.understanding.tool_results import has_failed

TEXT_LIMIT = 64 << 10
"""Maximum characters of a text in the document."""

DEEPEST = 64
"""Levels of arguments that are shown; deeper ones are left out."""

Document = dict[str, Any]


class Shown:
    """How texts and JSON values are shown."""

    def __init__(self, reveal: bool = False, limit: int = TEXT_LIMIT) -> None:
        self._reveals = reveal
        self._limit = limit

    def text(self, text: str) -> Document:
        """`text`, and `length` and `cut` if it is longer than is shown."""
        shown = self._redacted(text)
        if len(shown) <= self._limit:
            return {"text": shown, "cut": False}
        return {"text": shown[: self._limit], "cut": True, "length": len(text)}

    def value(self, value: Any, levels: int = DEEPEST) -> Any:
        """A JSON value without secrets."""
        if isinstance(value, str):
            return self._redacted(value)[: self._limit]
        if isinstance(value, dict):
            return {name: self._member(name, each, levels) for name, each in value.items()} if levels else {}
        if isinstance(value, list):
            return [self.value(each, levels - 1) for each in value] if levels else []
        return value

    def _member(self, name: str, value: Any, levels: int) -> Any:
        if not self._reveals and is_secret_member(name, value):
            return REDACTED
        return self.value(value, levels - 1)

    def _redacted(self, text: str) -> str:
        """`text` without secrets, also those in JSON that it holds."""
        return text if self._reveals or not text else redact_body(text).text


def conversation(
    dialect: Dialect, asked: Asked, answers: Sequence[Answer], provider: str | None, shown: Shown
) -> Document:
    """The document; of several answers on a socket the last one is `answer`, and all are `responses`."""
    last = answers[-1] if answers else Answer()
    document = {
        "dialect": dialect.name,
        "provider": provider,
        "model": shown.value(last.model or asked.model),
        "request": _request(asked, shown),
        "answer": _answer(last, shown),
    }
    if len(answers) > 1:
        document["responses"] = [_answer(each, shown) for each in answers]
    return document


def no_conversation() -> Document:
    """The document of an exchange that is no call of a model."""
    return {"dialect": None, "provider": None, "model": None, "request": None, "answer": None}


def _request(asked: Asked, shown: Shown) -> Document:
    return {
        "settings": shown.value(asked.settings),
        "tools": [
            {"name": shown.value(tool.name), "server": tool.server, "bytes": tool.size, "schema": tool.schema}
            for tool in asked.tools
        ],
        "parts": [_asked_part(number, part, shown) for number, part in enumerate(asked.parts)],
    }


def _asked_part(number: int, part: Part, shown: Shown) -> Document:
    document: Document = {"n": number, "role": part.role, "kind": str(part.kind), **shown.text(part.text)}
    more = {
        "name": shown.value(part.name),
        "id": part.id,
        "media": part.media,
        "bytes": part.size,
    }
    document |= {name: value for name, value in more.items() if value is not None}
    if part.kind is Kind.TOOL_CALL:
        document["arguments"] = shown.value(part.arguments)
    if part.kind is Kind.TOOL_RESULT:
        document["failed"] = has_failed(part)
    return document | {"cached_to_here": part.cached_to_here}


def _answer(answer: Answer, shown: Shown) -> Document:
    choice, *further = [answer.choices[at] for at in sorted(answer.choices)] or [Choice()]
    return {
        **_choice(choice, shown),
        "response_id": answer.response_id,
        "choices": [_choice(each, shown) for each in further],
    }


def _choice(choice: Choice, shown: Shown) -> Document:
    return {
        "text": shown.text(choice.joined(Kind.TEXT))["text"],
        "thinking": shown.text(choice.joined(Kind.THINKING))["text"],
        "refusal": shown.text(choice.joined(Kind.REFUSAL))["text"] or None,
        "tool_calls": [
            {"id": call.id, "name": shown.value(call.name), "arguments": shown.value(call.arguments)}
            for call in choice.tool_calls
        ],
        "finish_reason": choice.finish_reason,
        "parts": [_answer_part(number, part, shown) for number, part in enumerate(choice.parts)],
    }


def _answer_part(number: int, part: AnswerPart, shown: Shown) -> Document:
    is_call = part.kind is Kind.TOOL_CALL
    document: Document = {"n": number, "role": "assistant", "kind": str(part.kind)}
    document |= {"arguments": shown.value(part.arguments)} if is_call else shown.text(part.text)
    more = {"name": shown.value(part.name), "id": part.id, "media": part.media, "type": part.word}
    document |= {name: value for name, value in more.items() if value is not None}
    return document | ({"by_provider": True} if part.by_provider else {})
