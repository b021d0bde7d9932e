"""
What can be read in a body: the text for the full-text index and the views, and its JSON values.

Takes decoded bytes as they are, whole or cut, of any type; never raises.
Binary, base64 and secrets known by their name or form are left out.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from logging_proxy.redaction import is_secret_key, redact_text

TEXT_LIMIT = 256 << 10
"""Characters kept of a body: an agent sends its whole history again with every turn."""

HEAD_SHARE = 64 << 10
"""Of a longer text so much is from its beginning, the rest from its end, which is what is new."""

JSON_LIMIT = 4 << 20
"""A longer JSON text is searched for strings only: parsed values may need 50 times its size."""

DOCUMENTS = 16
"""Values kept of a stream: what it is about stands in the first ones."""

MOST_NAMES, LONGEST_NAME = 4096, 128
"""Of members' names that are remembered."""

_JSON_TYPE = re.compile(r"(application|text)/json|[\w.-]+/[\w.+-]+\+json")
_LINES_TYPE = re.compile(r"application/(x-)?(nd-?json|jsonl(ines)?|json-seq)|text/jsonl")
_TEXT_TYPE = re.compile(
    r"text/.*|application/((xhtml\+)?xml|javascript|ecmascript|graphql|x-yaml|yaml|toml)|[\w.-]+/[\w.-]+\+xml"
)
_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"utf[-_]?(8|16|32)([-_]?[lb]e)?|(us-)?ascii|iso[-_]8859[-_]\d{1,2}|latin[-_]?1|(windows|cp)[-_]?125\d"
    r"|koi8[-_][ru]|shift[-_]jis|euc[-_](jp|kr)|gb(k|2312|18030)|big5"
)
"""Not whatever Python can decode: some of its codecs take quadratic time."""

_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])"
    r"(?:[A-Za-z0-9+/_-]{160,}={0,2}|(?:[A-Za-z0-9+/]{60,159}\r?\n){3,}[A-Za-z0-9+/]*={0,2})"
)
SHORTEST_BLOB = 160
"""Characters in a row that are no spaces: `_BASE64` needs so many, three lines of 60 have more."""

_DATA_URL = re.compile(r"data:[\w.+/;=-]{0,200},[A-Za-z0-9+/=_%-]*")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_LINE_END = re.compile(r"\r\n|\r|\n")
_JSON_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)("(?:\s*:)?|$)', re.DOTALL)
_BINARY = re.compile("[\x00-\x08\x0e-\x1f]")

_scan_once = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_JSON_SPACE = " \t\n\r"

_new = tuple.__new__
"""Makes a named tuple without the call of a function in Python."""

_POSITIONS = ("index", "output_index", "content_index", "summary_index")
_ANY_POSITION = frozenset(_POSITIONS)
_GROWING = frozenset(["content", "response", "thinking", "reasoning", "text"])
"""Members that streams of lines without `delta` (Ollama, LM Studio) send in pieces."""
_LABELS = frozenset(["type", "role", "id", "name"])
"""Members below a `delta` that are whole."""


class Content(NamedTuple):
    """A body understood as far as its type allows; `documents` are its JSON values, of a stream the first."""

    text: str = ""
    documents: Sequence[Any] = ()


def text_of(body: bytes, content_type: str) -> str:
    """The readable text in a decoded body."""
    return read_content(body, content_type).text


def read_content(body: bytes, content_type: str, cut: bool = False) -> Content:
    """Text and JSON values of a decoded body; `cut` when it is only the beginning of one."""
    if not body:
        return Content()
    form, charset = _form_of(content_type)
    if form is _JSON:
        return _from_json(_decoded(body, charset), cut)
    if form is _Form.EVENTS:
        return _from_events(_event_data(_decoded(body, charset)))
    if form is _Form.LINES:
        return _from_events(_LINE_END.split(_decoded(body, charset)))
    if form is _Form.FIELDS:
        return Content(_clean(_form_text(_decoded(body, charset))))
    if form is _Form.MARKUP:
        return Content(_clean(_TAG.sub(" ", _decoded(body, charset))))
    if form is _Form.TEXT:
        return Content(_clean(_decoded(body, charset)))
    return _from_unknown(body, cut) if form is _Form.UNKNOWN else Content()


class _Form(enum.Enum):
    JSON = enum.auto()
    EVENTS = enum.auto()
    LINES = enum.auto()
    FIELDS = enum.auto()
    MARKUP = enum.auto()
    TEXT = enum.auto()
    UNKNOWN = enum.auto()
    BINARY = enum.auto()


_JSON = _Form.JSON
"""Looking up a member of an enumeration takes as long as a call."""


@lru_cache(maxsize=256)
def _form_of(content_type: str) -> tuple[_Form, str]:
    """What a body of this type is, and its charset."""
    kind = content_type.partition(";")[0].strip().lower()
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else "utf-8"
    if not _CHARSETS.fullmatch(charset):
        charset = "utf-8"
    return _form_of_kind(kind), charset


def _form_of_kind(kind: str) -> _Form:
    if kind == "text/event-stream":
        return _Form.EVENTS
    if _LINES_TYPE.fullmatch(kind):
        return _Form.LINES
    if _JSON_TYPE.fullmatch(kind):
        return _Form.JSON
    if kind == "application/x-www-form-urlencoded":
        return _Form.FIELDS
    if _TEXT_TYPE.fullmatch(kind):
        return _Form.MARKUP if "ml" in kind else _Form.TEXT
    return _Form.BINARY if kind else _Form.UNKNOWN


def _from_unknown(body: bytes, cut: bool) -> Content:
    """A body without a type: JSON if it looks so, text if it is UTF-8 without control characters."""
    start = body[:64].lstrip()
    try:
        text = body[: len(body) - 3 if cut else None].decode("utf-8")
    except UnicodeDecodeError:
        return Content()
    if start[:1] in (b"{", b"["):
        return _from_json(text, cut)
    return Content() if _BINARY.search(text) else Content(_clean(text))


def _decoded(body: bytes, charset: str) -> str:
    try:
        text = body.decode(charset, "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def _clean(text: str, plain: bool = False) -> str:
    """
    `text` without blobs, secrets and what cannot be stored, and not too long.

    It is known to hold no control characters if it is `plain`: looking for them takes as long as all else.
    """
    if len(text) > TEXT_LIMIT:
        text = text[:HEAD_SHARE] + "\n" + text[HEAD_SHARE - TEXT_LIMIT :]
    if "data:" in text:
        text = _DATA_URL.sub(" ", text)
    text = redact_text(text)
    if _may_hold_blob(text):
        text = _BASE64.sub(" ", text)
    if not plain:
        text = _BINARY.sub(" ", text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _may_hold_blob(text: str) -> bool:
    """Whether there is anything long enough; `_BASE64` itself takes five times as long to see it."""
    at, end = 0, len(text) - SHORTEST_BLOB
    while at <= end:
        space = text.rfind(" ", at, at + SHORTEST_BLOB)
        if space < 0:
            return True
        at = space + 1
    return False


def _form_text(text: str) -> str:
    pairs = (pair.partition("=") for pair in text.split("&"))
    return "\n".join(unquote_plus(value) for name, _, value in pairs if not is_secret_key(unquote_plus(name)))


# --- JSON ------------------------------------------------------------------------


def _from_json(text: str, cut: bool) -> Content:
    value = None if cut else _parse(text)
    if value is None:
        return Content(_clean("\n".join(_string_literals(text))))
    return _new(Content, (_clean("\n".join(_all_strings(value)), _is_plain(text)), [value]))


def _is_plain(text: str) -> bool:
    """Whether no string of a JSON text holds a control character: only escapes can stand for one."""
    return "\\" not in text or not ("\\u" in text or "\\b" in text or "\\f" in text)


def _parse(text: str) -> Any:
    """The value of a JSON text; None when it is none, or too large or too deep."""
    if len(text) > JSON_LIMIT:
        return None
    text = text.strip(_JSON_SPACE)
    try:
        value, end = _scan_once(text, 0)
    except (ValueError, RecursionError, StopIteration):
        return None
    return value if end == len(text) else None


def _string_literals(text: str) -> Iterator[str]:
    """The strings in something like JSON, cut or not, without the names of members."""
    secret = False
    # With a lone backslash at the end the pattern would try again from every escaped quote.
    for match in _JSON_STRING.finditer(text.rstrip("\\")):
        string, end = match[1], match[2]
        if end.endswith(":"):
            secret = is_secret_key(string)
        elif not secret:
            yield _unescaped(string)
        else:
            secret = False


def _unescaped(literal: str) -> str:
    if "\\" not in literal:
        return literal
    try:
        return str(json.loads(f'"{literal}"', strict=False))
    except ValueError:
        return literal.replace("\\n", "\n").replace('\\"', '"')


def _all_strings(value: Any) -> list[str]:
    """What `_strings` gives, without paths and empty strings: in a third of the time."""
    found: list[str] = []
    try:
        _collect_strings(value, found)
    except RecursionError:
        return [string for _, string in _deep_strings(value) if string]
    return found


def _collect_strings(value: Any, found: list[str]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, str):
                if name not in _public and _is_secret(name):
                    continue
                if len(member) >= SHORTEST_BLOB:
                    member = _without_blob(member)
                if member:
                    found.append(member)
            elif isinstance(member, (dict, list)):
                _collect_strings(member, found)
    elif isinstance(value, list):
        for item in value:
            _collect_strings(item, found)
    elif isinstance(value, str) and value and (string := _without_blob(value)):
        found.append(string)


_public: set[str] = set()
"""Names of members that are no secrets, as far as they have come: looking here is cheaper than a call."""


def _is_secret(name: str) -> bool:
    if is_secret_key(name):
        return True
    if len(_public) < MOST_NAMES and len(name) <= LONGEST_NAME:
        _public.add(name)
    return False


Path = tuple[str, ...]
_HOLDS_TEXT = (str, dict, list)


def _strings(value: Any) -> Iterable[tuple[Path, str]]:
    """Every string in a JSON value, in order, with its path; not the values of members named like secrets."""
    found: list[tuple[Path, str]] = []
    try:
        _collect(value, (), found)
    except RecursionError:
        return _deep_strings(value)
    return found


def _collect(value: Any, path: Path, found: list[tuple[Path, str]]) -> None:
    if isinstance(value, dict):
        here = path if _ANY_POSITION.isdisjoint(value) else _position(value, path)
        for name, member in value.items():
            if isinstance(member, str):
                if name in _public or not _is_secret(name):
                    found.append(((*here, name), _without_blob(member)))
            elif isinstance(member, (dict, list)):
                _collect(member, (*here, name), found)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _collect(item, path, found)
            elif isinstance(item, str):
                found.append((path, _without_blob(item)))
    elif isinstance(value, str):
        found.append((path, _without_blob(value)))


def _position(value: dict[str, Any], path: Path) -> Path:
    """The path of what is in `value`: members that say which of several it is belong to it."""
    for name in _POSITIONS:
        if isinstance(value.get(name), int):
            path = (*path, str(value[name]))
    return path


def _deep_strings(value: Any) -> Iterator[tuple[Path, str]]:
    """What `_strings` gives, of a value that is too deep for it; takes twice the time."""
    stack: list[tuple[Path, Any]] = [((), value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str):
            yield path, _without_blob(value)
        elif isinstance(value, dict):
            path = _position(value, path)
            stack += [
                ((*path, name), member)
                for name, member in reversed(value.items())
                if isinstance(member, _HOLDS_TEXT) and not (isinstance(member, str) and is_secret_key(name))
            ]
        elif isinstance(value, list):
            stack += [(path, item) for item in reversed(value) if isinstance(item, _HOLDS_TEXT)]


def _without_blob(string: str) -> str:
    """Nothing of a string that is one blob as a whole, so that it does not use up the limit."""
    if len(string) < SHORTEST_BLOB:
        return string
    if string.startswith("data:") or _BASE64.fullmatch(string):
        return ""
    return string


# --- streams of JSON values --------------------------------------------------------


def _event_data(text: str) -> Iterator[str]:
    """The data of each server-sent event."""
    lines: list[str] = []
    for line in _LINE_END.split(text) if "\r" in text else text.split("\n"):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _from_events(data: Iterable[str]) -> Content:
    """
    The values of a stream, and its text with what came in pieces put together.

    Pieces are strings with the same path below a `delta`, or under a growing name in a
    stream of lines.  All else is taken once: streams repeat `id` and `model` in every event.
    """
    stream = _Stream()
    for item in data:
        if not stream.goes_on(item):
            stream.take(item)
    return stream.content()


class _Stream:
    """
    What a stream has said so far.

    An event that is the last one but for one plain piece of text is not parsed again: most events of a
    long answer are such, and are taken in a tenth of the time.
    """

    def __init__(self) -> None:
        self._documents: list[Any] = []
        self._whole: dict[str, None] = {}
        self._growing: dict[Path, list[str]] = {}
        self._prefix = self._suffix = ""
        self._pieces: list[str] | None = None
        """Where the text between `prefix` and `suffix` belongs; None when the last event had no such text."""

    def goes_on(self, item: str) -> bool:
        """Takes an event that differs from the last one in one piece of text only."""
        pieces, prefix, suffix = self._pieces, self._prefix, self._suffix
        if pieces is None or not (item.startswith(prefix) and item.endswith(suffix)):
            return False
        text = item[len(prefix) : len(item) - len(suffix)]
        if len(item) < len(prefix) + len(suffix) or len(text) >= SHORTEST_BLOB or not _is_literal(text):
            return False
        pieces.append(text)
        return True

    def take(self, item: str) -> None:
        value = _parse(item)
        self._pieces = None
        if isinstance(value, dict):
            grown: list[tuple[list[str], str]] = []
            _gather(value, self._whole, self._growing, grown)
            if len(self._documents) < DOCUMENTS:
                self._documents.append(value)
            elif len(grown) == 1:
                self._expect(item, *grown[0])
        elif item.strip() and value is None and item != "[DONE]":
            self._whole[item] = None

    def _expect(self, item: str, pieces: list[str], text: str) -> None:
        """Another event like `item`, whose one growing text this was."""
        literal = f'"{text}"'
        # With an escape anywhere the text might stand there in another form, and this be something else.
        if text and "\\" not in item and item.count(literal) == 1:
            at = item.index(literal) + 1
            self._prefix, self._suffix, self._pieces = item[:at], item[at + len(text) :], pieces

    def content(self) -> Content:
        whole = self._whole
        joined = ("".join(pieces) for pieces in self._growing.values())
        text = "\n".join([*whole, *(text for text in joined if text not in whole)])
        return Content(_clean(text), self._documents)


def _is_literal(text: str) -> bool:
    """Whether a text stands in JSON as it is."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _gather(
    event: dict[str, Any],
    whole: dict[str, None],
    growing: dict[Path, list[str]],
    grown: list[tuple[list[str], str]],
) -> None:
    """Sorts the strings of an event into `whole` and `growing`; `grown` gets what was added to the latter."""
    kind = event.get("type")
    kind = kind if isinstance(kind, str) else ""
    is_growing = kind.endswith("delta") or "done" in event
    for path, string in _strings(event):
        name = path[-1] if path else ""
        if "delta" in path and name not in _LABELS:
            pieces = growing.setdefault((kind, *path), [])
        elif is_growing and name in _GROWING:
            pieces = growing.setdefault(path, [])
        else:
            if string:
                whole[string] = None
            continue
        pieces.append(string)
        grown.append((pieces, string))
