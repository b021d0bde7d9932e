"""
The grammar of HTTP/1.1 messages as regular expressions over bytes (RFC 9110, RFC 9112).

It is stricter than the RFCs where leniency has allowed request smuggling: a line ends only in CRLF, fields
are not folded, values have no control characters except the tab, and the request line has single spaces.

All patterns match or fail in linear time.  Repetitions of a character class are possessive (`++`, `*+`):
the next part of the pattern never begins with a character of that class, so backtracking is pointless.
Repetitions of a group are not possessive, because Python up to 3.11.4 then matches too much (gh-106052),
for example a chunk line `5;`.  There the end of a group is unambiguous, and no part that follows can begin
as the group does, so that backtracking takes linear time as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"

TARGET = rb"[!\x22\x24-\x7e]++"
"""Visible characters except `#`: fragments are not sent (RFC 9112 §3.2), and recipients differ on them."""

FIELD_LINES = rb"(?:" + TOKEN + rb":" + FIELD_VALUE + rb"\r\n)*"

request_head = re.compile(
    rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/1\.([0-9])\r\n(" + FIELD_LINES + rb")\r\n"
)
"""A whole request head: method, target, minor version, field lines."""

response_head = re.compile(
    rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: ("
    + FIELD_VALUE
    + rb"))?\r\n((?:"
    + TOKEN
    + rb"[ \t]*+:"
    + FIELD_VALUE
    + rb"\r\n)*)\r\n"
)
"""
A whole response head: minor version, status, reason, field lines.

The space before an empty reason may be missing, since many servers omit it.  A status from 600 on counts
as one from 500 on (RFC 9110 §15).  Blanks before a colon are accepted, and removed by the proxy (RFC 9112
§5.1).
"""

request_line = re.compile(rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/([0-9])\.([0-9])")

stray_line_end = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
"""A CR or LF that is not part of a CRLF; a CR at the end of the input may still become one."""

host = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[!$&'()*+,;=:\-._~0-9A-Za-z]+\]"
    rb"|(?:[!$&'()*+;=\-._~0-9A-Za-z]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
"""
A Host value and its port (RFC 9112 §3.2).

Without userinfo and path, and not empty.  A comma is refused: it separates two Host values.
"""

absolute_form = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*+://([^/?#]*+)(.*)")
"""An absolute-form target: authority, then path and query."""

content_length = re.compile(rb"0|[1-9][0-9]{0,17}")
"""Without sign, without leading zero (octal for some recipients), and within 63 bits."""

plain_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
"""The size line of an ordinary chunk; 15 digits fit into 60 bits."""


class Chunks(NamedTuple):
    """The lines of a chunked body, complete and incomplete; the first group of `size_line` is the size."""

    size_line: re.Pattern[bytes]
    open_size_line: re.Pattern[bytes]
    """An incomplete size line."""
    field_line: re.Pattern[bytes]
    open_field_line: re.Pattern[bytes]
    """An incomplete field line, or the beginning of the blank line after the last one."""


STRICT_CHUNKS = Chunks(
    re.compile(
        rb"([0-9A-Fa-f]{1,15})"
        rb"(?:;"
        + TOKEN
        + rb"(?:=(?:"
        + TOKEN
        + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*\r\n'
    ),
    re.compile(rb"[0-9A-Fa-f]{1,15}(?:;" + FIELD_VALUE + rb")?\r?"),
    re.compile(TOKEN + rb":" + FIELD_VALUE + rb"\r\n"),
    re.compile(rb"(?:" + TOKEN + rb"(?::" + FIELD_VALUE + rb")?)?\r?"),
)
"""For requests: well-formed extensions, and no blanks (RFC 9112 §7.1.1)."""

LENIENT_CHUNKS = Chunks(
    re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;" + FIELD_VALUE + rb")?\r\n"),
    re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*+(?:;" + FIELD_VALUE + rb")?\r?"),
    re.compile(TOKEN + rb"[ \t]*+:" + FIELD_VALUE + rb"\r\n"),
    re.compile(rb"(?:" + TOKEN + rb"[ \t]*+(?::" + FIELD_VALUE + rb")?)?\r?"),
)
"""For responses, as Go and curl read them: any extension is accepted, and none is passed on."""
