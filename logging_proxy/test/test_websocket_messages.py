"""The messages in the bytes of a WebSocket."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import websocket
from logging_proxy.understanding.websocket import Deflate, WebSocketReader, agreed_deflate

AGREED = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"

Shown = tuple[str, bytes, bool]


def frame(data: bytes, opcode: int = 1, *, final: bool = True, mask: bytes = b"", rsv: int = 0) -> bytes:
    size = len(data)
    first = bytes([(final << 7) | rsv | opcode])
    masked = 128 if mask else 0
    if size < 126:
        head = bytes([masked | size])
    elif size < 1 << 16:
        head = bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([masked | 127]) + size.to_bytes(8, "big")
    if mask:
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    return first + head + mask + data


def read(pieces: list[bytes], deflate: Deflate | None = None) -> list[Shown]:
    reader = WebSocketReader(deflate)
    found = [message for piece in pieces for message in reader.feed(piece)]
    return [(each.kind, each.data, each.whole) for each in [*found, *reader.finish()]]


STREAM = (
    frame(b'{"a":1}', mask=b"abcd")
    + frame(b"one ", final=False)
    + frame(b"ping", 9, mask=b"\0\xff\1\2")
    + frame(b"and ", 0, final=False)
    + frame(b"two", 0)
    + frame(b"\x00" * 300, 2)
    + frame(b"y" * 70_000)
    + frame(b"\x03\xe8bye", 8)
)
MESSAGES: list[Shown] = [
    ("text", b'{"a":1}', True),
    ("ping", b"ping", True),
    ("text", b"one and two", True),
    ("binary", b"\x00" * 300, True),
    ("text", b"y" * 70_000, True),
    ("close", b"\x03\xe8bye", True),
]


class MessageTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, len(STREAM)), max_size=8))
    def test_any_split(self, cuts: list[int]) -> None:
        """However the bytes arrive, the messages are the same: unmasked, and joined around control frames."""
        edges = sorted({0, len(STREAM), *cuts})
        self.assertEqual(read([STREAM[a:b] for a, b in zip(edges, edges[1:], strict=False)]), MESSAGES)

    def test_each_byte(self) -> None:
        """Byte by byte, too; a message ends where its last frame ends."""
        stream = STREAM[:40]
        reader = WebSocketReader()
        ends = [message.end for at in range(40) for message in reader.feed(stream[at : at + 1])]
        self.assertEqual(ends, [13, 29, 40])

    def test_cut(self) -> None:
        """A message that is cut comes as far as it is there, and is not whole."""
        self.assertEqual(read([frame(b"abcdef")[:5]]), [("text", b"abc", False)])
        self.assertEqual(read([frame(b"one ", final=False)]), [("text", b"one ", False)])
        self.assertEqual(
            read([frame(b"one ", final=False) + frame(b"two", 0)[:3]]), [("text", b"one t", False)]
        )
        self.assertEqual(read([b"\x81"]), [("bytes", b"\x81", False)])

    def test_no_frames(self) -> None:
        """Bytes that are no frame are given as they are, and not looked for frames again."""
        self.assertEqual(
            read([frame(b"a") + b"HTTP/1.1", b" 200 OK"]),
            [("text", b"a", True), ("bytes", b"HTTP/1.1 200 OK", False)],
        )

    @given(st.binary(max_size=200), st.booleans())
    def test_anything(self, stream: bytes, compressed: bool) -> None:
        """Any bytes give messages or none."""
        for kind, _, _ in read([stream[:50], stream[50:]], Deflate() if compressed else None):
            self.assertIn(kind, ("text", "binary", "close", "ping", "pong", "bytes"))

    def test_long(self) -> None:
        """A message that is too long is cut, with a word; the next one is whole."""
        self.patch(websocket, "LONGEST_MESSAGE", 10)
        reader = WebSocketReader()
        first, second = reader.feed(frame(b"x" * 30) + frame(b"ab"))
        self.assertEqual((first.data, bool(first.trouble)), (b"x" * 10, True))
        self.assertEqual((second.data, second.trouble), (b"ab", ""))


class DeflateTests(SynchronousTestCase):
    def stream(self, texts: list[bytes], bits: int, keeps_context: bool) -> bytes:
        frames, stream = [], zlib.compressobj(wbits=-bits)
        for text in texts:
            if not keeps_context:
                stream = zlib.compressobj(wbits=-bits)
            data = (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(websocket._TAIL)
            half = len(data) // 2
            frames += [frame(data[:half], final=False, rsv=64), frame(data[half:], 0)]
        return b"".join(frames)

    def test_compressed(self) -> None:
        """Compressed messages are decompressed, with and without the context of the ones before them."""
        texts = [b'{"text": "hello hello"}' * 9, b'{"text": "hello again"}' * 9, b""]
        for bits in (9, 12, 15):
            for keeps_context in (True, False):
                stream = self.stream(texts, bits, keeps_context)
                found = read([stream], Deflate(bits, keeps_context))
                self.assertEqual(found, [("text", text, True) for text in texts], (bits, keeps_context))

    def test_mixed(self) -> None:
        """A message without the mark of compression is as it was sent."""
        stream = self.stream([b"one"], 15, True) + frame(b"two")
        self.assertEqual([data for _, data, _ in read([stream], Deflate())], [b"one", b"two"])

    def test_damaged(self) -> None:
        """What cannot be decompressed is given as it was sent, with a word why."""
        reader = WebSocketReader(Deflate())
        (message,) = reader.feed(frame(b"\xff\xff\xff", rsv=64))
        self.assertEqual(
            (message.data[:3], message.trouble), (b"\xff\xff\xff", "it could not be decompressed")
        )
        (message,) = WebSocketReader().feed(frame(b"abc", rsv=64))
        self.assertTrue(message.trouble)

    def test_bomb(self) -> None:
        """Decompression ends at the longest message."""
        self.patch(websocket, "LONGEST_MESSAGE", 1000)
        reader = WebSocketReader(Deflate())
        (message,) = reader.feed(self.whole(b"\0" * 100_000))
        self.assertEqual((len(message.data), bool(message.trouble)), (1000, True))

    def whole(self, text: bytes) -> bytes:
        stream = zlib.compressobj(wbits=-15)
        return frame(stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH), rsv=64)

    def test_agreed(self) -> None:
        """The answer's header tells the window and the context of each direction."""
        self.assertEqual(agreed_deflate(AGREED, from_client=True), Deflate(10, True))
        self.assertEqual(agreed_deflate(AGREED, from_client=False), Deflate(15, False))
        self.assertEqual(agreed_deflate("a, Permessage-Deflate", from_client=False), Deflate())
        for extensions in ("", "x-other; permessage-deflate", ";;,"):
            self.assertIsNone(agreed_deflate(extensions, from_client=True))
        self.assertEqual(
            agreed_deflate('permessage-deflate; client_max_window_bits="99"', from_client=True), Deflate()
        )
