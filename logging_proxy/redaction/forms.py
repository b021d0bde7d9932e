"""
Finds the keys of well-known providers, tokens and private keys, which are recognised by their form alone.

Most of a text is passed over quickly: each pattern begins with one character that the prefix of its keys
contains, and looks back for the rest of the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from logging_proxy.redaction.values import looks_random

Span = tuple[int, int]
"""Start and end of a secret."""

_ALNUM = "[A-Za-z0-9]"
_URL = "[A-Za-z0-9_-]"

_BEFORE = "(?<![A-Za-z0-9])"
"""What stands before a key: not a letter, as in `task-`."""

_BEFORE_RUN = "(?<![A-Za-z0-9_-])"
"""The same for keys with a dot in the middle: it would be looked for from every such prefix of a run."""

_RUNS = frozenset(["eyJ", "SG."])
_MIDDLES = frozenset(["JQQJ", "8Q~"])
"""What is not the prefix of a key but its middle."""

_PREFIXES: dict[str, dict[str, str]] = {
    "-": {
        f"{_URL}{{16,}}": (
            "sk- csk- key- pplx- xai- nvapi- tvly- glpat- glptt- gldt- glrt- glcbt- gloas- glagent-"
        ),
        f"{_URL}{{12,}}": "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xapp- xwfp-",
        f"{_URL}{{20,}}": (
            "CFPAT- GOCSPX- PMAK- fc- pat-eu1- pat-na1- pul- pypi- sess- sq0atp- sq0csp- tskey-"
        ),
        "[A-Za-z0-9+/=_-]{20,}": "bedrock-api-key- AGE-SECRET-KEY-",
    },
    "_": {
        f"{_ALNUM}{{20,}}": (
            "e2b_ ek_ figd_ fpk_ fw_ gho_ ghp_ ghr_ ghs_ ghu_ glsa_ gsk_ hf_ nfp_ npm_ r8_ rnd_ sbp_"
        ),
        f"{_URL}{{16,}}": (
            "sk_live_ sk_test_ rk_live_ rk_test_ whsec_ github_pat_ tgp_v1_ lsv2_pt_ lsv2_sk_ ls__ sb_secret_"
            " lin_api_ lin_oauth_ dop_v1_ doo_v1_ dor_v1_ dckr_pat_ rubygems_ pcsk_ sgp_ sntrys_ sntryu_ ntn_"
            " shpat_ shpca_ shppa_ shpss_ api_org_ jina_ phx_ ops_ sk_ secret_"
        ),
    },
    ".": {
        f"{_URL}{{20,}}": "ya29. AQ. hvs. hvb. hvr. sl. mlsn.",
        r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}": "SG.",
        r"slack\.com/(?:services|workflows)/[A-Za-z0-9_/]{16,}": "hooks.",
        r"com/api/(?:v\d+/)?webhooks/\d+/[A-Za-z0-9_-]{16,}": "discord. discordapp.",
    },
    "J": {
        r"[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){0,3}": "eyJ",
        rf"99{_ALNUM}{{20,}}": "JQQJ",
    },
    "A": {
        f"Iza{_URL}{{30,}}|(?:KIA|SIA|BIA|CCA)[A-Z0-9]{{16}}|BSK[A-Za-z0-9+/=]{{40,}}|KID{_ALNUM}{{32}}": "A",
    },
    "~": {r"[A-Za-z0-9_~.-]{30,}": "8Q~"},
    ":": {rf"AA{_URL}{{30,}}": ":"},
    "p": {"i[0-9a-f]{32}": "dap"},
}
"""By the character that a pattern begins with: what follows a prefix, and the prefixes, which end with it."""

_IN_WORDS = frozenset(
    """
    AQ. csk- fc- hvs. jina_ key- ls__ ops_ pat-eu1- pat-na1- pul- pypi- rubygems_ secret_ sess- sk- sk_ sl.
    """.split()
)
"""Prefixes that names have, too (`sk-toggleable`): what follows them must look random."""

_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
_END = "-----END"
_REST_OF_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s\\,:\"'.()-]*+")


def _behind(prefix: str) -> str:
    """What looks back for `prefix`, which the anchor has ended."""
    if prefix in _MIDDLES:
        return f"(?<={re.escape(prefix)})"
    if prefix == ":":
        return "(?<=[0-9]{8}:)"
    return f"(?<={_BEFORE_RUN if prefix in _RUNS else _BEFORE}{re.escape(prefix)})"


def _compiled(anchor: str, bodies: dict[str, str]) -> tuple[re.Pattern[str], list[str]]:
    """One pattern for all keys with this anchor, and the prefix of each of its groups."""
    keys = [(prefix, body) for body, names in bodies.items() for prefix in names.split()]
    parts = "|".join(f"{_behind(prefix)}({body})" for prefix, body in keys)
    before = f"(?<=[A-Za-z0-9]{anchor})" if anchor in "-_" else ""
    pattern = f"{re.escape(anchor)}{before}(?=[A-Za-z0-9_/+=~.-]{{12}})(?:{parts})"
    return re.compile(pattern, re.ASCII), [prefix for prefix, _ in keys]


_TABLE = [
    ({"p": "dapi", ":": ":AA"}.get(anchor, anchor), *_compiled(anchor, bodies))
    for anchor, bodies in _PREFIXES.items()
]
"""What a text must have for a search to be worth its time, the pattern, and the prefixes of its groups."""


def form_spans(text: str) -> list[Span]:
    """The secrets in `text` that their form gives away, in no particular order."""
    found: list[Span] = []
    for hint, pattern, prefixes in _TABLE:
        if hint in text and pattern.search(text):
            found += _matches(text, pattern, prefixes)
    if "PRIVATE KEY" in text:
        found += _private_keys(text)
    return found


def _matches(text: str, pattern: re.Pattern[str], prefixes: list[str]) -> Iterator[Span]:
    for match in pattern.finditer(text):
        group = match.lastindex or 1
        prefix = prefixes[group - 1]
        if prefix not in _IN_WORDS or looks_random(match[group].replace("_", "-")):
            start = match.start(group) - len(prefix.strip(":"))
            yield (_token_start(text, start) if prefix in _MIDDLES else start), match.end()


def _token_start(text: str, at: int) -> int:
    """The start of the run of letters that goes on at `at`, for keys that are known by their middle."""
    start = at
    while start > 0 and at - start < 64 and (text[start - 1].isalnum() or text[start - 1] in "_~.-"):
        start -= 1
    return start


def _private_keys(text: str) -> Iterator[Span]:
    """PEM blocks, also those that are cut; linear, though the end is missing many times."""
    at, has_end = 0, True
    while begin := _BEGIN.search(text, at):
        end = text.find(_END, begin.end()) if has_end else -1
        has_end = end >= 0
        rest = _PEM_BODY.match(text, begin.end())
        at = rest.end() if rest else begin.end()
        if has_end and end <= at:
            last = _REST_OF_END.match(text, end)
            at = last.end() if last else end + len(_END)
        yield begin.start(), at
