"""
What a request asks of a language model: settings, tools, and the conversation so far as parts.

A dialect fills an `Asked` from the JSON of the body.  Unknown members are kept as settings or as parts of
kind `other`; nothing makes it raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from logging_proxy.understanding.answers import Kind
from logging_proxy.understanding.lenient import as_text, mapping, mappings, string, word

PARTS_LIMIT = 50_000
"""Maximum parts of a conversation; what comes after them is dropped."""

SETTING_LIMIT = 1024
"""Maximum characters of a setting's JSON; larger members are no settings."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200},")
_SERVER = re.compile(r"mcp__(.+?)__.+")

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Part:
    """A part of a conversation."""

    role: str
    kind: Kind
    path: Path
    """Where the part stands in the JSON of the request."""
    text: str = ""
    name: str | None = None
    id: str | None = None
    arguments: Any = None
    failed: bool | None = None
    """For a tool's result: whether the client called it a failure; None if it did not say."""
    media: str | None = None
    size: int | None = None
    """Bytes of an image, of audio or of a document, where they stand in the request itself."""
    cached_to_here: bool = False
    """Whether the client has asked for caching up to this part."""


@dataclass(slots=True)
class Tool:
    """A tool that is offered to the model."""

    name: str
    schema: Any = None
    size: int = 0
    """Characters of the tool's JSON."""

    @property
    def server(self) -> str | None:
        """The MCP server of the tool, where the client names tools by it."""
        found = _SERVER.fullmatch(self.name)
        return found[1] if found else None


@dataclass(slots=True)
class Asked:
    """A request, understood."""

    model: str | None = None
    stream: bool | None = None
    """None where the request does not say; what that means differs between dialects."""
    settings: dict[str, Any] = field(default_factory=dict)
    tools: list[Tool] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    messages: int = 0
    """Messages or items, without the system prompt where it stands beside them."""
    previous_response_id: str | None = None

    def say(self, role: str, kind: Kind, path: Path, text: str = "", **more: Any) -> Part:
        """Append a part."""
        part = Part(role, kind, path, text, **more)
        if len(self.parts) < PARTS_LIMIT:
            self.parts.append(part)
        return part

    def offer(self, name: Any, schema: Any, whole: Any) -> None:
        """Append a tool, of which `whole` is the JSON."""
        if named := word(name):
            self.tools.append(Tool(named, schema, len(json.dumps(whole, ensure_ascii=False))))

    def set(self, value: dict[str, Any], besides: Iterable[str]) -> None:
        """Take model, stream and settings; members in `besides` are no settings."""
        self.model = word(value.get("model"))
        stream = value.get("stream")
        self.stream = stream if isinstance(stream, bool) else None
        self.previous_response_id = word(value.get("previous_response_id"))
        skipped = frozenset(besides) | {"model", "stream"}
        for name, setting in value.items():
            if name not in skipped and setting is not None and _is_small(setting):
                self.settings[name] = setting

    def set_more(self, settings: dict[str, Any]) -> None:
        """Take settings that the dialect keeps in an object of their own."""
        self.settings |= {
            name: each for name, each in settings.items() if each is not None and _is_small(each)
        }

    @property
    def has_system(self) -> bool:
        return any(part.role in ("system", "developer") for part in self.parts)

    def of(self, kind: Kind) -> list[Part]:
        return [part for part in self.parts if part.kind is kind]


def _is_small(value: Any) -> bool:
    return not isinstance(value, (dict, list)) or len(json.dumps(value)) <= SETTING_LIMIT


def media_of(url: str) -> tuple[str | None, int | None]:
    """Media type and bytes of a `data:` URL; both None for a URL that leads elsewhere."""
    found = _DATA_URL.match(url)
    return (found[1], base64_size(url, found.end())) if found else (None, None)


def base64_size(text: str, start: int = 0) -> int:
    """Bytes that base64 in `text` from `start` stands for."""
    length = len(text) - start
    return max(0, length * 3 // 4 - text.count("=", max(start, len(text) - 2)))


def flattened(content: Any) -> str:
    """The text of a tool's result: a string, or the texts of its blocks; other values as JSON."""
    if isinstance(content, list):
        texts = [each if isinstance(each, str) else _block_text(mapping(each)) for each in content]
        return "\n".join(text for text in texts if text)
    return as_text(content)


def _block_text(block: dict[str, Any]) -> str:
    if isinstance(block.get("text"), str):
        return string(block["text"])
    if "json" in block:
        return as_text(block["json"])
    return "" if word(block.get("type")) in ("image", "image_url", "input_image") else as_text(block)


def offer_functions(asked: Asked, tools: Any) -> None:
    """The tools of OpenAI's kind: functions, in an object of their own or not, and tools of the provider."""
    for tool in mappings(tools):
        function = mapping(tool.get("function")) or mapping(tool.get("custom")) or tool
        name = function.get("name") or tool.get("server_label") or tool.get("type")
        asked.offer(name, function.get("parameters", function.get("input_schema")), tool)
