"""Who needs no token on loopback: the server's own user and root."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import LoggingServerOptions
from logging_proxy.logserver.web import visitors
from logging_proxy.logserver.web.visitors import Visitors, look
from logging_proxy.test.web_stage import KEPT_TOKEN, OWN_USER, ServerTestCase

SPOOL = "/api/spools/0123456789abcdef0123456789abcdef/0"
UPLOAD = "/11111111-2222-3333-4444-555555555555/request"
MESSAGE = b"GET / HTTP/1.1\r\n\r\n"
PAGES = ("/", "/api/exchanges", "/api/live", "/metrics", "/api/openapi.json", "/nothing", UPLOAD)
BEARER = f"Bearer {KEPT_TOKEN}"

ROOT, MALLORY = 0, 1001


class OwnUserTests(ServerTestCase):
    def test_own_user_and_root(self) -> None:
        """They need no token: for what they read, put and send."""
        for number, user in enumerate((OWN_USER, ROOT), 1):
            self.user = user
            self.assertEqual(self.ask("GET", "/").status, 200)
            self.get("/api/exchanges")
            self.assertEqual(self.ask("GET", "/api/live").status, 426)
            self.assertEqual(self.ask("POST", SPOOL.replace("/0123", f"/{number}123"), b"x").status, 200)
            upload = UPLOAD.replace("1111-", f"{number}111-")
            self.assertEqual(self.ask("PUT", upload, MESSAGE).status, 201)

    def test_wrong_token(self) -> None:
        """What they show instead does not matter: an old token in a script is no failure."""
        for _ in range(20):
            self.assertEqual(self.ask("GET", "/", Authorization="Bearer old").status, 200)

    def test_pages_stay_out(self) -> None:
        """A page in their browser that comes with another name, or from another origin, stays out."""
        for user in (OWN_USER, ROOT):
            self.user = user
            self.assertEqual(self.ask("GET", "/api/exchanges", host="evil.example").problem, "wrong-host")
            reply = self.ask("GET", "/api/exchanges", Origin="http://evil.example")
            self.assertEqual(reply.problem, "wrong-origin")
            reply = self.ask("PUT", UPLOAD, MESSAGE, Sec_Fetch_Site="cross-site")
            self.assertEqual(reply.problem, "wrong-origin")


class OthersTests(ServerTestCase):
    user: int | None = MALLORY

    def test_refused(self) -> None:
        """Another user, or one of whom it cannot be told, is answered at `/health` only."""
        for self.user in (MALLORY, None):
            self.assertEqual(self.ask("GET", "/health").status, 200)
            for path in PAGES:
                reply = self.ask("GET", path)
                self.assertEqual((reply.status, reply.problem), (401, "no-token"), path)
                self.assertEqual(reply.headers["www-authenticate"], "Bearer")

    def test_nothing_kept(self) -> None:
        """Nothing of theirs is stored."""
        self.assertEqual(self.ask("POST", SPOOL, b"x").status, 401)
        self.assertEqual(self.ask("PUT", UPLOAD, MESSAGE).status, 401)
        self.assertEqual(sorted(os.listdir(self.log_dir)), [".index", ".spool"])
        self.assertEqual(os.listdir(os.path.join(self.log_dir, ".spool")), ["5601"])

    def test_token(self) -> None:
        """Who shows the token that is kept in the log directory may do everything."""
        for self.user in (MALLORY, None):
            self.assertEqual(self.ask("GET", "/api/exchanges", Authorization=BEARER).status, 200)
            self.assertEqual(self.ask("GET", "/api/live", Authorization=BEARER).status, 426)
            self.assertEqual(self.ask("GET", "/", Authorization="Bearer x").status, 401)
        self.assertEqual(self.ask("POST", SPOOL, b"x", Authorization=BEARER).status, 200)
        self.assertEqual(self.ask("PUT", UPLOAD, MESSAGE, Authorization=BEARER).status, 201)

    def test_live(self) -> None:
        """The handshake of the live feed is refused as well."""
        reply = self.ask(
            "GET",
            "/api/live",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        self.assertEqual((reply.status, reply.problem), (401, "no-token"))

    def test_browser(self) -> None:
        """The address with the token gives a browser its cookie, and leads to the address without."""
        reply = self.ask("GET", f"/?token={KEPT_TOKEN}")
        self.assertEqual((reply.status, reply.headers["location"]), (303, "/"))
        cookie = reply.headers["set-cookie"].split("; ")[0]
        self.assertNotIn(KEPT_TOKEN, cookie)
        self.assertEqual(self.ask("GET", "/api/exchanges", Cookie=cookie).status, 200)
        self.assertEqual(self.ask("GET", f"/api/exchanges?token={KEPT_TOKEN}").status, 401)

    def test_what_they_are_told(self) -> None:
        """They learn who is answered and which token is wanted, neither the token nor where the files are."""
        self.patch(visitors, "_name", lambda user: {OWN_USER: "user alice"}[user])
        detail = self.ask("GET", "/").json()["detail"]
        self.assertIn("answers only user alice and root. Send the token, which is in the file .token", detail)
        self.user = None
        unknown = self.ask("GET", "/").json()["detail"]
        self.assertIn("only user alice and root, and cannot tell who asks.", unknown)
        for text in (detail, unknown):
            self.assertNotIn(KEPT_TOKEN, text)
            self.assertNotIn(self.log_dir, text)

    def test_pages_stay_out(self) -> None:
        """Host and origin are looked at before the token: a page of another origin stays out with it."""
        reply = self.ask("GET", "/api/exchanges", host="evil.example", Authorization=BEARER)
        self.assertEqual(reply.problem, "wrong-host")
        reply = self.ask("GET", "/api/exchanges", Origin="http://evil.example", Authorization=BEARER)
        self.assertEqual(reply.problem, "wrong-origin")


class OpenToMachineTests(ServerTestCase):
    options = LoggingServerOptions(open_to="machine")

    def test_everybody(self) -> None:
        """Everybody on the machine is answered without a token, and pages are still kept out."""
        for self.user in (MALLORY, None, OWN_USER, ROOT):
            self.get("/api/exchanges")
        self.assertEqual(self.ask("PUT", UPLOAD, MESSAGE).status, 201)
        self.assertEqual(self.ask("GET", "/api/exchanges", host="evil.example").problem, "wrong-host")


class ConfiguredTokenTests(ServerTestCase):
    token = "configured-by-a-person"

    def test_everybody(self) -> None:
        """A token that is configured is asked of everybody, and is the only one."""
        for self.user in (OWN_USER, ROOT, MALLORY, None):
            self.assertEqual(self.ask("GET", "/api/exchanges").status, 401)
            self.assertEqual(self.ask("GET", "/api/exchanges", Authorization=BEARER).status, 401)
            reply = self.ask("GET", "/api/exchanges", Authorization=f"Bearer {self.token}")
            self.assertEqual(reply.status, 200)


class ConfiguredAndOpenTests(ConfiguredTokenTests):
    options = LoggingServerOptions(open_to="machine")


class BeyondLoopbackTests(ServerTestCase):
    local = False

    def test_everybody(self) -> None:
        """Where others can call everybody shows the token: Host is not looked at, so any page could come."""
        for self.user in (OWN_USER, ROOT, MALLORY, None):
            self.assertEqual(self.ask("GET", "/api/exchanges", host="logs.example").status, 401)
            reply = self.ask("GET", "/api/exchanges", host="logs.example", Authorization=BEARER)
            self.assertEqual(reply.status, 200)


class LookTests(ServerTestCase):
    def test_once(self) -> None:
        """A connection is looked at once, when its first request comes, whatever becomes of its peer."""
        request = b"GET /api/exchanges HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for first, status in ((OWN_USER, b"200"), (MALLORY, b"401"), (None, b"401")):
            self.user = first
            pipe = self.connect()
            pipe.send(request)
            for self.user in (OWN_USER, MALLORY, None):
                pipe.clear()
                pipe.send(request)
                self.assertEqual(pipe.value().split(b" ")[1], status)

    def test_forgotten(self) -> None:
        """What is known of a connection goes with it."""
        seen = Visitors(lambda transport: OWN_USER, lambda: OWN_USER)
        request = _Request()
        self.assertTrue(seen.is_welcome(request))  # type: ignore[arg-type]
        self.assertEqual(len(seen._users), 1)
        del request
        self.assertEqual(len(seen._users), 0)


class _Transport:
    """A connection that comes to its end."""


class _Channel:
    def __init__(self) -> None:
        self.transport = _Transport()


class _Request:
    def __init__(self) -> None:
        self.channel = _Channel()


class KernelTests(SynchronousTestCase):
    def test_no_socket(self) -> None:
        """Of a transport whose socket is closed nothing is told, and there is no error."""
        closed = socket.socket()
        closed.close()

        class Closed:
            def getHandle(self) -> Any:
                return closed

        self.assertIsNone(look(lambda: True)(Closed()))

    def test_not_asked(self) -> None:
        """Where the kernel does not tell it is not asked for each connection."""
        self.assertIsNone(look(lambda: False)(None))
