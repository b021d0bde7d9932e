"""
What is wrong with a configuration, and where.

Problems are collected, never raised one at a time: whoever reads the file sees
all of its mistakes at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KeyPath = tuple[str, ...]
"""Names of keys from the top of the file, as they may be shown: ``("routes", "lmstudio", "pattern")``."""

_PLAIN_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; lines and columns count from 1, and 0 means the file as a whole."""

    line: int = 0
    column: int = 0


WHOLE_FILE = Position()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `str` gives the one line that is shown for it."""

    filename: str
    line: int
    column: int
    key_path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}" if self.line else self.filename
        return printable(": ".join(part for part in (place, self.key_path, self.message) if part))


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` holds every reason, sorted by position."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Findings:
    """What was found out about a file beside its values: its problems, and where each key stands."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._problems: list[Problem] = []
        self._faulty: set[KeyPath] = set()
        self._positions: dict[KeyPath, Position] = {}

    def add(self, position: Position, path: KeyPath, message: str) -> None:
        """Note a mistake."""
        self._faulty.add(path)
        self._problems.append(self.problem(position, path, message))

    def problem(self, position: Position, path: KeyPath, message: str) -> Problem:
        """A problem of this file that is not counted as a mistake."""
        return Problem(self._filename, position.line, position.column, ".".join(path), message)

    def place(self, path: KeyPath, position: Position) -> None:
        """Remember where a key stands."""
        self._positions[path] = position

    def position(self, *paths: KeyPath) -> Position:
        """Where the first of these keys that the file has stands."""
        return next((self._positions[path] for path in paths if path in self._positions), WHOLE_FILE)

    def given(self, *paths: KeyPath) -> KeyPath:
        """The first of these keys that the file has, or the first of them."""
        return next((path for path in paths if path in self._positions), paths[0])

    def sound(self, *paths: KeyPath) -> bool:
        """Whether no mistake was noted at these keys or at what they are part of."""
        return not any(path[:length] in self._faulty for path in paths for length in range(len(path) + 1))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every mistake noted so far, sorted by position."""
        return tuple(sorted(self._problems, key=lambda problem: (problem.line, problem.column)))


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor, break a line or not be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def key_name(path: KeyPath, key: str) -> str:
    """
    How to show the key below `path`.

    A route may have any name.  Another key that is no plain word is not shown:
    it may be a value that lost its key, and so a secret.
    """
    if _PLAIN_NAME.fullmatch(key):
        return key
    return f'"{printable(key[:64])}"' if path == ("routes",) else "?"
