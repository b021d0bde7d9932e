"""Which hosts a listener is asked for that only this machine can reach (DNS rebinding)."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, ServerOptions
from logging_proxy.outbound.ourselves import Ourselves
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.proxy.hosts import local_hosts
from logging_proxy.test.proxy_stage import Stage, get, ok, route

LOCAL = (
    b"",
    b"localhost",
    b"LocalHost:5601",
    b"localhost.",
    b"a.localhost:80",
    b"vm.office.example",
    b"VM.office.example.:5601",
    b"dev",
    b"my_machine:1",
    b"127.0.0.1",
    b"127.0.0.1:5601",
    b"192.0.2.7",
    b"127.1",
    b"0x7f.1",
    b"2130706433",
    b"[::1]",
    b"[::1]:5601",
    b"[fe80::1%25eth0]",
    b"api.example",
    b"API.example:1",
    b"a.b.tunnel.example",
)
FOREIGN = (
    b"rebound.evil.example",
    b"rebound.evil.example:5601",
    b"Rebound.Evil.Example.",
    b"localhost.evil.example",
    b"evil.localhost.example",
    b"notlocalhost.example",
    b"127.0.0.1.evil.example",
    b"127.0.0.1.nip.io",
    b"tunnel.example",
    b"eviltunnel.example",
    b"vm.office.example.evil.example",
    b"sub.api.example",
    b"evil%2eexample",
)


class LocalHostsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosts = local_hosts(["vm.office.example", "api.example", "*.tunnel.example"])

    def test_local(self) -> None:
        """This machine's names, addresses in every form, names without a dot, and those that are given."""
        for host in LOCAL:
            self.assertTrue(self.hosts.include(host), host)

    def test_foreign(self) -> None:
        """Any other name may belong to a web page."""
        for host in FOREIGN:
            self.assertFalse(self.hosts.include(host), host)


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.stage.surroundings.takes_host = local_hosts(["vm"]).include

    def ask(self, request: bytes) -> bytes:
        return self.stage.client(request).received()

    def test_refused(self) -> None:
        """421 says how to allow it; no destination hears of it; console and capture tell of it."""
        request = get("/api/x?q", "Origin: http://evil.example").replace(b"Host: here", b"Host: evil.example")
        self.assertIn(b"Host: evil.example\r\n", request)
        head, _, body = self.ask(request).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 421 Misdirected Request\r\n"))
        self.assertIn(b"server.allowed_hosts", body)
        self.assertNotIn(b"evil", body)
        self.assertEqual(self.stage.console, ["GET /api/x?q -> WRONG_HOST [log]"])
        self.assertEqual(self.stage.endpoint.wires, [])
        self.assertEqual(self.stage.capture.outcome, "complete")
        self.assertEqual(self.stage.problems(), [])

    def test_whatever_is_asked(self) -> None:
        """Requests without a route, redirects and `OPTIONS *` are answered alike."""
        for line in (b"GET /nope", b"GET /api", b"OPTIONS *", b"GET /api/../api/x"):
            request = line + b" HTTP/1.1\r\nHost: evil.example\r\n\r\n"
            self.assertTrue(self.ask(request).startswith(b"HTTP/1.1 421 "), line)

    def test_absolute_form(self) -> None:
        """An absolute target's host counts, whatever Host says (RFC 9112 §3.2.2)."""
        wrong = b"GET http://evil.example/api/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.assertTrue(self.ask(wrong).startswith(b"HTTP/1.1 421 "))
        self.ask(b"GET http://localhost/api/x HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        self.assertTrue(self.stage.upstream.received().startswith(b"GET /x "))

    def test_two_hosts(self) -> None:
        """Two Host fields are malformed, the right one among them or not."""
        for first, second in ((b"localhost", b"evil.example"), (b"evil.example", b"localhost")):
            request = b"GET /api/x HTTP/1.1\r\nHost: %b\r\nHost: %b\r\n\r\n" % (first, second)
            self.assertTrue(self.ask(request).startswith(b"HTTP/1.1 400 "))

    def test_taken(self) -> None:
        """A host of this machine is forwarded as ever; so is a request of HTTP/1.0 that names none."""
        for request in (get("/api/x"), b"GET /api/x HTTP/1.0\r\n\r\n"):
            client = self.stage.client(request)
            self.assertTrue(self.stage.upstream.received().startswith(b"GET /x "))
            self.stage.upstream.deliver(ok(b"yes"))
            self.assertIn(b"yes", client.received())


class ListenerTests(SynchronousTestCase):
    def takes(self, asked: bytes, *listeners: str, **server: Any) -> bool:
        ourselves = Ourselves()
        ourselves.listen_on((listener, 5601) for listener in listeners)
        forwarding = Forwarding(
            MemoryReactorClock(), None, lambda configuration: (), ourselves, "vm.office.example"
        )
        configuration = Configuration(
            server=ServerOptions(**server),
            routes=(
                route("one", "/", "http://127.0.0.1:9/"),
                route("two", "API.example/v1/", "http://127.0.0.1:9/"),
            ),
        )
        return forwarding.use(configuration)._surroundings.takes_host(asked)

    def test_loopback_alone(self) -> None:
        """Where other machines can connect, any name is allowed; the sockets decide, not the name."""
        for listeners, taken in (
            (["127.0.0.1"], False),
            (["127.0.0.1", "::1"], False),
            (["127.0.1.1"], False),
            (["0.0.0.0"], True),
            (["0.0.0.0", "::"], True),
            (["127.0.0.1", "192.0.2.7"], True),
        ):
            self.assertIs(self.takes(b"evil.example", *listeners), taken, listeners)

    def test_names(self) -> None:
        """The names of the machine, the listener and the patterns, and those from the configuration."""
        for host in (
            b"vm.office.example",
            b"proxy.example:5601",
            b"api.example",
            b"a.example",
            b"x.b.example",
        ):
            server: dict[str, Any] = {"host": "proxy.example", "allowed_hosts": ("A.example", "*.b.example")}
            self.assertTrue(self.takes(host, "127.0.0.1", **server), host)
        self.assertFalse(self.takes(b"a.example", "127.0.0.1"))
