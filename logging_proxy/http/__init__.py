"""
The HTTP/1.1 engine: grammar and framing without I/O, and the connections to clients and upstreams.

The parser is our own and uses regular expressions.  llhttp, a compiled tokenizer, is faster for a
head that is new.  Ours is faster for a head that has been seen, since everything derived from it is
cached with it.  It also keeps parts that a recording proxy has to pass on, and that a tokenizer drops: field
lines with their blanks, and chunks, as they came.

The rules would be ours all the same.  llhttp accepts a missing Host, two of them, or any text as
one; `GET /x` without a version and ended by a bare LF; two blanks in the request line; `GET *`;
leading zeros in Content-Length; Transfer-Encoding in HTTP/1.0; `HTTP/2.0`; heads of any size.  And
it refuses methods that it does not know, which routes may well have.
"""
