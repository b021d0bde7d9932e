"""
An answer of a language model, as it is put together from the events of a stream or from one document.

Everything a provider may leave out is None until it is seen; nothing is guessed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from logging_proxy.understanding.lenient import parse_json
from logging_proxy.understanding.partial_json import parse_cut_json

TEXT_LIMIT = 32 << 20
"""Maximum characters kept of an answer; further ones are counted."""

PARTS_LIMIT = 10_000
"""Maximum parts of a choice, and choices; what belongs to further ones is dropped."""


_NOTHING = object()


class EventClass(StrEnum):
    """What an event of a stream is to its reader."""

    TEXT = "text"
    THINKING = "thinking"
    TOOL = "tool"
    ERROR = "error"
    TERMINAL = "terminal"
    KEEP_ALIVE = "keep-alive"
    OTHER = "other"

    @property
    def is_content(self) -> bool:
        """Whether the model has generated something."""
        return self in _CONTENT


_CONTENT = frozenset([EventClass.TEXT, EventClass.THINKING, EventClass.TOOL])


class Kind(StrEnum):
    """Kinds of parts, of answers and of messages."""

    TEXT = "text"
    THINKING = "thinking"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    IMAGE = "image"
    AUDIO = "audio"
    DOCUMENT = "document"
    REFUSAL = "refusal"
    ERROR = "error"
    OTHER = "other"


@dataclass(slots=True)
class Usage:
    """Tokens on one scale: totals include what came from a cache, and reasoning.  None is not reported."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(slots=True)
class Failure:
    """An error that the provider reported: as a status, in a stream, or in a body with status 200."""

    where: str
    status: int | None = None
    type: str | None = None
    code: str | int | None = None
    message: str | None = None


@dataclass(slots=True)
class AnswerPart:
    """A part of an answer, which may still grow."""

    kind: Kind
    name: str | None = None
    id: str | None = None
    media: str | None = None
    word: str | None = None
    """The provider's word for the part's type, where it tells more than `kind`."""
    by_provider: bool = False
    """For a tool call: the provider runs the tool itself."""
    reads_cut: bool = False
    """For a tool call: whether arguments that were cut are read as far as they are whole."""
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def arguments(self) -> Any:
        """The arguments of a tool call as JSON; their text where they are none."""
        text = self.text
        if not text.strip():
            return {}
        value = parse_json(text, _NOTHING)
        if value is not _NOTHING:
            return value
        return parse_cut_json(text) if self.reads_cut else text


class Choice:
    """One of the answers to a request; most requests ask for one only."""

    def __init__(self) -> None:
        self.parts: list[AnswerPart] = []
        self.finish_reason: str | None = None
        self._by_key: dict[Any, AnswerPart] = {}

    def part(self, kind: Kind, key: Any = None) -> AnswerPart:
        """
        The part that a piece belongs to.

        With a key it is the part with this key; without one it is the last part, if it is of this kind.
        """
        if key is None:
            if self.parts and self.parts[-1].kind is kind and not self.parts[-1].id:
                return self.parts[-1]
            return self.add(kind)
        part = self._by_key.get(key)
        return part if part is not None else self.add(kind, key)

    def has(self, key: Any) -> bool:
        return key in self._by_key

    def add(self, kind: Kind, key: Any = None) -> AnswerPart:
        """Begin a part, to which `key` belongs from now on."""
        part = AnswerPart(kind)
        if len(self.parts) < PARTS_LIMIT:
            self.parts.append(part)
            if key is not None:
                self._by_key[key] = part
        return part

    def of(self, kind: Kind) -> Iterator[AnswerPart]:
        return (part for part in self.parts if part.kind is kind)

    def joined(self, kind: Kind) -> str:
        return "".join(part.text for part in self.of(kind))

    @property
    def tool_calls(self) -> list[AnswerPart]:
        """The calls that the client is to run."""
        return [part for part in self.of(Kind.TOOL_CALL) if not part.by_provider]


class Answer:
    """What a provider has answered so far."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.response_id: str | None = None
        self.usage: Usage | None = None
        self.raw_usage: dict[str, Any] = {}
        self.failure: Failure | None = None
        self.status: int | None = None
        """The status of the response."""
        self.blocked: str | None = None
        """Why the provider has refused the prompt without an answer."""
        self.incomplete_reason: str | None = None
        """Why a response is incomplete, where that is told beside the reason to stop."""
        self.is_terminal = False
        """Whether the dialect's last event has come, or the answer was one whole document."""
        self.choices: dict[int, Choice] = {}
        self.other: list[str] = []
        """Types of items that are neither text, thinking nor tool calls, in order."""
        self.last_part: AnswerPart | None = None
        """The part that has grown last."""
        self.last_piece = ""
        """The text by which it has grown."""
        self.grown = 0
        """How many times a part has grown."""
        self.room = TEXT_LIMIT

    def choice(self, index: int = 0) -> Choice:
        choice = self.choices.get(index)
        if choice is None:
            choice = Choice()
            if len(self.choices) < PARTS_LIMIT:
                self.choices[index] = choice
        return choice

    @property
    def first(self) -> Choice:
        """The first choice; an empty one if there is none."""
        return self.choices[min(self.choices)] if self.choices else Choice()

    def grow(self, part: AnswerPart, text: str) -> None:
        """Append `text` to `part`, within the limit of the whole answer."""
        if text and self.room > 0:
            part.pieces.append(text[: self.room])
            self.last_part, self.last_piece = part, text
            self.grown += 1
            self.room -= len(text) + 8

    def say(self, kind: Kind, text: str, index: int = 0, key: Any = None) -> None:
        """Append `text` to the part of `kind` in choice `index`."""
        if text:
            self.grow(self.choice(index).part(kind, key), text)

    def names(self, model: Any, response_id: Any) -> None:
        """Take the first model and id that are not empty: some servers leave them empty at first."""
        if not self.model and isinstance(model, str) and model:
            self.model = model
        if not self.response_id and isinstance(response_id, str) and response_id:
            self.response_id = response_id

    def fail(self, failure: Failure | None) -> None:
        """Take the first failure; its status is that of the response, unless it names its own."""
        if self.failure is None and failure is not None:
            failure.status = self.status if failure.status is None else failure.status
            self.failure = failure
