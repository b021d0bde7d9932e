"""Who may call the logging server: Host, origin, token; and what every answer carries."""

from __future__ import annotations

import os
from typing import Any

from logging_proxy.logserver.web.guard import ADDRESSES, FAILURES, FORGIVEN_AFTER, Failures
from logging_proxy.test.web_stage import ServerTestCase

SPOOL = "/api/spools/0123456789abcdef0123456789abcdef/0"
UPLOAD = "/11111111-2222-3333-4444-555555555555/request"


class GuardTests(ServerTestCase):
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
            self.assertEqual(self.ask("GET", "/health", host=host).status, wanted, host)

    def test_other_pages(self) -> None:
        """A page of another origin may neither change anything nor read the API or the live feed."""
        cases: list[dict[str, Any]] = [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "https://localhost:8080"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Sec_Fetch_Site": "Cross-Site"},
            {"Sec_Fetch_Site": "whatever comes next"},
            {"Sec_Fetch_Site": ""},
        ]
        for headers in cases:
            for method, path in (
                ("POST", SPOOL),
                ("PUT", UPLOAD),
                ("GET", "/api/exchanges"),
                ("GET", "/api/live"),
                ("GET", "/%61pi/exchanges"),
                ("GET", "/%61%70%69/live"),
                ("OPTIONS", "/ap%69/exchanges"),
                ("GET", "/API/exchanges"),
                ("GET", "/health"),
                ("GET", "/nothing"),
            ):
                reply = self.ask(method, path, b"x" if method in ("POST", "PUT") else b"", **headers)
                self.assertEqual((reply.status, reply.problem), (403, "wrong-origin"), (path, headers))
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".spool")), ["5601"])
        own: list[dict[str, Any]] = [
            {"Origin": "http://localhost:8080"},
            {"Origin": "HTTP://LOCALHOST:8080"},
            {"Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "None"},
        ]
        for headers in own:
            self.assertEqual(self.ask("GET", "/api/exchanges", **headers).status, 200, headers)

    def test_two_fields(self) -> None:
        """Two Host fields are refused, equal ones too; of two that name an origin each must be right."""
        for fields, wanted in (
            ("Host: localhost\r\nHost: evil.example", "bad-host"),
            ("Host: localhost\r\nhost: localhost", "bad-host"),
            ("Host: localhost\r\nOrigin: http://evil.example\r\nOrigin: http://localhost", "wrong-origin"),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Site: none", "wrong-origin"),
        ):
            pipe = self.connect()
            pipe.send(f"GET /api/exchanges HTTP/1.1\r\n{fields}\r\n\r\n".encode())
            reply = pipe.reply()
            self.assertEqual(reply.problem, wanted, fields)
        self.assertEqual(reply.status, 403)

    def test_links_lead_in(self) -> None:
        """Following a link from elsewhere to the page is no attack."""
        self.assertEqual(self.ask("GET", "/", Sec_Fetch_Site="cross-site").status, 200)

    def test_headers(self) -> None:
        """Every answer, errors too, is guarded against sniffing and framing, shares and names nothing."""
        for path in ("/", "/health", "/nothing", "/api/spools/x", "/api/exchanges", "/metrics", "*"):
            headers = self.ask("GET", path).headers
            if path != "*":
                self.assertEqual(headers["x-content-type-options"], "nosniff")
                self.assertIn("frame-ancestors 'none'", headers["content-security-policy"])
                self.assertEqual(headers["referrer-policy"], "no-referrer")
                self.assertNotIn("server", headers)
            self.assertNotIn("access-control-allow-origin", headers)

    def test_plain_errors(self) -> None:
        """Errors are problem details that repeat nothing of the request; 405 says what is allowed."""
        for method, path, wanted, allowed in (
            ("GET", "/<script>", 404, None),
            ("GET", "/api", 404, None),
            ("GET", "/api/<script>", 404, None),
            ("PUT", "/health", 405, "GET, HEAD"),
            ("DELETE", SPOOL, 405, "POST"),
            ("DELETE", UPLOAD, 405, "PUT"),
            ("POST", "/api/exchanges", 405, "GET, HEAD"),
            ("HEAD", "/api/live", 405, "GET"),
        ):
            reply = self.ask(method, path)
            self.assertEqual(reply.status, wanted, path)
            self.assertEqual(reply.headers["content-type"], "application/problem+json")
            self.assertEqual(reply.headers.get("allow"), allowed, path)
            self.assertNotIn(b"script", reply.body)


class TokenTests(ServerTestCase):
    token = "s3cret-token"
    local = False

    def test_required(self) -> None:
        """With a token configured everything but health needs it, under any Host."""
        self.assertEqual(self.ask("GET", "/health", host="logs.example").status, 200)
        for path in ("/", "/api/exchanges", "/api/live", "/metrics", "/api/openapi.json", "/nothing"):
            reply = self.ask("GET", path, host="logs.example")
            self.assertEqual((reply.status, reply.problem), (401, "no-token"), path)
            self.assertEqual(reply.headers["www-authenticate"], "Bearer")
        for authorization, wanted in (
            ("Bearer wrong", 401),
            ("Basic s3cret-token", 401),
            ("s3cret-token", 401),
            ("Bearer s3cret-token", 200),
            ("bearer s3cret-token", 200),
        ):
            reply = self.ask("GET", "/", host="logs.example", Authorization=authorization)
            self.assertEqual(reply.status, wanted, authorization)

    def test_nothing_kept_without(self) -> None:
        """Without the token nothing is stored."""
        self.assertEqual(self.ask("POST", SPOOL, b"x").status, 401)
        self.assertEqual(self.ask("PUT", UPLOAD, b"GET / HTTP/1.1\r\n\r\n").status, 401)
        self.assertEqual(sorted(os.listdir(self.log_dir)), [".index", ".spool"])

    def test_browser(self) -> None:
        """A browser shows the token once and gets a cookie for this port that no script gets."""
        reply = self.ask("GET", "/?token=s3cret-token")
        self.assertEqual((reply.status, reply.headers["location"]), (303, "/"))
        cookie, *attributes = reply.headers["set-cookie"].split("; ")
        self.assertEqual(set(attributes), {"Path=/", "HttpOnly", "SameSite=Strict"})
        self.assertTrue(cookie.startswith("logging_proxy_8080="))
        self.assertNotIn("s3cret", cookie)
        self.assertEqual(self.ask("GET", "/api/exchanges", Cookie=cookie).status, 200)
        self.assertEqual(self.ask("GET", "/api/exchanges", Cookie=cookie[:-1] + "x").status, 401)
        self.assertEqual(self.ask("GET", "/?token=wrong").status, 401)
        self.assertEqual(self.ask("GET", "/api/exchanges?token=s3cret-token").status, 401)

    def test_slow_down(self) -> None:
        """After many wrong tokens an address has to wait with more of them; others do not."""
        for _ in range(FAILURES):
            self.assertEqual(self.ask("GET", "/", Authorization="Bearer wrong").status, 401)
        reply = self.ask("GET", "/", Authorization="Bearer wrong")
        self.assertEqual((reply.status, reply.problem), (429, "too-many-failures"))
        self.assertIn("retry-after", reply.headers)
        elsewhere = self.ask("GET", "/", address="192.0.2.7", Authorization="Bearer wrong")
        self.assertEqual(elsewhere.status, 401)
        self.clock.advance(FORGIVEN_AFTER)
        self.assertEqual(self.ask("GET", "/", Authorization="Bearer wrong").status, 401)

    def test_right_tokens_pass(self) -> None:
        """Whatever else comes from an address, a right token is never refused: many may share the address."""
        reply = self.ask("GET", "/", Authorization=f"Bearer {self.token}")
        cookie = self.ask("GET", f"/?token={self.token}").headers["set-cookie"].partition(";")[0]
        for _ in range(3 * FAILURES):
            self.ask("GET", "/", Authorization="Bearer wrong")
            reply = self.ask("GET", "/", Authorization=f"Bearer {self.token}")
            self.assertEqual(reply.status, 200)
        self.assertEqual(self.ask("GET", "/", Cookie=cookie).status, 200)
        self.assertEqual(self.ask("GET", "/").status, 401)

    def test_counted_once(self) -> None:
        """A wrong token counts once, with a body or without."""
        for _ in range(FAILURES):
            reply = self.ask("PUT", UPLOAD, b"GET / HTTP/1.1\r\n\r\n", Authorization="Bearer wrong")
            self.assertEqual(reply.status, 401)
        reply = self.ask("PUT", UPLOAD, b"x", Authorization="Bearer wrong")
        self.assertEqual(reply.status, 429)

    def test_nothing_shown_is_no_failure(self) -> None:
        """Calls without any token, as of a page that polls, do not lock an address out."""
        for _ in range(3 * FAILURES):
            self.ask("GET", "/api/exchanges")
        self.assertEqual(self.ask("GET", "/", Authorization=f"Bearer {self.token}").status, 200)


class FailuresTests(ServerTestCase):
    def test_networks(self) -> None:
        """The addresses of one IPv6 host count as one, those of IPv4 each."""
        failures = Failures(self.clock.seconds)
        for number in range(FAILURES):
            failures.count(f"2001:db8::{number:x}")
            failures.count(f"192.0.2.{number}")
        self.assertTrue(failures.too_many("2001:db8::ffff"))
        self.assertFalse(failures.too_many("2001:db8:0:1::1"))
        self.assertFalse(failures.too_many("192.0.2.1"))

    def test_bounded(self) -> None:
        """Whatever number of addresses fails, what is kept of them is bounded."""
        failures = Failures(self.clock.seconds)
        for number in range(ADDRESSES + 100):
            failures.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.assertEqual(len(failures._until), ADDRESSES)
