"""The result of one check, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from logging_proxy.cli.paint import Paint
from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.console import safe


class State(StrEnum):
    """`WARN` is for what limits the proxy, or may be intended; `FAIL` for what prevents its work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, how it is, and what to do about it."""

    name: str
    state: State
    text: str
    advice: str = ""

    def document(self) -> dict[str, Any]:
        """The check as a JSON object, without secrets."""
        return {name: redact_url(str(value)) for name, value in asdict(self).items()}


def ok(name: str, text: str) -> Check:
    return Check(name, State.OK, text)


def warn(name: str, text: str, advice: str) -> Check:
    return Check(name, State.WARN, text, advice)


def fail(name: str, text: str, advice: str) -> Check:
    return Check(name, State.FAIL, text, advice)


def lines(checks: list[Check], paint: Paint) -> Iterator[str]:
    """One line for each check: state, name, text, and what to do."""
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        advice = f": {check.advice}" if check.advice else ""
        text = safe(redact_url(f"{check.text}{advice}"))
        yield f"{paint(f'{check.state:4}', _STYLES[check.state])}  {safe(check.name):{width}}  {text}"
