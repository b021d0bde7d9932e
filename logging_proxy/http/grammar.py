"""
The grammar of HTTP/1.1 messages as regular expressions over bytes (RFC 9110, RFC 9112).

Stricter than the RFCs where leniency has let requests be smuggled: a line ends
in CRLF and nothing else, a header is never folded, values hold no control
characters but the tab, the request line has single spaces.

Repetitions of a character are possessive (`++`, `*+`): what follows one never begins
with a character of its class, so giving characters back cannot help, and no input takes
more than linear time to refuse.  Those of a group are not, as Python's up to 3.11.4 match
what they should not then (gh-106052): a chunk's `5;`.  A group can be left in one way only
and begins with what cannot follow it, so that giving back repetitions takes linear time as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"

TARGET = rb"[!\x22\x24-\x7e]++"
"""Visible, but no `#`: a fragment is never sent (RFC 9112 §3.2), and readers differ on what it does."""

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

The space before an empty reason may be missing, as many servers send it.  A status
from 600 on is as good as one from 500 on (RFC 9110 §15).  Blanks before a colon are
the proxy's to remove (RFC 9112 §5.1).
"""

request_line = re.compile(rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/([0-9])\.([0-9])")

stray_line_end = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
"""A CR or LF that is not half of a CRLF; a CR at the very end may still become one."""

host = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[!$&'()*+,;=:\-._~0-9A-Za-z]+\]"
    rb"|(?:[!$&'()*+;=\-._~0-9A-Za-z]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
"""
A Host value and its port (RFC 9112 §3.2).

No userinfo, no path, not empty; no comma, since that is two Hosts joined.
"""

absolute_form = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*+://([^/?#]*+)(.*)")
"""An absolute-form target: authority, then path and query."""

content_length = re.compile(rb"0|[1-9][0-9]{0,17}")
"""No sign, no leading zero (one reader's octal), and no more digits than fit into 63 bits."""

plain_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
"""The size line of nearly every chunk; 15 digits fit into 60 bits."""


class Chunks(NamedTuple):
    """The lines of a chunked body, whole and begun; the first group of `size_line` is the size."""

    size_line: re.Pattern[bytes]
    open_size_line: re.Pattern[bytes]
    """What a chunk's size line can look like before its end is there."""
    field_line: re.Pattern[bytes]
    open_field_line: re.Pattern[bytes]
    """What a field line, or the blank line after the last, can look like before its end is there."""


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
"""For requests: extensions well-formed, no blanks (RFC 9112 §7.1.1)."""

LENIENT_CHUNKS = Chunks(
    re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;" + FIELD_VALUE + rb")?\r\n"),
    re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*+(?:;" + FIELD_VALUE + rb")?\r?"),
    re.compile(TOKEN + rb"[ \t]*+:" + FIELD_VALUE + rb"\r\n"),
    re.compile(rb"(?:" + TOKEN + rb"[ \t]*+(?::" + FIELD_VALUE + rb")?)?\r?"),
)
"""For responses, as Go and curl read them: extensions are not passed on, whatever they say."""
