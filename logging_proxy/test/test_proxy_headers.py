"""The heads that are forwarded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.test.proxy_stage import Stage, get, ok


def onward(stage: Stage, request: bytes) -> list[str]:
    """The lines of the head that the upstream receives for `request`."""
    stage.client(request)
    head, _, _ = stage.upstream.received().partition(b"\r\n\r\n")
    return head.decode().split("\r\n")


def back(response: bytes, request: bytes | None = None) -> list[str]:
    """The lines of the head that the client receives for `response`."""
    stage = Stage()
    client = stage.client(request or get())
    stage.upstream.deliver(response)
    head, _, _ = client.received().partition(b"\r\n\r\n")
    return head.decode().split("\r\n")


class RequestHeaderTests(SynchronousTestCase):
    def test_as_they_came(self) -> None:
        """Order, case, duplicates and inner blanks of the fields are those of the client."""
        fields = (
            "x-b: 1",
            "X-A:2",
            "x-B:  3",
            "Cookie: a=1",
            "cookie: b=2",
            "X-Empty:",
            "accept-ENCODING: br",
        )
        self.assertEqual(
            onward(Stage(), get("/api/x", *fields)), ["GET /x HTTP/1.1", "Host: up.example", *fields]
        )

    def test_nothing_added(self) -> None:
        """The destination receives nothing that the client did not send: no Via, no Accept-Encoding."""
        self.assertEqual(onward(Stage(), get()), ["GET /x HTTP/1.1", "Host: up.example"])

    def test_host_in_its_place(self) -> None:
        """Host becomes the destination's where the client's stood, with the name in the client's case."""
        request = b"GET /api/x HTTP/1.1\r\nA: 1\r\nhOsT: secret.example:99\r\nB: 2\r\n\r\n"
        stage = Stage({"api": ("/api/", "http://up.example:8080/")})
        self.assertEqual(onward(stage, request), ["GET /x HTTP/1.1", "A: 1", "hOsT: up.example:8080", "B: 2"])

    def test_no_host(self) -> None:
        """An HTTP/1.0 request without Host gets the one that HTTP/1.1 needs."""
        self.assertEqual(
            onward(Stage(), get("/api/x", "A: 1", host="", version="1.0")),
            ["GET /x HTTP/1.1", "Host: up.example", "A: 1"],
        )

    def test_hop_by_hop(self) -> None:
        """Fields of the client's connection are not forwarded (RFC 9110 §7.6.1)."""
        dropped = (
            "Connection: close, X-Named",
            "connection: x-too",
            "X-NAMED: 1",
            "x-Too: 2",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Authenticate: Basic",
            "TE: gzip",
            "Trailer: X-T",
        )
        self.assertEqual(
            onward(Stage(), get("/api/x", "A: 1", *dropped, "B: 2")),
            ["GET /x HTTP/1.1", "Host: up.example", "A: 1", "B: 2"],
        )

    def test_te_trailers(self) -> None:
        """`trailers` is said to the next hop as well; other codings of TE are not ours to promise."""
        self.assertIn("te: trailers", onward(Stage(), get("/api/x", "Connection: TE", "te: gzip, Trailers")))

    def test_framing_cannot_be_named(self) -> None:
        """`Connection: Content-Length, Host, Transfer-Encoding` changes neither framing nor destination."""
        named = "Connection: content-length, host, transfer-encoding"
        lines = onward(
            Stage(), b"POST /api/x HTTP/1.1\r\nHost: h\r\n%b\r\nContent-Length: 1\r\n\r\nx" % named.encode()
        )
        self.assertEqual(lines, ["POST /x HTTP/1.1", "Host: up.example", "Content-Length: 1"])
        chunked = b"POST /api/x HTTP/1.1\r\nHost: h\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        self.assertEqual(onward(Stage(), chunked % named.encode())[2:], ["Transfer-Encoding: chunked"])

    def test_secrets_pass(self) -> None:
        """The client's credentials for the destination are passed on."""
        fields = ("Authorization: Bearer sk-1", "x-api-key: sk-2")
        self.assertEqual(onward(Stage(), get("/api/x", *fields))[2:], list(fields))

    def test_absolute_form(self) -> None:
        """An absolute-form target selects the route by its path; Host is the destination's."""
        self.assertEqual(
            onward(Stage(), get("http://elsewhere.example/api/x?q=%2F")),
            ["GET /x?q=%2F HTTP/1.1", "Host: up.example"],
        )

    def test_max_forwards(self) -> None:
        """Max-Forwards of TRACE and OPTIONS counts down; for other methods it is any field."""
        for method, left in ((b"OPTIONS", "4"), (b"TRACE", "4"), (b"GET", "5")):
            request = get("/api/x", "max-Forwards: 5").replace(b"GET", method, 1)
            self.assertEqual(onward(Stage(), request)[2:], [f"max-Forwards: {left}"])
        self.assertEqual(
            onward(Stage(), get("/api/x", "Max-Forwards: many").replace(b"GET", b"TRACE"))[2:],
            ["Max-Forwards: many"],
        )


class ForwardedTests(SynchronousTestCase):
    SENT = (
        "x-forwarded-for: 1.1.1.1",
        "X-Forwarded-For: 2.2.2.2",
        "Forwarded: for=1.1.1.1",
        "X-Forwarded-Proto: https",
    )

    def with_policy(self, forwarded: str, *fields: str) -> list[str]:
        return onward(Stage(policy=ForwardedPolicy(forwarded)), get("/api/x", *fields))[2:]

    def test_keep(self) -> None:
        """By default the destination gets the client's fields."""
        self.assertEqual(self.with_policy("keep", *self.SENT), list(self.SENT))

    def test_replace(self) -> None:
        """`replace` says anew whence the request came, and drops Forwarded."""
        expected = ["A: 1", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Host: here", "X-Forwarded-Proto: http"]
        self.assertEqual(self.with_policy("replace", *self.SENT, "A: 1"), expected)

    def test_append(self) -> None:
        """`append` extends the client's last field, and adds the missing ones."""
        self.assertEqual(
            self.with_policy("append", *self.SENT),
            [
                "x-forwarded-for: 1.1.1.1",
                "X-Forwarded-For: 2.2.2.2, 192.0.2.7",
                "Forwarded: for=1.1.1.1",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: here",
            ],
        )

    def test_no_hiding(self) -> None:
        """A client cannot have its address left out by naming the field in Connection."""
        for forwarded, value in (("append", "1.1.1.1, 192.0.2.7"), ("replace", "192.0.2.7")):
            lines = self.with_policy(forwarded, "Connection: x-forwarded-for", "X-Forwarded-For: 1.1.1.1")
            self.assertIn(f"X-Forwarded-For: {value}", lines)

    def test_host_of_absolute_form(self) -> None:
        """X-Forwarded-Host is the host that was asked for: an absolute target's wins over Host."""
        stage = Stage(policy=ForwardedPolicy("replace"))
        self.assertIn("X-Forwarded-Host: asked.example:1", onward(stage, get("http://asked.example:1/api/x")))

    def test_each_client_its_own(self) -> None:
        """The same head from two clients goes on with two addresses, and few such heads are kept."""
        stage = Stage(policy=ForwardedPolicy("replace"))
        for number in range(200):
            wire = stage.client()
            wire.protocol.peer = type(wire.protocol.peer)("TCP", f"192.0.2.{number}", 1)
            wire.deliver(get())
            self.assertIn(f"X-Forwarded-For: 192.0.2.{number}\r\n".encode(), stage.upstream.received())
        head = stage.site.heads.get(get())
        assert head is not None
        self.assertLessEqual(len(head.prepared), 65)

    def test_via(self) -> None:
        """With `via`, ours stands after the client's, with the version that was received."""
        stage = Stage(policy=ForwardedPolicy(via=True))
        self.assertEqual(
            onward(stage, get("/api/x", "Via: 1.1 other", version="1.0"))[2:],
            ["Via: 1.1 other", "Via: 1.0 logging-proxy"],
        )

    def test_loop(self) -> None:
        """With `via`, a request that has passed here before is answered 508; without, there is no check."""
        stage = Stage(policy=ForwardedPolicy(via=True))
        client = stage.client(get("/api/x", "via: 1.0 a, 1.1 logging-proxy (x)"))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 508 Loop Detected\r\n"))
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.problems(), [])
        self.assertIn("Via: 1.1 logging-proxy", onward(Stage(), get("/api/x", "Via: 1.1 logging-proxy")))


class ResponseHeaderTests(SynchronousTestCase):
    def test_as_they_came(self) -> None:
        """Order, case and duplicates are the upstream's; nothing is added, not even a Date."""
        fields = ["set-cookie: a=1", "X-A:  1", "Set-Cookie: b=2", "x-a: 2", "Content-Encoding: gzip"]
        self.assertEqual(back(ok(b"x", *fields)), ["HTTP/1.1 200 OK", *fields, "Content-Length: 1"])

    def test_hop_by_hop(self) -> None:
        """Fields of the upstream's connection are not forwarded."""
        dropped = (
            "Connection: close, X-Named",
            "X-Named: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: close",
            "Proxy-Authenticate: Basic",
            "Upgrade: h2c",
            "TE: x",
        )
        self.assertEqual(back(ok(b"", "A: 1", *dropped)), ["HTTP/1.1 200 OK", "A: 1", "Content-Length: 0"])

    def test_reason(self) -> None:
        """The reason is passed on; one that is left out gets the blank that belongs before it."""
        for line, expected in (
            ("HTTP/1.0 299 Odd  One", "HTTP/1.1 299 Odd  One"),
            ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ):
            self.assertEqual(back(f"{line}\r\nContent-Length: 0\r\n\r\n".encode())[0], expected)

    def test_redirect_is_passed(self) -> None:
        """A redirect is the client's to follow."""
        lines = back(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(lines[:2], ["HTTP/1.1 302 Found", "Location: http://elsewhere/"])

    def test_clients_connection(self) -> None:
        """The client is told about its own connection: close when it asked for that, else nothing."""
        self.assertEqual(back(ok(), get("/api/x", "Connection: close"))[-1], "Connection: close")
        self.assertNotIn("Connection", "".join(back(ok(b"", "Connection: close"))))
