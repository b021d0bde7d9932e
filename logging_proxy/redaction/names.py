"""
Which names denote secrets: names of header fields, URL parameters, JSON members, variables, and others.

A name is judged by its words, of which the last one weighs most.  `strength` is the one judgement; the other
functions say what it means in a place.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from urllib.parse import unquote_plus

NAME_LIMIT = 128
"""Longest suffix of a name that is judged; longer names are hostile, and would fill the cache."""


class Strength(IntEnum):
    """How much a name says about its value."""

    NONE = 0
    """Nothing: it names something harmless."""
    FIELD = 1
    """It names a secret as a header field or URL parameter, and something harmless elsewhere (`session`)."""
    WEAK = 2
    """It may name a secret (`key`, `token`): a value that looks like a credential is one."""
    STRONG = 3
    """It names a secret (`password`, `api_key`), whatever the value looks like."""


_STRONG = frozenset(
    """
    authorization authorizations cred credential credentials creds jwt jwts otp passcode passcodes passphrase
    passphrases passwd password passwords pwd secret secrets totp wsse
    """.split()
)
_WEAK = frozenset(
    """
    assertion assertions auth authentication bearer cookie cookies csrf hmac key keys oauth pass saml sig
    signature signatures sigs token tokens vk xsrf
    """.split()
)
_FIELD = frozenset(["session", "sessions"])
_TELLING = _STRONG | _WEAK | _FIELD
_AT_THE_END = frozenset(["oauth", "pass", "vk"])
"""Words that are telltale only at the end: `X-OAuth-Scopes` and `pass-through` hold no secret."""

_KEY_OF = frozenset(
    """
    access account admin aes api app auth bot client consumer deploy encryption functions function hmac
    license master private rest rsa secret service shared signing ssh storage subscription user virtual
    webhook
    """.split()
)
"""Words before `key` that make it a secret whatever its value is."""

_TOKEN_OF = frozenset(
    """
    access api app auth authorization bearer bot client csrf deploy device github gitlab hub id job jwt npm
    oauth personal private refresh reset secret security service session slack user vault verification webhook
    xsrf
    """.split()
)
"""Words before `token` that make it a secret whatever its value is."""

_JOINED_STRONG = re.compile(
    r"""(?x)
    .+(?:authorization|cookie|credential|passphrase|password|passwd|secret)s?
    | (?:access|api|auth|bearer|client|device|id|oauth|refresh|security|session|user)+tokens?
    | (?:access|account|admin|api|app|auth|client|encryption|functions?|host|license|master|private|rest
        |secret|service|shared|signing|storage|subscription|user|webhook|x)+keys?
    """
)
_JOINED_WEAK = re.compile(
    r"""(?x)
    .+signatures?
    | (?!(?:max|min|num|total|per|prompt|completion|input|output)token\Z).+token
    | (?:session|sess)+keys?
    | (?:basic|http|proxy|user|x)auth
    | saml(?:request|response|art)
    """
)
_JOINED_FIELD = re.compile(r"(?:aspnet|asp|j|php|user|web|my)?sess(?:ion)?(?:id)?s?")
"""Telltale words written together with the words before them."""

_NAMED = frozenset(
    """
    dpop googleaccessid x-amzn-oidc-data x-jfrog-art-api x-ms-client-principal x-vercel-protection-bypass
    """.split()
)
"""Names of secrets without a telltale word."""

_LOGIN_SESSIONS = frozenset(["asp", "j", "net", "php", "sess"])
_SESSION_ENDS = frozenset(["affinity", "final", "id", "ids", "name", "path"])
_SESSIONS_OF = frozenset(["claude", "codex", "dynamo", "helicone", "litellm", "opencode"])
"""Words around `session` in identifiers that group exchanges, as opposed to those that log a user in."""

_HARMLESS_ENDS = frozenset(
    """
    age alg algorithm algorithms budget count counter counts endpoint expires expiration expiry format kind
    label length limit limits lookup max method methods mode name names per policy remaining required size
    status total ttl type types uri url usage used
    """.split()
)
"""Last words of names that describe or count something; also words right after `token` that do so."""

_COUNTED = frozenset(
    """
    accepted audio billed budget cache cached completion consumed context estimated generated image
    input limit max maximum min minimum num number output per prediction prompt quota rate ratelimit reasoning
    rejected remaining reset saved special stop text thinking total used video window
    """.split()
)
"""Words next to which `tokens` are units of text."""

_ONE_COUNTED = frozenset(
    """
    begin bos completion end eos eot first input last mask max min next num number output pad per prompt sep
    stop total unk
    """.split()
)
"""Words right before `token` that make it a unit of text."""

_GIVEN_TO = frozenset(
    "access api auth bearer client device oauth personal refresh security session user".split()
)
"""Words right before `tokens` that make them secrets, whatever the other words are."""

_PUBLIC_KEYS = frozenset(
    """
    cache dedupe dictionary foreign hash idempotency index join lookup map object partition primary public
    range row shortcut socket sort surrogate unique websocket
    """.split()
)
"""
Words right before `key` that make it harmless.

`Idempotency-Key` only distinguishes a repeated request from a new one, and `Sec-WebSocket-Key` only proves
that the other side speaks WebSocket (RFC 6455 §1.3).
"""

_NO_SIGNATURES = frozenset(["thought", "thinking", "function", "method", "type"])
"""Words right before `signature` that make it harmless: of a model's thoughts, or of a piece of code."""

_CREDENTIALS_ALLOWED = "access-control-allow-credentials"
"""A name whose value is `true`."""

_SECRET_PARAMETERS = frozenset(["code", "code-verifier", "device-code", "oauth-verifier", "pin", "ticket"])
"""Parameters in which login flows send secrets, while header fields of the same name are harmless."""

_WORD = re.compile(r"(?i:oauth)|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[A-Za-z]+")


def strength(name: str) -> Strength:
    """How much `name` says.  Words end at `-`, `_`, digits and capitals."""
    return _strength(name[-NAME_LIMIT:])


def is_secret_name(name: str) -> bool:
    """Whether values with this name may be secret, in the place where a name says most: a header field."""
    return _strength(name[-NAME_LIMIT:]) > Strength.NONE


def is_secret_parameter(name: str) -> bool:
    """Whether a URL parameter or a form field holds a secret, by its name as it was sent."""
    name = name[-NAME_LIMIT:]
    for _ in range(4):
        if "%" in name or "+" in name:
            name = unquote_plus(name)
    return is_secret_name(name) or "-".join(words_of(name)) in _SECRET_PARAMETERS


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word.lower() for word in _WORD.findall(name)]


@lru_cache(maxsize=4096)
def _strength(name: str) -> Strength:
    if name.strip().lower() in _NAMED:
        return Strength.STRONG
    words = words_of(name)
    if not words or _is_harmless(words):
        return Strength.NONE
    best = max(_telling(words, at) for at in range(len(words)))
    if best is Strength.STRONG:
        return best
    # `APIkey` has no capital where its second word begins.
    return max(best, *(_joined(letters.lower()) for letters in _LETTERS.findall(name)))


def _is_harmless(words: list[str]) -> bool:
    if words[-1] in _HARMLESS_ENDS or "-".join(words) == _CREDENTIALS_ALLOWED:
        return True
    if words[-1] in ("signature", "signatures") and len(words) > 1 and words[-2] in _NO_SIGNATURES:
        return True
    if "session" not in words:
        return False
    at = words.index("session")
    if words[-1] == "session":
        return not _SESSIONS_OF.isdisjoint(words)
    return words[at + 1] in _SESSION_ENDS and _LOGIN_SESSIONS.isdisjoint(words)


def _telling(words: list[str], at: int) -> Strength:
    """What the word at this place says; any but the last one says less."""
    word, is_last = words[at], at == len(words) - 1
    if word not in _TELLING or (word in _AT_THE_END and not is_last):
        return Strength.NONE
    if word in _FIELD:
        return Strength.FIELD
    before = words[at - 1] if at else ""
    found = Strength.STRONG if word in _STRONG else Strength.WEAK
    if word in ("key", "keys"):
        found = _key(before)
    elif word == "token":
        found = _token(before, words[at + 1] if not is_last else "")
    elif word == "tokens":
        found = _tokens(before, words, is_last)
    return found if is_last else min(found, Strength.WEAK)


def _key(before: str) -> Strength:
    if before in _PUBLIC_KEYS:
        return Strength.NONE
    return Strength.STRONG if before in _KEY_OF else Strength.WEAK


def _token(before: str, after: str) -> Strength:
    if before in _ONE_COUNTED or after in _HARMLESS_ENDS:
        return Strength.NONE
    return Strength.STRONG if before in _TOKEN_OF else Strength.WEAK


def _tokens(before: str, words: list[str], is_last: bool) -> Strength:
    if before in _GIVEN_TO:
        return Strength.STRONG
    return Strength.WEAK if is_last and _COUNTED.isdisjoint(words) else Strength.NONE


def _joined(letters: str) -> Strength:
    if _JOINED_STRONG.fullmatch(letters):
        return Strength.STRONG
    if _JOINED_WEAK.fullmatch(letters):
        return Strength.WEAK
    return Strength.FIELD if _JOINED_FIELD.fullmatch(letters) else Strength.NONE
