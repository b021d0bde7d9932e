"""
Which names denote secrets: names of header fields, URL parameters, and anything else.

A name is judged by its words.  In doubt it counts as secret: a name with a telltale word is
secret unless it is known to count something or to group exchanges.
"""

from __future__ import annotations

import re
from functools import lru_cache

NAME_LIMIT = 128
"""Longest suffix of a name that is judged; longer names are hostile, and would fill the cache."""

_SECRET_WORDS = frozenset(
    """
    assertion assertions auth authentication authorization authorizations bearer cookie cookies cred
    credential credentials creds csrf hmac jwt jwts key keys otp passcode passcodes passphrase
    passphrases passwd password passwords pwd saml secret secrets session sessions sig signature
    signatures sigs token tokens totp wsse xsrf
    """.split()
)
_SECRET_AT_THE_END = frozenset(["oauth", "pass"])
"""Words that are telltale only at the end: `X-OAuth-Scopes` and `pass-through` hold no secret."""

_JOINED = re.compile(
    r"""(?x)
    .+(?:authorization|cookie|credential|passphrase|password|passwd|secret|signature)s?
    | (?!(?:max|min|num|total|per|prompt|completion|input|output)token\Z).+token
    | (?:access|api|auth|bearer|client|device|id|oauth|refresh|security|session|user)+tokens
    | (?:access|account|admin|api|app|auth|client|encryption|functions?|host|license|master|private|rest
        |secret|service|session|sess|shared|signing|storage|subscription|user|webhook|x)+keys?
    | (?:basic|http|proxy|user|x)auth
    | saml(?:request|response|art)
    | (?:aspnet|asp|j|php|user|web|my)?sess(?:ion)?(?:id)?s?
    """
)
"""Telltale words written together with the words before them."""

_NAMED = frozenset(["dpop", "x-jfrog-art-api", "x-ms-client-principal"])
"""Names of secrets without a telltale word."""

_IDENTIFIERS = re.compile(
    r"(?:x-claude-code-|x-|litellm-|helicone-)?session-id|helicone-session-(?:name|path)"
    r"|access-control-allow-credentials"
)
"""Names that group exchanges, and one whose value is `true`."""

_COUNTS = frozenset(
    ["budget", "count", "counter", "counts", "limit", "limits", "remaining", "total", "usage"]
)
"""Last words of names that count something; also words right after `token` that make it a unit of text."""

_COUNTED = frozenset(
    """
    accepted audio billed budget cache cached completion consumed context estimated generated image
    input max maximum min minimum num number output per prediction prompt quota rate ratelimit reasoning
    rejected remaining reset saved special stop text thinking total used video window
    """.split()
)
"""Words next to which `tokens` are units of text."""

_ONE_COUNTED = frozenset("completion first input last max min num number output per prompt total".split())
"""Words right before `token` that make it a unit of text."""

_GIVEN_TO = frozenset(
    "access api auth bearer client device oauth personal refresh security session user".split()
)
"""Words right before `tokens` that make them secrets, whatever the other words are."""

_PUBLIC_KEYS = frozenset(
    ["cache", "idempotency", "partition", "primary", "public", "sort", "surrogate", "socket", "websocket"]
)
"""
Words right before `key` that make it harmless.

`Idempotency-Key` only distinguishes a repeated request from a new one, and `Sec-WebSocket-Key` only proves
that the other side speaks WebSocket (RFC 6455 §1.3).
"""

_WORD = re.compile(r"(?i:oauth)|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[A-Za-z]+")


def is_secret_name(name: str) -> bool:
    """Whether values with this name are secret.  Words end at `-`, `_`, digits and capitals."""
    return _is_secret(name[-NAME_LIMIT:])


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    words = words_of(name)
    whole = "-".join(words)
    if name.strip().lower() in _NAMED:
        return True
    if not words or words[-1] in _COUNTS or _IDENTIFIERS.fullmatch(whole):
        return False
    if words[-1] in _SECRET_AT_THE_END or any(_is_telling(words, at) for at in range(len(words))):
        return True
    # `APIkey` has no capital where its second word begins.
    return any(_JOINED.fullmatch(letters.lower()) for letters in _LETTERS.findall(name))


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word.lower() for word in _WORD.findall(name)]


def _is_telling(words: list[str], at: int) -> bool:
    word = words[at]
    if word not in _SECRET_WORDS:
        return False
    before = words[at - 1] if at else ""
    if word in ("key", "keys"):
        return before not in _PUBLIC_KEYS
    if word == "token":
        after = words[at + 1] if at + 1 < len(words) else ""
        return before not in _ONE_COUNTED and after not in _COUNTS
    if word == "tokens":
        return before in _GIVEN_TO or (at == len(words) - 1 and _COUNTED.isdisjoint(words))
    return True
