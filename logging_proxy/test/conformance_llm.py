"""The recorded exchanges with language models that stand beside the project, for the tests that read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from logging_proxy.captures.heads import Head, parse_head
from logging_proxy.understanding.decoding import decode

FOLDER = Path(__file__).parents[2].parent / "shared" / "conformance" / "llm"


@dataclass(frozen=True)
class Recording:
    """A recorded exchange and what the provider's own SDK makes of it."""

    about: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.about["id"])

    @property
    def expected(self) -> dict[str, Any]:
        expected: dict[str, Any] = self.about.get("expected") or {}
        return expected

    def message(self, side: str) -> tuple[Head, bytes]:
        """The head and the decoded body of `request` or `response`."""
        head, body = self.raw(side)
        parsed = parse_head(head)
        fields = {name.lower(): value for name, value in parsed.headers}
        return parsed, decode(body, fields.get("content-encoding", "")).data

    def raw(self, side: str) -> tuple[bytes, bytes]:
        """The head without its blank line, and the body as it was sent, of `request` or `response`."""
        head, _, body = (FOLDER / self.id / f"{side}.http").read_bytes().partition(b"\r\n\r\n")
        return head + b"\r\n", body

    def messages(self) -> list[tuple[str, str]]:
        """The messages on a WebSocket: who sent it, and its text."""
        lines = (FOLDER / self.id / "messages.jsonl").read_text("utf-8").splitlines()
        return [(each["from"], each["text"]) for each in map(json.loads, lines)]


@lru_cache(maxsize=1)
def recordings() -> list[Recording]:
    """All recordings.  Raises `SkipTest` where they are absent."""
    if not FOLDER.exists():
        raise SkipTest("the recorded exchanges are not beside the project")
    return [Recording(each) for each in json.loads((FOLDER / "manifest.json").read_text("utf-8"))]
