"""Hostile upstreams: what they send never reaches a client as a clean answer, nor any client but the one."""

from __future__ import annotations

import h11
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import READ_SIZE, Stage, Wire, get, ok, post

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ABC = b"\r\n\r\nabc"


def field(line: bytes, body: bytes = b"") -> bytes:
    return OK + line + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


BAD_HEADS: dict[str, bytes] = {
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4" + ABC,
    "two lengths in one": OK + b"Content-Length: 3, 4" + ABC,
    "length and chunked": OK
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunked and length": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "length and identity": OK + b"Transfer-Encoding: identity\r\nContent-Length: 3" + ABC,
    "length with plus": OK + b"Content-Length: +3" + ABC,
    "negative length": OK + b"Content-Length: -1" + ABC,
    "length in hex": OK + b"Content-Length: 0x3" + ABC,
    "empty length": OK + b"Content-Length:" + ABC,
    "endless length": OK + b"Content-Length: " + b"9" * 25 + ABC,
    "length with NUL": OK + b"Content-Length: 3\0" + ABC,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "empty coding": OK + b"Transfer-Encoding:\r\n\r\n",
    "coding with VT": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "folded coding": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": field(b"A: b\r\n c"),
    "obs-fold with tab": field(b"A: b\r\n\tc"),
    "obs-fold first": OK + b" A: b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": field(b"A: \0"),
    "NUL in a name": field(b"A\0: b"),
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "BEL": field(b"A: \x07"),
    "bare CR in a value": field(b"A: b\rSet-Cookie: c"),
    "bare LF in a value": field(b"A: b\nSet-Cookie: c"),
    "bare CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "CR CR LF": field(b"A: b\r"),
    "LF only": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "LF as the blank line": OK + b"Content-Length: 3\r\n\nabc",
    "CR only": b"HTTP/1.1 200 OK\rContent-Length: 3\r\rabc",
    "blank before a length's colon": OK + b"Content-Length : 3" + ABC,
    "blank before a coding's colon": OK + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "no colon": field(b"AB"),
    "no name": field(b": b"),
    "name with a blank": field(b"A B: c"),
    "name of bytes": field(b"\xc3\x84: b"),
    "1001 fields": OK + b"A: b\r\n" * 1001 + b"\r\n",
    "head too long": OK + b"A: " + b"b" * 270000,
    "head too long, ended": field(b"A: " + b"b" * 270000),
    "status line too long": b"HTTP/1.1 200 " + b"b" * 270000,
    "garbage": b"\xde\xad\xbe\xef" * 9,
    "garbage with an end": b"garbage\r\n\r\n",
    "one wrong byte": b"h",
    "HTML at once": b"<html><body>hi</body></html>",
    "HTTP/0.9": b"hello\r\n",
    "CRLF before": b"\r\n" + ok(),
    "blank before": b" " + ok(),
    "a request": get(),
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9 status": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.": b"HTTP/1. 200 OK\r\n\r\n",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "h2 settings": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0",
    "TLS alert": b"\x15\x03\x01\0\x02\x02\x46",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "status 099": b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 No\r\nContent-Length: 0\r\n\r\n",
    "status 20": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status +20": b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 2oo OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "no status at all": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters, no end": b"HTTP/1.1 2oo OK\r\nServer: x\r\n",
    "status 0700, no end": b"HTTP/1.1 0700 No\r\nA",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",
}
"""Refused before the client has been told anything."""

BAD_CHUNKS: dict[str, bytes] = {
    "no hex": b"g\r\n",
    "plus": b"+3\r\nabc\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "blank before": b" 3\r\nabc\r\n",
    "empty": b"\r\nabc",
    "16 digits": b"0000000000000003\r\nabc\r\n",
    "overflow": b"fffffffffffffffff\r\n",
    "LF": b"3\nabc\n0\n\n",
    "CR": b"3\rabc",
    "too much": b"3\r\nabcd\r\n0\r\n\r\n",
    "no CRLF behind": b"3\r\nabc0\r\n\r\n",
    "LF behind": b"3\r\nabc\n0\r\n\r\n",
    "NUL in an extension": b"3;a=\0\r\nabc\r\n",
    "extension too long": b"3;a=" + b"b" * 5000,
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer with NUL": b"0\r\nA: \0\r\n\r\n",
    "trailer with LF": b"0\r\nA: b\n\r\n",
    "trailers too long": b"0\r\n" + b"A: bbbbbbbbbbbbbbbb\r\n" * 1000,
    "a response instead of a chunk": ok(),
}
"""Behind a head and a chunk that were in order."""

EXCESS: dict[str, bytes] = {
    "behind a length": ok(b"abc") + b"X",
    "behind no body": OK + b"Content-Length: 0\r\n\r\n\r\n",
    "a second response": ok(b"abc") + ok(b"poison"),
    "behind chunks": CHUNKED + b"3\r\nabc\r\n0\r\n\r\n0\r\n\r\n",
    "behind 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
    "behind 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc",
    "1xx behind it": ok(b"abc") + b"HTTP/1.1 100 Continue\r\n\r\n",
}
"""More than the response."""

NEXT = get("/api/next")


def read(data: bytes, ended: bool) -> tuple[int, bytes] | None:
    """Status and body of the one whole response in `data`, read by h11; None if it is not whole."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    status, body = 0, b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif event in (h11.NEED_DATA, h11.PAUSED):
                return None
    except h11.RemoteProtocolError:
        return None
    assert connection.trailing_data[0] == b"", connection.trailing_data
    return status, body


class HostileUpstreamTests(SynchronousTestCase):
    def asked(self, data: bytes, size: int) -> tuple[Stage, Wire]:
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(data, size)
        stage.turn()
        return stage, client

    def sizes(self, data: bytes) -> tuple[int, ...]:
        return (READ_SIZE, 1) if len(data) < 1000 else (READ_SIZE, 4099)

    def assertNotReused(self, stage: Stage, name: str) -> None:
        """The connection is dropped, and whoever asks next gets another, and its own answer."""
        self.assertTrue(stage.upstream.aborted or stage.upstream.closed, name)
        self.assertIsNone(stage.pool.take(), name)
        client = stage.client(NEXT)
        self.assertEqual(len(stage.endpoint.wires), 2, name)
        self.assertTrue(stage.upstream.received().startswith(b"GET /next "), name)
        stage.upstream.deliver(ok(b"mine"))
        self.assertEqual(client.received(), ok(b"mine"), name)
        self.assertEqual(stage.problems(), [], name)

    def test_bad_heads(self) -> None:
        """502 and `protocol_error`, at once, with nothing of what the upstream sent."""
        for name, data in BAD_HEADS.items():
            for size in self.sizes(data):
                stage, client = self.asked(data, size)
                received = client.received()
                status, body = read(received, False) or (0, b"")
                self.assertEqual(status, 502, name)
                words = rb"the answer of http://up\.example is malformed: [\w/. -]+ \(exchange "
                self.assertRegex(body, words, name)
                self.assertEqual(stage.captures[0].outcome, "protocol_error", name)
                self.assertTrue(stage.captures[0].error, name)
                self.assertFalse(client.disconnecting, name)
                self.assertNotReused(stage, name)

    def test_bad_chunks(self) -> None:
        """A body that stops being chunks is cut: the client gets no end, but a reset."""
        for name, data in BAD_CHUNKS.items():
            for size in self.sizes(data):
                stage, client = self.asked(CHUNKED + b"2\r\nhi\r\n", READ_SIZE)
                stage.upstream.deliver(data, size)
                stage.turn()
                received = client.received()
                self.assertTrue(received.startswith(CHUNKED + b"2\r\nhi\r\n"), name)
                self.assertIsNone(read(received, True), name)
                self.assertTrue(client.aborted, name)
                self.assertEqual(stage.captures[0].outcome, "protocol_error", name)
                self.assertFalse(stage.captures[0].complete(Kind.RESPONSE_PIECE), name)
                body, _, refused = stage.captures[0].body(Kind.RESPONSE_PIECE).partition(data[-3:])
                self.assertTrue(body.startswith(b"hi"), name)
                self.assertNotReused(stage, name)

    def test_excess(self) -> None:
        """What comes behind a response reaches nobody, and spoils nothing but the connection."""
        for name, data in EXCESS.items():
            for size in self.sizes(data):
                stage, client = self.asked(data, size)
                found = read(client.received(), False)
                self.assertIn(found, [(200, b"abc"), (200, b""), (204, b""), (304, b"")], name)
                self.assertEqual(stage.captures[0].outcome, "complete", name)
                self.assertNotReused(stage, name)

    def test_excess_after_head(self) -> None:
        """A body in answer to HEAD is such excess."""
        stage = Stage()
        client = stage.client(get().replace(b"GET", b"HEAD"))
        stage.upstream.deliver(ok(b"abc"))
        stage.turn()
        self.assertEqual(client.received(), ok(b"abc")[:-3])
        self.assertNotReused(stage, "HEAD")

    def test_endless_interim(self) -> None:
        """Interim responses may not be more, all together, than one head."""
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        for request in (get(), get(version="1.0")):
            for size in (READ_SIZE, len(hint), 1000):
                stage = Stage()
                client = stage.client(request)
                stage.upstream.deliver(hint * (262144 // len(hint)), size)
                self.assertFalse(stage.upstream.aborted)
                client.received()
                stage.upstream.deliver(hint * 2, size)
                stage.turn()
                self.assertIn(b"HTTP/1.1 502 ", client.received())
                self.assertEqual(stage.capture.outcome, "protocol_error")
                self.assertNotReused(stage, "interim")

    def test_interim_counts_for_one_response(self) -> None:
        """Each response has that room anew."""
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: <%b>\r\n\r\n" % (b"x" * 40000)
        stage = Stage()
        client = stage.client(get())
        for _ in range(4):
            stage.upstream.deliver(hint + ok())
            self.assertEqual(client.received(), hint + ok())
            client.deliver(get())
        self.assertEqual(len(stage.endpoint.wires), 1)

    def test_bad_interim(self) -> None:
        """An interim head has to be as well-formed as a final one."""
        for bad in (
            b"HTTP/1.1 103 A\r\nA: \0\r\n\r\n",
            b"HTTP/1.1 103 A\nA: b\n\n",
            b"HTTP/1.1 103 A\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ):
            stage, client = self.asked(b"HTTP/1.1 100 Continue\r\n\r\n" + bad + ok(), READ_SIZE)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 "))
            self.assertNotReused(stage, repr(bad))

    def test_before_the_request(self) -> None:
        """A response that waits on an idle connection is nobody's."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(ok(b"first"))
        stage.upstream.deliver(ok(b"poison"))
        stage.turn()
        self.assertEqual(client.received(), ok(b"first"))
        self.assertNotReused(stage, "before")

    def test_during_the_request(self) -> None:
        """A malformed answer during an upload ends both sides: 502, and no more of the body goes anywhere."""
        stage = Stage()
        client = stage.client(post(b"x" * 9)[:-4])
        stage.upstream.received()
        stage.upstream.deliver(b"garbage")
        stage.turn()
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        client.deliver(b"xxxx")
        stage.turn()
        self.assertEqual(stage.upstream.received(), b"")
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertNotReused(stage, "upload")

    def test_good_heads(self) -> None:
        """What is only unusual passes."""
        for data in (
            b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 299 \xe9\t!\r\nContent-Length:\t0 \r\n\r\n",
            b"HTTP/1.1 599 x\r\nA:\r\nA: \xff\r\ncontent-length: 0\r\n\r\n",
            CHUNKED + b'0;a="b;c"\r\n\r\n',
            CHUNKED.replace(b"chunked", b"\tCHUNKED ") + b"0\r\n\r\n",
        ):
            for size in (READ_SIZE, 1):
                stage, client = self.asked(data, size)
                self.assertIsNotNone(read(client.received(), False), data)
                self.assertEqual(stage.capture.outcome, "complete")
