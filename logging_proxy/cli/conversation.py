"""
Renders what was said in a call of a model as text.

Pure functions on the API's documents, whose texts are redacted but untrusted: everything passes `safe`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from logging_proxy.cli.paint import Paint, cut
from logging_proxy.cli.units import duration, size
from logging_proxy.service.console import safe

Document = dict[str, Any]

SYSTEM_LINES = (6, 3)
"""Lines of a system prompt that are shown of its beginning and its end."""

TEXT_LINES = (60, 20)
"""The same of every other text; `--body` shows all of it."""

VALUE_LINES = (12, 3)
"""The same of an argument or a tool's result."""

NAMED_TOOLS = 8
LONGEST = 100_000
_CLASSES = {
    "ok": "green",
    "notice": "yellow",
    "limit": "yellow",
    "client": "yellow",
    "bad": "red",
    "busy": "cyan",
}


def conversation_lines(said: Document, understood: Document, paint: Paint, most: int | None) -> Iterator[str]:
    """The lines of a conversation; `understood` is that member of its row, `most` a terminal's width."""
    request, answer = said.get("request") or {}, said.get("answer") or {}
    yield paint(_line(understood.get("sentence")), _CLASSES.get(str(understood.get("class")), ""))
    for name, value in _facts(said, understood, request):
        yield f"  {paint(f'{name:9}', 'dim')} {cut(value, most - 12) if most else value}"
    earlier, new = _split(request.get("parts") or [])
    system = [part for part in earlier if part.get("role") in ("system", "developer")]
    for part in system:
        yield from _part(part, paint, SYSTEM_LINES)
    before = len(earlier) - len(system)
    if before:
        yield ""
        yield paint(f"[{before} earlier {'part' if before == 1 else 'parts'} of the conversation]", "dim")
    for part in new:
        yield from _part(part, paint, TEXT_LINES)
    for number, each in enumerate([answer, *(answer.get("choices") or [])]):
        yield from _answer(each, number, paint)


def has_conversation(said: Document) -> bool:
    """Whether something was asked and answered that is understood."""
    request, answer = said.get("request"), said.get("answer")
    return bool(request and request.get("parts") and answer and answer.get("parts"))


def _split(parts: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """The parts that the model has seen before, with the system prompt; and those that are new to it."""
    last = max((at for at, part in enumerate(parts) if part.get("role") == "assistant"), default=-1)
    earlier = [part for at, part in enumerate(parts) if at <= last or _is_system(part)]
    return earlier, [part for at, part in enumerate(parts) if at > last and not _is_system(part)]


def _is_system(part: Document) -> bool:
    return part.get("role") in ("system", "developer")


# --- facts ---------------------------------------------------------------------------


def _facts(said: Document, understood: Document, request: Document) -> Iterator[tuple[str, str]]:
    model = understood.get("model") or {}
    asked, answered = model.get("asked"), model.get("answered")
    name = f"{asked} → {answered}" if asked and answered and asked != answered else asked or answered or "-"
    about = " · ".join(str(each) for each in (understood.get("dialect"), understood.get("provider")) if each)
    yield "model", _line(f"{name}  ({about})" if about else name)
    settings = request.get("settings") or {}
    if settings:
        yield "settings", _line(" · ".join(f"{key} {_short(value)}" for key, value in settings.items()))
    tools = request.get("tools") or []
    if tools:
        names = ", ".join(str(tool.get("name")) for tool in tools[:NAMED_TOOLS])
        more = f" and {len(tools) - NAMED_TOOLS} more" if len(tools) > NAMED_TOOLS else ""
        total = size(sum(int(tool.get("bytes") or 0) for tool in tools))
        yield "tools", _line(f"{len(tools)}, {total}: {names}{more}")
    if usage := usage_words(understood):
        yield "tokens", usage
    if cost := cost_words(understood.get("cost")):
        yield "cost", cost
    if times := _times(understood.get("timing") or {}):
        yield "time", times


def usage_words(understood: Document) -> str:
    """Tokens in and out, with the parts of them that are known."""
    usage = understood.get("usage")
    if not usage:
        return ""
    read, written = usage.get("cached_tokens"), usage.get("cache_write_tokens")
    inner = [f"{read:,} cached" if read else "", f"{written:,} written" if written else ""]
    thought = usage.get("reasoning_tokens")
    asked = _counted("in", usage.get("input_tokens"), *inner)
    said = _counted("out", usage.get("output_tokens"), f"{thought:,} reasoning" if thought else "")
    return f"{asked} · {said}{', estimated' if usage.get('estimated') else ''}"


def _counted(word: str, count: Any, *inner: str) -> str:
    parts = ", ".join(each for each in inner if each)
    return f"{word} {'-' if count is None else f'{count:,}'}{f' ({parts})' if parts else ''}"


def cost_words(cost: Document | None) -> str:
    """A cost in dollars; empty if it is not known."""
    if not cost:
        return ""
    dollars = cost["nanodollars"] / 1e9
    amount = (
        f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.4f}" if dollars >= 0.01 else f"${dollars:.6f}"
    )
    source = "reported by the provider" if cost.get("source") == "reported" else "list price"
    billed = "" if cost.get("billed", True) else ", not billed"
    return f"{amount}{'+' if cost.get('partial') else ''} ({source}{billed})"


def _times(timing: Document) -> str:
    words = []
    for name, word in (("first_token_ms", "first token"), ("first_text_ms", "first text")):
        value = timing.get(name)
        if value is not None and (name != "first_text_ms" or value != timing.get("first_token_ms")):
            words.append(f"{word} {duration(value)}")
    if timing.get("tokens_per_second") is not None:
        words.append(f"{timing['tokens_per_second']:g} tokens/s")
    if timing.get("longest_gap_ms") is not None:
        words.append(f"longest gap {duration(timing['longest_gap_ms'])}")
    if timing.get("stalls"):
        words.append(f"{timing['stalls']} stalls")
    return " · ".join(words)


# --- parts ---------------------------------------------------------------------------


def _part(part: Document, paint: Paint, lines: tuple[int, int]) -> Iterator[str]:
    kind, role = str(part.get("kind")), str(part.get("role"))
    yield ""
    if kind == "tool_call":
        yield from _call(part, paint)
        return
    label = _line(role if kind == "text" else f"{role}: {kind.replace('_', ' ')}")
    if kind == "tool_result":
        label = "tool result, failed" if part.get("failed") else "tool result"
        lines = VALUE_LINES
    yield paint(label, "red" if part.get("failed") else "bold")
    if kind in ("image", "audio", "document", "other"):
        yield f"  [{_about(part)}]"
    text = str(part.get("text") or "")
    style = "dim" if kind == "thinking" else ""
    yield from (f"  {paint(line, style)}" for line in _folded(text, lines, part))


def _about(part: Document) -> str:
    words = [part.get("name"), part.get("media"), size(part["bytes"]) if part.get("bytes") else None]
    return _line(", ".join(str(each) for each in words if each) or part.get("kind"))


def _call(call: Document, paint: Paint) -> Iterator[str]:
    """A tool call: its arguments by field."""
    by = " (run by the provider)" if call.get("by_provider") else ""
    yield f"{paint('tool call', 'bold')} {paint(_line(call.get('name')), 'cyan')}{by}"
    arguments = call.get("arguments")
    if not isinstance(arguments, dict):
        arguments = {"": arguments} if arguments not in (None, "") else {}
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *rest = list(_folded(text, VALUE_LINES)) or [""]
        label = f"{paint(_line(name), 'blue')}: " if name else ""
        yield f"  {label}{first}"
        yield from (f"    {line}" for line in rest)


def _answer(answer: Document, number: int, paint: Paint) -> Iterator[str]:
    if number:
        yield ""
        yield paint(f"[choice {number + 1}]", "dim")
    for part in answer.get("parts") or []:
        if part.get("text") or part.get("kind") not in ("text", "thinking"):
            yield from _part(part, paint, TEXT_LINES)


# --- texts ---------------------------------------------------------------------------


def _folded(text: str, lines: tuple[int, int], part: Document | None = None) -> Iterator[str]:
    """The lines of a text; the middle of a long one is left out."""
    found = [safe(line.expandtabs(8), LONGEST) for line in text.replace("\r\n", "\n").split("\n")]
    while found and not found[-1]:
        found.pop()
    first, last = lines
    if len(found) > first + last + 1:
        yield from found[:first]
        yield f"[… {len(found) - first - last:,} lines …]"
        found = found[-last:]
    yield from found
    if part is not None and part.get("cut"):
        yield f"[… {part.get('length', 0):,} characters in all]"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _line(value: Any) -> str:
    return safe(" ".join(str(value or "-").split()), 4096)
