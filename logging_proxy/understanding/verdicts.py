"""
What the way in which an exchange ended means for the answer.

The outcome is the transport's; the verdict is about the answer: a stream may be cut after its terminal event,
and a response with status 200 may hold an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from logging_proxy.understanding.answer_streams import AnswerStream
from logging_proxy.understanding.answers import Answer, Choice, Failure, Kind
from logging_proxy.understanding.dialects.recognise import CHAT, OLLAMA, Dialect
from logging_proxy.understanding.socket_streams import SocketStream

Stream = AnswerStream | SocketStream


class Class(StrEnum):
    """Kinds of verdicts."""

    OK = "ok"
    BUSY = "busy"
    NOTICE = "notice"
    LIMIT = "limit"
    CLIENT = "client"
    BAD = "bad"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What became of an answer."""

    RUNNING = "running"
    UNREACHABLE = "unreachable"
    TURNED_AWAY = "turned_away"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    REJECTED = "rejected"
    SERVER_ERROR = "server_error"
    ERROR_INSIDE = "error_inside"
    COMPLETE = "complete"
    TOKEN_LIMIT = "token_limit"
    REFUSED = "refused"
    BAD_HTTP = "bad_http"
    END_UNKNOWN = "end_unknown"
    EMPTY = "empty"
    UNFINISHED = "unfinished"
    CLIENT_LEFT = "client_left"
    CUT = "cut"
    WENT_SILENT = "went_silent"
    UNREADABLE = "unreadable"

    @property
    def kind(self) -> Class:
        return _CLASSES.get(self, Class.BAD)


_CLASSES = {
    Verdict.RUNNING: Class.BUSY,
    Verdict.TURNED_AWAY: Class.NOTICE,
    Verdict.RATE_LIMITED: Class.LIMIT,
    Verdict.OVERLOADED: Class.LIMIT,
    Verdict.COMPLETE: Class.OK,
    Verdict.TOKEN_LIMIT: Class.NOTICE,
    Verdict.REFUSED: Class.NOTICE,
    Verdict.END_UNKNOWN: Class.UNKNOWN,
    Verdict.CLIENT_LEFT: Class.CLIENT,
    Verdict.UNREADABLE: Class.UNKNOWN,
}

_LIMITS = frozenset(["rate_limit_error", "usage_limit_reached", "insufficient_quota", "rate_limit_exceeded"])
_OVERLOADS = frozenset(["overloaded_error", "overloaded", "engine_overloaded_error"])
_OVERLOADED_TEXTS = ("overload", "over capacity", "at capacity", "too busy", "high demand")

_TOO_LONG = frozenset(
    ["length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "model_length"]
)
_REFUSALS = frozenset(
    """
    refusal content_filter content_filtered safety recitation blocklist prohibited_content spii model_armor
    image_safety error_toxic guardrail_intervened
    """.split()
)

_CUTS = {
    "client_closed": Verdict.CLIENT_LEFT,
    "upstream_closed": Verdict.CUT,
    "upstream_reset": Verdict.CUT,
    "upstream_timeout": Verdict.WENT_SILENT,
    "protocol_error": Verdict.BAD_HTTP,
    "interrupted": Verdict.END_UNKNOWN,
    "connect_failed": Verdict.UNREACHABLE,
    "tls_failed": Verdict.UNREACHABLE,
}
"""The verdict on an answer without an end, by the outcome of the exchange."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an exchange ended, as its capture tells."""

    outcome: str | None
    """None while it is under way."""
    status: int | None = None
    by_proxy: bool = False
    """Whether the proxy itself answered."""
    error: str = ""
    """What the capture says of the end."""
    duration: int | None = None
    """Microseconds from the start of the exchange to its end, or to now."""
    size: int = 0
    """Bytes of the response's body, as they came."""


def verdict(ending: Ending, dialect: Dialect | None = None, stream: Stream | None = None) -> Verdict:
    """The verdict on an exchange; `dialect` and `stream` are None where it is no call of a model."""
    if ending.outcome is None:
        return Verdict.RUNNING
    if ending.outcome in ("connect_failed", "tls_failed"):
        return Verdict.UNREACHABLE
    if ending.by_proxy and ending.outcome == "complete":
        return Verdict.TURNED_AWAY
    if dialect is None or stream is None:
        return _by_status(ending.status, None) or _by_outcome(ending.outcome)
    if isinstance(stream, SocketStream):
        return _of_socket(ending, dialect, stream)
    answer = stream.answer
    if not ending.by_proxy and (refused := _by_status(ending.status, answer.failure)):
        return refused
    if answer.failure is not None:
        return Verdict.ERROR_INSIDE
    if stream.format is not None:
        return _of_stream(ending.outcome, dialect, answer)
    return _of_document(ending.outcome, dialect, stream)


_GRAVITY = (Class.OK, Class.NOTICE, Class.CLIENT, Class.UNKNOWN, Class.LIMIT, Class.BAD)


def _of_socket(ending: Ending, dialect: Dialect, stream: SocketStream) -> Verdict:
    """The worst of the verdicts on the calls of a socket; one that was open at its end was cut by it."""
    outcome = ending.outcome or ""
    if not stream.answers:
        return _by_status(ending.status, None) or _by_outcome(outcome)
    verdicts = [_of_call(outcome, dialect, answer) for answer in stream.answers]
    return max(verdicts, key=lambda each: _GRAVITY.index(each.kind))


def _of_call(outcome: str, dialect: Dialect, answer: Answer) -> Verdict:
    if answer.failure is not None:
        return _by_status(None, answer.failure) or Verdict.ERROR_INSIDE
    return _of_stream(outcome, dialect, answer)


def _by_status(status: int | None, failure: Failure | None) -> Verdict | None:
    """The verdict on an answer that says no, by its status or the error in it."""
    words = {failure.type, failure.code} if failure else set()
    if status == 429 or not _LIMITS.isdisjoint(words):
        return Verdict.RATE_LIMITED
    text = (failure.message or "").lower() if failure else ""
    is_busy = status == 503 and any(each in text for each in _OVERLOADED_TEXTS)
    if status == 529 or is_busy or not _OVERLOADS.isdisjoint(words):
        return Verdict.OVERLOADED
    if status is None or status < 400:
        return None
    return Verdict.REJECTED if status < 500 else Verdict.SERVER_ERROR


def _by_outcome(outcome: str) -> Verdict:
    return _CUTS.get(outcome, Verdict.COMPLETE if outcome == "complete" else Verdict.END_UNKNOWN)


def _of_stream(outcome: str, dialect: Dialect, answer: Answer) -> Verdict:
    if answer.is_terminal:
        return by_finish(answer)
    if outcome in ("protocol_error", "interrupted"):
        return _CUTS[outcome]
    if outcome != "complete":
        return _by_outcome(outcome)
    if dialect.has_content and not has_content(answer):
        return Verdict.EMPTY
    return by_finish(answer) if _is_whole(dialect, answer) else Verdict.UNFINISHED


def _is_whole(dialect: Dialect, answer: Answer) -> bool:
    """Whether an answer is whole without its terminal event, which many servers leave out."""
    if dialect in (CHAT, OLLAMA) or not dialect.has_content or dialect.name == "watsonx":
        return bool(answer.choices) and all(each.finish_reason for each in answer.choices.values())
    return False


def _of_document(outcome: str, dialect: Dialect, stream: AnswerStream) -> Verdict:
    if outcome != "complete":
        return _by_outcome(outcome)
    if not stream.is_readable:
        return Verdict.UNREADABLE
    answer = stream.answer
    by_reason = by_finish(answer)
    if by_reason is Verdict.COMPLETE and dialect.has_content and not has_content(answer):
        return Verdict.EMPTY
    return by_reason


def by_finish(answer: Answer) -> Verdict:
    """The verdict on a whole answer, by the provider's reason to stop."""
    choice = answer.first
    reasons = {(choice.finish_reason or "").lower(), (answer.incomplete_reason or "").lower()}
    if answer.blocked or not _REFUSALS.isdisjoint(reasons) or _is_refusal(choice):
        return Verdict.REFUSED
    return Verdict.COMPLETE if _TOO_LONG.isdisjoint(reasons) else Verdict.TOKEN_LIMIT


def _is_refusal(choice: Choice) -> bool:
    """Whether the model has said nothing but that it refuses."""
    kinds = {part.kind for part in choice.parts}
    return Kind.REFUSAL in kinds and kinds <= {Kind.REFUSAL, Kind.THINKING}


def has_content(answer: Answer) -> bool:
    """Whether the model has generated something: text, thinking, a tool call, a picture, an item."""
    return any(
        part.pieces or part.name or part.media or part.word or part.id
        for choice in answer.choices.values()
        for part in choice.parts
    )
