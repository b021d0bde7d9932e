"""Which tool calls have failed, by what the client says of their results and by the results themselves."""

from __future__ import annotations

from collections.abc import Sequence

from logging_proxy.understanding.answers import AnswerPart, Kind
from logging_proxy.understanding.asked import Part
from logging_proxy.understanding.lenient import mapping, parse_json

LOOKED_AT = 64 << 10
"""Results with more characters are not searched for an exit code."""


def has_failed(part: Part) -> bool:
    """
    Whether a tool's result is a failure.

    It is if the client or an MCP server says so, or if its exit code is not zero.  A text that merely looks
    like an error is none.
    """
    if part.failed is not None:
        return part.failed
    text = part.text.lstrip()
    if not text.startswith("{") or len(text) > LOOKED_AT:
        return False
    value = mapping(parse_json(text))
    if value.get("isError") is True or value.get("is_error") is True:
        return True
    code = value.get("exit_code", mapping(value.get("metadata")).get("exit_code"))
    return isinstance(code, int) and not isinstance(code, bool) and code != 0


def new_results(parts: Sequence[Part]) -> list[Part]:
    """The results that a request brings: those after the last message of the model."""
    last = max((at for at, part in enumerate(parts) if part.role == "assistant"), default=-1)
    return [part for part in parts[last + 1 :] if part.kind is Kind.TOOL_RESULT]


def failed_tools(parts: Sequence[Part], calls: Sequence[AnswerPart]) -> int:
    """How many tools have failed: results that a request brings, and calls whose arguments are no JSON."""
    return sum(map(has_failed, new_results(parts))) + sum(isinstance(call.arguments, str) for call in calls)
