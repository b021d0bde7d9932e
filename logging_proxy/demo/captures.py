"""Reads the files of captures from the log directory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logging_proxy.captures.names import METADATA, binary_name
from logging_proxy.redaction.redact import redact_headers


@dataclass(frozen=True, slots=True)
class Half:
    """A captured request or response: the path of its bytes, and its metadata."""

    path: Path
    metadata: dict[str, Any]

    @property
    def head(self) -> bytes:
        """The start line and the headers, without the blank line."""
        return self.path.read_bytes().partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """The body's bytes, with its content coding."""
        return self.path.read_bytes().partition(b"\r\n\r\n")[2]


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured exchange.  `response` is None if there was no response."""

    request: Half
    response: Half | None

    @property
    def halves(self) -> list[Half]:
        """The request, and the response if there is one."""
        return [half for half in (self.request, self.response) if half is not None]

    @property
    def source_url(self) -> str:
        """The URL that the client requested."""
        return str(self.request.metadata["source_url"])

    @property
    def outcome(self) -> str:
        """How the exchange ended."""
        return str((self.response or self.request).metadata["outcome"])


def read_captures(folder: Path) -> list[Capture]:
    """All complete captures in `folder`, oldest first."""
    halves: dict[tuple[str, str], Half] = {}
    for path in sorted(folder.glob(f"*{METADATA}")):
        content = path.read_bytes()
        try:
            metadata = json.loads(content)
        except ValueError:
            if content.endswith(b"\n"):
                raise
            continue  # being written just now, or when the power failed
        half = Half(path.with_name(binary_name(path.name)), metadata)
        halves[metadata["id"], metadata["stream_type"]] = half
    return [
        Capture(half, halves.get((exchange, "response")))
        for (exchange, kind), half in halves.items()
        if kind == "request"
    ]


def wait_for_captures(
    folder: Path,
    count: int,
    *,
    wanted: Callable[[Capture], bool] = lambda capture: True,
    timeout: float = 10.0,
) -> list[Capture]:
    """
    Wait for `count` captures that are `wanted` and have a response, and return the wanted ones.

    Returns those that exist after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = [capture for capture in read_captures(folder) if wanted(capture)]
        answered = [capture for capture in found if capture.response is not None]
        if len(answered) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def describe(capture: Capture) -> str:
    """A few lines about a capture: its URL, its outcome, its files and their sizes."""
    metadata = (capture.response or capture.request).metadata
    lines = [
        f"{metadata['method']} {metadata['source_url']}",
        f"  to {metadata['destination_url']}",
        f"  {capture.outcome}, status {metadata['status']}, {metadata['processing_time_ms']:.0f} ms",
    ]
    for half in capture.halves:
        lines.append(f"  {half.path.name}  {half.path.stat().st_size} bytes")
        lines.append(f"  {half.path.name.removesuffix('.bin')}{METADATA}")
    return "\n".join(lines)


def shown_head(half: Half) -> str:
    """The head of a message with the values of secret headers redacted."""
    first, *lines = half.head.decode("latin-1").splitlines()
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
    return "\n".join([first, *(f"{name}: {value}" for name, value in redact_headers(fields))])
