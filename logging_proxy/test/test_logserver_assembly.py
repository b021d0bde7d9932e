"""From records to exchanges, and from exchanges to metadata."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures import exchanges, heads, metadata
from logging_proxy.captures.events import (
    BodyPiece,
    Ended,
    Event,
    Informed,
    Noted,
    ResponseStarted,
    Started,
    TrailersCame,
)
from logging_proxy.captures.exchanges import Exchange, Opening, Side
from logging_proxy.captures.metadata import StoredBody
from logging_proxy.logserver.ingest import assembly
from logging_proxy.logserver.ingest.assembly import Assembler
from logging_proxy.recording.records import Flag, Kind, Record, RecordReader, encode
from logging_proxy.test.logserver_spools import MS, WALL_NS, Script, other_id, session


def records(*parts: bytes) -> list[Record]:
    return list(RecordReader().feed(b"".join(parts)))


def assemble(*parts: bytes) -> list[Event]:
    assembler = Assembler()
    return [event for record in records(*parts) for event in assembler.handle(record)]


def ended(events: list[Event]) -> Exchange:
    (exchange,) = (event.exchange for event in events if isinstance(event, Ended))
    return exchange


def both(exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
    return metadata.documents(exchange, StoredBody("q.bin", "00"), StoredBody("r.bin", "11"))


class RunTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A run is what its session names; a name that no command line takes is none, whatever it is."""
        good = {"a": "a", "Agent_1.2-x": "Agent_1.2-x", "a" * 64: "a" * 64}
        names: list[Any] = [*good, "", "a" * 65, "-x", "a b", "a\x1b", "é", 1, None, ["a"], {}]
        for name in names:
            exchange = ended(assemble(session(run=name), *Script(1).simple()))
            self.assertEqual(exchange.run, good.get(name, "") if isinstance(name, str) else "", name)

    def test_no_session(self) -> None:
        """A session's record that is no JSON object names no run, and does not hide what follows."""
        for payload in (b"", b"[]", b"{", b"[" * 100_000, b"\xff"):
            damaged = encode(Kind.SESSION, 0, 0, MS, payload)
            exchange = ended(assemble(session(run="before"), damaged, *Script(1).simple()))
            self.assertEqual(exchange.run, "")


def answer(status: int | None, *headers: tuple[str, str]) -> heads.Head:
    lines = [f"HTTP/1.1 {status or ''} OK", *(f"{name}: {value}" for name, value in headers), "", ""]
    return heads.parse_head("\r\n".join(lines).encode("latin-1"))


def shape(events: list[Event]) -> list[Any]:
    """Events without their objects, for comparison."""
    shown: list[Any] = []
    for event in events:
        if isinstance(event, BodyPiece):
            shown.append((event.exchange.number, event.side.value, event.offset, event.data))
        else:
            shown.append((type(event).__name__, event.exchange.number))
    return shown


class ExchangeTests(SynchronousTestCase):
    def test_conversation(self) -> None:
        """Every record of an exchange is told as one event, with the body's offsets counted per half."""
        script = Script()
        events = assemble(
            script.head(),
            script.request(b"abc"),
            script.record(Kind.INFORMATIONAL, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            script.request(b"de", last=True),
            script.record(Kind.REQUEST_TRAILERS, b"X-T: 1\r\n"),
            script.response_head(),
            script.response(b"xy"),
            script.note({"retry": 1}),
            script.response(b"z", last=True),
            script.end(),
        )
        self.assertEqual(
            shape(events),
            [
                ("Started", 1),
                (1, "request", 0, b"abc"),
                ("Informed", 1),
                (1, "request", 3, b"de"),
                ("TrailersCame", 1),
                ("ResponseStarted", 1),
                (1, "response", 0, b"xy"),
                ("Noted", 1),
                (1, "response", 2, b"z"),
                ("Ended", 1),
            ],
        )
        kinds = (Started, BodyPiece, Informed, TrailersCame, ResponseStarted, Noted, Ended)
        self.assertEqual({type(event) for event in events}, set(kinds))

    def test_arrival_times(self) -> None:
        """A piece's time counts from the exchange's start, an empty last piece is no piece."""
        script = Script()
        exchange = ended(
            assemble(
                script.head(),
                script.response_head(),
                script.record(Kind.RESPONSE_PIECE, b"12", after=2_500_000),
                script.record(Kind.RESPONSE_PIECE, b"345", after=1_000_999),
                script.response(b"", last=True),
                script.end(),
            )
        )
        _, response = both(exchange)
        self.assertEqual(response["pieces"], [[0, 3500], [2, 4500]])
        self.assertEqual(response["bytes"], 5)

    def test_refused(self) -> None:
        """What was not passed on stands behind the body, and the metadata say from where on and how much."""
        script = Script()
        script_records = (
            script.head(),
            script.request(b"abc"),
            script.record(Kind.REQUEST_PIECE, b"zz\r\n", flags=Flag.REFUSED),
            script.response_head(),
            script.response(b"xy", last=True),
            script.record(Kind.RESPONSE_PIECE, b"HTTP/1.1 2 OK\r\n", flags=Flag.REFUSED),
            script.end("protocol_error", "why"),
        )
        events = assemble(*script_records)
        pieces = [event for event in shape(events) if len(event) == 4]
        self.assertEqual(pieces[1], (1, "request", 3, b"zz\r\n"))
        self.assertEqual(pieces[3], (1, "response", 2, b"HTTP/1.1 2 OK\r\n"))
        request, response = both(ended(events))
        self.assertEqual((request["bytes"], request["refused"]), (7, {"offset": 3, "bytes": 4}))
        self.assertEqual((response["bytes"], response["refused"]), (17, {"offset": 2, "bytes": 15}))
        self.assertNotIn("refused", both(ended(assemble(*Script().simple())))[0])
        first, second = Assembler(), Assembler()
        for record in records(*script_records[:-1]):
            first.handle(record)
        second.restore(json.loads(json.dumps(first.checkpoint())))
        (end,) = (event for record in records(script_records[-1]) for event in second.handle(record))
        self.assertEqual(both(end[0]), (request, response))

    def test_refused_without_a_head(self) -> None:
        """Of a response that is no response there is what came, behind an empty head; of a request too."""
        script = Script()
        events = assemble(
            script.head(head=b""),
            script.record(Kind.RESPONSE_PIECE, b"x\r\n\r\ny", flags=Flag.REFUSED),
            script.end("protocol_error"),
        )
        self.assertEqual(shape(events)[1:3], [("ResponseStarted", 1), (1, "response", 0, b"x\r\n\r\ny")])
        exchange = ended(events)
        assert exchange.response is not None
        self.assertEqual((exchange.response.head, exchange.damage), (b"\r\n\r\n", ""))
        request, response = both(exchange)
        self.assertEqual((request["method"], request["headers"]), ("", []))
        self.assertEqual((response["status"], response["headers"], response["framing"]), (None, [], "none"))
        self.assertEqual(response["refused"], {"offset": 0, "bytes": 6})

    def test_long_method(self) -> None:
        """A method is a token of any length, of which metadata keep the beginning."""
        script = Script()
        head = b"M" * 8000 + b" / HTTP/1.1\r\n"
        exchange = ended(assemble(script.head(head=head), script.end()))
        self.assertEqual(both(exchange)[0]["method"], "M" * 256)
        self.assertTrue(exchange.opening.prefix.startswith(head))

    def test_session_interrupts(self) -> None:
        """A proxy's start ends all that its predecessor left open, as interrupted."""
        one, two = Script(1), Script(2, other_id(2))
        events = assemble(session(), one.head(), two.head(), two.end(), session(), one.head())
        ends = [event.exchange for event in events if isinstance(event, Ended)]
        self.assertEqual([(e.number, e.outcome) for e in ends], [(2, "complete"), (1, "interrupted")])
        self.assertNotEqual(ends[1].error, "")

    def test_number_reused(self) -> None:
        """A second head under an open number ends the first exchange as interrupted: its end was lost."""
        events = assemble(Script().head(), Script(id=other_id(7)).head())
        self.assertEqual(ended(events).outcome, "interrupted")
        self.assertEqual(shape(events)[-1], ("Started", 1))

    def test_id_of_another(self) -> None:
        """A second head with the id of an exchange that is not stored yet is none; later it is one again."""
        assembler = Assembler()
        heads = [Script(number).head() for number in (1, 2, 3)]
        started = []
        for number, head in enumerate(heads):
            if number == 2:
                assembler.open.clear()
                assembler.stored()
            for record in RecordReader().feed(head):
                started.append(len(assembler.handle(record)))
        self.assertEqual((started, assembler.tally.malformed_records), ([1, 0, 1], 1))

    def test_unknown_exchange(self) -> None:
        """Records of an exchange whose head never came are counted and make no events."""
        assembler = Assembler()
        for record in records(Script(9).request(b"x"), Script(9).end()):
            self.assertEqual(list(assembler.handle(record)), [])
        self.assertEqual(assembler.tally.unknown_records, 2)

    def test_senseless_records(self) -> None:
        """Records that make no sense never raise, and what they belong to is not called complete."""
        for bad in (
            Script().response(b"before the head"),
            Script().record(Kind.NOTE, b"{"),
            Script().record(Kind.NOTE, b"\xff"),
            Script().record(Kind.RESPONSE_TRAILERS, b"X: 1\r\n"),
            Script().note({"capture_lost_bytes": 12}),
        ):
            exchange = ended(assemble(Script().head(), bad, Script().end()))
            self.assertEqual(both(exchange)[1]["outcome"], "interrupted")

    def test_damage(self) -> None:
        """Damage of the spool is never passed off as complete; other outcomes stay."""
        for outcome, wanted in (("complete", "interrupted"), ("client_closed", "client_closed")):
            script, assembler = Script(), Assembler()
            for record in records(script.head()):
                assembler.handle(record)
            assembler.mark_damaged("7 bytes missing")
            (event,) = (
                event for record in records(script.end(outcome)) for event in assembler.handle(record)
            )
            request, _ = both(event.exchange)
            self.assertEqual(request["outcome"], wanted)
            self.assertEqual(request["notes"], [{"damage": "7 bytes missing"}])

    def test_malformed_opening(self) -> None:
        """A request head cut short is counted."""
        assembler = Assembler()
        self.assertEqual(list(assembler.handle(Record(Kind.REQUEST_HEAD, 0, 1, 1, b"short"))), [])
        self.assertEqual(assembler.tally.malformed_records, 1)

    def test_lost_counted(self) -> None:
        """What the proxy could not record is added up."""
        assembler = Assembler()
        for payload in (b'{"exchanges": 2, "bytes": 10}', b'{"exchanges": 1}', b"[]", b"{"):
            for record in records(encode(Kind.LOST, 0, 0, 1, payload)):
                assembler.handle(record)
        tally = assembler.tally
        self.assertEqual((tally.lost_exchanges, tally.lost_bytes, tally.malformed_records), (3, 10, 2))

    @settings(deadline=None)
    @given(st.integers(0, 10), st.data())
    def test_checkpoint_anywhere(self, at: int, data: st.DataObject) -> None:
        """An assembler restored from a JSON checkpoint goes on as the first one would have."""
        one, two = Script(1, note_id := other_id(1)), Script(2, other_id(2))
        stream = records(
            one.head(),
            two.head(),
            one.request(data.draw(st.binary(max_size=20)), last=True),
            two.record(Kind.INFORMATIONAL, b"HTTP/1.1 103 \xff\r\n\r\n"),
            two.response_head(flags=Flag.OURS),
            one.note({"t": "\ud800"}),
            two.response(b"abc"),
            two.record(Kind.RESPONSE_TRAILERS, b"X-T: \xe9\r\n"),
            one.record(Kind.TUNNEL_CLIENT, b"tt"),
            two.end("upstream_reset", "gone"),
            one.end(),
        )
        straight, first, second = Assembler(), Assembler(), Assembler()
        expected = [event for record in stream for event in straight.handle(record)]
        events = [event for record in stream[:at] for event in first.handle(record)]
        second.restore(json.loads(json.dumps(first.checkpoint())))
        events += [event for record in stream[at:] for event in second.handle(record)]
        self.assertEqual(shape(events), shape(expected))
        for a, b in zip(events, expected, strict=True):
            if isinstance(a, Ended):
                self.assertEqual(both(a.exchange), both(b.exchange))
        self.assertEqual(note_id, other_id(1))


class MetadataTests(SynchronousTestCase):
    def documents(self, *parts: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        return both(ended(assemble(*parts)))

    def test_request_document(self) -> None:
        """The request's document says what design.md lists, headers in the client's order and case."""
        request, _ = self.documents(*Script().simple())
        self.assertEqual(request["id"], "092d0424-3f1e-4f0f-8c5b-5c0a7d0e9f11")
        self.assertEqual(request["stream_type"], "request")
        self.assertEqual((request["route"], request["pattern"]), ("lmstudio", "/lmstudio/"))
        self.assertEqual((request["method"], request["http_version"]), ("POST", "HTTP/1.1"))
        self.assertEqual(request["source_url"], "http://localhost:5601/lmstudio/v1/chat")
        self.assertEqual(request["destination_url"], "http://127.0.0.1:1234/v1/chat")
        self.assertEqual(request["client"], {"address": "127.0.0.1", "port": 50001})
        self.assertEqual(
            request["headers"],
            [["Host", "127.0.0.1:1234"], ["X-Case", "a"], ["x-case", "b"]],
        )
        self.assertEqual((request["status"], request["outcome"], request["error"]), (None, "complete", None))
        self.assertEqual((request["filename"], request["sha256"], request["bytes"]), ("q.bin", "00", 7))

    def test_response_document(self) -> None:
        """The response's document has the status, who answered, and values in which every byte survives."""
        _, response = self.documents(*Script().simple())
        self.assertEqual((response["status"], response["reason"]), (200, "OK"))
        self.assertEqual(response["answered_by"], "destination")
        self.assertEqual(response["headers"][1], ["X-Caf\xe9", "\xff"])
        self.assertEqual(response["framing"], "chunked")

    def test_times(self) -> None:
        """Times are ISO 8601 with zone; the half's end is its last piece, not the exchange's end."""
        from datetime import datetime

        request, response = self.documents(*Script().simple())
        start = datetime.fromisoformat(request["started_at"])
        self.assertIsNotNone(start.tzinfo)
        self.assertEqual(int(start.timestamp() * 1000), WALL_NS // 1_000_000)
        self.assertEqual(request["processing_time_ms"], 1.0)
        self.assertEqual(response["processing_time_ms"], 3.0)
        began = datetime.fromisoformat(response["started_at"])
        self.assertEqual(round((began - start).total_seconds() * 1000), 2)

    def test_no_response(self) -> None:
        """Without a response there is a document with null status, no bytes and the error."""
        script = Script()
        _, response = self.documents(script.head(), script.end("connect_failed", "refused"))
        self.assertEqual((response["status"], response["bytes"], response["answered_by"]), (None, 0, None))
        self.assertEqual((response["outcome"], response["error"]), ("connect_failed", "refused"))
        self.assertEqual((response["headers"], response["framing"]), ([], "none"))

    def test_answered_by_proxy(self) -> None:
        """An answer that the proxy made itself says so."""
        script = Script()
        head = script.head() + script.response_head(b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Flag.OURS)
        _, response = self.documents(head, script.end("connect_failed"))
        self.assertEqual((response["status"], response["answered_by"]), (502, "proxy"))

    def test_unrouted(self) -> None:
        """What no route took has null for route, pattern and destination."""
        exchange = ended(assemble(*Script().simple()))
        opening = exchange.opening
        exchange.opening = Opening(b"", b"", opening.source_url, b"", opening.head)
        request, _ = both(exchange)
        self.assertEqual([request[key] for key in ("route", "pattern", "destination_url")], [None] * 3)

    def test_tunnel(self) -> None:
        """After a 101 both halves are tunnels, and the offset at which the tunnel began is kept."""
        script = Script()
        request, response = self.documents(
            script.head(),
            script.response_head(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
            script.record(Kind.TUNNEL_CLIENT, b"up"),
            script.record(Kind.TUNNEL_UPSTREAM, b"down"),
            script.end(),
        )
        self.assertEqual((request["framing"], response["framing"]), ("tunnel", "tunnel"))
        self.assertEqual((request["bytes"], response["bytes"]), (2, 4))
        self.assertEqual(response["tunnel_from"], 0)

    def test_client_addresses(self) -> None:
        """IPv4 and IPv6 addresses have their port, others have none."""
        for text, wanted in (
            (b"127.0.0.1 80", ("127.0.0.1", 80)),
            (b"::1 80", ("::1", 80)),
            (b"unix", ("unix", None)),
            (b"", (None, None)),
        ):
            exchange = ended(assemble(*Script().simple()))
            exchange.client = text
            client = both(exchange)[0]["client"]
            self.assertEqual((client["address"], client["port"]), wanted)

    def test_extras(self) -> None:
        """Interim responses, trailers and notes are kept, each with what it said."""
        script = Script()
        _, response = self.documents(
            script.head(),
            script.record(Kind.INFORMATIONAL, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            script.response_head(),
            script.record(Kind.RESPONSE_TRAILERS, b"Grpc-Status: 0\r\n"),
            script.note({"retry": 1}),
            script.end(),
        )
        self.assertEqual(
            response["informational"],
            [{"at": 1000, "status": 103, "reason": "Early Hints", "headers": [["Link", "</a>"]]}],
        )
        self.assertEqual(response["trailers"], [["Grpc-Status", "0"]])
        self.assertEqual(response["notes"], [{"retry": 1}])

    @settings(deadline=None)
    @given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=20), st.text(max_size=20))
    def test_canonical(self, request: bytes, response: bytes, route: bytes, error: str) -> None:
        """Whatever was recorded, the text that is stored is one line of JSON as a JSON encoder writes it."""
        exchange = ended(assemble(*Script().simple()))
        assert exchange.response is not None
        exchange.opening = Opening(route, b"/", request, response, request)
        exchange.response.head, exchange.response.trailers = response, request
        exchange.error, exchange.informational = error, [(1, response)]
        exchange.notes.append({"note": error})
        for text in metadata.texts(exchange, StoredBody("q.bin", "00"), StoredBody("r.bin", None)):
            self.assertEqual(text, json.dumps(json.loads(text), separators=(",", ":")) + "\n")


class FramingTests(SynchronousTestCase):
    def test_responses(self) -> None:
        """The order of RFC 9112 §6.3 decides."""
        length, chunked = ("Content-Length", "5"), ("transfer-encoding", "gzip, Chunked")
        for headers, method, status, wanted in (
            ([length], "GET", 200, "content-length"),
            ([chunked], "GET", 200, "chunked"),
            ([length, chunked], "GET", 200, "chunked"),
            ([("Transfer-Encoding", "gzip")], "GET", 200, "close"),
            ([], "GET", 200, "close"),
            ([length], "HEAD", 200, "none"),
            ([length], "GET", 304, "none"),
            ([], "GET", 204, "none"),
            ([], "GET", 101, "tunnel"),
            ([], "GET", None, "none"),
        ):
            head = answer(status, *headers)
            self.assertEqual(heads.framing_of_response(head, method), wanted, (headers, status))

    def test_requests(self) -> None:
        """A request without a declared length has no body."""
        for headers, wanted in (
            ([], "none"),
            ([("content-length", "0")], "content-length"),
            ([("Transfer-Encoding", "chunked")], "chunked"),
        ):
            self.assertEqual(heads.framing_of_request(answer(200, *headers)), wanted)

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_any_head(self, head: bytes) -> None:
        """Whatever was recorded as a head, each line becomes one header, and the JSON has the same."""
        parsed = heads.parse_head(head)
        lines = [line for line in head.split(b"\r\n")[1:] if line]
        self.assertEqual(len(parsed.headers), len(lines))
        self.assertEqual(json.loads(parsed.json), [list(pair) for pair in parsed.headers])


class NameTests(SynchronousTestCase):
    def test_stamp(self) -> None:
        """The stamp is local time with milliseconds, cut, not rounded."""
        self.assertRegex(metadata.file_stamp(WALL_NS), r"\A2025-09-1\d_\d\d-\d\d-\d9\.123\Z")
        self.assertTrue(metadata.file_stamp(WALL_NS // 10**9 * 10**9 + 999_999_999).endswith(".999"))

    def test_sides(self) -> None:
        """The response's file is named after the arrival of its head."""
        exchange = ended(assemble(*Script().simple()))
        self.assertEqual(
            metadata.half_started(exchange, Side.RESPONSE) - metadata.half_started(exchange, Side.REQUEST),
            2 * MS,
        )
        self.assertEqual(hashlib.sha256(b"").hexdigest()[:4], "e3b0")


class SnapshotTests(SynchronousTestCase):
    def test_as_it_was(self) -> None:
        """What is told of an exchange under way is that of one moment, whatever comes meanwhile."""
        script = Script()
        assembler = Assembler()
        parts = [
            script.head(),
            script.request(b"ask", last=True),
            script.response_head(),
            script.response(b"a"),
        ]
        for record in records(*parts, script.note({"x": 1})):
            assembler.handle(record)
        (exchange,) = assembler.open.values()
        now = exchanges.snapshot(exchange)
        before = metadata.preview(exchange, "q.bin", "r.bin")
        self.assertEqual(metadata.preview(now, "q.bin", "r.bin"), before)
        for record in records(script.response(b"more"), script.note({"y": 1}), script.end()):
            assembler.handle(record)
        self.assertEqual(metadata.preview(now, "q.bin", "r.bin"), before)
        self.assertNotEqual(metadata.preview(exchange, "q.bin", "r.bin"), before)

    def test_many_trailers(self) -> None:
        """Trailers without an end are damage: each piece of them has all be copied."""
        self.patch(assembly, "MOST_TRAILERS", 100)
        script = Script()
        lines = [script.record(Kind.REQUEST_TRAILERS, b"A: b\r\n") for _ in range(100)]
        exchange = ended(assemble(script.head(), *lines, script.response_head(), script.end()))
        self.assertLessEqual(len(exchange.request.trailers), 100)
        self.assertEqual(exchanges.verdict(exchange)[0], "interrupted")


class LongStreamTests(SynchronousTestCase):
    def test_pieces_are_bounded(self) -> None:
        """Beyond a limit arrival times are no longer kept, and the metadata say how many are missing."""
        self.patch(exchanges, "MAX_PIECES", 3)
        script = Script()
        parts = [
            script.head(),
            script.response_head(),
            *(script.response(b"x") for _ in range(5)),
            script.end(),
        ]
        _, response = both(ended(assemble(*parts)))
        self.assertEqual((len(response["pieces"]), response["pieces_omitted"], response["bytes"]), (3, 2, 5))
