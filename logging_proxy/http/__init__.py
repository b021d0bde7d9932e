"""
The HTTP/1.1 engine: sans-IO grammar and framing, and the connections that carry twisted.web Resources.

The parser is our own, regular expressions of the standard library.  llhttp (by
httptools 0.9) was measured beside it on heads of LLM traffic, CPython 3.11, µs:

                                        ours, first   ours, again   llhttp
    request head, 8 fields, 308 bytes       5.4           0.4        1.9
    request head, 21 fields, 1,140 bytes    9.8           1.0        4.0
    response head, 19 fields, 784 bytes     7.8           0.7        3.5
    one SSE event in one chunk, one read    0.7            -         0.2
    the same in two reads                   2.6            -         0.4

So llhttp is faster at what it does: 3 to 6 µs for a head that is new, half a µs
or two for an event.  Ours is faster for a head that has been seen, and with it
comes everything derived from it before.  It also gives what a recording proxy
passes on, and a tokenizer does not: field lines with their blanks, and chunks,
as they came.

llhttp's figures are for collecting names and values, before any rule.  The
rules would be ours all the same: it accepts a missing Host, two of them, or any
text as one; `GET /x` without a version and ended by a bare LF; two blanks in
the request line; `GET *`; leading zeros in Content-Length; Transfer-Encoding in
HTTP/1.0; `HTTP/2.0`; heads of any size.  And it refuses methods that it does
not know, which routes may well have.
"""
