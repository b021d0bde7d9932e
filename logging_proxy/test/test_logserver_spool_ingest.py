"""The ingest of remote spools: what a shipper sends is kept, once, and acknowledged."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from logging_proxy.logserver.ingest import remote
from logging_proxy.logserver.ingest.remote import NoRoom, RemoteSpool
from logging_proxy.logserver.web.answers import Problem
from logging_proxy.logserver.web.bodies import BODY_LIMIT, Body
from logging_proxy.recording.disk import spool_size
from logging_proxy.recording.tail import SpoolTail
from logging_proxy.test.logserver_spools import Script, documents
from logging_proxy.test.web_stage import ServerTestCase

NAME = "0123456789abcdef0123456789abcdef"


class IngestTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.log_dir, ".spool", f"remote-{NAME}")

    def json(self, method: str, target: str, data: bytes = b"", **more: Any) -> tuple[int, Any]:
        reply = self.ask(method, target, data, **more)
        return reply.status, reply.json()

    def stored(self) -> bytes:
        tail, data = SpoolTail(self.path), b""
        while (piece := tail.read()) is not None:
            data += piece.data
        tail.close()
        return data

    def post(self, offset: Any, data: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        return self.json("POST", f"/api/spools/{NAME}/{offset}{query}", data, **headers)

    def test_append(self) -> None:
        """Bytes are kept at their offset, and the answer says where to go on."""
        self.assertEqual(self.json("GET", f"/api/spools/{NAME}")[0], 404)
        self.assertEqual(self.post(0, b"abc"), (200, {"offset": 3}))
        self.assertEqual(self.post(3, b"def"), (200, {"offset": 6}))
        self.assertEqual(self.json("GET", f"/api/spools/{NAME}"), (200, {"offset": 6}))
        self.assertEqual(self.stored(), b"abcdef")

    def test_overlap(self) -> None:
        """What is stored already is skipped: sending again changes nothing."""
        self.post(0, b"abcdef")
        self.assertEqual(self.post(0, b"abcdef"), (200, {"offset": 6}))
        self.assertEqual(self.post(2, b"cd"), (200, {"offset": 6}))
        self.assertEqual(self.post(4, b"efgh"), (200, {"offset": 8}))
        self.assertEqual(self.stored(), b"abcdefgh")

    def test_beyond(self) -> None:
        """Bytes that do not follow are refused with the offset that would."""
        self.post(0, b"abc")
        status, value = self.post(4, b"x")
        self.assertEqual((status, value["offset"]), (409, 3))
        self.assertEqual(self.stored(), b"abc")

    def test_gap(self) -> None:
        """Unless the sender says that the bytes in between are lost for good."""
        self.post(0, b"abc")
        self.assertEqual(self.post(10, b"xyz", "?gap=1"), (200, {"offset": 13}))
        self.assertEqual(self.stored(), b"abcxyz")

    def test_starts_anywhere(self) -> None:
        """A spool never heard of may begin at any offset."""
        self.assertEqual(self.post(1000, b"abc"), (200, {"offset": 1003}))

    def test_restart(self) -> None:
        """Another process goes on where the stream ended, also behind half a block."""
        self.post(0, b"abc")
        (segment,) = (n for n in os.listdir(self.path) if n.endswith(".seg"))
        with open(os.path.join(self.path, segment), "ab") as file:
            file.write(b"LPB2 torn")
        self.build()
        self.assertEqual(self.post(3, b"def"), (200, {"offset": 6}))
        self.assertEqual(self.stored(), b"abcdef")

    def test_bad_names(self) -> None:
        """Only 32 lower-case hex digits name a spool; nothing else touches the disk."""
        for name in (
            "x",
            NAME[:-1],
            NAME + "0",
            NAME.upper(),
            "..%2f" + NAME[:29],
            "%2e%2e",
            "%00" * 32,
            "%D9%A0" * 32,
        ):
            for method, path in (("GET", f"/api/spools/{name}"), ("POST", f"/api/spools/{name}/0")):
                self.assertIn(self.ask(method, path, b"x" * (method == "POST")).status, (400, 404), name)
        self.assertEqual([n for n in os.listdir(os.path.dirname(self.path)) if n.startswith("remote")], [])

    def test_bad_offsets(self) -> None:
        """An offset is decimal digits."""
        for offset in ("-1", "1.5", "", "x", "1" * 20, "%D9%A1"):
            self.assertEqual(self.post(offset, b"x")[0], 400, offset)

    def test_gzip(self) -> None:
        """A compressed body is stored as what it holds."""
        self.assertEqual(
            self.post(0, gzip.compress(b"abc" * 100), Content_Encoding="gzip"), (200, {"offset": 300})
        )
        self.assertEqual(self.stored(), b"abc" * 100)

    def test_bad_bodies(self) -> None:
        """Too large, also when unpacked, cut, or coded in another way: refused, nothing stored."""
        bomb = gzip.compress(bytes(50 << 20))
        for data, headers, wanted in (
            (bytes(BODY_LIMIT + 1), {}, 413),
            (bomb, {"Content_Encoding": "gzip"}, 413),
            (gzip.compress(b"abc")[:-3], {"Content_Encoding": "gzip"}, 400),
            (b"plain", {"Content_Encoding": "gzip"}, 400),
            (b"plain", {"Content_Encoding": "br"}, 400),
        ):
            self.assertEqual(self.post(0, data, **headers)[0], wanted)
        self.assertEqual([n for n in os.listdir(os.path.dirname(self.path)) if n.startswith("remote")], [])

    def test_no_temporary_files(self) -> None:
        """A large body is not written to a temporary file outside the log directory."""

        def refuse(*args: Any, **keywords: Any) -> Any:
            raise AssertionError("a temporary file")

        self.patch(tempfile, "TemporaryFile", refuse)
        request: Any = SimpleNamespace(method=b"POST", path=f"/api/spools/{'0' * 32}/0".encode())
        content = self.server.site.body_for(request, 10_000_000)
        self.assertIsInstance(content, Body)
        self.assertEqual(content.write(bytes(BODY_LIMIT)), BODY_LIMIT)
        self.assertFalse(content.overflow)
        content.write(b"x")
        self.assertTrue(content.overflow)
        self.assertEqual(len(content.getvalue()), BODY_LIMIT)

    def test_disk_full(self) -> None:
        """What cannot be written is answered with 503, and can be sent again."""
        self.post(0, b"abc")
        real = os.pwrite

        def full(fd: int, data: bytes, at: int) -> int:
            real(fd, data[:5], at)
            raise OSError(28, "No space left on device")

        self.patch(os, "pwrite", full)
        self.assertEqual(self.post(3, b"def")[0], 503)
        self.patch(os, "pwrite", real)
        self.assertEqual(self.post(3, b"def"), (200, {"offset": 6}))
        self.assertEqual(self.stored(), b"abcdef")

    def test_nothing_is_open(self) -> None:
        """Between two requests a spool costs no descriptor, and a name only asked for nothing at all."""
        self.post(0, b"abc")
        before = len(os.listdir("/dev/fd"))
        for number in range(20):
            name = f"{number:032x}"
            self.assertEqual(self.json("GET", f"/api/spools/{name}")[0], 404)
            self.assertEqual(self.json("POST", f"/api/spools/{name}/0", b"abc")[0], 200)
        self.assertEqual(len(os.listdir("/dev/fd")), before)
        known = len(self.parts.remote._spools)
        self.assertEqual(self.json("GET", f"/api/spools/{'f' * 32}")[0], 404)
        self.assertEqual(len(self.parts.remote._spools), known)

    def test_too_many(self) -> None:
        """There are no more spools than a number; those that are there are taken as before."""
        self.patch(remote, "MOST_REMOTE", 3)
        statuses = [self.json("POST", f"/api/spools/{n:032x}/0", b"abc")[0] for n in range(5)]
        self.assertEqual(statuses, [200, 200, 200, 503, 503])
        self.assertEqual(self.json("POST", f"/api/spools/{1:032x}/3", b"def")[0], 200)
        self.build()
        self.assertEqual(self.post(0, b"abc")[1]["title"], Problem.NO_ROOM.value[2])
        self.assertEqual(self.json("POST", f"/api/spools/{1:032x}/6", b"ghi")[0], 200)

    def test_limit(self) -> None:
        """A spool that nobody can read does not grow beyond its limit; when it was read it goes on."""
        spool = RemoteSpool(self.path, 100_000)
        at = 0
        try:
            for _ in range(1000):
                at = spool.append(at, bytes(5000))
        except NoRoom:
            pass
        self.assertLessEqual(spool_size(Path(self.path)), 100_000)
        for segment in sorted(Path(self.path).glob("*.seg"))[:-1]:
            segment.unlink()
        self.assertEqual(spool.append(at, bytes(5000)), at + 5000)

    def test_becomes_captures(self) -> None:
        """The spool of a remote proxy is read like a local one."""
        stream = b"".join(Script().simple())
        self.post(0, stream[:150])
        self.post(150, stream[150:])
        self.spools.turn()
        self.publish()
        self.assertEqual(len(documents(self.log_dir)), 2)
