"""Undoing content codings: exact on what is sound, bounded and quiet on what is not."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from unittest import skipUnless

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import decoding
from logging_proxy.understanding.decoding import STEP, Decoded, Decoder, Limits, Trouble, decode

HAVE_BROTLI = find_spec("brotlicffi") is not None
HAVE_ZSTD = any(
    find_spec(package) and find_spec(f"{package}.zstd") for package in ("compression", "backports")
)
with_brotli = skipUnless(HAVE_BROTLI, "brotlicffi is not installed")
with_zstd = skipUnless(HAVE_ZSTD, "no zstd here")

MIB = 1 << 20


def bare_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def brotli(data: bytes) -> bytes:
    return bytes(decoding._package("brotlicffi").compress(data, quality=5))


def zstd(data: bytes) -> bytes:
    return bytes(decoding._package("compression.zstd", "backports.zstd").compress(data))


CODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
if HAVE_BROTLI:
    CODERS["br"] = brotli
if HAVE_ZSTD:
    CODERS["zstd"] = zstd

codings = st.sampled_from(sorted(CODERS))
bodies = st.one_of(
    st.binary(max_size=2000),
    st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=50), st.integers(1, 5000)),
)


class Clock:
    """Goes on by `step` with every look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def decode_in_pieces(body: bytes, coding: str, cuts: list[int], limits: Limits) -> Decoded:
    decoder = Decoder(coding, limits)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    out = [piece for a, b in zip(places, places[1:], strict=False) for piece in decoder.feed(body[a:b])]
    decoder.finish()
    return Decoded(b"".join(out), decoder.trouble)


class SoundTests(SynchronousTestCase):
    def test_no_coding(self) -> None:
        """A body without a coding, or with identity, comes back as it is."""
        self.assertEqual(decode(b"abc", ""), Decoded(b"abc"))
        self.assertEqual(decode(b"abc", "identity, identity"), Decoded(b"abc"))

    def test_empty_body(self) -> None:
        """A body of no bytes is whole in every coding, as a 304 or HEAD has it."""
        for coding in CODERS:
            self.assertEqual(decode(b"", coding), Decoded(b""))

    def test_deflate_without_wrapper(self) -> None:
        """ "deflate" is understood with and without the zlib wrapper."""
        for body in (b"", b"x", b"hello " * 1000, random.Random(3).randbytes(5000)):
            self.assertEqual(decode(bare_deflate(body), "deflate"), Decoded(body))
            self.assertEqual(decode(zlib.compress(body), "deflate"), Decoded(body))

    def test_bare_deflate_that_looks_wrapped(self) -> None:
        """A bare stream whose first bytes could be a zlib header is decoded as bare all the same."""
        body = b"\x78\x01\x00\xfe\xffA" + b"\x01\x00\x00\xff\xff"
        self.assertTrue(decoding._has_zlib_header(body))
        self.assertEqual(decode(body, "deflate"), Decoded(b"A"))
        self.assertEqual(decode_in_pieces(body, "deflate", list(range(20)), Limits()), Decoded(b"A"))

    def test_names(self) -> None:
        """Names of codings have no case, and x-gzip is gzip."""
        self.assertEqual(decode(gzip.compress(b"abc"), " GZip "), Decoded(b"abc"))
        self.assertEqual(decode(gzip.compress(b"abc"), "x-gzip"), Decoded(b"abc"))

    def test_gzip_members(self) -> None:
        """Members in a row are one body; what follows that is no member is ignored, however it is cut."""
        body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
        for tail in (b"", b"\x1f", b"\x1fx", b"\x00" * 20, b"garbage" + gzip.compress(b"no")):
            self.assertEqual(decode(body + tail, "gzip"), Decoded(b"one two"))
            cuts = list(range(len(body + tail)))
            self.assertEqual(decode_in_pieces(body + tail, "gzip", cuts, Limits()), Decoded(b"one two"))

    @with_zstd
    def test_zstd_frames(self) -> None:
        """Frames in a row, skippable ones among them, are one body."""
        skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
        self.assertEqual(decode(zstd(b"one ") + skippable + zstd(b"two"), "zstd"), Decoded(b"one two"))

    def test_order_of_stacked_codings(self) -> None:
        """The coding named last was applied last, and is undone first."""
        body = gzip.compress(zlib.compress(b"text"))
        self.assertEqual(decode(body, "deflate, gzip"), Decoded(b"text"))
        self.assertEqual(decode(body, "gzip, deflate").trouble, Trouble.CORRUPT)

    @settings(deadline=None)
    @given(bodies, st.lists(codings, min_size=1, max_size=2), st.lists(st.integers(0, 5000), max_size=6))
    def test_any_split(self, body: bytes, applied: list[str], cuts: list[int]) -> None:
        """Every coding and pair of codings gives the body back, however the bytes arrive."""
        coded = body
        for coding in applied:
            coded = CODERS[coding](coded)
        limits = Limits(ratio=1_000_000)
        self.assertEqual(decode_in_pieces(coded, ", ".join(applied), cuts, limits), Decoded(body))

    def test_pieces_are_bounded(self) -> None:
        """No piece is over the size of a step, whatever came in at once."""
        body = random.Random(1).randbytes(100_000) * 20
        for coding, coder in CODERS.items():
            decoder = Decoder(coding)
            sizes = [len(piece) for piece in decoder.feed(coder(body))]
            self.assertEqual((sum(sizes), decoder.trouble), (len(body), None), coding)
            self.assertLessEqual(max(sizes), STEP, coding)


class HostileTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(bodies, codings, st.integers(0, 10_000))
    def test_cut(self, body: bytes, coding: str, length: int) -> None:
        """A cut body gives a beginning of the whole, and says that it was cut unless nothing is missing."""
        coded = CODERS[coding](body)
        part = coded[: length % (len(coded) + 1)]
        decoded = decode(part, coding, Limits(ratio=1_000_000))
        self.assertTrue(body.startswith(decoded.data))
        if part and len(part) < len(coded):
            self.assertEqual(decoded.trouble, Trouble.CUT)

    @settings(deadline=None)
    @given(st.binary(max_size=300), st.lists(codings, max_size=3), st.lists(st.integers(0, 300), max_size=3))
    def test_garbage(self, body: bytes, applied: list[str], cuts: list[int]) -> None:
        """Arbitrary bytes never raise, in any coding."""
        decoded = decode_in_pieces(body, ",".join(applied), cuts, Limits())
        self.assertIsInstance(decoded.data, bytes)

    @settings(deadline=None)
    @given(bodies, codings, st.integers(0, 10_000), st.integers(1, 255))
    def test_flipped_bits(self, body: bytes, coding: str, place: int, change: int) -> None:
        """A damaged body never raises, and never gives more than the limit."""
        coded = bytearray(CODERS[coding](body))
        coded[place % len(coded)] ^= change
        decoded = decode(bytes(coded), coding, Limits(output=300_000))
        self.assertLessEqual(len(decoded.data), 300_000)

    def test_output_limit(self) -> None:
        """The output ends exactly at the limit."""
        body = random.Random(1).randbytes(1000) * 300
        for coding, coder in CODERS.items():
            for limit in (1, 70_000, len(body) - 1):
                decoded = decode(coder(body), coding, Limits(output=limit))
                self.assertEqual(decoded, Decoded(body[:limit], Trouble.OUTPUT), coding)
            self.assertEqual(decode(coder(body), coding, Limits(output=len(body))), Decoded(body))

    def test_bombs(self) -> None:
        """A bomb ends at the ratio's limit, a little after the first MiB, in every coding."""
        zeros = bytes(64 * MIB)
        for coding, coder in CODERS.items():
            decoded = decode(coder(zeros), coding, Limits(ratio=100))
            self.assertEqual(decoded.trouble, Trouble.RATIO, coding)
            self.assertLess(len(decoded.data), 64 * MIB, coding)

    def test_stacked_bomb(self) -> None:
        """A bomb inside a bomb is no better."""
        bomb = gzip.compress(gzip.compress(bytes(200 * MIB), 9), 9)
        decoded = decode(bomb, "gzip, gzip", seconds=Clock(0.0))
        self.assertEqual(decoded.trouble, Trouble.RATIO)
        self.assertLessEqual(len(decoded.data), 64 * MIB)

    def test_ratio_from_the_first_mebibyte(self) -> None:
        """A small body may have any ratio."""
        body = bytes(MIB)
        self.assertEqual(decode(gzip.compress(body), "gzip", Limits(ratio=2)), Decoded(body))

    def test_many_members(self) -> None:
        """Empty gzip members beyond the limit end the decoding."""
        member = gzip.compress(b"")
        self.assertEqual(decode(member * 100, "gzip", Limits(members=100)), Decoded(b""))
        self.assertEqual(decode(member * 101, "gzip", Limits(members=100)).trouble, Trouble.MEMBERS)

    @with_zstd
    def test_many_frames(self) -> None:
        """Empty zstd frames beyond the limit end the decoding."""
        self.assertEqual(decode(zstd(b"") * 101, "zstd", Limits(members=100)).trouble, Trouble.MEMBERS)

    @with_zstd
    def test_window(self) -> None:
        """A zstd frame that asks for a window over 8 MiB is refused, so it costs no memory."""
        library = decoding._package("compression.zstd", "backports.zstd")
        options = {library.CompressionParameter.window_log: 27}
        compressor = library.ZstdCompressor(options=options)
        body = compressor.compress(b"x" * 100) + compressor.flush()
        self.assertEqual(decode(body, "zstd"), Decoded(body, Trouble.CORRUPT, kept=True))

    def test_time(self) -> None:
        """Decoding ends when it has taken too long; what came out stays."""
        body = random.Random(1).randbytes(1000) * 2000
        decoded = decode(gzip.compress(body), "gzip", seconds=Clock(0.1))
        self.assertEqual(decoded.trouble, Trouble.TIME)
        self.assertTrue(0 < len(decoded.data) < len(body) and body.startswith(decoded.data))

    def test_time_between_feeds(self) -> None:
        """Only time spent decoding counts, not that between the pieces of a slow stream."""
        clock = Clock(0.0)
        decoder = Decoder("gzip", seconds=clock)
        out = b""
        for byte in gzip.compress(b"slow"):
            clock.now += 10
            out += b"".join(decoder.feed(bytes([byte])))
        decoder.finish()
        self.assertEqual((out, decoder.trouble), (b"slow", None))

    def test_refused(self) -> None:
        """Unknown codings and more than two give a reason and no bytes."""
        self.assertEqual(decode(b"abc", "sdch"), Decoded(b"abc", Trouble.UNKNOWN, kept=True))
        self.assertEqual(decode(b"abc", "gzip, gzip, gzip, gzip, gzip").trouble, Trouble.STACKED)
        self.assertEqual(decode(b"abc", "gzip," * 10_000).trouble, Trouble.STACKED)

    def test_package_missing(self) -> None:
        """Without the optional packages the reason says so."""
        self.patch(decoding, "import_module", self._no_module)
        self.assertEqual(decode(b"abc", "br"), Decoded(b"abc", Trouble.MISSING, kept=True))
        self.assertEqual(decode(b"abc", "zstd"), Decoded(b"abc", Trouble.MISSING, kept=True))

    def _no_module(self, name: str) -> None:
        raise ImportError(name)

    def test_nothing_after_trouble(self) -> None:
        """A decoder in trouble takes more input and gives nothing."""
        decoder = Decoder("gzip")
        self.assertEqual(list(decoder.feed(b"no gzip at all")), [])
        self.assertEqual(list(decoder.feed(gzip.compress(b"x"))), [])
        self.assertEqual(decoder.trouble, Trouble.CORRUPT)


class KeptTests(SynchronousTestCase):
    """A body that is not what its coding says is still a body."""

    def test_untrue(self) -> None:
        """Of plain text under a known coding the text is kept, with the reason."""
        for coding in CODERS:
            decoded = decode(b'{"model": "m"}', coding)
            self.assertEqual(decoded, Decoded(b'{"model": "m"}', Trouble.CORRUPT, kept=True), coding)
            self.assertFalse(decoded.truncated)

    def test_unknown(self) -> None:
        """The same under an unknown coding, alone or among others, and under too many."""
        for coding in ("x-own", "gzip, x-own", "compress"):
            self.assertEqual(decode(b"abc", coding), Decoded(b"abc", Trouble.UNKNOWN, kept=True), coding)
        self.assertEqual(decode(b"abc", ", ".join(["gzip"] * 9)).trouble, Trouble.STACKED)

    def test_no_coding_at_all(self) -> None:
        """Names of charsets and transfer encodings in this header change nothing."""
        for coding in ("utf-8", "8bit", "none", "Binary, identity"):
            self.assertEqual(decode(b"abc", coding), Decoded(b"abc"), coding)

    def test_undeclared(self) -> None:
        """A body that begins with the mark of a coding is decoded, though nothing declares it."""
        self.assertEqual(decode(gzip.compress(b"abc"), ""), Decoded(b"abc"))
        self.assertEqual(decode(b"\x1f\x8b", ""), Decoded(b"\x1f\x8b"))

    def test_beginning(self) -> None:
        """What was decoded before an error is the beginning of the body, and nothing else."""
        body = bytearray(zlib.compress(random.Random(5).randbytes(200_000)))
        body[150_000] ^= 0xFF
        decoded = decode(bytes(body), "deflate")
        self.assertEqual((decoded.trouble, decoded.kept, decoded.truncated), (Trouble.CORRUPT, False, True))

    def test_signed_chunks(self) -> None:
        """The chunks of a signed upload are put together, however they arrive; other bodies are kept."""
        chunks = ((3, b"0a", b"abc\r\n"), (2, b"0b", b"de\r\n"), (0, b"0c", b"x-sum:1\r\n"))
        body = b"".join(b"%d;chunk-signature=%b\r\n%b" % chunk for chunk in chunks)
        for cuts in ([], list(range(len(body)))):
            self.assertEqual(decode_in_pieces(body, "aws-chunked", cuts, Limits()), Decoded(b"abcde"))
        self.assertEqual(decode(b"{}", "aws-chunked"), Decoded(b"{}", Trouble.CORRUPT, kept=True))
        self.assertTrue(decode(b"{}\n" * 9, "aws-chunked").kept)
        self.assertEqual(decode(body[:30], "aws-chunked").trouble, Trouble.CUT)
