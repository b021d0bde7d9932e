"""Reassembles the text of a stream of JSON values, such as the deltas of a chat completion."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.allowance import PIECE, Allowance
from logging_proxy.understanding.clean_text import SHORTEST_BLOB
from logging_proxy.understanding.json_strings import Path, expanded, parse, strings

DOCUMENTS = 16
"""
How many values of a stream are kept; model and role are in the first ones.

Events that differ from the one before in a piece of text only are not parsed, and not among them.
"""

DOCUMENTS_SIZE = 1 << 20
"""Characters of JSON after which no more values are kept; parsed values need many times their size."""

MOST_TEXT = 8 << 20
"""Maximum characters kept of a stream, counting `PIECE` for each piece of text and `ENTRY` for each path."""

ENTRY = 512
"""The fixed cost of a path, in characters."""

_GROWING = frozenset(["content", "response", "thinking", "reasoning", "text", "completion"])
"""Members sent in pieces by streams that have no `delta` (Ollama, LM Studio, Gemini, text completions)."""
_SENT_IN_PIECES = frozenset(["done", "candidates", "choices", "stop", "completion"])
"""Members of the events of such streams."""
_LABELS = frozenset(["type", "role", "id", "name"])
"""Members below a `delta` that are complete values, not pieces."""


class JsonStream:
    """
    The strings of a stream so far.

    Strings with the same path below a `delta`, or with a name in `_GROWING` in a line-based stream, are
    pieces of one text and are joined.  Every other string is kept once: streams repeat `id` and `model`.

    An event that equals the previous one except for one plain string is not parsed.  Most events of a long
    answer are of this kind, and parsing is most of the cost.

    Stop feeding it once it `is_full`.
    """

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self._documents_size = 0
        self._room = MOST_TEXT
        self._whole: dict[str, None] = {}
        self._growing: dict[Path, list[str]] = {}
        self._prefix = self._suffix = ""
        self._pieces: list[str] | None = None
        """Where to append the text between `_prefix` and `_suffix`; None if the last event had none."""

    @property
    def is_full(self) -> bool:
        """Whether the limit of kept text is reached."""
        return self._room <= 0

    def goes_on(self, item: str) -> bool:
        """Take `item` without parsing it, if it differs from the last event in one plain string only."""
        pieces, prefix, suffix = self._pieces, self._prefix, self._suffix
        if pieces is None or self._room <= 0 or not (item.startswith(prefix) and item.endswith(suffix)):
            return False
        text = item[len(prefix) : len(item) - len(suffix)]
        if len(item) < len(prefix) + len(suffix) or len(text) >= SHORTEST_BLOB or not _is_literal(text):
            return False
        pieces.append(text)
        self._room -= len(text) + PIECE
        return True

    def take(self, item: str) -> None:
        """Parse and take one event."""
        value = parse(item)
        self._pieces = None
        if isinstance(value, dict):
            grown: list[tuple[list[str], str]] = []
            self.take_event(value, grown)
            if len(self.documents) < DOCUMENTS and self._documents_size < DOCUMENTS_SIZE:
                self.documents.append(value)
                self._documents_size += len(item)
            if len(grown) == 1:
                self._expect(item, *grown[0])
        elif item.strip() and value is None and item != "[DONE]":
            self._whole[item] = None
            self._room -= len(item) + PIECE

    def _expect(self, item: str, pieces: list[str], text: str) -> None:
        """Remember `item` as the form of the next event; `text` is its one growing string."""
        literal = f'"{text}"'
        # With an escape anywhere, the growing string might be escaped and `literal` be a different string.
        if text and "\\" not in item and item.count(literal) == 1:
            at = item.index(literal) + 1
            self._prefix, self._suffix, self._pieces = item[:at], item[at + len(text) :], pieces

    def text(self, allowance: Allowance) -> str:
        """All strings, with the pieces joined and then `expanded`.  The result still needs `clean`."""
        whole = self._whole
        joined = ["".join(pieces) for pieces in self._growing.values()]
        return "\n".join(expanded([*whole, *(text for text in joined if text not in whole)], allowance))

    def take_event(self, event: dict[str, Any], grown: list[tuple[list[str], str]]) -> None:
        """Take the strings of an event; `grown` receives its growing strings, each with its list."""
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        is_growing = kind.endswith("delta") or not _SENT_IN_PIECES.isdisjoint(event)
        whole = self._whole
        for path, string in strings(event):
            name = path[-1] if path else ""
            if "delta" in path and name not in _LABELS:
                pieces = self._pieces_at((kind, *path))
            elif is_growing and name in _GROWING:
                pieces = self._pieces_at(path)
            else:
                if string and string not in whole:
                    whole[string] = None
                    self._room -= len(string) + PIECE
                continue
            pieces.append(string)
            self._room -= len(string) + PIECE
            grown.append((pieces, string))

    def _pieces_at(self, path: Path) -> list[str]:
        pieces = self._growing.get(path)
        if pieces is None:
            pieces = self._growing[path] = []
            self._room -= ENTRY
        return pieces


def _is_literal(text: str) -> bool:
    """Whether JSON represents `text` without escapes."""
    return text.isprintable() and '"' not in text and "\\" not in text
