"""
Parses YAML text into nodes that carry their position.

The accepted language is a safe subset of YAML: no anchors and aliases (which
expand without bound), no tags, no merge keys, no duplicate keys, one document.
Scalars keep their source text beside the type that PyYAML resolves, because
YAML 1.1 reads ``010`` as 8 and ``5601:30`` as 336090.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from logging_proxy.configuration.problems import Findings, KeyPath, Position, key_name

MAX_DEPTH = 24
"""Far deeper than any key needs, and far below Python's recursion limit."""

_TAG_PREFIX = "tag:yaml.org,2002:"
_LONG_QUOTATION = re.compile(r"""(['"])(?!<).{5,}?\1""")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: its source text, and the YAML type it resolves to (``str``, ``int``, ``null`` ...)."""

    position: Position
    text: str
    type: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    position: Position
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping, as written in the file, and its value."""

    position: Position
    key: str
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in file order; keys are unique."""

    position: Position
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Placeholder for a value that cannot be used and was already reported."""

    position: Position


Node: TypeAlias = Scalar | Sequence | Mapping | Refused


class _TooDeep(Exception):
    """Collections are nested deeper than `MAX_DEPTH`."""

    def __init__(self, position: Position) -> None:
        super().__init__(position)
        self.position = position


def compose(text: str, findings: Findings, opaque: frozenset[str] = frozenset()) -> Node | None:
    """
    Return the file's document, or None if it holds only blanks and comments.

    Mistakes are added to `findings`.  Values below the keys named in `opaque` are
    never quoted, because they may be secrets.
    """
    text = text.removeprefix("\ufeff")
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        position, code = _position_in(text, error.position), ord(text[error.position])
        findings.add(position, (), f"not YAML: the character U+{code:04X} is not allowed")
        return Refused(position)
    try:
        return _Composer(loader, findings, opaque).document()
    except yaml.MarkedYAMLError as error:
        position = _position(error.problem_mark or error.context_mark)
        findings.add(position, (), f"not YAML: {_reason(error)}")
    except _TooDeep as error:
        position = error.position
        findings.add(position, (), "nested too deeply")
    except (ValueError, OverflowError):
        # PyYAML does not guard its conversion of escapes such as "\UFFFFFFFF" and of %YAML versions.
        position = _position(loader.get_mark())
        findings.add(position, (), "not YAML: a number or an escape is out of range")
    return Refused(position)


class _Composer:
    """Turns PyYAML's events into nodes."""

    def __init__(self, loader: yaml.SafeLoader, findings: Findings, opaque: frozenset[str]) -> None:
        self._loader: Any = loader
        self._findings = findings
        self._opaque = opaque

    def document(self) -> Node | None:
        self._loader.get_event()  # StreamStartEvent
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._loader.get_event()  # DocumentStartEvent
        root = self._node((), 0)
        self._loader.get_event()  # DocumentEndEvent
        if not self._loader.check_event(yaml.StreamEndEvent):
            mark = self._loader.peek_event().start_mark
            self._findings.add(_position(mark), (), "a second document begins here: expected only one")
        return root

    def _node(self, path: KeyPath, depth: int) -> Node:
        event = self._loader.get_event()
        position = _position(event.start_mark)
        if depth > MAX_DEPTH:
            raise _TooDeep(position)
        refused = self._is_refused(event, position, path)
        node: Node = Refused(position)
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(position, event.value, self._type(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(position, tuple(self._items(path, depth)))
        elif isinstance(event, yaml.MappingStartEvent):
            node = Mapping(position, tuple(self._entries(path, depth)))
        return Refused(position) if refused else node

    def _is_refused(self, event: Any, position: Position, path: KeyPath) -> bool:
        if event.anchor is not None:
            self._findings.add(position, path, "anchors and aliases are not supported: write the value out")
            return True
        if event.tag is not None:
            self._findings.add(position, path, "tags (!...) are not supported: write the value alone")
            return True
        return False

    def _type(self, event: yaml.ScalarEvent) -> str:
        tag: str = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return tag.removeprefix(_TAG_PREFIX)

    def _items(self, path: KeyPath, depth: int) -> Iterator[Node]:
        while not self._loader.check_event(yaml.SequenceEndEvent):
            yield self._node(path, depth + 1)
        self._loader.get_event()

    def _entries(self, path: KeyPath, depth: int) -> Iterator[Entry]:
        lines: dict[str, int] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            entry = self._entry(path, depth, lines)
            if entry is not None:
                lines[entry.key] = entry.position.line
                yield entry
        self._loader.get_event()

    def _entry(self, path: KeyPath, depth: int, lines: dict[str, int]) -> Entry | None:
        key = self._node(path, depth + 1)
        if not isinstance(key, Scalar):
            if not isinstance(key, Refused):
                self._findings.add(key.position, path, "a list or a mapping as a key: expected a name")
            self._node(path, depth + 1)
            return None
        below = path if self._is_opaque(path) else (*path, key_name(path, key.text))
        value = self._node(below, depth + 1)
        if key.type == "merge":
            self._findings.add(key.position, path, "merge keys (<<) are not supported: write the keys out")
            return None
        if key.text in lines:
            self._findings.add(key.position, below, f"duplicate key: line {lines[key.text]} has it already")
            return None
        return Entry(key.position, key.text, value)

    def _is_opaque(self, path: KeyPath) -> bool:
        return not self._opaque.isdisjoint(path)


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _position_in(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


def _reason(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's error text, without long quotations from the file."""
    reason = _LONG_QUOTATION.sub("'...'", error.problem or "syntax error")
    if "'\\t'" in reason:
        reason += " (indent with spaces, not tabs)"
    return f"{reason}, {error.context}" if error.context and "'" not in error.context else reason
