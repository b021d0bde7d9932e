"""
The kinds of value that a key may have.

A kind defines what is accepted: it reads a node, words the mistake, and
describes itself for the JSON Schema and the reference.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from logging_proxy.configuration import document
from logging_proxy.configuration.document import Node, Scalar

T = TypeVar("T")

JSONSchema = dict[str, Any]

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|[KMGT]iB)")
_AGES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(0|[1-9][0-9]{0,10})([smhd]?)")
_SHOWABLE = re.compile(r"[!-~]{1,60}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a value may refer to outside of the file."""

    environ: Mapping[str, str]
    read_file: Callable[[str], bytes]
    """Returns the content of a small file, or raises `OSError`."""
    tls_files: bool = True
    """Whether certificate and key files of TLS settings are read."""


class Mistake(ValueError):
    """A value is not acceptable; the text names the problem and what was expected, in one line."""


class Kind(ABC, Generic[T]):
    """The type of a key's value."""

    @abstractmethod
    def expected(self) -> str:
        """A description of acceptable values, used after the word "expected" and in the reference."""

    @abstractmethod
    def read(self, node: Node, surroundings: Surroundings) -> T:
        """Return the node's value, or raise `Mistake`."""

    @abstractmethod
    def schema(self) -> JSONSchema:
        """A JSON Schema that accepts what `read` accepts, as far as JSON Schema can express it."""

    def written(self, value: T) -> str:
        """The value in YAML notation."""
        return json.dumps(value)

    def unexpected(self, node: Node, hint: str = "") -> Mistake:
        """The mistake for a node that is not of this kind."""
        if isinstance(node, Scalar) and node.type == "null":
            return Mistake(f"no value is given: expected {self.expected()}")
        return Mistake(f"expected {self.expected()}, not {shown(node)}{hint}")


def shown(node: Node) -> str:
    """How a message names a node: short words are quoted, everything else is named by its type."""
    if not isinstance(node, Scalar) or not _SHOWABLE.fullmatch(node.text):
        return shown_type(node)
    return f"'{node.text}'" if node.type == "str" else node.text


def shown_type(node: Node) -> str:
    """The type of a node, without its content."""
    if isinstance(node, document.Mapping):
        return "a mapping"
    if not isinstance(node, Scalar):
        return "a list"
    if node.type == "str":
        return "this text" if node.text else "an empty text"
    return {"bool": "true or false", "int": "a number", "float": "a number"}.get(node.type, "this value")


class Boolean(Kind[bool]):
    """`true`, `false`, and the synonyms of YAML 1.1."""

    def expected(self) -> str:
        return "true or false"

    def read(self, node: Node, surroundings: Surroundings) -> bool:
        if isinstance(node, Scalar) and node.type == "bool":
            return node.text.lower() in ("true", "yes", "on")
        quoted = isinstance(node, Scalar) and node.text in ("true", "false")
        raise self.unexpected(node, " (remove the quotes)" if quoted else "")

    def schema(self) -> JSONSchema:
        return {"type": "boolean"}


class BooleanOr(Kind[bool | str]):
    """A boolean, or one word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def expected(self) -> str:
        return f"true, false or {self.word}"

    def read(self, node: Node, surroundings: Surroundings) -> bool | str:
        if isinstance(node, Scalar) and node.text == self.word:
            return self.word
        try:
            return BOOLEAN.read(node, surroundings)
        except Mistake:
            hint = nearest(node.text, (self.word,)) if isinstance(node, Scalar) else ""
            raise self.unexpected(node, hint) from None

    def schema(self) -> JSONSchema:
        return {"anyOf": [BOOLEAN.schema(), {"enum": [self.word]}]}


@dataclass(frozen=True, slots=True)
class Integer(Kind[int]):
    """An integer within bounds, in plain decimal notation."""

    minimum: int
    maximum: int
    noun: str = "a whole number"

    def expected(self) -> str:
        return f"{self.noun} from {self.minimum} to {self.maximum}"

    def read(self, node: Node, surroundings: Surroundings) -> int:
        if not isinstance(node, Scalar) or not _DECIMAL.fullmatch(node.text):
            odd = isinstance(node, Scalar) and node.type == "int"
            raise self.unexpected(node, " (write it in plain decimal)" if odd else "")
        if node.type != "int":
            raise self.unexpected(node, " (remove the quotes)")
        value = int(node.text)
        if not self.minimum <= value <= self.maximum:
            raise self.unexpected(node)
        return value

    def schema(self) -> JSONSchema:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


AUTO = 0
"""The value of an `AutoInteger` that was set to `auto`."""


class AutoInteger(Integer):
    """An integer within bounds, or `auto`."""

    def expected(self) -> str:
        return f"{super().expected()}, or auto"

    def read(self, node: Node, surroundings: Surroundings) -> int:
        if isinstance(node, Scalar) and node.text == "auto":
            return AUTO
        return super().read(node, surroundings)

    def schema(self) -> JSONSchema:
        return {"anyOf": [super().schema(), {"enum": ["auto"]}]}

    def written(self, value: int) -> str:
        return "auto" if value == AUTO else super().written(value)


@dataclass(frozen=True, slots=True)
class Duration(Kind[float]):
    """A duration in seconds, above 0; fractions are allowed."""

    maximum: int = 31_536_000
    """One year.  Longer durations would overflow the timeout of poll()."""

    def expected(self) -> str:
        return f"a number of seconds above 0, {self.maximum} at most"

    def read(self, node: Node, surroundings: Surroundings) -> float:
        if not isinstance(node, Scalar) or node.type not in ("int", "float"):
            quoted = isinstance(node, Scalar) and _DECIMAL.fullmatch(node.text)
            raise self.unexpected(node, " (remove the quotes)" if quoted else "")
        odd = not _DECIMAL.fullmatch(node.text) if node.type == "int" else not set("_:").isdisjoint(node.text)
        if odd:
            raise self.unexpected(node, " (write it in plain decimal)")
        value = _number(node)
        if not 0 < value <= self.maximum:
            raise self.unexpected(node)
        return value

    def schema(self) -> JSONSchema:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": self.maximum}


def _number(node: Scalar) -> float:
    if node.type == "int":
        return int(node.text)
    special = node.text.lstrip("+-").lower() in (".inf", ".nan")
    return math.nan if special else float(node.text)


@dataclass(frozen=True, slots=True)
class Size(Kind[int]):
    """A number of bytes: an integer, optionally with a binary unit."""

    minimum: int
    maximum: int

    def expected(self) -> str:
        return f"a size from {self.written(self.minimum)} to {self.written(self.maximum)}"

    def read(self, node: Node, surroundings: Surroundings) -> int:
        value = self._bytes(node)
        if not self.minimum <= value <= self.maximum:
            raise self.unexpected(node)
        return value

    def _bytes(self, node: Node) -> int:
        if isinstance(node, Scalar) and node.type == "int" and _DECIMAL.fullmatch(node.text):
            return int(node.text)
        size = _SIZE.fullmatch(node.text) if isinstance(node, Scalar) and node.type == "str" else None
        if size is None:
            raise self.unexpected(node, " (write bytes, or a whole number and B, KiB, MiB, GiB or TiB)")
        return int(size[1]) * _UNITS[size[2]]

    def schema(self) -> JSONSchema:
        number = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}

    def written(self, value: int) -> str:
        unit = max((unit for unit in _UNITS.values() if value % unit == 0 and value), default=1)
        name = next(name for name, size in _UNITS.items() if size == unit)
        return f"{value // unit}{name}"


@dataclass(frozen=True, slots=True)
class Age(Kind[int]):
    """A long duration: an integer number of seconds, or an integer with a unit."""

    maximum_days: int = 36_500

    def expected(self) -> str:
        return f"an age such as 90d, 36h, 10m or 600 (seconds), {self.written(self._maximum)} at most"

    @property
    def _maximum(self) -> int:
        return self.maximum_days * _AGES["d"]

    def read(self, node: Node, surroundings: Surroundings) -> int:
        match = _AGE.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is None or not isinstance(node, Scalar) or node.type not in ("int", "str"):
            raise self.unexpected(node)
        if (node.type == "str") != bool(match[2]):
            raise self.unexpected(node, " (remove the quotes)" if not match[2] else "")
        value = int(match[1]) * _AGES[match[2]]
        if not 0 < value <= self._maximum:
            raise self.unexpected(node)
        return value

    def schema(self) -> JSONSchema:
        number = {"type": "integer", "minimum": 1, "maximum": self._maximum}
        return {"anyOf": [number, {"type": "string", "pattern": "^[1-9][0-9]{0,10}[smhd]$"}]}

    def written(self, value: int) -> str:
        unit = next(unit for unit in ("d", "h", "m", "s") if value % _AGES[unit] == 0)
        return f"{value // _AGES[unit]}{unit}"


class Choice(Kind[str]):
    """One of several fixed words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def expected(self) -> str:
        return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"

    def read(self, node: Node, surroundings: Surroundings) -> str:
        if not isinstance(node, Scalar):
            raise self.unexpected(node)
        if node.text in self.choices:
            return node.text
        raise self.unexpected(node, nearest(node.text, self.choices))

    def schema(self) -> JSONSchema:
        return {"enum": list(self.choices)}

    def written(self, value: str) -> str:
        return value


class Text(Kind[str]):
    """A string, which subclasses validate further."""

    def read(self, node: Node, surroundings: Surroundings) -> str:
        if not isinstance(node, Scalar) or node.type == "null":
            raise self.unexpected(node)
        self.check(replace(node, type="str"))
        if node.type != "str":
            raise self.unexpected(node, " (put it in quotes)")
        return node.text

    @abstractmethod
    def check(self, node: Scalar) -> None:
        """Raise `Mistake` if the text is not acceptable."""


@dataclass(frozen=True, slots=True)
class Matching(Text):
    """A string that must match a regular expression as a whole, in Python and in JSON Schema alike."""

    noun: str
    expression: str

    def expected(self) -> str:
        return self.noun

    def check(self, node: Scalar) -> None:
        if not re.fullmatch(self.expression, node.text):
            raise self.unexpected(node)

    def schema(self) -> JSONSchema:
        return {"type": "string", "pattern": f"^({self.expression})$"}


def nearest(name: str, known: tuple[str, ...]) -> str:
    """A hint at the known name closest to `name`, or an empty string."""
    folded = name.lower().replace("-", "_")
    close = difflib.get_close_matches(folded, known, n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""


AGE = Age()
BOOLEAN = Boolean()
DURATION = Duration()
