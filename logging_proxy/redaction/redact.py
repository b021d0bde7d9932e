"""
Removes secrets from everything derived from captures: index, views, exports, diagnostics.

Captures themselves stay exact.  All functions work on values and never
raise; they replace each secret by `REDACTED`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from logging_proxy.redaction.names import is_secret_name, is_secret_parameter
from logging_proxy.redaction.texts import redact_forms, redact_text
from logging_proxy.redaction.values import REDACTED

__all__ = [
    "REDACTED",
    "is_secret_header",
    "is_secret_name",
    "is_secret_parameter",
    "redact_headers",
    "redact_line",
    "redact_text",
    "redact_url",
]

_WITH_URLS = frozenset(["content-location", "location", "origin", "referer", "x-proxy-path"])
_WITH_HOSTS = frozenset(["host", "x-forwarded-host", "x-original-host"])
_PROTOCOLS = "sec-websocket-protocol"

_ENCODED = r"%(?:25){0,3}"
_PARAMETER = re.compile(
    rf"(?:[?&;#]|{_ENCODED}(?:3[BbFf]|2[36]))"
    rf"(?P<name>(?:(?!{_ENCODED}(?:3[BDFbdf]|2[36]))[^=&;#?])*)"
    rf"(?P<equals>=|{_ENCODED}3[Dd])"
)
"""The beginning of a parameter, also percent-encoded, as in a URL that is a parameter of another one."""

_ATTRIBUTE = re.compile(r"(?:\A|[?&;#,])(?P<name>[^=&;#?,]*)(?P<equals>=)")
"""The beginning of a parameter in a header field's value."""

_END = re.compile(r"[&#]")
_END_IN_PATH = re.compile(r"[/?&#;\s]")
_END_OF_ENCODED = re.compile(rf"[&#]|{_ENCODED}2[36]")

_USERINFO = re.compile(r"(://|(?:\A|[\s<\"',(])//)[^/?#\s]+@")
_ENCODED_USERINFO = re.compile(r"(?i)(%3A%2F%2F)(?:(?!%2F|%3F|%23)[^/?#&\s])+%40")

_WORD = re.compile(r'(?:="[^"]*"?|[^\s<>"])+')
"""A part of a header field's value that may be a URL or a parameter."""

_MEMBER = re.compile(r'"([^"\\]{1,128})"(\s*:\s*)"((?:[^"\\]|\\.)*)')
_CREDENTIALS = re.compile(
    r"(?i)\s*(?:bearer\s+(?!\w+\s*=\s*[^=\s])\S|(?:api-?key|basic|negotiate|ntlm|token)\s+[\w+/.~-]{8,}={0,2}\s*\Z)"
)
"""An authentication scheme with credentials, as opposed to a challenge such as `realm=`."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:")
_PIECE = re.compile(r"[^./:+\s_-]+")
_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16,}|[A-Za-z0-9]{40,}")
_RANDOM_WHOLE = re.compile(r"(?i)[0-9a-f-]{32,}")

# --- URLs --------------------------------------------------------------------------


def redact_url(url: str) -> str:
    """
    `url` without user information, and without the values of secret parameters.

    In a longer line everything after such a parameter's name is removed: secrets may contain any character.
    """
    if "@" in url or "%40" in url:
        url = _USERINFO.sub(rf"\1{REDACTED}:{REDACTED}@", url)
        url = _ENCODED_USERINFO.sub(rf"\1{REDACTED}%3A{REDACTED}%40", url)
    if "=" in url or "%" in url:
        url = _without_values(url, _PARAMETER)
    return redact_forms(url)


def _without_values(text: str, parameter: re.Pattern[str]) -> str:
    """`text` without the values of secret parameters."""
    parts, done = [], 0
    path_end = text.find("?")
    for match in parameter.finditer(text):
        if match.start() < done or not is_secret_parameter(match["name"]):
            continue
        in_path = match[0][0] == ";" and not -1 < path_end < match.start()
        encoded = match["equals"] != "="
        pattern = _END_OF_ENCODED if encoded else _END_IN_PATH if in_path else _END
        end = pattern.search(text, match.end())
        parts += [text[done : match.end()], REDACTED]
        done = end.start() if end else len(text)
    return "".join([*parts, text[done:]]) if parts else text


# --- headers -----------------------------------------------------------------------


def is_secret_header(name: str) -> bool:
    """Whether a header field's values are secret, by its name in any case."""
    return is_secret_name(name.strip())


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same names in the same order, with secrets removed from the values."""
    fields = _Fields()
    return [fields.redact(name, value) for name, value in headers]


def redact_line(line: str) -> str:
    """A line of a message head, well-formed or not, without secrets."""
    field = _FIELD.match(line)
    if field is not None:
        value = line[field.end() :]
        ((_, redacted),) = redact_headers([(field[1], value.strip())])
        return line if redacted == value.strip() else f"{line[: field.end()]} {redacted}"
    first, blank, rest = line.partition(" ")
    target, space, version = rest.rpartition(" ")
    if not version.startswith("HTTP/"):
        return f"{first} {REDACTED}" if rest and is_secret_name(first) else redact_url(line)
    return f"{first}{blank}{redact_url(target)}{space}{version}"


class _Fields:
    """Redacts the fields of one head in their order, since a field may depend on the one before."""

    def __init__(self) -> None:
        self._hidden = False
        """The previous field was secret; a line that begins with a blank continues it."""
        self._label = False
        """The previous subprotocol named a secret, which the next one contains."""

    def redact(self, name: str, value: str) -> tuple[str, str]:
        if name[:1] in (" ", "\t") and self._hidden:
            return " ", REDACTED
        self._hidden = is_secret_header(name)
        if self._hidden:
            return self._without_rest(name), REDACTED if value or _TOKEN.fullmatch(name.strip()) else ""
        return name if _TOKEN.fullmatch(name) else redact_url(name), self._value(name.strip().lower(), value)

    @staticmethod
    def _without_rest(name: str) -> str:
        """Only the first word of a line without a colon, which names the secret."""
        start = _TOKEN.match(name.lstrip())
        if start is None:
            return REDACTED
        return name if start[0] == name.strip() else f"{start[0]} {REDACTED}"

    def _value(self, name: str, value: str) -> str:
        if name == _PROTOCOLS:
            return ",".join(map(self._protocol, value.split(",")))
        if name in _WITH_URLS:
            return redact_url(value)
        if name in _WITH_HOSTS and "@" in value:
            return f"{REDACTED}@{value.rpartition('@')[2]}"
        return _redact_value(value)

    def _protocol(self, text: str) -> str:
        """
        Redact a subprotocol (RFC 6455 §1.9).

        Browsers can set no other header field of a WebSocket request, so clients send keys in it: after a
        name and a dot (`openai-insecure-api-key.sk-...`), or as the next item (`auth-token, eyJ...`).
        """
        protocol = text.strip()
        if not protocol:
            return text
        blank = text[: len(text) - len(text.lstrip())]
        if self._label:
            self._label = False
            return blank + REDACTED
        end = _end_of_label(protocol)
        if end:
            self._label = end == len(protocol)
            return blank + protocol[: end + 1] + ("" if self._label else REDACTED)
        random = _RANDOM_WHOLE.fullmatch(protocol) or any(map(_RANDOM.fullmatch, _PIECE.findall(protocol)))
        return blank + (REDACTED if random else redact_text(protocol))


def _end_of_label(protocol: str) -> int:
    """The end of a secret's name at the beginning of a subprotocol; 0 if there is none."""
    end = 0
    for piece in _PIECE.finditer(protocol):
        if end and not is_secret_name(piece[0]):
            break
        if end or is_secret_name(protocol[: piece.end()]):
            end = piece.end()
    return end


def _redact_value(value: str) -> str:
    """A header field's value without credentials, secrets in URLs, and secret parameters."""
    if _CREDENTIALS.match(value):
        return f"{value.split()[0]} {REDACTED}"
    if '"' in value and ":" in value:
        value = _MEMBER.sub(_without_member, value)
    if "=" in value or "%" in value or "@" in value:
        value = _WORD.sub(_redact_word, value)
    return redact_text(value)


def _redact_word(match: re.Match[str]) -> str:
    return redact_url(_without_values(match[0], _ATTRIBUTE))


def _without_member(match: re.Match[str]) -> str:
    return f'"{match[1]}"{match[2]}"{REDACTED}' if is_secret_name(match[1]) else match[0]
