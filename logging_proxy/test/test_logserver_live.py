"""The live feed: what happens is seen at once, once, and by many; slow viewers harm nobody."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

from logging_proxy.captures.exchanges import Side
from logging_proxy.logserver.live.feed import KEPT_WITHOUT_VIEWERS, PIECES_UNTIL, LiveEvent, Ring
from logging_proxy.logserver.web.live import CLOSE_TIMEOUT, PING_INTERVAL, TALK_LIMIT, TOO_SLOW_CODE, VIEWERS
from logging_proxy.test.web_stage import Pipe, ServerTestCase


class Viewer:
    """A WebSocket client on a connection of its own; it reads unless `paused`."""

    def __init__(self, site: Any, query: str = "") -> None:
        self.pipe = Pipe(site)
        self.client = WSConnection(ConnectionType.CLIENT)
        self.messages: list[Any] = []
        self.pings = 0
        self.code: int | None = None
        self.answers_pings = True
        self._read = 0
        self.pipe.send(self.client.send(Request("localhost:8080", f"/api/live{query}")))
        self.read()

    def read(self) -> list[Any]:
        """All messages so far."""
        data = self.pipe.value()[self._read :]
        self._read += len(data)
        self.client.receive_data(data)
        for event in self.client.events():
            if isinstance(event, TextMessage):
                self.messages.append(json.loads(event.data))
            elif isinstance(event, Ping):
                self.pings += 1
                if self.answers_pings:
                    self.pipe.send(self.client.send(event.response()))
            elif isinstance(event, CloseConnection):
                self.code = event.code
            else:
                assert isinstance(event, AcceptConnection), event
        return self.messages

    def types(self) -> list[str]:
        return [message["type"] for message in self.read()]

    def stop_reading(self) -> None:
        self.producer.pauseProducing()

    def read_on(self) -> None:
        self.producer.resumeProducing()

    @property
    def producer(self) -> Any:
        return self.pipe.producer

    def leave(self) -> None:
        self.pipe.protocol.connectionLost(Failure(ConnectionLost()))


class LiveTestCase(ServerTestCase):
    def view(self, query: str = "") -> Viewer:
        return Viewer(self.server.site, query)

    @property
    def viewers(self) -> int:
        return self.parts.observers.feed.viewers


class EventsTests(LiveTestCase):
    def test_an_exchange(self) -> None:
        """Head, response, each piece and the end come as they happen, then what was understood."""
        viewer = self.view()
        self.assertEqual(viewer.types(), ["hello"])
        script = self.script(1)
        seen = ["hello"]
        for record, news in (
            (script.head(), ["start"]),
            (script.request(b'{"model":"m"}', last=True), ["piece"]),
            (script.response_head(), ["response"]),
            (script.response(b"\xff\x00"), ["piece"]),
            (script.response(b"cd", last=True), ["piece"]),
            (script.end(), ["end", "indexed"]),
        ):
            self.record(record)
            seen += news
            self.assertEqual(viewer.types(), seen)
        hello, start, asked, response, first, second, end, indexed = viewer.messages
        numbers = [message["sequence"] for message in viewer.messages[1:]]
        self.assertEqual(numbers, list(range(hello["sequence"], hello["sequence"] + 7)))
        self.assertEqual({message["id"] for message in viewer.messages[1:]}, {self.id_of(1)})
        self.assertEqual((start["exchange"]["outcome"], start["exchange"]["status"]), (None, None))
        self.assertEqual((asked["side"], base64.b64decode(asked["data"])), ("request", b'{"model":"m"}'))
        self.assertEqual(response["exchange"]["status"], 200)
        self.assertEqual((first["offset"], base64.b64decode(first["data"])), (0, b"\xff\x00"))
        self.assertEqual((second["offset"], second["size"], second["side"]), (2, 2, "response"))
        self.assertGreater(second["time"], first["time"])
        self.assertEqual(end["exchange"]["outcome"], "complete")
        self.assertEqual(indexed["exchange"]["model"], "m")

    def test_redacted(self) -> None:
        """URLs in events hold no secrets."""
        viewer = self.view()
        self.record(self.script(1).head())
        self.assertNotIn("headers", viewer.read()[1]["exchange"])

    def test_wishes(self) -> None:
        """A viewer may ask for one exchange only, or for no pieces."""
        one, few = self.view(f"?exchange={self.id_of(2)}"), self.view("?pieces=false")
        self.capture(1)
        self.capture(2)
        self.assertEqual({message["id"] for message in one.read()[1:]}, {self.id_of(2)})
        self.assertEqual(few.types(), ["hello", *["start", "response", "end", "indexed"] * 2])

    def test_many_viewers(self) -> None:
        """All viewers see the same."""
        viewers = [self.view() for _ in range(5)]
        self.capture(1)
        for viewer in viewers:
            self.assertEqual(viewer.read()[1:], viewers[0].messages[1:])
            self.assertEqual(len(viewer.messages), 7)

    def test_told_once(self) -> None:
        """After trouble with the disk a spool is read again; viewers see nothing twice."""
        viewer = self.view()
        script = self.script(1)
        self.record(script.head(), script.response_head(), script.response(b"abc"))
        self.publish()
        self.record(script.response(b"def"))
        seen = list(viewer.read())
        (member,) = self.spools._members.values()
        self.spools._close_member(member)
        self.clock.advance(1)
        self.spools.turn()
        self.assertEqual(viewer.read(), seen)
        self.record(script.response(b"ghi"))
        self.assertEqual(viewer.read()[-1]["offset"], 6)
        self.assertEqual(len(viewer.messages), len(seen) + 1)

    def test_large_bodies(self) -> None:
        """Of a body beyond what a stream has only offsets and sizes are sent."""
        viewer = self.view()
        script, piece = self.script(1), bytes(1 << 20)
        self.record(script.head(), script.response_head())
        for _ in range(PIECES_UNTIL // len(piece)):
            self.record(script.response(piece))
        self.assertIsNotNone(viewer.read()[-1]["data"])
        self.record(script.response(piece))
        last = viewer.read()[-1]
        self.assertEqual((last["data"], last["offset"], last["size"]), (None, PIECES_UNTIL, len(piece)))


class ResumeTests(LiveTestCase):
    def test_no_gap_no_double(self) -> None:
        """A viewer that comes back goes on behind the last event it saw, wherever it was cut."""
        whole = self.view()
        self.capture(1)
        everything = whole.read()[1:]
        for event in everything[:-1]:
            again = self.view(f"?after={event['sequence']}")
            self.assertEqual(again.types()[0], "hello")
            position = everything.index(event)
            self.assertEqual(again.messages[1:], everything[position + 1 :])

    def test_while_away(self) -> None:
        """What happens while nobody watches is kept for a while."""
        viewer = self.view()
        self.record(self.script(1).head())
        last = viewer.read()[-1]["sequence"]
        viewer.leave()
        self.capture(2)
        again = self.view(f"?after={last}")
        self.assertEqual(again.types(), ["hello", "start", "piece", "response", "piece", "end", "indexed"])

    def test_away_too_long(self) -> None:
        """After that nothing is kept, and the viewer is told that there is a gap."""
        viewer = self.view()
        self.capture(1)
        last = viewer.read()[-1]["sequence"]
        viewer.leave()
        self.clock.advance(KEPT_WITHOUT_VIEWERS + 1)
        self.capture(2)
        again = self.view(f"?after={last}")
        self.assertEqual(again.types(), ["hello", "gap"])
        self.assertEqual(again.messages[1]["after"], last)
        self.capture(3)
        self.assertEqual(again.messages[1]["sequence"], again.read()[2]["sequence"])

    def test_other_life(self) -> None:
        """A sequence of another life of the server, or one that never was, is a gap too."""
        for after in (0, 10**17):
            self.assertEqual(self.view(f"?after={after}").types(), ["hello", "gap"])

    def test_nobody_watches(self) -> None:
        """Without viewers nothing is kept."""
        self.capture(1, response=bytes(100_000))
        self.assertEqual(self.parts.observers.feed._ring._weight, 0)


class RingTests(SynchronousTestCase):
    def event(self, ring: Ring, size: int = 0) -> LiveEvent:
        return LiveEvent(ring.next, "piece", "id", side=Side.REQUEST, data=bytes(size))

    def test_bounded(self) -> None:
        """The ring holds so many events and so many bytes, the newest."""
        ring = Ring(100, most=10, most_bytes=1 << 30)
        for _ in range(25):
            ring.append(self.event(ring))
        self.assertEqual((ring.first, ring.next), (115, 125))
        ring = Ring(0, most=1000, most_bytes=10_000)
        for _ in range(25):
            ring.append(self.event(ring, 1000))
        self.assertEqual([event.sequence for event in ring.read(ring.first, 100)], list(range(19, 25)))

    def test_reading(self) -> None:
        """From any place, any number."""
        ring = Ring(5)
        for _ in range(200):
            ring.append(self.event(ring))
        for start in (5, 6, 68, 69, 70, 150, 204, 205):
            for most in (0, 1, 64, 1000):
                found = [event.sequence for event in ring.read(start, most)]
                self.assertEqual(found, list(range(start, min(start + most, 205))), (start, most))


class ManyAndSlowTests(LiveTestCase):
    def test_slow(self) -> None:
        """A viewer that does not read costs nothing but its place; others go on."""
        slow, quick = self.view(), self.view()
        slow.stop_reading()
        sent = len(slow.pipe.value())
        self.capture(1)
        self.assertEqual(len(slow.pipe.value()), sent)
        self.assertEqual(len(quick.read()), 7)
        slow.read_on()
        self.assertEqual(slow.read()[1:], quick.messages[1:])

    def test_too_slow(self) -> None:
        """One that the ring has left behind is disconnected with a code, and forced to go when it stays."""
        self.parts.observers.feed._ring._most = 20
        slow = self.view()
        slow.stop_reading()
        for number in range(1, 8):
            self.capture(number)
        slow.read()
        self.assertEqual(slow.code, TOO_SLOW_CODE)
        self.assertEqual(self.viewers, 0)
        self.assertFalse(slow.pipe.aborted)
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(slow.pipe.aborted)
        slow.leave()

    def test_dead(self) -> None:
        """One that does not answer pings is disconnected; one that does stays."""
        dead, alive = self.view(), self.view()
        dead.answers_pings = False
        for _ in range(3):
            self.clock.advance(PING_INTERVAL)
            dead.read()
            alive.read()
        self.assertTrue(dead.pipe.aborted)
        self.assertEqual((alive.pings, alive.pipe.aborted), (3, False))

    def test_leaves(self) -> None:
        """A viewer that leaves takes all that was kept of it along."""
        viewer = self.view()
        viewer.leave()
        self.assertEqual(self.viewers, 0)
        self.capture(1)
        self.clock.advance(10 * PING_INTERVAL)
        self.assertEqual(viewer.types(), ["hello"])

    def test_closes(self) -> None:
        """A viewer that says goodbye gets an answer."""
        viewer = self.view()
        viewer.pipe.send(viewer.client.send(CloseConnection(1000)))
        viewer.read()
        self.assertTrue(viewer.pipe.disconnecting)
        viewer.leave()
        self.assertEqual(self.viewers, 0)

    def test_talks(self) -> None:
        """What a viewer says is ignored; one that says much, or nonsense, is cut off."""
        viewer, much, odd = self.view(), self.view(), self.view()
        viewer.pipe.send(viewer.client.send(TextMessage("hello")))
        self.assertFalse(viewer.pipe.aborted)
        for _ in range(TALK_LIMIT // 1000 + 1):
            much.pipe.send(much.client.send(TextMessage("x" * 1000, message_finished=False)))
        self.assertTrue(much.pipe.aborted)
        odd.pipe.send(b"\xff" * 100)
        self.assertTrue(odd.pipe.aborted or odd.pipe.disconnecting)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_too_many(self) -> None:
        """There are so many places and no more."""
        for _ in range(VIEWERS):
            self.view()
        reply = self.ask("GET", "/api/live", **UPGRADE)
        self.assertEqual((reply.status, reply.problem), (503, "busy"))

    def test_stop(self) -> None:
        """When the server stops viewers are told so."""
        viewer = self.view()
        self.server.viewers.stopService()
        viewer.read()
        self.assertEqual((viewer.code, self.viewers), (1001, 0))

    def test_idle(self) -> None:
        """The idle timer of requests is not for viewers."""
        viewer = self.view()
        for _ in range(30):
            self.clock.advance(PING_INTERVAL)
            viewer.read()
        self.assertFalse(viewer.pipe.disconnecting or viewer.pipe.aborted)


UPGRADE: dict[str, Any] = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


class HandshakeTests(LiveTestCase):
    def test_refused(self) -> None:
        """No upgrade, a bad one, bad parameters, or a page of another origin: an answer, and no viewer."""
        cases: tuple[tuple[str, dict[str, Any], tuple[int, str]], ...] = (
            ("", {}, (426, "needs-upgrade")),
            ("", {**UPGRADE, "Sec_WebSocket_Version": "1"}, (400, "bad-upgrade")),
            ("", {"Upgrade": "websocket"}, (400, "bad-upgrade")),
            ("?after=x", UPGRADE, (400, "bad-parameter")),
            ("?after=-1", UPGRADE, (400, "bad-parameter")),
            ("?exchange=x", UPGRADE, (400, "bad-parameter")),
            ("?pieces=x", UPGRADE, (400, "bad-parameter")),
            ("", {**UPGRADE, "Origin": "http://evil.example"}, (403, "wrong-origin")),
        )
        for query, headers, wanted in cases:
            reply = self.ask("GET", f"/api/live{query}", **headers)
            self.assertEqual((reply.status, reply.problem), wanted, (query, headers))
        reply = self.ask("GET", "/api/live", host="evil.example", **UPGRADE)
        self.assertEqual((reply.status, reply.problem), (403, "wrong-host"))
        self.assertEqual(self.viewers, 0)
        self.flushLoggedErrors()


class TokenTests(LiveTestCase):
    token = "t0ken"

    def test_token(self) -> None:
        """With a token configured the feed needs it before the upgrade."""
        self.assertEqual(self.ask("GET", "/api/live", **UPGRADE).status, 401)
        pipe = self.connect()
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in UPGRADE.items()]
        head = ["GET /api/live HTTP/1.1", "Host: localhost", "Authorization: Bearer t0ken", *lines, "", ""]
        pipe.send("\r\n".join(head).encode())
        self.assertTrue(pipe.value().startswith(b"HTTP/1.1 101 "))


class EventTests(SynchronousTestCase):
    def test_text(self) -> None:
        """However many viewers there are, the text of an event is made once."""
        event = LiveEvent(1, "piece", "x", side=Side.REQUEST, size=3, data=b"abc")
        made = event.text()
        self.assertEqual(json.loads(made)["data"], "YWJj")
        self.assertIs(event.text(), made)
