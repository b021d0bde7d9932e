"""What a stream of JSON values says, as that of a chat completion: what came in pieces is put together."""

from __future__ import annotations

from typing import Any

from logging_proxy.understanding.allowance import PIECE
from logging_proxy.understanding.clean_text import SHORTEST_BLOB
from logging_proxy.understanding.json_strings import Path, parse, strings

DOCUMENTS = 16
"""Values kept of a stream: what it is about stands in the first ones."""

DOCUMENTS_SIZE = 1 << 20
"""Characters after which no more of them are kept: they may need 50 times as much memory."""

MOST_TEXT = 8 << 20
"""Characters of a stream that are kept, with `PIECE` for each piece of text and `ENTRY` for each path."""

ENTRY = 512

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

    When it `is_full` it should be given no more.
    """

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self._documents_size = 0
        self._room = MOST_TEXT
        self._whole: dict[str, None] = {}
        self._growing: dict[Path, list[str]] = {}
        self._prefix = self._suffix = ""
        self._pieces: list[str] | None = None
        """Where the text between `prefix` and `suffix` belongs; None when the last event had no such text."""

    @property
    def is_full(self) -> bool:
        """Whether it holds as much as it may."""
        return self._room <= 0

    def goes_on(self, item: str) -> bool:
        """Takes an event that differs from the last one in one piece of text only."""
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
        value = parse(item)
        self._pieces = None
        if isinstance(value, dict):
            grown: list[tuple[list[str], str]] = []
            self._gather(value, grown)
            if len(self.documents) < DOCUMENTS and self._documents_size < DOCUMENTS_SIZE:
                self.documents.append(value)
                self._documents_size += len(item)
            elif len(grown) == 1:
                self._expect(item, *grown[0])
        elif item.strip() and value is None and item != "[DONE]":
            self._whole[item] = None
            self._room -= len(item) + PIECE

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

    def _gather(self, event: dict[str, Any], grown: list[tuple[list[str], str]]) -> None:
        """Sorts the strings of an event; `grown` gets those that go on, and where they were added."""
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        is_growing = kind.endswith("delta") or "done" in event
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
    """Whether a text stands in JSON as it is."""
    return text.isprintable() and '"' not in text and "\\" not in text
