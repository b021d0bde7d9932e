"""
One sentence about how an exchange ended: what, where, when, and on whose side.

A sentence says only what was seen.  That nothing arrived for a while does not tell whose fault it was.
"""

from __future__ import annotations

from collections.abc import Callable

from logging_proxy.redaction.redact import redact_text
from logging_proxy.understanding.answers import Answer, AnswerPart, Failure, Kind
from logging_proxy.understanding.quantities import counted, duration, size
from logging_proxy.understanding.verdicts import Ending, Stream, Verdict

LONGEST = 500
"""Maximum characters of a provider's or a library's own words."""

_GAP_TOLD = 1_000_000
"""Silence before the end, in microseconds, from which a sentence mentions it."""

_ENDS = {
    "client_closed": "The client closed the connection",
    "upstream_closed": "The upstream closed the connection",
    "upstream_reset": "The upstream reset the connection",
    "upstream_timeout": "The upstream sent nothing more, and the proxy gave up",
}


def sentence(verdict: Verdict, ending: Ending, stream: Stream | None = None) -> str:
    """The sentence, without secrets; `stream` is None where no model was called."""
    return redact_text(_SENTENCES[verdict](ending, stream))


def _running(ending: Ending, stream: Stream | None) -> str:
    if stream is None or not stream.clocks.events:
        return "The answer has not begun." if not ending.size else "The answer is under way."
    return f"The answer is under way{_place(stream.answer)}: {counted(stream.clocks.events, 'event')} so far."


def _unreachable(ending: Ending, stream: Stream | None) -> str:
    return f"The destination could not be reached{_own_words(ending.error)}"


def _turned_away(ending: Ending, stream: Stream | None) -> str:
    return f"The proxy answered {ending.status} itself{_own_words(ending.error)}"


def _said_no(what: str) -> Callable[[Ending, Stream | None], str]:
    def told(ending: Ending, stream: Stream | None) -> str:
        failure = stream.answer.failure if stream else None
        kind = f" {failure.type}" if failure and failure.type else ""
        return f"{what} ({ending.status}{kind}){_own_words(_message(failure))}"

    return told


def _error_inside(ending: Ending, stream: Stream | None) -> str:
    failure = stream.answer.failure if stream else None
    kind = f" ({failure.type or failure.code})" if failure and (failure.type or failure.code) else ""
    where = "in the stream" if failure and failure.where == "stream" else "in the body"
    return (
        f"The status is {ending.status}, but there is an error {where}{kind}{_own_words(_message(failure))}"
    )


def _complete(ending: Ending, stream: Stream | None) -> str:
    if stream is None:
        return f"Answered {ending.status}{_after(ending)}."
    calls = stream.answer.first.tool_calls
    did = f"The model called {_names(calls)}" if calls else "The model finished its answer"
    late = "; the client closed the connection after the end" if ending.outcome == "client_closed" else ""
    return f"{did}{_reason(stream.answer)}{_after(ending)}{late}."


def _token_limit(ending: Ending, stream: Stream | None) -> str:
    usage = stream.answer.usage if stream else None
    tokens = f" with {counted(usage.output_tokens, 'token')}" if usage and usage.output_tokens else ""
    reason = _reason(stream.answer) if stream else ""
    return f"The answer reached the limit of its length{reason}{tokens}{_after(ending)}."


def _refused(ending: Ending, stream: Stream | None) -> str:
    answer = stream.answer if stream else Answer()
    if answer.blocked:
        return f"The provider's filter refused the prompt ({answer.blocked}){_after(ending)}."
    if any(answer.first.of(Kind.REFUSAL)) or answer.first.finish_reason == "refusal":
        return f"The model refused{_reason(answer)}{_after(ending)}."
    return f"The provider's filter stopped the answer{_reason(answer)}{_after(ending)}."


def _bad_http(ending: Ending, stream: Stream | None) -> str:
    return f"What came was not HTTP{_own_words(ending.error)}"


def _end_unknown(ending: Ending, stream: Stream | None) -> str:
    return "The proxy was stopped while the answer was under way, so its end is not known."


def _empty(ending: Ending, stream: Stream | None) -> str:
    return f"The answer is whole, but the model said nothing and called no tool{_after(ending)}."


def _unfinished(ending: Ending, stream: Stream | None) -> str:
    return f"The stream ended cleanly, but without its last event,{_extent(ending, stream)}."


def _cut(ending: Ending, stream: Stream | None) -> str:
    end = _ENDS.get(ending.outcome or "", "The answer was cut")
    return f"{end}{_extent(ending, stream)}{_silence(ending, stream)}."


def _unreadable(ending: Ending, stream: Stream | None) -> str:
    return f"The answer is whole, but it is no JSON{_after(ending)}."


_SENTENCES: dict[Verdict, Callable[[Ending, Stream | None], str]] = {
    Verdict.RUNNING: _running,
    Verdict.UNREACHABLE: _unreachable,
    Verdict.TURNED_AWAY: _turned_away,
    Verdict.RATE_LIMITED: _said_no("The provider's limit was reached"),
    Verdict.OVERLOADED: _said_no("The provider was overloaded"),
    Verdict.REJECTED: _said_no("The provider rejected the request"),
    Verdict.SERVER_ERROR: _said_no("The provider failed"),
    Verdict.ERROR_INSIDE: _error_inside,
    Verdict.COMPLETE: _complete,
    Verdict.TOKEN_LIMIT: _token_limit,
    Verdict.REFUSED: _refused,
    Verdict.BAD_HTTP: _bad_http,
    Verdict.END_UNKNOWN: _end_unknown,
    Verdict.EMPTY: _empty,
    Verdict.UNFINISHED: _unfinished,
    Verdict.CLIENT_LEFT: _cut,
    Verdict.CUT: _cut,
    Verdict.WENT_SILENT: _cut,
    Verdict.UNREADABLE: _unreadable,
}


# --- words ---------------------------------------------------------------------------


def _message(failure: Failure | None) -> str:
    return (failure.message or "") if failure else ""


def _own_words(text: str) -> str:
    """The words of a provider or a library, as the end of a sentence."""
    text = " ".join(text.split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if not text:
        return "."
    return f": {text}" if text[-1] in ".!?…" else f": {text}."


def _reason(answer: Answer) -> str:
    word = answer.incomplete_reason or answer.first.finish_reason
    return f" ({word})" if word else ""


def _names(calls: list[AnswerPart]) -> str:
    names = list(dict.fromkeys(f"`{call.name or 'a tool'}`" for call in calls))
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _after(ending: Ending) -> str:
    return "" if ending.duration is None else f" after {duration(ending.duration / 1000)}"


def _extent(ending: Ending, stream: Stream | None) -> str:
    """How much had come, and where the answer was."""
    amounts = []
    if stream is not None and stream.format is not None:
        amounts.append(counted(stream.clocks.events, "event"))
    amounts.append(size(ending.size))
    if ending.duration is not None:
        amounts.append(duration(ending.duration / 1000))
    told = f"{', '.join(amounts[:-1])} and {amounts[-1]}" if len(amounts) > 1 else amounts[0]
    return f" after {told}{_where(stream)}"


def _where(stream: Stream | None) -> str:
    if stream is None or stream.format is None:
        return ""
    place = _place(stream.answer)
    if place:
        return f",{place}"
    return ", before the first token" if not stream.answer.last_part else ""


def _place(answer: Answer) -> str:
    """Where in the answer the last piece belongs."""
    part = answer.last_part
    if part is None:
        return ""
    if part.kind is Kind.TOOL_CALL:
        return f" in the arguments of tool call `{part.name or 'unnamed'}`"
    return {Kind.THINKING: " in the thinking", Kind.TEXT: " in the text"}.get(part.kind, "")


def _silence(ending: Ending, stream: Stream | None) -> str:
    """How long before the end the answer had last gone forward."""
    if stream is None or ending.duration is None or stream.clocks.last_progress is None:
        return ""
    silent = ending.duration - stream.clocks.last_progress
    return "" if silent < _GAP_TOLD else f"; last progress {duration(silent / 1000)} before"
