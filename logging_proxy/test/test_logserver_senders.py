"""Whoever sends captures may send anything: what cannot be stored is the damage of that exchange alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from logging_proxy.logserver.store import directory
from logging_proxy.recording.records import Kind, RequestHead, encode, encode_request_head
from logging_proxy.test.logserver_spools import Script, documents, session
from logging_proxy.test.web_stage import ServerTestCase


@dataclass
class Stranger(Script):
    """A script whose client may be anything."""

    client: bytes = b"127.0.0.1 50001"

    def opening(self, fields: bytes, head: bytes | None = None) -> bytes:
        urls = b"http://localhost:5601/lmstudio/v1/chat", b"http://127.0.0.1:1234/v1/chat"
        head = head or self.method + b" /v1/chat HTTP/1.1\r\n" + fields
        return encode_request_head(
            RequestHead(self.id, self.wall_ns, self.client, self.route, b"/", *urls, head)
        )


class HostileRecordTests(ServerTestCase):
    def check(self, *records: bytes) -> dict[str, Any]:
        """That what a stranger sends and what comes after it are stored and listed; the stranger's row."""
        self.record(session(), *records)
        self.publish()
        genuine = self.capture(2)
        self.assertEqual(self.get("/health")["status"], "ok")
        rows = {row["id"]: row for row in self.get("/api/exchanges")["exchanges"]}
        self.assertEqual(set(rows), {self.id_of(1), genuine})
        self.assertEqual(self.ask("GET", "/metrics").status, 200)
        stored = documents(self.log_dir)
        self.assertEqual(len(stored), 4)
        for document in stored.values():
            json.dumps(document, allow_nan=False)
        row: dict[str, Any] = rows[self.id_of(1)]
        return row

    def stranger(self, **fields: Any) -> Stranger:
        return Stranger(1, bytes([1]) * 16, **fields)

    def test_port(self) -> None:
        """A client's port that is no port is left out."""
        for port in (b"9" * 5000, b"-1", b"\xb2", b"999999", b""):
            self.setUp()
            row = self.check(*self.stranger(client=b"10.0.0.1 " + port).simple())
            self.assertEqual(row["client"], "10.0.0.1")

    def test_client(self) -> None:
        """Whatever stands where the client's address is."""
        for client in (b"", b" ", b"\x00\xff" * 1000, b"a b c", b"[::1]:80 80"):
            self.setUp()
            self.check(*self.stranger(client=client).simple())

    def test_clock(self) -> None:
        """Times at the end of what the records can tell, and times that run backwards."""
        for wall_ns, clock in (((1 << 64) - 1, 1), (0, (1 << 63) - 1), (1, 1)):
            self.setUp()
            script = self.stranger(wall_ns=wall_ns, clock=clock)
            head, *others = script.simple()
            script.clock = (1 << 64) - 1000 * 1_000_000
            self.check(head, *others, script.end())

    def test_notes(self) -> None:
        """Notes that are deep, long, or no text in any charset."""
        deep = b"[" * 900 + b"]" * 900
        for note in (
            deep,
            b'{"a":' * 500 + b"1" + b"}" * 500,
            b"9" * 5000,
            b'"\\ud800"',
            b"NaN",
            b"[" * 100_000,
        ):
            self.setUp()
            script = self.stranger()
            records = script.simple()
            self.check(*records[:-1], script.record(Kind.NOTE, note), script.end())

    def test_open_exchange_with_a_note(self) -> None:
        """A checkpoint that holds an exchange with such a note can be written."""
        script = self.stranger()
        records = script.simple()
        self.record(records[0], script.record(Kind.NOTE, b"[" * 900 + b"]" * 900))
        self.publish()
        self.assertEqual(self.get("/health")["status"], "ok")
        self.check(*records[1:])

    def test_lost(self) -> None:
        """Numbers of what was lost that nobody could have lost."""
        for number in (b"1e400", b"9" * 4000, b"-5", b'"x"', b"Infinity", b"[" * 900 + b"]" * 900):
            self.setUp()
            lost = encode(Kind.LOST, 0, 0, 1, b'{"exchanges":%b,"bytes":%b}' % (number, number))
            self.check(lost, *self.stranger().simple())

    def test_names(self) -> None:
        """More exchanges of one millisecond and one beginning of their ids than anybody has by chance."""
        count = directory.MAX_NAMES + 5
        self.record(session())
        for number in range(count):
            id = bytes(8) + number.to_bytes(8, "big")
            self.record(*Script(number + 1, id).simple())
        self.publish()
        health = self.get("/health")
        self.assertEqual((health["status"], health["exchanges_stored"]), ("ok", count))
        self.assertEqual(len(documents(self.log_dir)), 2 * count)
        self.assertEqual(len([name for name in os.listdir(self.log_dir) if name.endswith(".bin")]), 2 * count)
