"""`PUT /{id}/request` and `PUT /{id}/response`: streamed, exact, once, all inside the log directory."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.exchanges import Side
from logging_proxy.index import Filters
from logging_proxy.logserver.uploads import intake
from logging_proxy.logserver.uploads.intake import BadMessage, Message, Target, parse_target
from logging_proxy.logserver.uploads.recovery import RECOVERY_INTERVAL
from logging_proxy.logserver.web import puts
from logging_proxy.logserver.web.answers import Refused
from logging_proxy.test.logserver_spools import documents
from logging_proxy.test.web_stage import ServerTestCase

ID = "092d0424-3f1e-4f0f-8c5b-5c0a7d0e9f11"
REQUEST = (
    b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:1234\r\nX-Case: a\r\nx-case: b\r\nContent-Length: 13\r\n"
    b"X-Proxy-Path: http://localhost:5601/lmstudio/v1/chat\r\n\r\n"
    b'{"model":"m"}'
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Caf\xe9: \xff\r\n\r\n\x00\xff\n"


class PutTests(ServerTestCase):
    def put(self, side: str, data: bytes, id: str = ID, **more: Any) -> Any:
        return self.ask("PUT", f"/{id}/{side}", data, **more)

    def run_storage(self, run: Any) -> None:
        """Storage work goes to `run`."""
        worker: Any = self.parts.threads.storage
        worker.run = run

    def head(self, length: int) -> bytes:
        return f"PUT /{ID}/request HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()

    def content(self, document: dict[str, Any]) -> bytes:
        with open(os.path.join(self.log_dir, document["filename"]), "rb") as file:
            return file.read()

    def test_both(self) -> None:
        """Both halves become capture files, byte for byte, with metadata, and one exchange of the index."""
        for side, data in (("request", REQUEST), ("response", RESPONSE)):
            reply = self.put(side, data)
            self.assertEqual((reply.status, reply.headers["location"]), (201, f"/api/exchanges/{ID}/{side}"))
        found = documents(self.log_dir)
        request, response = found[ID, "request"], found[ID, "response"]
        self.assertEqual((self.content(request), self.content(response)), (REQUEST, RESPONSE))
        self.assertEqual((request["method"], request["bytes"], request["outcome"]), ("POST", 13, "complete"))
        self.assertEqual(request["source_url"], "http://localhost:5601/lmstudio/v1/chat")
        self.assertEqual(request["destination_url"], "http://127.0.0.1:1234/v1/chat")
        self.assertEqual([h[0] for h in request["headers"][:3]], ["Host", "X-Case", "x-case"])
        self.assertEqual((response["status"], response["headers"][1]), (200, ["X-Caf\xe9", "\xff"]))
        (row,) = self.get("/api/exchanges?q=m&model=m&status=200")["exchanges"]
        self.assertEqual((row["id"], row["method"], row["outcome"]), (ID, "POST", "complete"))
        self.assertEqual(self.ask("GET", f"/api/exchanges/{ID}/response").body, RESPONSE)
        for name in set(os.listdir(self.log_dir)) - {".spool"}:
            path = os.path.join(self.log_dir, name)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700 if os.path.isdir(path) else 0o600, name)

    def test_response_first(self) -> None:
        """The halves come in any order, and one may come alone."""
        self.assertEqual(self.put("response", RESPONSE).status, 201)
        (row,) = self.get("/api/exchanges")["exchanges"]
        self.assertEqual((row["status"], row["request"]["filename"]), (200, None))
        self.assertEqual(self.put("request", REQUEST).status, 201)
        (row,) = self.get("/api/exchanges")["exchanges"]
        self.assertEqual((row["status"], row["method"], row["model"]), (200, "POST", "m"))

    def test_exists(self) -> None:
        """What is stored is never replaced: 409, in this life and the next, and for proxies' exchanges."""
        self.put("request", REQUEST)
        before = documents(self.log_dir)
        reply = self.put("request", b"GET /other HTTP/1.1\r\n\r\n")
        self.assertEqual((reply.status, reply.problem), (409, "exists"))
        known = self.capture(1)
        self.record(self.script(2).head())
        self.spools.close()
        self.build()
        self.spools.turn()
        for id in (ID, known, self.id_of(2)):
            self.assertEqual(self.put("request", REQUEST, id).status, 409, id)
        self.assertEqual(documents(self.log_dir)[ID, "request"], before[ID, "request"])

    def test_at_once(self) -> None:
        """Of two uploads of one half at once, one is taken."""
        head = self.head(len(REQUEST))
        first, second = self.connect(), self.connect()
        first.send(head + REQUEST[:50])
        second.send(head + REQUEST[:50])
        second.send(REQUEST[50:])
        self.assertEqual(second.reply().status, 409)
        first.send(REQUEST[50:])
        self.assertEqual(first.reply().status, 201)
        self.assertEqual(self.content(documents(self.log_dir)[ID, "request"]), REQUEST)

    def test_hostile_paths(self) -> None:
        """Only a full UUID in its one form and the two sides are taken; nothing else touches the disk."""
        before = sorted(os.listdir(self.log_dir))
        for id in (
            "..%2f..%2fetc",
            "%2e%2e",
            "..",
            "%00",
            "x" * 4096,
            "092",
            ID.upper(),
            ID[:-1],
            ID + "0",
            "%D9%A0" * 36,
            "con",
            "%30" + ID[1:],
            ID.replace("-", ""),
        ):
            for side in ("request", "response"):
                reply = self.put(side, REQUEST, id)
                self.assertEqual((reply.status, reply.problem), (400, "bad-id"), (id, side))
        for form in ("/{}", "/{}/", "/{}/other", "/{}/request/", "//{}/request", "/x/{}/request"):
            path = form.format(ID)
            self.assertEqual(self.ask("PUT", path, REQUEST).status, 404, path)
        self.assertEqual(sorted(os.listdir(self.log_dir)), before)

    def test_methods(self) -> None:
        """Other methods are 405 and name the one that is taken."""
        for method in ("GET", "HEAD", "POST", "DELETE"):
            reply = self.ask(method, f"/{ID}/request")
            self.assertEqual((reply.status, reply.headers["allow"]), (405, "PUT"), method)

    def test_no_message(self) -> None:
        """What is no HTTP message of that side is 400, and nothing of it stays."""
        for side, data in (
            ("request", b"\x00garbage\r\n\r\n"),
            ("request", RESPONSE),
            ("response", REQUEST),
            ("request", b"GET / HTTP/1.1\r\nHost: a\r\n"),
            ("request", b""),
            ("request", b"x" * (intake.HEAD_LIMIT + 1)),
        ):
            reply = self.put(side, data)
            self.assertEqual((reply.status, reply.problem), (400, "bad-body"), data[:20])
        self.assertEqual(documents(self.log_dir), {})
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".uploads")), [])

    def test_cut(self) -> None:
        """An upload that was cut is kept, as interrupted."""
        pipe = self.connect()
        pipe.send(self.head(999))
        pipe.send(REQUEST)
        pipe.protocol.connectionLost(Failure(ConnectionLost()))
        document = documents(self.log_dir)[ID, "request"]
        self.assertEqual((document["outcome"], document["error"]), ("interrupted", intake.CUT))
        self.assertEqual(self.content(document), REQUEST)
        self.assertEqual(self.get(f"/api/exchanges/{ID}")["outcome"], "interrupted")

    def test_short(self) -> None:
        """A message that is shorter than its own Content-Length is not called complete."""
        self.assertEqual(self.put("response", RESPONSE[:-1]).json()["outcome"], "interrupted")

    def test_server_dies(self) -> None:
        """What had come when the server died is published at its next start, as interrupted."""
        pipe = self.connect()
        pipe.send(self.head(999))
        pipe.send(REQUEST)
        self.build()
        self.parts.recovery.start()
        document = documents(self.log_dir)[ID, "request"]
        self.assertEqual((document["outcome"], self.content(document)), ("interrupted", REQUEST))
        self.assertEqual(self.get("/api/exchanges")["exchanges"][0]["id"], ID)

    def test_server_begins_in_trouble(self) -> None:
        """What an earlier life left is published once the log directory can be used, without a traceback."""
        self.parts.directory.close()
        folder = os.path.join(self.log_dir, ".uploads")
        os.mkdir(folder, 0o700)
        with open(os.path.join(folder, f"{ID}_request.tmp"), "wb") as file:
            file.write(REQUEST)
        os.chmod(self.log_dir, 0o775)
        self.parts.recovery.start()
        self.clock.advance(RECOVERY_INTERVAL)
        self.assertEqual(documents(self.log_dir), {})
        os.chmod(self.log_dir, 0o700)
        self.clock.advance(RECOVERY_INTERVAL)
        self.assertEqual(self.content(documents(self.log_dir)[ID, "request"]), REQUEST)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_server_stops(self) -> None:
        """What has come when the server stops is published."""
        pipe = self.connect()
        pipe.send(self.head(999))
        pipe.send(REQUEST)
        self.parts.uploads.close()
        self.assertEqual(documents(self.log_dir)[ID, "request"]["outcome"], "interrupted")

    def test_indexed_after_a_stop(self) -> None:
        """What the stop cut, and what came just before it, is in the index when the server has stopped."""
        pipe = self.connect()
        pipe.send(self.head(999))
        pipe.send(REQUEST)
        uploads = self.parts.uploads
        message = uploads.begin(Target(self.id_of(1), Side.RESPONSE), b"")
        uploads.write(message, RESPONSE)
        uploads.finish(message, whole=True)
        self.assertEqual(self.get("/api/exchanges")["exchanges"], [])
        self.parts.observers.indexer = None
        storing = self.server.storing
        storing._indexer = storing._index = None
        self.parts.storage.startService()
        self.successResultOf(storing._stop())
        ids = {row.id for row in self.index.list(Filters()).rows}
        self.assertEqual(ids, {ID, self.id_of(1)})

    def test_fault(self) -> None:
        """An upload of which bytes are lost by a fault of ours is no upload: 500, and nothing of it stays."""
        for name in ("write", "begin", "finish"):
            real = getattr(self.parts.uploads, name)

            def raise_fault(*args: Any, **keywords: Any) -> None:
                raise RuntimeError("a fault")

            setattr(self.parts.uploads, name, raise_fault)
            reply = self.put("request", REQUEST)
            self.assertEqual((reply.status, reply.problem), (500, "internal"), name)
            setattr(self.parts.uploads, name, real)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.flushLoggedErrors(Refused)
        self.assertEqual(documents(self.log_dir), {})
        self.assertEqual(self.put("request", REQUEST).status, 201)

    def test_storage_gone(self) -> None:
        """The same when the thread for storage does not do what it was asked for."""
        run, failures = self.parts.threads.storage.run, [RuntimeError("a fault")]

        def flaky(work: Any) -> Deferred[Any]:
            is_write = "_write_rest" in work.__qualname__ and "abandon" not in work.__code__.co_names
            return fail(failures.pop()) if is_write and failures else run(work)

        self.run_storage(flaky)
        self.server = self.parts.assemble(self.server.site._gate)
        reply = self.put("request", REQUEST)
        self.assertEqual((reply.status, reply.problem), (500, "internal"))
        self.assertEqual(documents(self.log_dir), {})
        self.flushLoggedErrors(Refused)

    def test_byte_by_byte(self) -> None:
        """While a write is under way what comes is gathered: a body in single bytes is few writes."""
        works: list[tuple[Deferred[Any], Any]] = []

        def later(work: Any) -> Deferred[Any]:
            works.append((Deferred(), work))
            return works[-1][0]

        self.run_storage(later)
        self.server = self.parts.assemble(self.server.site._gate)
        pipe = self.connect()
        pipe.send(self.head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        for byte in REQUEST:
            pipe.send(b"1\r\n%c\r\n" % byte)
        self.assertEqual(len(works), 2)
        pipe.send(b"0\r\n\r\n")
        count = 0
        while works:
            done, work = works.pop(0)
            count += 1
            done.callback(work())
        self.assertLess(count, 6)
        self.assertEqual(self.content(documents(self.log_dir)[ID, "request"]), REQUEST)

    def test_planted_links(self) -> None:
        """Links planted in the directory are not followed."""
        outside = self.mktemp()
        os.makedirs(outside)
        os.symlink(os.path.abspath(outside), os.path.join(self.log_dir, ".uploads"))
        reply = self.put("request", REQUEST)
        self.assertEqual((reply.status, reply.problem), (503, "storage-trouble"))
        os.unlink(os.path.join(self.log_dir, ".uploads"))
        os.mkdir(os.path.join(self.log_dir, ".uploads"), 0o700)
        target = os.path.join(outside, "target")
        os.symlink(os.path.abspath(target), os.path.join(self.log_dir, ".uploads", f"{ID}_request.tmp"))
        self.assertEqual(self.put("request", REQUEST).status, 503)
        self.assertEqual(os.listdir(outside), [])

    def test_pieces(self) -> None:
        """Arrival times of the body's pieces are kept."""
        pipe = self.connect()
        data = REQUEST[:-13] + b"a" * 13
        pipe.send(self.head(len(data)))
        for part in (data[:-13], data[-13:-8], data[-8:]):
            pipe.send(part)
        self.assertEqual([p[0] for p in documents(self.log_dir)[ID, "request"]["pieces"]], [0, 5])

    def test_too_large(self) -> None:
        """Beyond the limit an upload is refused, and nothing of it stays."""
        self.patch(puts, "MOST_BYTES", 1000)
        reply = self.put("request", REQUEST + bytes(1000))
        self.assertEqual((reply.status, reply.problem), (413, "too-large"))
        pipe = self.connect()
        pipe.send(self.head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        for chunk in (REQUEST, bytes(600), bytes(600)):
            pipe.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        pipe.send(b"0\r\n\r\n")
        self.assertEqual(pipe.reply().status, 413)
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".uploads")), [])

    def test_too_many(self) -> None:
        """So many at a time, and no more."""
        self.patch(intake, "MOST_OPEN", 2)
        for number in range(2):
            pipe = self.connect()
            pipe.send(self.head(9).replace(ID.encode(), self.id_of(number).encode()))
        self.assertEqual(self.put("request", REQUEST).problem, "busy")

    def test_slow_disk(self) -> None:
        """While the disk is slow the client waits, however long; nothing piles up."""
        works: list[tuple[Deferred[Any], Any]] = []

        def later(work: Any) -> Deferred[Any]:
            works.append((Deferred(), work))
            return works[-1][0]

        self.run_storage(later)
        self.server = self.parts.assemble(self.server.site._gate)
        pipe = self.connect()
        pipe.send(self.head(9999999))
        pipe.send(REQUEST)
        while pipe.producerState == "producing":
            pipe.send(bytes(65536))
        self.assertLess(len(works), 20)
        self.clock.advance(600)
        self.assertFalse(pipe.disconnecting)
        while works:
            waiting, work = works.pop(0)
            waiting.callback(work())
        self.assertEqual(pipe.producerState, "producing")

    def test_many_pieces(self) -> None:
        """A body in chunks of one byte gives the disk no more work than one in few; not a byte is lost."""
        works: list[tuple[Deferred[Any], Any]] = []

        def later(work: Any) -> Deferred[Any]:
            works.append((Deferred(), work))
            return works[-1][0]

        self.run_storage(later)
        self.server = self.parts.assemble(self.server.site._gate)
        pipe = self.connect()
        chunked = self.head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        pipe.send(chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in REQUEST) + b"0\r\n\r\n")
        self.assertLessEqual(len(works), 4)
        while works:
            waiting, work = works.pop(0)
            waiting.callback(work())
        self.assertEqual(pipe.reply().status, 201)
        self.assertEqual(self.content(documents(self.log_dir)[ID, "request"]), REQUEST)

    def test_disk_full(self) -> None:
        """Without room the answer is 503, nothing stays, and it can be put again."""
        system: Any = self.parts.directory._system
        real = system.pwrite

        def full(fd: int, data: bytes, at: int) -> int:
            raise OSError(28, "No space left on device")

        system.pwrite = full
        reply = self.put("request", REQUEST)
        self.assertEqual((reply.status, reply.problem), (503, "storage-trouble"))
        system.pwrite = real
        self.assertEqual(self.put("request", REQUEST).status, 201)

    def test_names_refused(self) -> None:
        """Where the disk takes the bytes but no name for them, nothing stays, and it can be put again."""
        system: Any = self.parts.directory._system
        real = system.rename
        for times in (1, 2):
            refusals = [times]

            def rename(*of: Any, refusals: list[int] = refusals, **at: Any) -> None:
                refusals[0] -= 1
                if not refusals[0]:
                    raise OSError(5, "Input/output error")
                real(*of, **at)

            system.rename = rename
            reply = self.put("request", REQUEST)
            self.assertEqual((reply.status, reply.problem), (503, "storage-trouble"))
            self.assertEqual([name for name in os.listdir(self.log_dir) if name.endswith(".bin")], [])
        system.rename = real
        self.assertEqual(self.put("request", REQUEST).status, 201)
        self.assertNotIn("-2_", documents(self.log_dir)[ID, "request"]["filename"])

    def test_metadata_refused(self) -> None:
        """What came of an upload is not lost where its metadata find no room: the next start publishes it."""
        system: Any = self.parts.directory._system
        real = system.pwrite
        pipe = self.connect()
        pipe.send(self.head(999))
        pipe.send(REQUEST)

        def full(fd: int, data: bytes, at: int) -> int:
            raise OSError(28, "No space left on device")

        system.pwrite = full
        self.parts.uploads.close()
        system.pwrite = real
        self.assertEqual(documents(self.log_dir), {})
        self.build()
        self.parts.recovery.start()
        document = documents(self.log_dir)[ID, "request"]
        self.assertEqual((document["outcome"], self.content(document)), ("interrupted", REQUEST))
        self.assertNotIn("-2_", document["filename"])


class MessageTests(SynchronousTestCase):
    def taken(self, parts: list[bytes]) -> Message:
        message = Message(Target(ID, Side.REQUEST), b"", 0, 0, -1)
        for part in parts:
            message.take(part, 0)
        return message

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(0, len(REQUEST)), max_size=6))
    def test_any_split(self, cuts: list[int]) -> None:
        """However a message is cut, its head and its body are the same."""
        at = [0, *sorted(cuts), len(REQUEST)]
        message = self.taken([REQUEST[a:b] for a, b in zip(at, at[1:], strict=False)])
        whole = self.taken([REQUEST])
        self.assertEqual((message.half.head, message.half.size), (whole.half.head, whole.half.size))
        self.assertEqual(message.digest.digest(), whole.digest.digest())
        self.assertEqual(message.size, len(REQUEST))

    def test_byte_by_byte(self) -> None:
        """Also one byte at a time."""
        message = self.taken([REQUEST[at : at + 1] for at in range(len(REQUEST))])
        self.assertEqual((message.half.size, message.whole_head), (13, True))

    def test_start_lines(self) -> None:
        """A message begins with a start line, nothing else."""
        for line in (
            b"GET /",
            b"GET / HTTP/1.1 x",
            b" GET / HTTP/1.1",
            b"G\x00T / HTTP/1.1",
            b"HTTP/1.1 200",
        ):
            self.assertRaises(BadMessage, self.taken, [line + b"\r\n\r\n"])

    def test_targets(self) -> None:
        """The one form of a path."""
        self.assertEqual(parse_target(f"/{ID}/response".encode()), Target(ID, Side.RESPONSE))
        self.assertIsNone(parse_target(f"/{ID}/response\n".encode()))
