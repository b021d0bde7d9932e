"""
What is understood of an exchange, as the API's document: model, verdict, usage, cost, times, tools.

A figure that is not known is null, never zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from logging_proxy.redaction.redact import redact_text
from logging_proxy.understanding.answer_streams import AnswerStream
from logging_proxy.understanding.answers import Answer, Failure, Kind, Usage
from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.dialects.recognise import Dialect
from logging_proxy.understanding.lenient import total
from logging_proxy.understanding.pricing.cost import cost_of
from logging_proxy.understanding.pricing.prices import Prices
from logging_proxy.understanding.sentences import sentence
from logging_proxy.understanding.socket_streams import SocketStream
from logging_proxy.understanding.tool_results import failed_tools
from logging_proxy.understanding.verdicts import Ending, Verdict, verdict

CHARACTERS_PER_TOKEN = 3.5
"""For estimates of what a cut stream has used."""


@dataclass(frozen=True, slots=True)
class Read:
    """An exchange with a model, read: what was asked, what was answered, and how it ended."""

    dialect: Dialect
    asked: Asked
    stream: AnswerStream | SocketStream
    ending: Ending
    url: str
    """The URL of the destination."""
    started: datetime
    """The start of the exchange, with its zone."""
    sent: int | None = None
    """When the request was passed on whole, in microseconds since the start."""
    head: int | None = None
    """When the head of the response was complete."""
    by_plan: bool = False
    """Whether a plan pays for the call, so that its list price is not billed."""

    @property
    def verdict(self) -> Verdict:
        return verdict(self.ending, self.dialect, self.stream)

    @property
    def answers(self) -> list[Answer]:
        """The answer, or those of all calls on a socket."""
        return self.stream.answers


def understood(read: Read, prices: Prices) -> dict[str, Any]:
    """The document; texts in it are without secrets."""
    found, answer = read.verdict, read.stream.answer
    choice = answer.first
    return {
        "dialect": read.dialect.name,
        "provider": prices.provider_of(read.url),
        "streamed": read.stream.format is not None,
        "model": {"asked": _name(read.asked.model), "answered": _name(answer.model)},
        "verdict": str(found),
        "class": str(found.kind),
        "sentence": sentence(found, read.ending, read.stream),
        "finish_reason": choice.finish_reason,
        "error": _error(answer.failure),
        "usage": _usage(read),
        "cost": _cost(read, prices),
        "timing": _timing(read),
        "tools": {
            "offered": len(read.asked.tools),
            "called": len(choice.tool_calls),
            "failed": failed_tools(read.asked.parts, choice.tool_calls),
        },
    }


def understood_of(read: Read | None, prices: Prices) -> dict[str, Any] | None:
    """The document; None where no model was called."""
    return None if read is None else understood(read, prices)


def _name(name: str | None) -> str | None:
    return None if name is None else redact_text(name)


def _error(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return asdict(failure) | {"message": _name(failure.message)}


def _usage(read: Read) -> dict[str, Any] | None:
    """Usage of all calls; the output of a cut stream is an estimate, and marked."""
    used = [each for each in map(_used, read.answers) if each is not None]
    if not used:
        return None
    names = [each.name for each in fields(Usage)]
    sums = {name: total(*(getattr(usage, name) for usage, _ in used)) for name in names}
    return sums | {"estimated": any(is_estimate for _, is_estimate in used)}


def _used(answer: Answer) -> tuple[Usage, bool] | None:
    """The usage of an answer, and whether it is an estimate; None if nothing is known."""
    known = answer.usage
    if answer.is_terminal or answer.first.finish_reason or not answer.last_part:
        return None if known is None else (known, False)
    said = sum(len(part.text) for choice in answer.choices.values() for part in choice.parts)
    usage = known or Usage()
    output = max(usage.output_tokens or 0, round(said / CHARACTERS_PER_TOKEN))
    return replace(usage, output_tokens=output), True


def _cost(read: Read, prices: Prices) -> dict[str, Any] | None:
    """The cost of all calls."""
    found = [
        cost_of(answer, prices, read.url, read.asked.model, read.started, read.by_plan)
        for answer in read.answers
    ]
    costs = [each for each in found if each is not None]
    if not costs:
        return None
    first, partial = costs[0], len(costs) < len(found) or any(each.partial for each in costs)
    return asdict(replace(first, nanodollars=sum(each.nanodollars for each in costs), partial=partial))


def _timing(read: Read) -> dict[str, Any]:
    """Times in milliseconds; those of tokens are null where the answer was not streamed."""
    clocks, usage = read.stream.clocks, read.stream.answer.usage
    speed = None
    if usage is not None:
        hidden = _hidden(read)
        speed = clocks.tokens_per_second(usage.output_tokens, hidden)
    return {
        "sent_ms": _ms(read.sent),
        "head_ms": _ms(read.head),
        "first_byte_ms": _ms(clocks.first_byte),
        "first_event_ms": _ms(clocks.first_event),
        "first_token_ms": _ms(clocks.first_token),
        "first_text_ms": _ms(clocks.first_text),
        "last_token_ms": _ms(clocks.last_token),
        "terminal_ms": _ms(clocks.terminal),
        "tokens_per_second": None if speed is None else round(speed, 1),
        "longest_gap_ms": _ms(clocks.longest_gap),
        "stalls": clocks.stalls if read.stream.format else None,
        "events": clocks.events if read.stream.format else None,
        "keep_alives": clocks.keep_alives if read.stream.format else None,
    }


def _hidden(read: Read) -> int | None:
    """Tokens of reasoning that were billed but not streamed."""
    usage = read.stream.answer.usage
    if usage is None or any(part.text for part in read.stream.answer.first.of(Kind.THINKING)):
        return None
    return usage.reasoning_tokens


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 3)
