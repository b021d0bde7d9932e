"""
Mistakes in a configuration, and their positions.

Mistakes are collected rather than raised one at a time, so that the user sees
all of them at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KeyPath = tuple[str, ...]
"""Names of keys from the top of the file, in printable form: ``("routes", "lmstudio", "pattern")``."""

_PLAIN_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file.  Lines and columns count from 1; 0 means the file as a whole."""

    line: int = 0
    column: int = 0


WHOLE_FILE = Position()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `str` gives the line shown to the user."""

    filename: str
    line: int
    column: int
    key_path: str
    message: str

    def __str__(self) -> str:
        return self._shown()

    def as_warning(self) -> str:
        """The line for a problem that is no mistake."""
        return self._shown("warn")

    def _shown(self, mark: str = "") -> str:
        place = f"{self.filename}:{self.line}:{self.column}" if self.line else self.filename
        return printable(": ".join(part for part in (place, mark, self.key_path, self.message) if part))


class ConfigurationError(Exception):
    """The configuration is invalid; `problems` holds every mistake, sorted by position."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Findings:
    """Collects the mistakes of a file, and the position of each of its keys."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._problems: list[Problem] = []
        self._faulty: set[KeyPath] = set()
        self._positions: dict[KeyPath, Position] = {}

    def add(self, position: Position, path: KeyPath, message: str) -> None:
        """Record a mistake."""
        self._faulty.add(path)
        self._problems.append(self.problem(position, path, message))

    def problem(self, position: Position, path: KeyPath, message: str) -> Problem:
        """Make a problem of this file without recording it as a mistake."""
        return Problem(self._filename, position.line, position.column, ".".join(path), message)

    def place(self, path: KeyPath, position: Position) -> None:
        """Record the position of a key."""
        self._positions[path] = position

    def position(self, *paths: KeyPath) -> Position:
        """The position of the first of these keys that is in the file."""
        return next((self._positions[path] for path in paths if path in self._positions), WHOLE_FILE)

    def given(self, *paths: KeyPath) -> KeyPath:
        """The first of these keys that is in the file, or else the first of them."""
        return next((path for path in paths if path in self._positions), paths[0])

    def sound(self, *paths: KeyPath) -> bool:
        """Whether these keys and the sections that contain them have no recorded mistakes."""
        return not any(path[:length] in self._faulty for path in paths for length in range(len(path) + 1))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All recorded mistakes, sorted by position."""
        return tuple(sorted(self._problems, key=position_of))


def position_of(problem: Problem) -> Position:
    """Where a problem is, for sorting."""
    return Position(problem.line, problem.column)


def printable(text: str) -> str:
    """The text with escapes for control characters, line breaks and characters that cannot be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def key_name(path: KeyPath, key: str) -> str:
    """
    Return the printable name of the key below `path`.

    Route names are shown whatever they are.  Any other key that is not a plain word
    is hidden: it may be a value whose key is missing, and therefore a secret.
    """
    if _PLAIN_NAME.fullmatch(key):
        return key
    return f'"{printable(key[:64])}"' if path == ("routes",) else "?"
