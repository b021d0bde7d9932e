"""The codes of errors: one table, all of it documented and in use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import logging_proxy
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.limits import ServerLimits
from logging_proxy.outbound.forwarding import Forwarding
from logging_proxy.proxy.error_kinds import KINDS, kind_of_fault, markdown_table
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.proxy.tree import RouteResource
from logging_proxy.recording.records import OUTCOMES
from logging_proxy.test.proxy_stage import Stage, get, post
from logging_proxy.test.test_mistakes_in_base_urls import MISTAKES
from logging_proxy.test.test_proxy_failures import VERDICTS

SDK = ("Accept: application/json",)
MALFORMED = {
    "bad_request": b"GET / HTTP/1.1\r\nHost : x\r\nAccept: application/json\r\n\r\n",
    "uri_too_long": b"GET /" + b"x" * 70000,
    "head_too_large": b"GET / HTTP/1.1\r\nAccept: application/json\r\nX: " + b"x" * 70000,
    "not_implemented": post(b"", *SDK).replace(b"Content-Length: 0", b"Transfer-Encoding: gzip"),
    "version_not_supported": get("/", *SDK).replace(b"HTTP/1.1", b"HTTP/2.0"),
}


def code_of(stage: Stage, request: bytes) -> str:
    """The code that an SDK is told."""
    client = stage.client(request)
    stage.turn()
    return code_in(client.received())


def code_in(answer: bytes) -> str:
    found = re.search(rb'"code": "(\w+)"', answer)
    return found[1].decode() if found else ""


class TableTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Codes are words, statuses errors, and outcomes those of captures."""
        for code, kind in KINDS.items():
            self.assertRegex(code, r"\A[a-z]+(_[a-z]+)*\Z")
            self.assertEqual(kind.code, code)
            self.assertIn(kind.status, range(400, 600))
            self.assertIn(kind.outcome, OUTCOMES)
            self.assertTrue(kind.meaning)

    def test_faults(self) -> None:
        """Each status of a request that cannot be read has a code; an unknown one is a bad request."""
        for status in (400, 408, 414, 431, 501, 505):
            self.assertEqual(kind_of_fault(status).status, status)
            self.assertEqual(kind_of_fault(status).outcome, "protocol_error")
        self.assertEqual(kind_of_fault(499), KINDS["bad_request"])

    def test_documented(self) -> None:
        """The documentation has the same table."""
        document = Path(logging_proxy.__file__).parent.parent / "docs" / "operations.md"
        if not document.exists():
            raise SkipTest("no documents beside the package")
        self.assertTrue(f"\n{markdown_table()}\n" in document.read_text(), "docs: see markdown_table")


class InUseTests(SynchronousTestCase):
    """Each code of the table is told to some client."""

    def test_all(self) -> None:
        """Each row is met by a test of failures, of base URLs, or by one of these requests."""
        met = {code for _, code, _ in VERDICTS} | {mistake.code for mistake in MISTAKES}
        self.assertEqual(set(KINDS) - met - set(self.others()), set())

    def others(self) -> list[str]:
        return [*MALFORMED, "wrong_host", "upgrade_not_supported", "loop", "not_recorded"]

    def test_malformed(self) -> None:
        """Requests that cannot be read; the part that can tells whether JSON is."""
        for code, request in MALFORMED.items():
            stage = Stage()
            answer = stage.client(request)
            stage.turn()
            received = answer.received()
            self.assertTrue(received.startswith(b"HTTP/1.1 %d " % KINDS[code].status), (code, received))
            if b"Accept" in request:
                self.assertEqual(code_in(received), code)
            self.assertEqual(stage.capture.outcome, KINDS[code].outcome)

    def test_late(self) -> None:
        """A request that does not come in time."""
        stage = Stage(server=ServerLimits(head_timeout=5.0, body_timeout=5.0))
        late = (
            stage.client(b"GET / HTTP/1.1\r\nAccept: application/json\r\n"),
            stage.client(post(b"x", *SDK)[:-1]),
        )
        stage.pass_time(6)
        self.assertEqual([code_in(client.received()) for client in late], ["request_timeout"] * 2)

    def test_wrong_host(self) -> None:
        """A host that is not this machine."""
        stage = Stage()
        stage.surroundings.takes_host = lambda host: False
        self.assertEqual(code_of(stage, get("/api/x", *SDK)), "wrong_host")

    def test_loop(self) -> None:
        """A request that has been here before."""
        stage = Stage(policy=ForwardedPolicy(via=True))
        self.assertEqual(code_of(stage, get("/api/x", "Via: 1.1 logging-proxy", *SDK)), "loop")

    def test_not_recorded(self) -> None:
        """Captures cannot be written, and must be."""
        stage = Stage(pass_on_failure=False)
        stage.writer.spool_moved("disk full")
        self.assertEqual(code_of(stage, get("/api/x", *SDK)), "not_recorded")

    def test_upgrade(self) -> None:
        """An outbound proxy that takes whole requests only."""
        stage = Stage()
        resource: Any = stage.tree.routes[0]
        self.assertIsInstance(resource, RouteResource)
        resource._forwarding = Forwarding(b"http://up.example", b"")
        request = get("/api/x", "Connection: upgrade", "Upgrade: websocket", *SDK)
        self.assertEqual(code_of(stage, request), "upgrade_not_supported")

    def test_body_at_fault(self) -> None:
        """A request that was passed on, until its body went wrong."""
        stage = Stage()
        head = post(b"", *SDK).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        self.assertEqual(code_of(stage, head + b"x\r\n"), "bad_request")
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertEqual(kind_of_fault(RequestFault(400, "").status).code, "bad_request")
