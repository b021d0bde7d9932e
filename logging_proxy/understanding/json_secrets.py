"""
Finds the secrets in the text of JSON, whole, cut or broken, without parsing it into values.

A member is judged by its name, by the names above it, and by its value; strings that hold JSON are looked
into.  What has the structure of a schema, such as the parameters of a tool, holds no secrets of its own.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from logging_proxy.redaction.forms import form_spans
from logging_proxy.redaction.members import EXAMPLES, LABELS, SCHEMA, VALUES, is_describing
from logging_proxy.redaction.names import Strength, strength
from logging_proxy.redaction.texts import redact_forms, secret_spans
from logging_proxy.redaction.values import REDACTED, is_secret_by, looks_random
from logging_proxy.understanding.escapes import escaped, located, unescaped
from logging_proxy.understanding.json_strings import parse

MOST_SECRETS = 100_000
"""Replacements in one text; if there are more, everything after the last one is hidden."""

DEEPEST = 8
"""Levels of JSON in strings of JSON that are looked into; deeper ones are read as texts."""

SHORTEST = 8
"""Characters of a string that can hold more than a value."""

_LONGEST_NAME = 128
_LOOKED_AT = 1024
"""Characters of a value by which it is judged."""

_TOKEN = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"(\s*+:)?|\\?\Z)|[{}\[\]]', re.DOTALL)
"""A string, perhaps cut and perhaps the name of a member, or a bracket."""

_NUMBER = re.compile(r"\s*(-?\d{4,}[\d.eE+-]*)")
_JSON = re.compile(r'(?:\ufeff|\xef\xbb\xbf)?\s*(?:[{\[]\s*(?:["{\[\]}]|\Z)|"\s*(?:[{\[]|\\["nt]))')
"""How JSON begins, in a string and elsewhere; perhaps with a byte order mark."""

_GROWING = frozenset(
    """
    arguments content delta input output partial_json reasoning reasoning_content response text thinking
    transcript
    """.split()
)
_SIGNED = frozenset(["redacted_thinking", "signature_delta", "thinking"])
"""Types of blocks whose `signature` is made by the model's provider, for itself."""

_NAME = re.compile(r"[\w.$-]{1,64}", re.ASCII)


class Secret(NamedTuple):
    """A part of a text that is to be replaced, and where it is; never what it is."""

    start: int
    end: int
    where: str
    replacement: str = REDACTED


class _Container:
    """What is known of an object or a list that is open."""

    __slots__ = (
        *("is_object", "below", "is_origin", "first", "member", "judged", "count", "label", "values"),
        *("is_schema", "is_signed", "signature"),
    )

    def __init__(self, is_object: bool, member: str, below: Strength, is_origin: bool, first: int) -> None:
        self.is_object = is_object
        self.member = member
        """The name of the current member; in a list, the name that the list has."""
        self.below = below
        """How secret its strings are by the names above it."""
        self.is_origin = is_origin
        """Whether its own name makes it so."""
        self.first = first
        """How many secrets there were before it."""
        self.judged = Strength.NONE
        self.count = 0
        self.label = Strength.NONE
        self.values: list[tuple[int, int]] = []
        self.is_schema = is_object
        self.is_signed = False
        self.signature = -1


class Pieces:
    """Where the pieces of each growing string of a stream are in its text."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, ...], array[int]] = {}
        self.count = 0
        self.last: tuple[str, ...] = ()
        """The path of the last piece."""

    def add(self, path: tuple[str, ...], start: int, end: int) -> None:
        """A string that may go on was seen at this path."""
        self.places.setdefault(path, array("q")).extend((start, end))
        self.count += 1
        self.last = path


class JsonSecrets:
    """Finds the secrets of one JSON text, or of some texts of a stream; `found` has them."""

    def __init__(self, text: str, levels: int = 0, above: str = "", pieces: Pieces | None = None) -> None:
        self.found: list[Secret] = []
        self._inherited: set[int] = set()
        """Which of `found` are only hidden for a name above them."""
        self._text = text
        self._levels = levels
        self._above = above
        self._pieces = pieces
        self._position: tuple[str, ...] = ()
        self._open: list[_Container] = []

    @property
    def is_full(self) -> bool:
        return len(self.found) >= MOST_SECRETS

    def scan(self, start: int, end: int, position: tuple[str, ...] = ()) -> bool:
        """Look through a part of the text; False if it is not whole JSON.  `position` tells streams apart."""
        text, self._position = self._text, position
        opened = self._open = [_Container(False, "", Strength.NONE, False, len(self.found))]
        is_whole = True
        for match in _TOKEN.finditer(text, start, end):
            sign = text[match.start()]
            if sign == '"':
                if match[2]:
                    self._name(opened[-1], match.start(1), match.end(1), match.end())
                else:
                    self._string(opened[-1], match.start(1), match.end(1))
                    is_whole = is_whole and match.end() > match.end(1)
            elif sign in "{[":
                self._begin(opened[-1], sign == "{")
            elif len(opened) > 1:
                is_whole = is_whole and opened[-1].is_object == (sign == "}")
                self._end(opened.pop())
            if len(self.found) >= MOST_SECRETS:
                self.found.append(Secret(match.end(), end, "all of the rest"))
                return True
        is_whole = is_whole and len(opened) == 1
        while len(opened) > 1:
            self._end(opened.pop())
        return is_whole

    # --- tokens

    def _name(self, container: _Container, start: int, end: int, value_at: int) -> None:
        name = unescaped(self._text[max(start, end - _LONGEST_NAME) : end])
        if name not in SCHEMA:
            container.is_schema = False
        container.member, container.judged = name, strength(name)
        if name == "thinking":
            container.is_signed = True
        if end - start >= SHORTEST and form_spans(self._text[start:end]):
            self._hide(start, end)
        if container.judged is Strength.STRONG and not name.endswith("s"):
            number = _NUMBER.match(self._text, value_at)
            if number is not None:
                self._hide(*number.span(1), replacement=f'"{REDACTED}"')

    def _begin(self, container: _Container, is_object: bool) -> None:
        container.count += 1
        own = max(container.judged, container.label if container.member in VALUES else Strength.NONE)
        below = max(container.below, own if own >= Strength.WEAK else Strength.NONE)
        is_origin = below > container.below
        self._open.append(_Container(is_object, container.member, below, is_origin, len(self.found)))

    def _end(self, container: _Container) -> None:
        if container.label >= Strength.WEAK:
            for start, end in container.values:
                if is_secret_by(container.label, self._value(start, end)):
                    self._hide(start, end)
        if container.is_signed and container.signature >= 0:
            self.found[container.signature] = Secret(0, 0, "")
        if container.is_origin and container.is_object and container.is_schema:
            self._spare(container.first)

    def _spare(self, first: int) -> None:
        """Show again what was hidden only for the name of a schema."""
        hidden, self.found[first:] = self.found[first:], []
        for number, secret in enumerate(hidden, first):
            if number in self._inherited:
                self._inherited.discard(number)
                self._look_inside(secret.start, secret.end)
            else:
                self.found.append(secret)

    # --- strings

    def _string(self, container: _Container, start: int, end: int) -> None:
        member, below = container.member, container.below
        container.count += 1
        judged = container.judged if container.is_object else Strength.NONE
        if container.is_object:
            self._member(container, member, start, end)
        elif container.count == 1 and end - start <= _LONGEST_NAME:
            label = self._text[start:end]
            container.label = min(strength(label), Strength.WEAK) if _NAME.fullmatch(label) else Strength.NONE
        elif container.count == 2:
            container.values.append((start, end))
        elif container.count == 3:
            container.label = Strength.NONE
        if self._pieces is not None and (member in _GROWING or self._is_below_delta()):
            self._pieces.add(self._names(), start, end)
        if judged < Strength.WEAK and below < Strength.WEAK:
            if end - start >= SHORTEST:
                self._look_inside(start, end)
            return
        value = self._value(start, end)
        if is_secret_by(judged, value, member):
            if member == "signature":
                container.signature = len(self.found)
            self._hide(start, end)
        elif self._is_inherited(below, member, value):
            if member not in EXAMPLES or not looks_random(value):
                self._inherited.add(len(self.found))
            self._hide(start, end)
        else:
            self._look_inside(start, end)

    def _member(self, container: _Container, member: str, start: int, end: int) -> None:
        """Remember what a string says about the other members of its object."""
        if member in LABELS:
            if end - start <= _LONGEST_NAME:
                container.label = max(container.label, strength(unescaped(self._text[start:end])))
        elif member in VALUES:
            container.values.append((start, end))
        elif member == "type" and self._text[start : min(end, start + 32)] in _SIGNED:
            container.is_signed = True

    @staticmethod
    def _is_inherited(below: Strength, member: str, value: str) -> bool:
        if below is Strength.WEAK and is_describing(member):
            return False
        return is_secret_by(below, value)

    def _value(self, start: int, end: int) -> str:
        return unescaped(self._text[start : min(end, start + _LOOKED_AT)])

    def _look_inside(self, start: int, end: int) -> None:
        """Hide what the text of a string has of secrets, whatever its name."""
        if start == end:
            return
        literal = self._text[start:end]
        secrets = secrets_in(unescaped(literal), self._levels + 1, self._where())
        for secret, at, to in back_in(literal, secrets):
            replacement = secret.replacement
            if '"' in replacement:
                replacement = escaped(replacement)
            self.found.append(Secret(start + at, start + to, secret.where, replacement))

    # --- results

    def _hide(self, start: int, end: int, replacement: str = REDACTED) -> None:
        self.found.append(Secret(start, end, self._where(), replacement))

    def _names(self) -> tuple[str, ...]:
        opened = self._open
        if len(opened) > 24:
            opened = opened[:12] + opened[-12:]
        # The items of a list of all events are not told apart.
        names = [
            each.member if each.is_object else str(each.count) if level > 1 else ""
            for level, each in enumerate(opened)
        ]
        return (*names, *self._position)

    def _is_below_delta(self) -> bool:
        return any(each.member == "delta" and each.is_object for each in self._open[-6:])

    def _where(self) -> str:
        """The path of what was read last, without the numbers of items; long paths and names are cut."""
        opened = self._open if len(self._open) < 10 else [*self._open[:4], *self._open[-5:]]
        path = self._above
        for container in opened[1:]:
            if not container.is_object:
                path += "[]"
            elif container.member:
                path += f"{'.' if path else ''}{redact_forms(container.member)[:48]}"
        return path


def secrets_in(text: str, levels: int = 0, where: str = "") -> list[Secret]:
    """The secrets in a text that may be JSON, sorted, without overlaps."""
    if levels <= DEEPEST and _JSON.match(text):
        json = JsonSecrets(text, levels, where)
        is_whole = json.scan(0, len(text))
        found = json.found
        if not is_whole or (len(text) <= 1 << 20 and parse(text) is None):
            found += [Secret(start, end, where) for start, end in secret_spans(text)]
        return apart(found)
    return [Secret(start, end, where) for start, end in secret_spans(text)]


def apart(secrets: list[Secret]) -> list[Secret]:
    """`secrets` sorted; those that overlap become one."""
    result: list[Secret] = []
    for secret in sorted(secrets):
        if secret.start == secret.end:
            continue
        if result and secret.start < result[-1].end:
            if secret.end > result[-1].end:
                result[-1] = result[-1]._replace(end=secret.end, replacement=REDACTED)
        else:
            result.append(secret)
    return result


def back_in(literal: str, secrets: list[Secret]) -> Iterator[tuple[Secret, int, int]]:
    """Where in a JSON string the secrets of its unescaped text are."""
    places = located(literal, (place for secret in secrets for place in (secret.start, secret.end)))
    for secret in secrets:
        yield secret, next(places), next(places)
