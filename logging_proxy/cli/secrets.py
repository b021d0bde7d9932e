"""
Redacts secrets in everything that is shown or exported, and counts them.

Only values are replaced, so that JSON stays JSON.
"""

from __future__ import annotations

import re

from logging_proxy.captures.heads import Headers
from logging_proxy.redaction.redact import (
    REDACTED,
    REDACTED,
    redact_headers,
    redact_line,
    redact_text,
    redact_url,
)

_MEMBER = re.compile(r'(?s)(\\{0,8}")([^"\\]{1,128})\1(\s*:\s*)\1((?:[^"\\]|\\.)*?)(\1|\\?\Z)')
"""
A member of a JSON object whose value is a string, possibly cut.

Inside strings that contain JSON, the quotes are preceded by backslashes.
"""

_FORM = "application/x-www-form-urlencoded"


class Redactor:
    """Redacts secrets unless `reveal` is set; `count` is the number of replacements."""

    def __init__(self, reveal: bool = False) -> None:
        self.reveal = reveal
        self.count = 0

    def text(self, text: str) -> str:
        """Redact secrets that can be recognised by their form alone."""
        return text if self.reveal else self._counted(text, redact_text(text))

    def url(self, url: str) -> str:
        return url if self.reveal else self._counted(url, redact_url(url))

    def line(self, line: str) -> str:
        """Redact the start line of a head."""
        return line if self.reveal else self._counted(line, redact_line(line))

    def headers(self, headers: Headers) -> Headers:
        fields = [(str(name), str(value)) for name, value in headers]
        if self.reveal:
            return fields
        redacted = redact_headers(fields)
        self.count += sum(before != after for before, after in zip(fields, redacted, strict=True))
        return redacted

    def hides(self, name: str) -> bool:
        """Whether the value of a field of this name is a secret, which is then counted."""
        is_hidden = not self.reveal and is_secret_key(name)
        self.count += is_hidden
        return is_hidden

    def member(self, name: str, value: str) -> str:
        """Redact the string value of the JSON member `name`."""
        if not self.reveal and value and is_secret_key(name):
            self.count += 1
            return REDACTED
        return value if self.reveal else self._members(value)

    def body(self, text: str, content_type: str) -> str:
        """Redact the text of a body according to its format."""
        if self.reveal:
            return text
        if content_type.partition(";")[0].strip().lower() == _FORM:
            return self.url(f"?{text}")[1:]
        return self._members(text)

    def _members(self, text: str) -> str:
        return self.text(_MEMBER.sub(self._member, text))

    def _member(self, match: re.Match[str]) -> str:
        quote, name, colon, value, end = match.groups()
        if not value or not is_secret_key(name):
            return match[0]
        self.count += 1
        return f"{quote}{name}{quote}{colon}{quote}{REDACTED}{end}"

    def _counted(self, before: str, after: str) -> str:
        if before != after:
            self.count += max(1, after.count(REDACTED) - before.count(REDACTED))
        return after
