"""
Taking secrets out of whatever is derived from captures: index, views, exports, diagnostics.

Captures themselves stay exact.  Everything here is a function on values and
never raises; what it takes out becomes `REDACTED`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

REDACTED = "REDACTED"

_SECRET_HEADERS = frozenset(
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-amz-security-token",
        "x-litellm-api-key",
    ]
)
_LIKE_A_SECRET = re.compile(r"token|secret|password|api[-_]?key|session", re.IGNORECASE)

_IDENTIFIERS = re.compile(
    r"""(?ix)
    x-claude-code-(session|agent|parent-agent)-id
    | (x-)?session[-_]id | x-client-request-id
    | helicone-session-(id|name|path)
    | (x-ratelimit|anthropic-ratelimit)-[a-z0-9-]*tokens[a-z0-9-]*
    """
)
"""Names that look secret and are not: they group exchanges, or count tokens."""

_HEADERS_WITH_URLS = frozenset(["referer", "location", "content-location", "origin", "x-proxy-path"])

_SECRET_PARAMETER = re.compile(
    r"(?i)key|code|sig|signature|auth|authorization|pwd"
    r"|.*(?:token|secret|password|passwd|api[-_]?key|access[-_]?key|credential|signature).*"
)
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?]*)=([^&;#]*)")
_USERINFO = re.compile(r"(?<=://)[^/@?#\s]*@")

_SECRET_KEY = re.compile(
    r"(?i)authorization|x-goog-api-key|(?:.*[-_])?(?:api[-_]?key|secret|password|passwd|private[-_]?key"
    r"|access[-_]?key|(?:access|auth|bearer|refresh|id|security|session)[-_]?token|client[-_]?secret)"
    r"|.*(?:apiKey|Secret|Password|accessToken|authToken|refreshToken)"
)

_KNOWN_SECRETS = re.compile(
    r"""(?x)
    (?<![A-Za-z0-9_-])(?:
        sk-[A-Za-z0-9_-]{16,}
        | AIza[A-Za-z0-9_-]{30,}
        | (?:AKIA|ASIA)[A-Z0-9]{16}
        | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,}
        | hf_[A-Za-z0-9]{30,} | gsk_[A-Za-z0-9]{30,} | xai-[A-Za-z0-9]{30,}
        | xox[abprs]-[A-Za-z0-9-]{10,}
        | eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
    )
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/=-]{16,}
    """
)
_HINTS = (
    ("-", ("sk-", "xai-", "xox")),
    ("_", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "gsk_")),
    ("A", ("AIza", "AKIA", "ASIA")),
    ("J", ("eyJ",)),
    ("e", ("earer ",)),
)
"""How they begin, by a character that they all have: without it the others need not be looked for."""

_NAME_LIMIT = 128
"""Longer names are judged by their end: they are hostile, and would fill the caches."""


def is_secret_header(name: str) -> bool:
    """Whether the values of a header are secrets, by its name in any case."""
    return _is_secret_header(name[-_NAME_LIMIT:])


@lru_cache(maxsize=4096)
def _is_secret_header(name: str) -> bool:
    name = name.strip().lower()
    if name in _SECRET_HEADERS:
        return True
    return bool(_LIKE_A_SECRET.search(name)) and not _IDENTIFIERS.fullmatch(name)


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same names in the same order, without values that are secrets or URLs that hold some."""
    return [(name, _redact_value(name, value)) for name, value in headers]


def _redact_value(name: str, value: str) -> str:
    if is_secret_header(name):
        return REDACTED
    if name.lower() in _HEADERS_WITH_URLS:
        return redact_url(value)
    return redact_text(value)


def redact_url(url: str) -> str:
    """`url` without user information, and without query or fragment values that are named like secrets."""
    if "@" in url:
        url = _USERINFO.sub(f"{REDACTED}:{REDACTED}@", url)
    if "?" in url or "#" in url:
        url = _PARAMETER.sub(_redact_parameter, url)
    return redact_text(url)


def _redact_parameter(match: re.Match[str]) -> str:
    if _SECRET_PARAMETER.fullmatch(unquote(match[1]).strip()[-_NAME_LIMIT:]):
        return f"{match[1]}={REDACTED}"
    return match[0]


def is_secret_key(name: str) -> bool:
    """Whether a JSON object's member or a form's field holds a secret, by its name."""
    return _is_secret_key(name[-_NAME_LIMIT:])


@lru_cache(maxsize=4096)
def _is_secret_key(name: str) -> bool:
    return bool(_SECRET_KEY.fullmatch(name))


def redact_text(text: str) -> str:
    """`text` without what is known as a secret by how it begins (`sk-`, `AIza`, a JWT, ...)."""
    for character, hints in _HINTS:
        if character in text:
            for hint in hints:
                if hint in text:
                    return _KNOWN_SECRETS.sub(REDACTED, text)
    return text
