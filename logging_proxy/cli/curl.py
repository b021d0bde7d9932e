"""
Exports a request as a curl command that repeats it.

All captured text is quoted, so that the shell does not interpret it.  Secrets
are replaced by references to environment variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from urllib.parse import urlsplit

from logging_proxy.cli.messages import Message, start_of
from logging_proxy.cli.redacting import redacted_body
from logging_proxy.cli.secrets import Redactor
from logging_proxy.redaction.redact import REDACTED

LONGEST_ARGUMENT = 100_000
"""Bytes; Linux allows 128 KiB for one argument."""

_LEFT_OUT = frozenset(["host", "content-length", "connection", "x-proxy-path", "keep-alive"])
"""Fields that curl generates, that belong to the connection, or that the capture added."""

_DEFAULTS = {"user-agent": "User-Agent", "accept": "Accept"}
"""Fields that curl sends unless they are overridden."""

_EXPECTS_FROM = 1024
"""Body size in bytes from which curl sends `Expect: 100-continue`; since 7.84 it is 1 MiB."""

_SCHEME = re.compile(r"(?i)(bearer|basic|token|digest|apikey)\s+")
_KEY_HEADERS = frozenset(["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-litellm-api-key"])
_KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.anthropic.com": "ANTHROPIC_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.x.ai": "XAI_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
}
_PLAIN = re.compile(r"[A-Za-z0-9_@+:,./-][A-Za-z0-9_@%+=:,./-]*", re.ASCII)
_OUTSIDE = re.compile(r"'|\\{2,}|\\(?='|\Z)")
"""What fish, unlike other shells, takes for an escape in single quotes, and what ends them."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")


@dataclass(slots=True)
class Curl:
    """
    A curl command; the file `body_file` must have the content `body` when it is run.

    `variables` are the environment variables that it needs, in the order of use.
    """

    text: str
    body: Iterable[bytes] | None = None
    variables: list[str] = field(default_factory=list)


def curl_command(
    message: Message, url: str, destination: str, route: str, body_file: str, redactor: Redactor
) -> Curl:
    """The command that sends `message` to `url`; `destination` and `route` give the API key's variable."""
    return _Command(message, destination, route, redactor).make(url, body_file)


class _Command:
    def __init__(self, message: Message, destination: str, route: str, redactor: Redactor) -> None:
        self._message = message
        self._redactor = redactor
        self._start = start_of(message.pieces(), LONGEST_ARGUMENT + 1)
        """The body, or as much of it as shows that it is too long for an argument."""
        self._given = redacted_body(message, redactor)
        self._key = key_variable(destination, route)
        self._variables: dict[str, None] = {}

    def make(self, url: str, body_file: str) -> Curl:
        message = self._message
        sends_body = bool(self._start) or self._is_empty_body()
        words = [f"curl {self._url(url)}", *self._method(sends_body)]
        if message.head.third == "HTTP/1.0":
            words.append("--http1.0")
        words += [f"--header {field}" for field in self._fields(sends_body)]
        if "gzip" in message.header("accept-encoding").lower():
            words.append("--compressed")
        body = None
        if sends_body:
            argument, body = self._body(body_file)
            words.append(argument)
        return Curl(" \\\n  ".join(words), body, list(self._variables))

    def _is_empty_body(self) -> bool:
        """Whether the request declares an empty body, which curl must be told about."""
        if self._start:
            return False
        if "chunked" in self._message.header("transfer-encoding").lower():
            return True
        return self._message.head.first != "HEAD" and self._declares_nothing()

    def _declares_nothing(self) -> bool:
        length = self._message.header("content-length")
        return length.isdecimal() and not int(length[:20])

    def _method(self, sends_body: bool) -> list[str]:
        method = self._message.head.first
        if method == "HEAD" and not sends_body:
            return ["--head", *(["--header 'Content-Length: 0'"] if self._declares_nothing() else [])]
        if method == "HEAD":
            # With --head curl sends no body; without it, curl waits for the body that the response announces.
            return ["--request HEAD --ignore-content-length --header 'Connection: close'"]
        return [] if method == ("POST" if sends_body else "GET") else [f"--request {quoted(method)}"]

    def _url(self, url: str) -> str:
        """The quoted URL, with variables in place of secrets in its query."""
        redacted = self._redactor.url(url)
        flags = "--globoff --path-as-is " if any(each in url for each in "[]{}") or "/." in url else ""
        pieces = redacted.split(f"={REDACTED}")
        joined = [quoted(pieces[0])]
        for piece in pieces[1:]:
            joined.append(quoted("=") + self._reference(self._key) + (quoted(piece) if piece else ""))
        return flags + "".join(joined)

    def _fields(self, sends_body: bool) -> Iterator[str]:
        headers = self._message.head.headers
        present = {name.lower() for name, _ in headers}
        for (name, value), (_, shown) in zip(headers, self._redactor.headers(headers), strict=True):
            # curl may take an argument that is not a valid field for the name of a file.
            if name.lower() in _LEFT_OUT or not _TOKEN.fullmatch(name):
                continue
            if name.lower() == "content-encoding" and self._given.is_decoded:
                continue
            if not value:
                yield _quoted_latin(f"{name};")
            elif shown == REDACTED != value:
                yield self._secret(name, value)
            else:
                yield _quoted_latin(f"{name}: {shown}")
        for lower, name in _DEFAULTS.items():
            if lower not in present:
                yield quoted(f"{name}:")
        if sends_body and "content-type" not in present:
            yield quoted("Content-Type:")
        if len(self._start) >= _EXPECTS_FROM and "expect" not in present:
            yield quoted("Expect:")

    def _secret(self, name: str, value: str) -> str:
        scheme = _SCHEME.match(value)
        variable = self._key if name.lower() in _KEY_HEADERS else variable_name(name)
        return _quoted_latin(f"{name}: {scheme[0] if scheme else ''}") + self._reference(variable)

    def _reference(self, variable: str) -> str:
        self._variables[variable] = None
        return f'"${variable}"'

    def _body(self, body_file: str) -> tuple[str, Iterable[bytes] | None]:
        """The argument for the body, and the content of the file that it refers to."""
        text = _plain_text(self._start) if len(self._start) <= LONGEST_ARGUMENT else None
        if text is not None:
            # Unlike --data-binary, --data-raw does not interpret a leading @ as a file name.
            return f"--data-raw {quoted(b''.join(self._given.pieces).decode())}", None
        return f"--data-binary {quoted(f'@{body_file}')}", self._given.pieces


def _plain_text(raw: bytes) -> str | None:
    """The body as text that can be passed as an argument, or None."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").isprintable() else None


def key_variable(destination: str, route: str) -> str:
    """The environment variable that usually holds the API key for a destination."""
    try:
        host = urlsplit(destination).hostname or ""
    except ValueError:
        host = ""
    for known, variable in _KEYS.items():
        if host == known or host.endswith(f".{known}"):
            return variable
    return f"{variable_name(route)}_API_KEY" if _NO_NAME.sub("", route) else "API_KEY"


def variable_name(text: str) -> str:
    """A variable name derived from a header's or route's name."""
    name = _NO_NAME.sub("_", text).strip("_").upper()[:64]
    return f"_{name}" if name[:1].isdecimal() or not name else name


def quoted(text: str) -> str:
    """
    Quote `text` as one word that sh, dash, bash, zsh, ksh and fish understand alike.

    Line ends are kept.  Other unprintable characters are written by printf, as the bytes of their UTF-8;
    surrogates stand for bytes that are not UTF-8.
    """
    if _PLAIN.fullmatch(text):
        return text
    runs = groupby(text, lambda each: each == "\n" or each.isprintable())
    return "".join((_single if is_shown else _printed)("".join(run)) for is_shown, run in runs) or "''"


def _single(text: str) -> str:
    """Printable text in single quotes."""
    return f"'{_OUTSIDE.sub(_escaped, text)}'"


def _escaped(found: re.Match[str]) -> str:
    """Characters escaped outside of the quotes, which are closed and opened again."""
    return f"'{''.join(f'{chr(92)}{each}' for each in found[0])}'"


def _printed(text: str) -> str:
    octal = "".join(f"{chr(92)}{byte:03o}" for byte in text.encode("utf-8", "surrogateescape"))
    return f"\"$(printf '{octal}')\""


def _quoted_latin(text: str) -> str:
    """Quote text from a head, whose characters stand for single bytes."""
    return quoted(text.encode("latin-1", "replace").decode("utf-8", "surrogateescape"))
