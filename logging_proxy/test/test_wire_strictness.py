"""
Hostile requests through the whole proxy, judged by what the client sees and by what reaches the upstream.

The probe's cases are data from `../shared` beside the repository; the tables
here are more of the same kinds, each with its own expectation.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.test.proxy_stage import READ_SIZE, Wire
from logging_proxy.test.test_http_conformance import CASES, READ_TIME, Seen, judge, messages, responses
from logging_proxy.test.wire_stage import EchoStage, NotStrict, strict

SHOULD_FAILS = {"COMP-UNKNOWN-METHOD"}
"""Any method is legal HTTP and passed on: the upstream knows its methods."""


def gone(client: Wire) -> bool:
    return client.disconnecting or client.closed or client.aborted or client.lost


def finish(stage: EchoStage, client: Wire) -> list[str]:
    """The client leaves; what is wrong with what reached the upstream."""
    client.rst()
    stage.settle()
    return stage.leaks()


class ProbeTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not CASES.exists():
            raise SkipTest(f"no {CASES.name} beside the repository")
        self.cases = json.loads(CASES.read_text())["cases"]

    def verdicts(self, size: int) -> dict[str, str]:
        found = {}
        for case in self.cases:
            stage = EchoStage()
            client = stage.client()
            answers = []
            for message in messages(case):
                if gone(client):
                    break
                stage.exchange(client, message, max(size, len(message) // 5000))
                stage.pass_time(READ_TIME)
                stage.settle()
                answers.append(responses(client.received(), message.startswith(b"HEAD ")))
            found[case["id"]] = judge(case, Seen(answers, gone(client)))
            self.assertEqual(finish(stage, client), [], case["id"])
        return found

    def check(self, verdicts: dict[str, str]) -> None:
        failed = {name for name, verdict in verdicts.items() if verdict in ("Fail", "Other")}
        self.assertEqual(failed, SHOULD_FAILS)

    def test_through_the_proxy(self) -> None:
        """Nothing fails but one SHOULD, and nothing reaches the upstream that was not one request."""
        self.check(self.verdicts(READ_SIZE))

    def test_in_small_pieces(self) -> None:
        """The same when messages come in pieces of few bytes."""
        self.check(self.verdicts(3))


Case = tuple[bytes, tuple[int, ...]]

HOST = b"Host: h\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
POISON = b"GET /poison HTTP/1.1\r\nHost: h\r\n\r\n"


def field(line: bytes, body: bytes = b"") -> bytes:
    """A POST with one more field line."""
    return b"POST /x HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n" + body


def first(line: bytes, fields: bytes = HOST) -> bytes:
    """A request with this request line."""
    return line + b"\r\n" + fields + b"\r\n"


def host(value: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost:" + value + b"\r\n\r\n"


LINES: dict[str, Case] = {
    "LF only": (b"GET /x HTTP/1.1\nHost: h\n\n", (400,)),
    "LF after the request line": (b"GET /x HTTP/1.1\nHost: h\r\n\r\n", (400,)),
    "LF after a field": (b"GET /x HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", (400,)),
    "LF as the blank line": (b"GET /x HTTP/1.1\r\nHost: h\r\n\n", (400,)),
    "LF twice after a field": (b"GET /x HTTP/1.1\r\nHost: h\n\n", (400,)),
    "LF CR": (b"GET /x HTTP/1.1\n\rHost: h\n\r\n\r", (400,)),
    "CR CR LF after the request line": (b"GET /x HTTP/1.1\r\r\nHost: h\r\n\r\n", (400,)),
    "CR CR LF after a field": (b"GET /x HTTP/1.1\r\nHost: h\r\r\n\r\n", (400,)),
    "CR only, all through": (b"GET /x HTTP/1.1\rHost: h\r\r", (400,)),
    "CR only, ended well": (b"GET /x HTTP/1.1\rHost: h\r\r\n\r\n", (400,)),
    "CR before the method": (b"\rGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "CR in the method": (first(b"G\rET /x HTTP/1.1"), (400,)),
    "CR in the target": (first(b"GET /\rx HTTP/1.1"), (400,)),
    "CR in the version": (first(b"GET /x HTTP\r/1.1"), (400,)),
    "CR in a name": (field(b"A\rB: c"), (400,)),
    "CR before the colon": (field(b"A\r: c"), (400,)),
    "CR after the colon": (field(b"A:\rc"), (400,)),
    "CR at the end of a value": (field(b"A: c\r"), (400,)),
    "CR in Host": (host(b" h\rx"), (400,)),
    "CR in Content-Length": (field(b"Content-Length: \r5", b"hello"), (400,)),
    "CR in Transfer-Encoding": (field(b"Transfer-Encoding: \rchunked", b"0\r\n\r\n"), (400,)),
    "three CRLF before": (b"\r\n\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "one CRLF before": (b"\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (200,)),
    "LF before": (b"\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "blank before": (b" GET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "tab before": (b"\tGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "NUL before": (b"\0GET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
    "BOM before": (b"\xef\xbb\xbfGET /x HTTP/1.1\r\nHost: h\r\n\r\n", (400,)),
}

REQUEST_LINES: dict[str, Case] = {
    "two blanks before the version": (first(b"GET /x  HTTP/1.1"), (400,)),
    "blank at the end": (first(b"GET /x HTTP/1.1 "), (400,)),
    "tab before the version": (first(b"GET /x\tHTTP/1.1"), (400,)),
    "tab and blank": (first(b"GET \t/x HTTP/1.1"), (400,)),
    "VT between": (first(b"GET\x0b/x HTTP/1.1"), (400,)),
    "NBSP between": (first(b"GET\xa0/x HTTP/1.1"), (400,)),
    "no target": (first(b"GET HTTP/1.1"), (400,)),
    "empty target": (first(b"GET  HTTP/1.1"), (400,)),
    "no version": (first(b"GET /x"), (400,)),
    "lower-case version": (first(b"GET /x http/1.1"), (400,)),
    "HTTP/1.": (first(b"GET /x HTTP/1."), (400,)),
    "HTTP/.1": (first(b"GET /x HTTP/.1"), (400,)),
    "HTTP/1.10": (first(b"GET /x HTTP/1.10"), (400,)),
    "HTTP/01.1": (first(b"GET /x HTTP/01.1"), (400,)),
    "HTTP/1,1": (first(b"GET /x HTTP/1,1"), (400,)),
    "HTTP/+1.1": (first(b"GET /x HTTP/+1.1"), (400,)),
    "HTTPS/1.1": (first(b"GET /x HTTPS/1.1"), (400,)),
    "ICAP/1.0": (first(b"GET /x ICAP/1.0"), (400,)),
    "HTTP/0.9": (first(b"GET /x HTTP/0.9"), (505,)),
    "HTTP/2.0": (first(b"GET /x HTTP/2.0"), (505,)),
    "HTTP/9.9": (first(b"GET /x HTTP/9.9"), (505,)),
    "HTTP/1.7 is 1.1": (first(b"GET /x HTTP/1.7"), (200,)),
    "method with colon": (first(b"GE:T /x HTTP/1.1"), (400,)),
    "method in quotes": (first(b'"GET" /x HTTP/1.1'), (400,)),
    "method with bracket": (first(b"GET[ /x HTTP/1.1"), (400,)),
    "method of bytes": (first(b"G\xc9T /x HTTP/1.1"), (400,)),
    "method with NUL": (first(b"GET\0 /x HTTP/1.1"), (400,)),
    "lower-case method is another": (first(b"get /x HTTP/1.1"), (200,)),
    "odd token method": (first(b"M-SEARCH /x HTTP/1.1"), (200,)),
    "target with DEL": (first(b"GET /\x7f HTTP/1.1"), (400,)),
    "target with NUL": (first(b"GET /\0 HTTP/1.1"), (400,)),
    "target with UTF-8": (first(b"GET /\xe2\x82\xac HTTP/1.1"), (400,)),
    "target with tab": (first(b"GET /a\tb HTTP/1.1"), (400,)),
    "target with fragment": (first(b"GET /a?b#c HTTP/1.1"), (400,)),
    "target without slash": (first(b"GET x HTTP/1.1"), (400,)),
    "target of a query": (first(b"GET ?x HTTP/1.1"), (400,)),
    "POST *": (first(b"POST * HTTP/1.1"), (400,)),
    "OPTIONS **": (first(b"OPTIONS ** HTTP/1.1"), (400,)),
    "bad escape": (first(b"GET /%zz HTTP/1.1"), (400,)),
    "absolute, bad escape": (first(b"GET http://h/%a?b HTTP/1.1"), (400,)),
    "absolute, escaped host": (first(b"GET http://%41/x HTTP/1.1"), (400,)),
    "absolute, future IP": (first(b"GET http://[v1.x]/x HTTP/1.1"), (400,)),
    "absolute, no path": (first(b"GET http://h HTTP/1.1"), (307,)),
    "escaped NUL": (first(b"GET /a%00b HTTP/1.1"), (200,)),
    "escaped CRLF": (first(b"GET /a%0d%0aX:%20y HTTP/1.1"), (200,)),
    "absolute, userinfo": (first(b"GET http://u:p@h/x HTTP/1.1"), (400,)),
    "absolute, no host": (first(b"GET http:///x HTTP/1.1"), (400,)),
    "absolute, only a port": (first(b"GET http://:80/x HTTP/1.1"), (400,)),
    "absolute, port too large": (first(b"GET http://h:65536/x HTTP/1.1"), (400,)),
    "absolute, port of letters": (first(b"GET http://h:8o/x HTTP/1.1"), (400,)),
    "absolute, backslash": (first(b"GET http://h\\@evil/x HTTP/1.1"), (400,)),
    "absolute, one slash": (first(b"GET http:/h/x HTTP/1.1"), (400,)),
    "absolute, fragment": (first(b"GET http://h/x#y HTTP/1.1"), (400,)),
    "absolute, comma": (first(b"GET http://h,evil/x HTTP/1.1"), (400,)),
    "absolute, no Host": (first(b"GET http://h/x HTTP/1.1", b""), (400,)),
    "absolute, two Hosts": (first(b"GET http://h/x HTTP/1.1", HOST + HOST), (400,)),
    "absolute": (first(b"GET HTTP://other:80/x?y HTTP/1.1"), (200,)),
    "CONNECT": (first(b"CONNECT h:443 HTTP/1.1"), (405,)),
    "CONNECT with a path": (first(b"CONNECT /x HTTP/1.1"), (400,)),
    "h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", (505,)),
    "TLS ClientHello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)), (400,)),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", (400,)),
    "SOCKS5": (b"\x05\x01\x00", (400,)),
    "PROXY protocol": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + POISON, (400,)),
    "HTTP/0.9 request": (b"GET /x\r\n", (400,)),
    "line of 9000": (first(b"GET /" + b"y" * 9000 + b" HTTP/1.1"), (200,)),
    "line too long": (first(b"GET /" + b"y" * 70000 + b" HTTP/1.1"), (414,)),
    "method too long": (first(b"G" * 70000 + b" / HTTP/1.1"), (414,)),
}

FIELDS: dict[str, Case] = {
    "folded with a blank": (field(b"A: b\r\n c"), (400,)),
    "folded with a tab": (field(b"A: b\r\n\tc"), (400,)),
    "folded into nothing": (field(b"A: b\r\n \r\nC: d"), (400,)),
    "folded first line": (b"GET /x HTTP/1.1\r\n Host: h\r\n\r\n", (400,)),
    "folded Host": (host(b"\r\n h"), (400,)),
    "folded Content-Length": (field(b"Content-Length:\r\n 5", b"hello"), (400,)),
    "folded Content-Length, later digits": (field(b"Content-Length: 1\r\n 0", b"0123456789"), (400,)),
    "folded Transfer-Encoding, tab": (field(b"Transfer-Encoding:\r\n\tchunked", b"0\r\n\r\n"), (400,)),
    "folded over the end": (b"GET /x HTTP/1.1\r\nHost: h\r\n \r\n" + POISON, (400,)),
    "tab before the colon": (field(b"A\t: b"), (400,)),
    "blank in a name": (field(b"A B: c"), (400,)),
    "no colon": (field(b"AB"), (400,)),
    "no name": (field(b": b"), (400,)),
    "NUL in a name": (field(b"A\0: b"), (400,)),
    "NUL at the end": (field(b"A: b\0"), (400,)),
    "BEL": (field(b"A: \x07"), (400,)),
    "DEL": (field(b"A: \x7f"), (400,)),
    "ESC": (field(b"A: \x1b[0m"), (400,)),
    "VT around": (field(b"A: \x0bb\x0b"), (400,)),
    "FF around": (field(b"A: \x0cb"), (400,)),
    "bytes from 128 are text": (field(b"A: \x80\x85\xa0\xff"), (200,)),
    "name of bytes": (field(b"\xc3\x84: b"), (400,)),
    "name in brackets": (field(b"[A]: b"), (400,)),
    "name with slash": (field(b"A/B: c"), (400,)),
    "pseudo header": (field(b":method: GET"), (400,)),
    "second request line": (field(b"GET /poison HTTP/1.1"), (400,)),
    "200 fields": (field(b"\r\n".join([b"A: b"] * 199)), (200,)),
    "201 fields": (field(b"\r\n".join([b"A: b"] * 200)), (431,)),
    "one huge field": (field(b"A: " + b"b" * 70000), (431,)),
    "one huge name": (field(b"A" * 70000 + b": b"), (431,)),
    "many small ones, too long": (field(b"\r\n".join([b"AAAA: " + b"b" * 400] * 190)), (431,)),
    "Connection: close ends it": (field(b"Connection: cLoSe") + POISON, (200,)),
    "Connection names Host": (field(b"Connection: Host, close"), (200,)),
    "Connection names Content-Length": (
        field(b"Connection: Content-Length\r\nContent-Length: 5", b"hello"),
        (200,),
    ),
    "Connection names Transfer-Encoding": (
        field(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        (200,),
    ),
    "Connection names everything": (
        field(b"Connection: host,content-length,,;,cookie\r\nCookie: a\r\nContent-Length: 1", b"x"),
        (200,),
    ),
    "Expect in odd case": (field(b"Expect: 100-CONTINUE\r\nContent-Length: 5", b"hello"), (200,)),
    "Expect, twice": (
        field(b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1", b"x"),
        (200,),
    ),
    "Expect of nothing": (field(b"Expect:"), (200,)),
    "Expect without a body": (field(b"Expect: 100-continue") + POISON, (200, 200)),
    "TE: trailers": (field(b"TE: trailers\r\nConnection: TE"), (200,)),
    "TE: chunked": (field(b"TE: chunked;q=0, trailers;q=1"), (200,)),
    "Trailer without chunks": (field(b"Trailer: Content-Length"), (200,)),
    "Upgrade: h2c": (
        field(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
        (200,),
    ),
}

HOSTS: dict[str, Case] = {
    "none": (b"GET /x HTTP/1.1\r\nA: b\r\n\r\n", (400,)),
    "empty": (host(b""), (400,)),
    "blank": (host(b"  \t"), (400,)),
    "userinfo": (host(b" u@h"), (400,)),
    "userinfo with password": (host(b" u:p@h"), (400,)),
    "path": (host(b" h/x"), (400,)),
    "query": (host(b" h?x"), (400,)),
    "fragment": (host(b" h#x"), (400,)),
    "URL": (host(b" http://h"), (400,)),
    "backslash": (host(b" h\\x"), (400,)),
    "two words": (host(b" h x"), (400,)),
    "tab between": (host(b" h\tx"), (400,)),
    "comma": (host(b" h,x"), (400,)),
    "NUL": (host(b" h\0x"), (400,)),
    "only a port": (host(b" :80"), (400,)),
    "port of letters": (host(b" h:x"), (400,)),
    "negative port": (host(b" h:-1"), (400,)),
    "port too large": (host(b" h:65536"), (400,)),
    "two ports": (host(b" h:1:2"), (400,)),
    "bracket open": (host(b" [::1"), (400,)),
    "bracket of a name": (host(b" [h]"), (400,)),
    "bracket and more": (host(b" [::1]x"), (400,)),
    "IPv6 without brackets": (host(b" ::1"), (400,)),
    "bytes": (host(b" h\xfc"), (400,)),
    "quotes": (host(b' "h"'), (400,)),
    "bad escape": (host(b" %g1"), (400,)),
    "IPv6": (host(b" [::1]:5601"), (200,)),
    "no blank, tab behind": (host(b"h:80\t"), (200,)),
    "twice, other case": (b"GET /x HTTP/1.1\r\nhost: h\r\nHOST: h\r\n\r\n", (400,)),
    "second empty": (b"GET /x HTTP/1.1\r\nHost: h\r\nHost:\r\n\r\n", (400,)),
    "blank before the colon": (b"GET /x HTTP/1.1\r\nHost : h\r\n\r\n", (400,)),
    "HTTP/1.0, twice": (b"GET /x HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", (400,)),
    "HTTP/1.0, bad": (b"GET /x HTTP/1.0\r\nHost: h/i\r\n\r\n", (400,)),
    "HTTP/1.0, none": (b"GET /x HTTP/1.0\r\n\r\n", (200,)),
}


def length(value: bytes, body: bytes = b"hello", more: bytes = b"") -> bytes:
    return b"POST /x HTTP/1.1\r\n" + HOST + more + b"Content-Length:" + value + b"\r\n\r\n" + body


LENGTHS: dict[str, Case] = {
    "plus": (length(b" +5"), (400,)),
    "minus": (length(b" -5"), (400,)),
    "blank inside": (length(b" 5 5"), (400,)),
    "decimal": (length(b" 5.0"), (400,)),
    "exponent": (length(b" 5e0"), (400,)),
    "hex": (length(b" 0x5"), (400,)),
    "hex digits": (length(b" a"), (400,)),
    "underscore": (length(b" 1_0"), (400,)),
    "leading zero": (length(b" 05"), (400,)),
    "zeros": (length(b" 00", b""), (400,)),
    "comma": (length(b" 5,5"), (400,)),
    "comma and nothing": (length(b" 5,"), (400,)),
    "semicolon": (length(b" 5;"), (400,)),
    "quotes": (length(b' "5"'), (400,)),
    "NUL": (length(b" 5\0"), (400,)),
    "superscript": (length(b" \xb5\xb2"), (400,)),
    "Arabic digits": (length(b" \xd9\xa5"), (400,)),
    "19 digits": (length(b" 1000000000000000000"), (400,)),
    "2**63": (length(b" 9223372036854775808"), (400,)),
    "2**64 + 5": (length(b" 18446744073709551621"), (400,)),
    "huge": (length(b" " + b"9" * 5000), (400,)),
    "the largest, no body": (length(b" 999999999999999999", b""), ()),
    "empty": (length(b""), (400,)),
    "nothing but a tab": (length(b"\t"), (400,)),
    "tab around": (length(b"\t5\t"), (200,)),
    "same twice": (length(b" 5", more=b"Content-Length: 5\r\n"), (400,)),
    "second empty": (length(b"", more=b"Content-Length: 5\r\n"), (400,)),
    "other case": (length(b" 5", more=b"content-length: 3\r\n"), (400,)),
    "blank before the colon": (length(b" 5", more=b"Content-Length : 3\r\n"), (400,)),
    "twice zero": (length(b" 0", POISON, b"Content-Length: 0\r\n"), (400,)),
    "too short, then poison": (length(b" 5", b"hello" + POISON), (200, 200)),
    "too short, then garbage": (length(b" 3", b"hello"), (200,)),
    "too short, garbage with an end": (length(b" 3", b"hello\r\n\r\n"), (200, 400)),
    "on GET": (b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + POISON, (200, 200)),
    "with chunked first": (length(b" 5", more=b"Transfer-Encoding: chunked\r\n"), (400,)),
    "zero with chunked": (length(b" 0", b"0\r\n\r\n" + POISON, b"Transfer-Encoding: chunked\r\n"), (400,)),
    "with odd chunked": (length(b" 5", more=b"transfer-encoding:\tCHUNKED \r\n"), (400,)),
    "with empty coding": (length(b" 5", more=b"Transfer-Encoding:\r\n"), (400,)),
    "underscored is another field": (length(b" 5", more=b"Content_Length: 3\r\n"), (200,)),
}


def coding(value: bytes, body: bytes = b"5\r\nhello\r\n0\r\n\r\n", more: bytes = b"") -> bytes:
    return b"POST /x HTTP/1.1\r\n" + HOST + more + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body


CODINGS: dict[str, Case] = {
    "upper case": (coding(b" CHUNKED"), (200,)),
    "no blank": (coding(b"chunked"), (200,)),
    "tabs": (coding(b"\t\tchunked\t"), (200,)),
    "twice": (coding(b" chunked", more=b"Transfer-Encoding: chunked\r\n"), (400,)),
    "second empty": (coding(b"", more=b"Transfer-Encoding: chunked\r\n"), (400,)),
    "comma behind": (coding(b" chunked,"), (400,)),
    "comma before": (coding(b" ,chunked"), (400,)),
    "identity before": (coding(b" identity, chunked"), (400,)),
    "identity behind": (coding(b" chunked, identity"), (400,)),
    "gzip before": (coding(b" gzip, chunked"), (400,)),
    "gzip behind": (coding(b" chunked, gzip"), (400,)),
    "quotes": (coding(b' "chunked"'), (400,)),
    "parameter": (coding(b" chunked;q=1"), (400,)),
    "x-chunked": (coding(b" xchunked"), (400,)),
    "chunke": (coding(b" chunke"), (501,)),
    "deflate": (coding(b" deflate"), (501,)),
    "blank inside": (coding(b" chun ked"), (501,)),
    "VT": (coding(b" chunked\x0b"), (400,)),
    "NUL": (coding(b" chunked\0"), (400,)),
    "NBSP": (coding(b" \xa0chunked"), (400,)),
    "long s": (coding(b" chunKed\xc5\xbf"), (400,)),
    "blank before the colon": (b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", (400,)),
    "folded": (coding(b"\r\n chunked"), (400,)),
    "HTTP/1.0": (coding(b" chunked").replace(b"1.1", b"1.0"), (400,)),
    "HTTP/1.0, kept alive": (
        coding(b" chunked", more=b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0") + POISON,
        (400,),
    ),
    "on GET": (coding(b" chunked").replace(b"POST", b"GET") + POISON, (200, 200)),
}


def chunks(body: bytes) -> bytes:
    return CHUNKED + body


CHUNKS: dict[str, Case] = {
    "plus": (chunks(b"+5\r\nhello\r\n0\r\n\r\n"), (400,)),
    "blank before": (chunks(b" 5\r\nhello\r\n0\r\n\r\n"), (400,)),
    "tab behind": (chunks(b"5\t\r\nhello\r\n0\r\n\r\n"), (400,)),
    "blank before the extension": (chunks(b"5 ;a\r\nhello\r\n0\r\n\r\n"), (400,)),
    "blank behind the semicolon": (chunks(b"5; a\r\nhello\r\n0\r\n\r\n"), (400,)),
    "0x": (chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), (400,)),
    "h": (chunks(b"5h\r\nhello\r\n0\r\n\r\n"), (400,)),
    "empty size": (chunks(b"\r\nhello\r\n0\r\n\r\n"), (400,)),
    "only an extension": (chunks(b";a=b\r\nhello\r\n0\r\n\r\n"), (400,)),
    "16 digits": (chunks(b"0000000000000005\r\nhello\r\n0\r\n\r\n"), (400,)),
    "15 digits": (chunks(b"000000000000005\r\nhello\r\n0\r\n\r\n"), (200,)),
    "2**64 + 5": (chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), (400,)),
    "size of 2**60 - 1": (chunks(b"fffffffffffffff\r\nhello"), ()),
    "endless zeros": (chunks(b"0" * 5000), (400,)),
    "LF": (chunks(b"5\nhello\n0\n\n"), (400,)),
    "LF behind the data": (chunks(b"5\r\nhello\n0\r\n\r\n"), (400,)),
    "CR behind the data": (chunks(b"5\r\nhello\r0\r\n\r\n"), (400,)),
    "CR behind the size": (chunks(b"5\rhello\r\n0\r\n\r\n"), (400,)),
    "CR CR LF": (chunks(b"5\r\r\nhello\r\n0\r\n\r\n"), (400,)),
    "no CRLF behind the data": (chunks(b"5\r\nhello0\r\n\r\n"), (400,)),
    "too much data": (chunks(b"5\r\nhelloX\r\n0\r\n\r\n"), (400,)),
    "too little data": (chunks(b"6\r\nhello\r\n0\r\n\r\n"), (400,)),
    "LF after the last": (chunks(b"0\r\n\n"), (400,)),
    "garbage after the last": (chunks(b"0\r\nX\r\n\r\n"), (400,)),
    "last without its blank line, then poison": (chunks(b"0\r\n" + POISON), (400,)),
    "00": (chunks(b"5\r\nhello\r\n00\r\n\r\n" + POISON), (200, 200)),
    "last with an extension": (chunks(b"0;a=b\r\n\r\n"), (200,)),
    "quoted extension": (chunks(b'5;a="b \\" ;c"\r\nhello\r\n0\r\n\r\n'), (200,)),
    "open quotes": (chunks(b'5;a="b\r\nhello\r\n0\r\n\r\n'), (400,)),
    "NUL in an extension": (chunks(b"5;a=\0\r\nhello\r\n0\r\n\r\n"), (400,)),
    "CR in an extension": (chunks(b"5;a=b\rc\r\nhello\r\n0\r\n\r\n"), (400,)),
    "LF in an extension": (chunks(b"5;a=b\nhello\r\n0\r\n\r\n"), (400,)),
    "extension too long": (chunks(b"5;a=" + b"b" * 5000 + b"\r\nhello\r\n0\r\n\r\n"), (400,)),
    "trailers": (chunks(b"0\r\nA: b\r\nC: d\r\n\r\n" + POISON), (200, 200)),
    "framing in trailers": (chunks(b"0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"), (200,)),
    "folded trailer": (chunks(b"0\r\nA: b\r\n c\r\n\r\n"), (400,)),
    "trailer with a blank": (chunks(b"0\r\nA : b\r\n\r\n"), (400,)),
    "trailer with LF": (chunks(b"0\r\nA: b\n\r\n"), (400,)),
    "trailer with CR": (chunks(b"0\r\nA: b\rc\r\n\r\n"), (400,)),
    "trailer with NUL": (chunks(b"0\r\nA: \0\r\n\r\n"), (400,)),
    "trailers too long": (chunks(b"0\r\n" + b"A: b\r\n" * 4000 + b"\r\n"), (400,)),
    "garbage behind": (chunks(b"0\r\n\r\n!!\r\n\r\n"), (200, 400)),
    "a second end": (chunks(b"0\r\n\r\n0\r\n\r\n"), (200, 400)),
}

PIPELINES: dict[str, Case] = {
    "three": (POISON * 3, (200, 200, 200)),
    "good, bad": (POISON + b"GET /x HTTP/1.1\r\n\r\n" + POISON, (200, 400)),
    "good, LF only": (POISON + b"GET /x HTTP/1.1\nHost: h\n\n" + POISON, (200, 400)),
    "good, binary": (POISON + b"\x16\x03\x01\x02\x00" + POISON, (200, 400)),
    "good, CRLF, good": (POISON + b"\r\n" + POISON, (200, 200)),
    "bad, good": (b"GET /x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n" + POISON, (400,)),
    "GET with a body that is a request": (b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n" + POISON, (200, 200)),
    "HTTP/1.0, more": (b"GET /x HTTP/1.0\r\n" + HOST + b"\r\n" + POISON, (200,)),
    "HTTP/1.0, kept alive, more": (
        b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n" + POISON,
        (200, 200),
    ),
    "ours, good": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + POISON, (200, 200)),
    "upgrade, more": (field(b"Connection: upgrade\r\nUpgrade: websocket") + POISON, (200, 200)),
}

TABLES = {
    "line ends": LINES,
    "request lines": REQUEST_LINES,
    "fields": FIELDS,
    "hosts": HOSTS,
    "lengths": LENGTHS,
    "codings": CODINGS,
    "chunks": CHUNKS,
    "pipelines": PIPELINES,
}

OURS = (first(b"OPTIONS * HTTP/1.1"),)
"""What is answered 200 without the upstream."""


class TableTests(SynchronousTestCase):
    def check(self, table: str) -> None:
        for name, (data, expected) in TABLES[table].items():
            for size in (READ_SIZE, 7 if len(data) < 3000 else 1009, 1 if len(data) < 1000 else 4099):
                self.check_case(data, expected, size, f"{table}: {name}, by {size}")

    def check_case(self, data: bytes, expected: tuple[int, ...], size: int, name: str) -> None:
        stage = EchoStage()
        client = stage.client()
        stage.exchange(client, data, size)
        received = client.received()
        found = responses(received, data.startswith(b"HEAD "))
        self.assertEqual(tuple(status for status, _ in found), expected, name)
        refused = bool(expected) and expected[-1] in (400, 414, 431, 501, 505)
        if refused:
            self.assertTrue(gone(client), name)
            self.assertIn(b"\r\nConnection: close\r\n", received[received.rindex(b"HTTP/1.1 ") :], name)
        reached = sum(status == 200 for status in expected) - data.startswith(OURS)
        self.assertEqual(len(stage.reached), reached, name)
        self.assertEqual(finish(stage, client), [], name)

    def test_line_ends(self) -> None:
        """A line ends in CRLF and in nothing else."""
        self.check("line ends")

    def test_request_lines(self) -> None:
        """One method, one target, one version, with a single blank between."""
        self.check("request lines")

    def test_fields(self) -> None:
        """Names are tokens, values hold no control characters, nothing is folded, none goes astray."""
        self.check("fields")

    def test_hosts(self) -> None:
        """Exactly one Host, which names a host."""
        self.check("hosts")

    def test_lengths(self) -> None:
        """One length, in plain digits, and no coding beside it."""
        self.check("lengths")

    def test_codings(self) -> None:
        """Chunked, once, and nothing else."""
        self.check("codings")

    def test_chunks(self) -> None:
        """Sizes in hex digits, a CRLF after each chunk, well-formed trailers."""
        self.check("chunks")

    def test_pipelines(self) -> None:
        """What comes behind a request is another request or nothing."""
        self.check("pipelines")


class PlainerTests(SynchronousTestCase):
    def test_framing(self) -> None:
        """The upstream is told of chunks in the one way that everybody understands."""
        for value in (b"CHUNKED", b"\tchunked ", b"Chunked"):
            stage = EchoStage()
            stage.exchange(stage.client(), coding(value))
            (seen,) = stage.seen.values()
            self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", seen)

    def test_named_trailers(self) -> None:
        """A trailer that Connection names stays here, as a header would (RFC 9110 §7.6.1)."""
        data = b"POST /x HTTP/1.1\r\nHost: h\r\nConnection: x-a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for size in (1, READ_SIZE):
            stage = EchoStage()
            stage.exchange(stage.client(), data + b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", size)
            self.assertEqual(stage.reached[0].trailers, [(b"X-B", b"2")])

    def test_the_readers_see(self) -> None:
        """The strict reader of these tests refuses what it is there to find."""
        good = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
        self.assertEqual(len(strict(good + good)[0]), 2)
        self.assertEqual(strict(good[:-1])[1], good[:-1])
        for bad in (
            good + b"!\r\n\r\n",
            good.replace(b": h", b" : h"),
            good.replace(b": h", b": h\r\n x"),
            good.replace(b"2", b"+2"),
            good.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
            good.replace(b"\r\n", b"\n"),
            good.replace(b"Host: h\r\n", b""),
            chunks(b"5;a\r\nhello\r\n0\r\n\r\n"),
            chunks(b"5\r\nhelloX\r\n"),
        ):
            self.assertRaises(NotStrict, strict, bad)

    def test_no_case_twice(self) -> None:
        """No case is in the tables twice."""
        cases = [data for table in TABLES.values() for data, _ in table.values()]
        self.assertEqual(len(set(cases)), len(cases))
