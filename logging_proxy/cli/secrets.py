"""
Redacts secrets in everything that is shown or exported, and knows how many there were and where.

How secrets are recognised is told in `redaction/` and, for bodies, in `understanding/redacted.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from logging_proxy.captures.heads import Headers
from logging_proxy.redaction.redact import (
    is_secret_parameter,
    redact_headers,
    redact_line,
    redact_text,
    redact_url,
)
from logging_proxy.understanding.media_types import Form
from logging_proxy.understanding.redacted import redact_body, redact_bytes, redact_events

NAMED = 6
"""Maximum number of places that are named."""


class Redactor:
    """Redacts secrets unless `reveal` is set, and remembers where it did."""

    def __init__(self, reveal: bool = False) -> None:
        self.reveal = reveal
        self._of_heads: dict[str, None] = {}
        """A head may be shown several times."""
        self._of_bodies: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many secrets were replaced."""
        return len(self._of_heads) + sum(self._of_bodies.values())

    def told(self) -> str:
        """How many secrets were replaced and where, in words; empty if there were none."""
        if not self.count:
            return ""
        places = [
            *self._of_heads,
            *(f"{place} ({n})" if n > 1 else place for place, n in self._of_bodies.items()),
        ]
        named = ", ".join(places[:NAMED]) + (", …" if len(places) > NAMED else "")
        return f"{self.count} secret{'s are' if self.count > 1 else ' is'} REDACTED: {named}"

    def note(self, count: int, place: str) -> None:
        """Remember secrets that were replaced elsewhere."""
        if count:
            self._of_bodies[place] += count

    def text(self, text: str) -> str:
        """Redact a text without structure."""
        return text if self.reveal else self._noted(text, redact_text(text), "a text")

    def url(self, url: str) -> str:
        return url if self.reveal else self._noted(url, redact_url(url), "the URL")

    def line(self, line: str) -> str:
        """Redact the start line of a head."""
        return line if self.reveal else self._noted(line, redact_line(line), "the URL")

    def headers(self, headers: Headers) -> Headers:
        fields = [(str(name), str(value)) for name, value in headers]
        if self.reveal:
            return fields
        redacted = redact_headers(fields)
        for before, after in zip(fields, redacted, strict=True):
            if before != after:
                self._of_heads[after[0].strip().lower() or "a header"] = None
        return redacted

    def hides(self, name: str) -> bool:
        """Whether the value of a form field of this name is a secret, which is then counted."""
        is_hidden = not self.reveal and is_secret_parameter(name)
        if is_hidden:
            self._of_bodies[redact_text(name)[:48]] += 1
        return is_hidden

    def body(self, text: str, form: Form) -> str:
        """Redact the text of a body by its structure."""
        if self.reveal:
            return text
        redacted = redact_body(text, form)
        self._note(redacted.places)
        return redacted.text

    def data(self, pieces: Iterable[bytes], form: Form, charset: str) -> Iterator[bytes]:
        """Redact the bytes of a body, which is held for it."""
        if self.reveal:
            return iter(pieces)
        redacted, places = redact_bytes(pieces, form, charset)
        self._note(places)
        return redacted

    def events(self, data: list[str]) -> list[str]:
        """Redact what successive events hold."""
        if self.reveal:
            return data
        redacted, places = redact_events(data)
        self._note(places)
        return redacted

    def _note(self, places: list[str]) -> None:
        self._of_bodies.update(place or "the body" for place in places)

    def _noted(self, before: str, after: str, place: str) -> str:
        if before != after:
            self._of_heads[place] = None
        return after
