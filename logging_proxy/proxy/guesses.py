"""
Guesses at the base URL that was meant by a request without a route.

The usual mistakes: the route's prefix is missing, misspelt, or behind other segments; `/v1` is missing or
misplaced; the destination's URL stands in the path.  A guess compares the path's segments with those of
patterns, in time linear in the request and the number of routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from logging_proxy.configuration.base_urls import VERSION, BaseURL, Provider, paths_of, provider_of
from logging_proxy.configuration.options import RouteOptions
from logging_proxy.routing.paths import END
from logging_proxy.routing.patterns import Pattern

MOST_SEGMENTS, LONGEST_SEGMENT = 12, 40
"""The part of a path that is compared; base URLs are shorter."""

MOST_COMPARED = 50
"""Routes that are compared."""

ENDPOINTS: dict[str, tuple[tuple[bytes, ...], ...]] = {
    "anthropic": ((b"v1", b"messages"), (b"v1", b"complete")),
    "gemini": ((b"v1beta", b"models"),),
    "openai": (
        (b"chat", b"completions"),
        (b"responses",),
        (b"completions",),
        (b"embeddings",),
        (b"models",),
        (b"moderations",),
        (b"files",),
        (b"batches",),
        (b"images",),
        (b"audio",),
    ),
    "ollama": ((b"api", b"chat"), (b"api", b"generate"), (b"api", b"tags"), (b"api", b"embed")),
}
"""How request paths begin below the base URL, by the API's style; the first match counts."""

_STYLES = {"ANTHROPIC_BASE_URL": "anthropic", "GOOGLE_GEMINI_BASE_URL": "gemini", "OLLAMA_HOST": "ollama"}
"""The styles of providers by their variables; other providers have OpenAI's."""

_VERSIONS = frozenset({b"api", b"v1", b"v1beta", b"v2"})
"""Segments that belong to APIs rather than to routes."""

_NO_CLUE = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's path: the segments that may come from a base URL, and the API's style."""

    base: tuple[bytes, ...]
    """Segments, in lower case."""
    style: str
    """A key of `ENDPOINTS`; empty if the path ends in no endpoint."""


def asked(path: bytes) -> Asked:
    """Split `path`, as the client sent it."""
    decoded = unquote_to_bytes(path[: MOST_SEGMENTS * LONGEST_SEGMENT]).lower()
    segments = tuple(each for each in decoded.split(b"/") if each)[:MOST_SEGMENTS]
    for style, endpoints in ENDPOINTS.items():
        found = [
            at for at in range(len(segments)) for each in endpoints if segments[at : at + len(each)] == each
        ]
        if found:
            return Asked(segments[: found[0]], style)
    return Asked(segments, "")


def guesses(path: bytes, routes: Sequence[RouteOptions]) -> list[RouteOptions]:
    """The routes that a request for `path` may have meant, equally likely; empty without a clue."""
    about = asked(path)
    best, found = _NO_CLUE, list[RouteOptions]()
    for route in routes[:MOST_COMPARED]:
        distance = _distance(about, route, len(routes) == 1)
        if distance < best:
            best, found = distance, []
        if distance == best < _NO_CLUE:
            found.append(route)
    return found


def _distance(about: Asked, route: RouteOptions, is_only: bool) -> int:
    """A number that is the lower, the more likely `route` was meant; `_NO_CLUE` if it was not."""
    words, name = _words(route.pattern), route.name.lower().encode("utf-8", "surrogatepass")
    base = [each for each in about.base if each not in _VERSIONS]
    if words and _contains(about.base, words):
        return 0
    if name in base or route.destination.host.lower().encode() in base:
        return 1
    if about.base and words[: len(about.base)] == about.base:
        return 1
    names = [each for each in words if each not in _VERSIONS] or [name]
    slips = min((_slips(each, word) for each in base[:4] for word in names[:4]), default=_NO_CLUE)
    if slips < _NO_CLUE:
        return 1 + slips
    provider = provider_of(route.destination)
    if about.style and provider is not None and _style(provider) == about.style:
        return 10
    return 11 if is_only and (about.style or not base) else _NO_CLUE


def _words(pattern: Pattern) -> tuple[bytes, ...]:
    """The literal segments of a pattern, as paths are compared."""
    return tuple(each.value.lower() for each in pattern.segments if not each.multi and each.value != END)


def _contains(base: tuple[bytes, ...], words: tuple[bytes, ...]) -> bool:
    return any(base[at : at + len(words)] == words for at in range(len(base) - len(words) + 1))


def _slips(each: bytes, word: bytes) -> int:
    """The edits that make `each` of `word`, if they are so few that a slip is likely; else `_NO_CLUE`."""
    most = 1 if len(word) < 6 else 2
    if len(word) > LONGEST_SEGMENT or len(word) < 3:
        return _NO_CLUE
    return next((edits for edits in range(most + 1) if _is_within(each, word, edits)), _NO_CLUE)


def _is_within(one: bytes, other: bytes, edits: int) -> bool:
    """Whether `edits` bytes inserted, left out, changed or swapped with a neighbour make one the other."""
    if abs(len(one) - len(other)) > edits:
        return False
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        return True
    if not edits:
        return False
    one, other = one[at:], other[at:]
    return (
        _is_within(one[1:], other, edits - 1)
        or _is_within(one, other[1:], edits - 1)
        or _is_within(one[1:], other[1:], edits - 1)
        or (one[:2] == other[1::-1] and _is_within(one[2:], other[2:], edits - 1))
    )


def _style(provider: Provider) -> str:
    return next((style for name, style in _STYLES.items() if name in provider.variables), "openai")


def guessed_url(base: BaseURL, style: str) -> str:
    """The base URL of a route for an SDK with an API of this style."""
    provider = provider_of(base.route.destination)
    if not style or (provider is not None and _style(provider) == style):
        return base.url
    pattern, destination = paths_of(base.route)
    if style != "openai":
        return base.url if pattern.endswith("/v1") else base.url.removesuffix("/v1")
    versioned = any(VERSION.fullmatch(path[path.rfind("/") :]) for path in (base.url, destination))
    return base.url if versioned else f"{base.url}/v1"
