"""
The choice between JSON and plain text for a client (RFC 9110 §12.5.1).

If `Accept` names JSON or a text type, its preference counts, and JSON where it has none.  If it names
neither (`*/*`, or no `Accept`), the response to a request with a JSON body is JSON, and any other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_JSON = re.compile(
    rb"application/(?:\*|(?:[a-z0-9!#$&^_.\-]++\+)?json|(?:x-)?(?:ndjson|jsonlines)|jsonl|json-seq)|text/json"
)
_TEXT = re.compile(rb"text/(?:html|plain|\*)|application/xhtml\+xml")
_DECISIVE = re.compile(rb"(?im)^(accept|content-type):([\t\x20-\x7e]*+)\r?$")
_QUALITY = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def prefers_json(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the response to a request with `fields` (lower-case names, values) should be JSON."""
    accepted, sent = [], b""
    for name, value in fields:
        if name == b"accept":
            accepted.append(value)
        elif name == b"content-type":
            sent = value
    json = text = -1.0
    for entry in b",".join(accepted).lower().split(b","):
        kind, *parameters = (part.strip() for part in entry.split(b";"))
        if _JSON.fullmatch(kind):
            json = max(json, _quality(parameters))
        elif _TEXT.fullmatch(kind):
            text = max(text, _quality(parameters))
    if json < 0 and text < 0:
        return _JSON.fullmatch(sent.partition(b";")[0].strip().lower()) is not None
    return json > 0 and json >= text


def fields_of(begun: bytes) -> list[tuple[bytes, bytes]]:
    """The fields that matter here, of a malformed or incomplete head."""
    return [(name.lower(), value.strip()) for name, value in _DECISIVE.findall(begun)]


def _quality(parameters: list[bytes]) -> float:
    """The `q` among `parameters`; 1 if there is none, or none that can be read."""
    for each in parameters:
        match = _QUALITY.fullmatch(each)
        if match is not None:
            return float(match[1])
    return 1.0
