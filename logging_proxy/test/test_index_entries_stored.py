"""The entry of an exchange that was just stored: the same that a rebuild makes of its documents."""

from __future__ import annotations

import gzip
import json
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.captures import metadata
from logging_proxy.captures.exchanges import Exchange, Half, Opening
from logging_proxy.captures.metadata import StoredBody
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Entry, entry_of
from logging_proxy.index.contents import BODY_LIMIT
from logging_proxy.index.entries import entry_of_stored
from logging_proxy.test.index_stage import IndexTestCase, id_of

SECRET = "canarysecret0123456789abcdefghij"
URL = f"http://user:{SECRET}@h/p?key={SECRET}&x=visible#access_token={SECRET}".encode()
JSON = b"Content-Type: application/json\r\n"
EVENTS = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
GZIP = b"content-encoding: gzip\r\n"
BODY = json.dumps(
    {
        "model": f"sk-{SECRET}",
        "api_key": SECRET,
        "metadata": {"password": SECRET},
        "messages": [{"content": f"visible, my key is sk-{SECRET}, Bearer {SECRET}"}],
    }
).encode()

fields = st.lists(
    st.sampled_from(
        [
            JSON,
            EVENTS,
            GZIP,
            b"Content-Encoding: br\r\n",
            b"Content-Length: 7\r\n",
            b"X-Session-Id: s1\r\n",
            f"SESSION-ID: sk-{SECRET}\r\n".encode(),
            f"Authorization: Bearer {SECRET}\r\n".encode(),
            b"without a colon\r\n",
            b"\xff: \xfe\r\n",
        ]
    ),
    max_size=4,
).map(b"".join)
bodies = st.sampled_from(
    [
        b"",
        BODY,
        gzip.compress(BODY),
        b'data: {"model": "m", "delta": "a"}\n\ndata: {"model": "m", "delta": "b"}\n\ndata: [DONE]\n\n',
        b'{"a": "cut',
        bytes(range(256)),
    ]
)
urls = st.one_of(st.just(URL), st.just(b""), st.binary(max_size=20), st.just(b"http://h/" + b"x" * 5000))
nanoseconds = st.integers(0, 1 << 50)
sizes = st.sampled_from([0, BODY_LIMIT + 1])


@st.composite
def halves(draw: st.DrawFn, start: bytes) -> tuple[Half, bytes]:
    """A half that began some time after its exchange, and its body, which may be the beginning only."""
    body = draw(bodies)
    half = Half(start + draw(fields), ours=draw(st.booleans()), size=max(len(body), draw(sizes)))
    half.completed = draw(st.none() | nanoseconds)
    half.tunnel_from = draw(st.sampled_from([None, None, 0]))
    half.refused_from = draw(st.sampled_from([None, None, 0, half.size // 2]))
    return half, body


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Exchange, bytes, bytes]:
    """An exchange that has ended, and its bodies."""
    asked, request = draw(
        halves(
            draw(
                st.sampled_from(
                    [b"POST / HTTP/1.1\r\n", b"HEAD / HTTP/1.1\r\n", b"M" * 300 + b" / HTTP/1.1\r\n", b""]
                )
            )
        )
    )
    route, pattern = draw(st.sampled_from([(b"", b""), (b"lmstudio", b"/lmstudio/"), (b"\xff", b"\xfe/")]))
    answer, response = None, b""
    if draw(st.booleans()):
        status = draw(st.sampled_from([b"200 OK", b"101 Switching Protocols", b"404 ", b"odd", b"20 OK"]))
        answer, response = draw(halves(b"HTTP/1.1 " + status + b"\r\n"))
        answer.started = draw(nanoseconds)
    exchange = Exchange(
        1,
        bytes.fromhex(id_of(1).replace("-", "")),
        draw(st.integers(0, (1 << 64) - 1)),
        draw(st.sampled_from([b"127.0.0.1 80", b"::1 80", b"/run/proxy.sock", b"", b" 80"])),
        Opening(route, pattern, draw(urls), draw(urls), asked.head),
        5,
        asked,
        answer,
    )
    exchange.elapsed = draw(nanoseconds)
    exchange.outcome = draw(st.sampled_from(["complete", "upstream_reset", "interrupted"]))
    exchange.error = draw(st.sampled_from(["", f"no route for sk-{SECRET}"]) | st.text(max_size=20))
    exchange.damage = draw(st.sampled_from(["", "a gap"]))
    exchange.run = draw(st.sampled_from(["", "nightly"]))
    return exchange, request, response


def both(exchange: Exchange, request: bytes, response: bytes, kept: bool) -> tuple[Entry, Entry]:
    """The entry of what was just stored, its bodies `kept` or in their files, and that of its documents."""
    files = {"q.bin": request, "r.bin": response}

    def read(name: str, limit: int) -> bytes:
        assert limit == BODY_LIMIT
        return files[name]

    stored = Stored(exchange, "q.bin", "r.bin", *((request, response) if kept else ()))
    documents = metadata.documents(exchange, *(StoredBody(name, None) for name in files))
    return entry_of_stored(stored, read), entry_of(*documents, read)


class StoredEntryTests(IndexTestCase):
    @settings(deadline=None, max_examples=300)
    @given(exchanges(), st.booleans())
    def test_same(self, ended: tuple[Exchange, bytes, bytes], kept: bool) -> None:
        """Whatever was recorded, row and texts are those that the files give later."""
        at_once, later = both(*ended, kept)
        self.assertEqual(at_once, later)

    def exchange(self, request: bytes, response: bytes = b"", head: bytes = JSON) -> Exchange:
        asked = Half(b"POST / HTTP/1.1\r\n" + head, size=len(request))
        answered = Half(b"HTTP/1.1 200 OK\r\n" + head, size=len(response))
        opening = Opening(b"lmstudio", b"/lmstudio/", URL, URL, asked.head)
        made = Exchange(1, bytes(16), 10**18, b"127.0.0.1 80", opening, 0, asked, answered)
        made.outcome, made.error = "complete", f"no route for sk-{SECRET}"
        return made

    def test_content_coding(self) -> None:
        """A coded body is decoded, kept or not; one that cannot be gives no text, and still a row."""
        coded = gzip.compress(BODY)
        for kept in (False, True):
            texts = both(self.exchange(coded, coded, JSON + GZIP), coded, coded, kept)[0].texts
            self.assertIn("visible", texts.request)
            self.assertEqual(texts.request, texts.response)
            odd = both(self.exchange(b"no gzip", head=JSON + GZIP), b"no gzip", b"", kept)[0]
            self.assertEqual((odd.texts.request, odd.row.request_bytes), ("", 7))

    def test_tunnel(self) -> None:
        """What went through a tunnel is not looked at."""
        exchange = self.exchange(BODY, BODY)
        exchange.request.tunnel_from = 0
        exchange.response = Half(b"HTTP/1.1 101 Switching Protocols\r\n" + JSON, size=len(BODY))
        for kept in (False, True):
            entry = both(exchange, BODY, BODY, kept)[0]
            self.assertEqual((entry.texts.request, entry.texts.response), ("", ""))

    def test_websocket(self) -> None:
        """The messages of a WebSocket are read in both directions: text, model, and what is compressed."""
        stream = zlib.compressobj(wbits=-15)
        data = (stream.compress(b'{"text": "answered"}') + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
        asked = b"\x81\x9c\0\0\0\0" + b'{"model": "m1", "a": "asked"}'[:28]
        answered = bytes([0xC1, len(data)]) + data + b"\x82\x03bin"
        upgrade = b"Upgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        exchange = self.exchange(asked)
        exchange.request.tunnel_from = 0
        exchange.response = Half(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade, size=len(answered))
        for kept in (False, True):
            entry = both(exchange, asked, answered, kept)[0]
            self.assertIn("asked", entry.texts.request)
            self.assertEqual(entry.texts.response, "answered")
        exchange.request.tunnel_from = 1
        self.assertEqual(both(exchange, asked, answered, False)[0].texts.request, "")

    def test_no_secret_in_the_index(self) -> None:
        """Secrets in headers, URLs, members and texts are nowhere in the database, its words included."""
        names = ("Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-My-Token")
        head = JSON + "".join(f"{name}: {SECRET}\r\n" for name in names).encode()
        head += f"X-Session-Id: sk-{SECRET}\r\n".encode()
        index = self.make()
        exchange = self.exchange(BODY, BODY, head)
        index.add([both(exchange, BODY, BODY, True)[0]])
        index.mark_whole(True)
        self.assertNoCanary(index, exchange.id)
