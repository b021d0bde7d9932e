"""What a stream of JSON values says, as that of a chat completion: what came in pieces is put together."""

from __future__ import annotations

from typing import Any

from logging_proxy.logserver.clean_text import SHORTEST_BLOB
from logging_proxy.logserver.json_strings import Path, parse, strings

DOCUMENTS = 16
"""Values kept of a stream: what it is about stands in the first ones."""

_GROWING = frozenset(["content", "response", "thinking", "reasoning", "text"])
"""Members that streams of lines without `delta` (Ollama, LM Studio) send in pieces."""
_LABELS = frozenset(["type", "role", "id", "name"])
"""Members below a `delta` that are whole."""


class JsonStream:
    """
    What a stream has said so far.

    Pieces are strings with the same path below a `delta`, or under a growing name in a
    stream of lines.  All else is taken once: streams repeat `id` and `model` in every event.

    An event that is the last one but for one plain piece of text is not parsed again: most events of a
    long answer are such, and are taken in a tenth of the time.
    """

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self._whole: dict[str, None] = {}
        self._growing: dict[Path, list[str]] = {}
        self._prefix = self._suffix = ""
        self._pieces: list[str] | None = None
        """Where the text between `prefix` and `suffix` belongs; None when the last event had no such text."""

    def goes_on(self, item: str) -> bool:
        """Takes an event that differs from the last one in one piece of text only."""
        pieces, prefix, suffix = self._pieces, self._prefix, self._suffix
        if pieces is None or not (item.startswith(prefix) and item.endswith(suffix)):
            return False
        text = item[len(prefix) : len(item) - len(suffix)]
        if len(item) < len(prefix) + len(suffix) or len(text) >= SHORTEST_BLOB or not _is_literal(text):
            return False
        pieces.append(text)
        return True

    def take(self, item: str) -> None:
        value = parse(item)
        self._pieces = None
        if isinstance(value, dict):
            grown: list[tuple[list[str], str]] = []
            _gather(value, self._whole, self._growing, grown)
            if len(self.documents) < DOCUMENTS:
                self.documents.append(value)
            elif len(grown) == 1:
                self._expect(item, *grown[0])
        elif item.strip() and value is None and item != "[DONE]":
            self._whole[item] = None

    def _expect(self, item: str, pieces: list[str], text: str) -> None:
        """Another event like `item`, whose one growing text this was."""
        literal = f'"{text}"'
        # With an escape anywhere the text might stand there in another form, and this be something else.
        if text and "\\" not in item and item.count(literal) == 1:
            at = item.index(literal) + 1
            self._prefix, self._suffix, self._pieces = item[:at], item[at + len(text) :], pieces

    def text(self) -> str:
        """All strings, with what came in pieces put together; nothing of it is cleaned."""
        whole = self._whole
        joined = ("".join(pieces) for pieces in self._growing.values())
        return "\n".join([*whole, *(text for text in joined if text not in whole)])


def _is_literal(text: str) -> bool:
    """Whether a text stands in JSON as it is."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _gather(
    event: dict[str, Any],
    whole: dict[str, None],
    growing: dict[Path, list[str]],
    grown: list[tuple[list[str], str]],
) -> None:
    """Sorts the strings of an event into `whole` and `growing`; `grown` gets what was added to the latter."""
    kind = event.get("type")
    kind = kind if isinstance(kind, str) else ""
    is_growing = kind.endswith("delta") or "done" in event
    for path, string in strings(event):
        name = path[-1] if path else ""
        if "delta" in path and name not in _LABELS:
            pieces = growing.setdefault((kind, *path), [])
        elif is_growing and name in _GROWING:
            pieces = growing.setdefault(path, [])
        else:
            if string:
                whole[string] = None
            continue
        pieces.append(string)
        grown.append((pieces, string))
