"""The logging server's HTTP: who may call, health, and the ingest of remote spools."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.http_headers import Headers

from logging_proxy.logserver import web
from logging_proxy.logserver.files import LogDirectory
from logging_proxy.logserver.ingest import RemoteSpools
from logging_proxy.logserver.shipper import BytesProducer
from logging_proxy.logserver.spools import Spools, Status
from logging_proxy.logserver.tail import SpoolTail
from logging_proxy.test.logserver_spools import Script, documents

NAME = "0123456789abcdef0123456789abcdef"


def run(work: Any) -> Deferred[Any]:
    return execute(work)


class WebTestCase(SynchronousTestCase):
    token: str | None = None
    hosts = web.local_hosts("localhost")

    def setUp(self) -> None:
        self.status = Status()
        self.clock = Clock()
        self.root = os.path.join(self.mktemp(), ".spool")
        self.woken: list[None] = []
        self.spools = RemoteSpools(self.root)
        health = web.Health(self.clock.seconds, lambda: self.status)
        ingest = web.SpoolIngest(self.spools, run, lambda: self.woken.append(None))
        self.site = web.build(health, ingest, self.hosts, self.token)
        self.site.displayTracebacks = True
        self.agent = RequestTraversalAgent(self.site.resource)

    def ask(
        self, method: str, path: str, data: bytes = b"", *, host: str = "localhost:8080", **headers: str
    ) -> tuple[int, Headers, bytes]:
        fields = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        fields.setRawHeaders("Host", [host])
        body = BytesProducer(data) if data else None
        url = b"http://localhost:8080" + path.encode()
        asked = self.agent.request(method.encode(), url, fields, body)
        self.agent.flush()
        response = self.successResultOf(asked)
        self.agent.flush()
        content = readBody(response)
        self.agent.flush()
        return response.code, response.headers, self.successResultOf(content)

    def json(self, *args: Any, **keywords: Any) -> tuple[int, Any]:
        status, _, body = self.ask(*args, **keywords)
        return status, json.loads(body)


class GuardTests(WebTestCase):
    def test_hosts(self) -> None:
        """On loopback only its own names are answered: no page can reach it under a name of its own."""
        for host, wanted in (
            ("localhost:8080", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1:8080", 200),
            ("[::1]:8080", 200),
            ("evil.example", 403),
            ("localhost.evil.example:8080", 403),
            ("localhost:8080:1", 403),
            ("", 403),
        ):
            self.assertEqual(self.ask("GET", "/health", host=host)[0], wanted, host)

    def test_other_pages(self) -> None:
        """A browser's call from a page of another origin may not change anything."""
        path = f"/api/spools/{NAME}/0"
        cases: list[dict[str, Any]] = [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ]
        for headers in cases:
            self.assertEqual(self.ask("POST", path, b"x", **headers)[0], 403, headers)
        self.assertFalse(os.path.exists(self.root))

    def test_headers(self) -> None:
        """Every answer, errors too, is guarded against sniffing and framing, and names no software."""
        for path in ("/", "/health", "/nothing", "/api/spools/x"):
            _, headers, _ = self.ask("GET", path)
            self.assertEqual(headers.getRawHeaders("X-Content-Type-Options"), ["nosniff"])
            self.assertIn(
                "frame-ancestors 'none'", (headers.getRawHeaders("Content-Security-Policy") or [""])[0]
            )
            self.assertIsNone(headers.getRawHeaders("Server"))

    def test_plain_errors(self) -> None:
        """Errors are short text that repeats nothing of the request."""
        for method, path, wanted in (
            ("GET", "/<script>", 404),
            ("GET", "/api", 404),
            ("GET", "/api/other", 404),
            ("PUT", "/health", 405),
            ("DELETE", f"/api/spools/{NAME}", 405),
        ):
            status, headers, body = self.ask(method, path)
            self.assertEqual(status, wanted, path)
            self.assertEqual(headers.getRawHeaders("Content-Type"), ["text/plain; charset=utf-8"])
            self.assertNotIn(b"script", body)

    def test_welcome(self) -> None:
        """The root says what this is."""
        status, _, body = self.ask("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn(b"logging server", body)


class TokenTests(WebTestCase):
    token = "s3cret-token"
    hosts: frozenset[str] = frozenset()

    def test_required(self) -> None:
        """With a token configured everything but health needs it, under any Host."""
        self.assertEqual(self.ask("GET", "/health", host="logs.example")[0], 200)
        cases: list[tuple[dict[str, Any], int]] = [
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic s3cret-token"}, 401),
            ({"Authorization": "Bearer s3cret-token"}, 200),
            ({"Authorization": "bearer s3cret-token"}, 200),
        ]
        for headers, wanted in cases:
            status, answered, _ = self.ask("GET", "/", host="logs.example", **headers)
            self.assertEqual(status, wanted, headers)
            challenge = answered.getRawHeaders("WWW-Authenticate")
            self.assertEqual(challenge, ["Bearer"] if wanted == 401 else None)

    def test_nothing_kept_without(self) -> None:
        """Without the token nothing is stored."""
        self.assertEqual(self.ask("POST", f"/api/spools/{NAME}/0", b"x")[0], 401)
        self.assertFalse(os.path.exists(self.root))


class HealthTests(WebTestCase):
    def test_well(self) -> None:
        """200 and the numbers while captures can be stored."""
        self.clock.advance(5)
        self.status = Status(stored=3, backlog=7)
        status, value = self.json("GET", "/health")
        self.assertEqual((status, value["status"], value["uptime_seconds"]), (200, "ok", 5))
        self.assertEqual((value["exchanges_stored"], value["spool_backlog_bytes"]), (3, 7))

    def test_trouble(self) -> None:
        """503 and the reason while they cannot."""
        self.status = Status(trouble="No space left on device")
        status, value = self.json("GET", "/health")
        self.assertEqual((status, value["reason"]), (503, "No space left on device"))


class IngestTests(WebTestCase):
    def stored(self) -> bytes:
        tail, data = SpoolTail(os.path.join(self.root, f"remote-{NAME}")), b""
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
        self.assertEqual(len(self.woken), 2)

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
        self.spools.get(NAME).close()
        (segment,) = (n for n in os.listdir(os.path.join(self.root, f"remote-{NAME}")) if n.endswith(".seg"))
        with open(os.path.join(self.root, f"remote-{NAME}", segment), "ab") as file:
            file.write(b"LPB1 torn")
        self.setUpAgain()
        self.assertEqual(self.post(3, b"def"), (200, {"offset": 6}))
        self.assertEqual(self.stored(), b"abcdef")

    def setUpAgain(self) -> None:
        root = self.root
        self.setUp()
        self.spools._root = root
        self.root = root

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
                self.assertIn(self.ask(method, path, b"x" * (method == "POST"))[0], (400, 404), name)
        self.assertFalse(os.path.exists(self.root))

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
            (bytes(web.BODY_LIMIT + 1), {}, 413),
            (bomb, {"Content_Encoding": "gzip"}, 413),
            (gzip.compress(b"abc")[:-3], {"Content_Encoding": "gzip"}, 400),
            (b"plain", {"Content_Encoding": "gzip"}, 400),
            (b"plain", {"Content_Encoding": "br"}, 400),
        ):
            self.assertEqual(self.post(0, data, **headers)[0], wanted)
        self.assertFalse(os.path.exists(self.root))

    def test_no_temporary_files(self) -> None:
        """A large body is not written to a temporary file outside the log directory."""

        def refuse(*args: Any, **keywords: Any) -> Any:
            raise AssertionError("a temporary file")

        self.patch(tempfile, "TemporaryFile", refuse)
        content = self.site.getContentFile(10_000_000)
        self.assertEqual(content.write(bytes(web.BODY_LIMIT)), web.BODY_LIMIT)
        self.assertFalse(content.overflow)
        content.write(b"x")
        self.assertTrue(content.overflow)
        self.assertEqual(len(content.getvalue()), web.BODY_LIMIT)

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

    def test_becomes_captures(self) -> None:
        """The spool of a remote proxy is read like a local one."""
        log_dir = os.path.dirname(self.root)
        stream = b"".join(Script().simple())
        self.post(0, stream[:150])
        self.post(150, stream[150:])
        spools = Spools(LogDirectory(log_dir), self.root, self.clock.seconds)
        self.addCleanup(spools.close)
        spools.turn()
        spools.settle()
        self.assertEqual(len(documents(log_dir)), 2)
