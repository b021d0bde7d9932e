"""A canary wherever secrets are sent: it reaches the destination and the capture, and nothing else."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.error import ConnectError
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.faults import ResponseFault
from logging_proxy.recording.records import Kind
from logging_proxy.service.console import exchange_line
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, ok, post
from logging_proxy.test.test_duties_outcomes import BODY, ENDS, connecting, handshake
from logging_proxy.test.test_proxy_failures import VERDICTS
from logging_proxy.tls.verification import CertificateRefused

CANARY = "canary-5e3c"
FIELDS = (
    f"Authorization: Bearer {CANARY}",
    f"Proxy-Authorization: Basic {CANARY}",
    f"Cookie: session={CANARY}; other=1",
    f"x-api-key: {CANARY}",
    f"X-Amz-Security-Token: {CANARY}",
)
TARGET = f"/api/x?key={CANARY}&access_token={CANARY}"


def laden(request: bytes) -> bytes:
    """`request` with the canary in its query and its fields."""
    line, _, rest = request.partition(b"\r\n")
    method, target, version = line.split(b" ")
    if target.startswith(b"/"):
        target += f"?api_key={CANARY}".encode()
    fields = "".join(field + "\r\n" for field in FIELDS).encode()
    return b" ".join((method, target, version)) + b"\r\n" + fields + rest


class SecretsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        self.lines: list[str] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def stage(self, secure: bool = False) -> Stage:
        patient = limits(head_timeout=60.0, stream_timeout=60.0)
        return Stage(limits=patient, secure=secure, observers=[cast(ILogObserver, self.console)])

    def console(self, event: LogEvent) -> None:
        if "method" in event:
            line = exchange_line(
                "", event["exchange"], event["method"], event["target"], event["where"], True
            )
            self.lines.append(line)

    def assertSilent(self, client: Wire, name: str) -> None:
        """Neither the client nor the log is told."""
        self.assertNotIn(CANARY.encode(), client.received(), name)
        for event in self.events:
            self.assertNotIn(CANARY, eventAsText(event), name)
        for line in self.lines:
            self.assertNotIn(CANARY, line, name)

    def test_every_end(self) -> None:
        """However an exchange ends."""
        for outcome, ends in ENDS.items():
            for name, end in ends.items():
                if name in ("a redirect of ours", "climbing out", "the last stop"):
                    continue  # whose purpose is to say the target again, to whom it came from
                stage = self.stage()
                client = stage.client(laden(end.request))
                for step in end.steps:
                    step(stage, client)
                stage.turn()
                self.assertIn(CANARY.encode(), stage.ring.data, "the capture has it")
                self.assertSilent(client, f"{outcome}: {name}")
        self.assertTrue(self.lines)

    def test_what_failures_say(self) -> None:
        """Whatever stands in the text of a failure to connect that is not of our making."""
        for kind in {type(failure) for failure, _, _ in VERDICTS if isinstance(failure, ConnectError)}:
            stage = self.stage()
            stage.endpoint.manual = True
            client = stage.client(get(TARGET, *FIELDS))
            connecting(kind(None, CANARY))(stage, client)
            self.assertSilent(client, repr(kind))

    def test_certificates(self) -> None:
        """A client is told why a certificate is refused, and nothing of its own request."""
        stage = self.stage(secure=True)
        client = stage.client(get(TARGET, *FIELDS))
        handshake(CertificateRefused("the certificate is for other.example"))(stage, client)
        self.assertEqual(stage.upstream.received(), b"")
        self.assertIn(b"for other.example", client.sent)
        self.assertSilent(client, "a certificate")

    def test_malformed_requests(self) -> None:
        """A request that is refused is not quoted."""
        good = get(TARGET, *FIELDS)
        for bad in (
            good.replace(b"HTTP/1.1", b"HTTP/3.1"),
            good.replace(b"Cookie:", b"Cookie :"),
            good.replace(b"Host: here", b"Host: " + CANARY.encode() + b"@here"),
            good.replace(b"Host: here", b"Content-Length: " + CANARY.encode()),
            good.replace(b"/api/", b"/api/%zz"),
            good.replace(b"x-api-key", b"x-api-key\0"),
            good.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: " + CANARY.encode() + b"\r\n\r\n"),
        ):
            client = self.stage().client(bad)
            self.assertTrue(bytes(client.sent).startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), bad)
            self.assertSilent(client, repr(bad))

    def test_malformed_responses(self) -> None:
        """Nor is a response."""
        secret = f"Set-Cookie: {CANARY}".encode()
        for bad in (CANARY.encode(), ok(b"", secret.decode() + "\0"), ok(b"", "Content-Length: " + CANARY)):
            stage = self.stage()
            client = stage.client(get(TARGET, *FIELDS))
            stage.upstream.deliver(bad)
            self.assertSilent(client, repr(bad))
        stage = self.stage()
        client = stage.client(post(BODY, *FIELDS, target=TARGET))
        stage.upstream.deliver(ok() + CANARY.encode())
        self.assertSilent(client, "unsolicited bytes")
        self.assertTrue(self.events)

    def test_faults_of_ours(self) -> None:
        """An exception of ours is logged with the path, not the query, nor any field."""

        def fails(*of: object) -> None:
            raise ValueError("no")

        stage = self.stage()
        stage.tree._mux.match = fails  # type: ignore[assignment,method-assign]
        client = stage.client(get(TARGET, *FIELDS))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertSilent(client, "ours")
        self.assertTrue(any("/api/x" in eventAsText(event) for event in self.events))

    def test_kept_for_the_destination(self) -> None:
        """The destination and the capture have what the client sent."""
        stage = self.stage()
        stage.client(get(TARGET, *FIELDS))
        sent = stage.upstream.received().decode()
        self.assertEqual(sent.count(CANARY), 2 + len(FIELDS) - 1)  # all but Proxy-Authorization
        stage.upstream.deliver(ok())
        self.assertIn(CANARY.encode(), stage.capture.body(Kind.REQUEST_HEAD))

    def test_the_canary_is_seen(self) -> None:
        """The test would notice."""
        self.lines.append(f"? {CANARY}")
        self.assertRaises(self.failureException, self.assertSilent, self.stage().client(), "")
        self.assertIn(CANARY, str(Failure(ResponseFault(CANARY)).value))
