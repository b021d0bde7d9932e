"""SIGHUP: a new configuration takes over, a bad one does not, and no connection is dropped."""

from __future__ import annotations

import http.client
import os
import signal
import socket

from logging_proxy.demo.processes import free_port, is_listening
from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, wait_until
from logging_proxy.test.e2e.client import Call, get, request

EVENTS = 12


class ReloadTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_upstream({"/events": upstream.events(EVENTS, gap=0.1), "/echo": upstream.echo})
        self.config = self.configure(self.peer.port)
        self.proxy = self.start_proxy(self.config)

    def reload(self, text: str, said: str) -> None:
        """Write a configuration and wait for what the proxy says of it."""
        self.config.path.write_text(text)
        os.kill(self.proxy.process.pid, signal.SIGHUP)
        self.assertTrue(wait_until(lambda: said in self.proxy.words()), self.proxy.last_words())

    def changed(self, old: str, new: str) -> str:
        """The configuration with a part replaced."""
        text = self.config.path.read_text()
        self.assertIn(old, text)
        return text.replace(old, new)

    def status(self, path: str) -> int:
        return get(self.config.port, path).status

    def test_bad(self) -> None:
        """A configuration with a mistake is reported with its place, and the old one stays."""
        self.reload(self.changed("pattern: /up/", "pattern: up"), "routes.up.pattern")
        self.assertIn("the configuration stays as it was", self.proxy.words())
        self.assertEqual(self.status("/up/echo"), 200)

    def test_new_route(self) -> None:
        """A route that was added works, one that is gone does not, on a connection kept alive throughout."""
        connection = http.client.HTTPConnection("127.0.0.1", self.config.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        self.assertEqual(self.asked(connection, "/up/echo"), 200)
        self.assertEqual(self.asked(connection, "/new/echo"), 404)
        used = connection.sock
        self.reload(self.changed("pattern: /up/", "pattern: /new/"), "route up has changed")
        self.assertEqual(self.asked(connection, "/new/echo"), 200)
        self.assertEqual(self.asked(connection, "/up/echo"), 404)
        self.assertIs(connection.sock, used)

    def asked(self, connection: http.client.HTTPConnection, path: str) -> int:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status

    def test_in_flight(self) -> None:
        """A stream of a route that went away comes to its end, and is recorded as complete."""
        with Call(self.config.port, request("GET", "/up/events?stays")) as call:
            call.read_until(1)
            self.reload(self.changed("pattern: /up/", "pattern: /new/"), "route up has changed")
            call.read()
            self.assertTrue(call.whole)
        self.assertEqual(self.capture_of(self.config, "/up/events?stays").outcome, "complete")

    def test_moved(self) -> None:
        """With another port the proxy listens there and no longer where it did."""
        port = free_port()
        self.reload(self.changed(f"port: {self.config.port}", f"port: {port}"), "has been read again")
        self.assertTrue(wait_until(lambda: is_listening("127.0.0.1", port)))
        self.assertFalse(is_listening("127.0.0.1", self.config.port))

    def test_busy_port(self) -> None:
        """With a port that somebody else has, everything stays as it was."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.reload(self.changed(f"port: {self.config.port}", f"port: {port}"), "cannot listen on")
        self.assertEqual(self.status("/up/echo"), 200)
