"""The proxy as a service: how it starts, and how it ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SkipTest

from logging_proxy.configuration.options import ServerOptions
from logging_proxy.demo.processes import is_listening
from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, run_twistd, wait_until, write_configuration
from logging_proxy.test.e2e.client import Call, get, request

PROC = Path("/proc")
EVENTS = 10
LARGE = 16 << 20


def parent_of(pid: int) -> int | None:
    """The parent's process id; None if the process is gone, or only its exit status is left."""
    try:
        state, parent = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def descendants(pid: int) -> set[int]:
    """The process ids of all that a process started, directly or not."""
    parents = {
        int(entry.name): parent_of(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()
    }
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def gone(pids: set[int]) -> bool:
    """Whether none of these processes runs."""
    return all(parent_of(pid) is None for pid in pids)


def large(received: upstream.Received) -> Iterable[upstream.Step]:
    """An answer that is sent as fast as it is taken, and never becomes whole."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LARGE << 10)
    source = random.Random(received.target)
    while True:
        yield source.randbytes(1 << 20)


class StopTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        scripts = {
            "/events": upstream.events(EVENTS, gap=0.1),
            "/held": upstream.events(EVENTS, gap=0.01, go_on=self.go_on),
            "/echo": upstream.echo,
            "/large": large,
        }
        peer = self.start_upstream(scripts)
        self.config = self.configure(peer.port)
        self.proxy = self.start_proxy(self.config)

    def children(self) -> set[int]:
        """What the proxy started; the logging server at least."""
        if not PROC.exists():
            raise SkipTest("there is no /proc to find child processes in")
        pid = self.proxy.process.pid
        self.assertTrue(wait_until(lambda: bool(descendants(pid))), "the proxy has no child process")
        return descendants(pid)

    def test_drains(self) -> None:
        """After SIGTERM new clients are refused, what is in flight ends as it would, and the status is 0."""
        with Call(self.config.port, request("GET", "/up/held?late")) as call:
            call.read_until(1)
            self.proxy.process.send_signal(signal.SIGTERM)
            refused = wait_until(lambda: not is_listening("127.0.0.1", self.config.port))
            self.assertTrue(refused, "new connections are accepted after SIGTERM")
            self.assertIsNone(self.proxy.process.poll())
            self.go_on.set()
            call.read()
        body = b"".join(upstream.event("late", number) for number in range(EVENTS))
        self.assertEqual((call.whole, call.body), (True, body))
        self.assertEqual(self.proxy.process.wait(PATIENCE), 0, self.proxy.last_words())
        capture = self.capture_of(self.config, "/up/held?late")
        self.assertEqual(capture.outcome, "complete")
        assert capture.response is not None
        self.assertEqual(capture.response.body, body)

    def test_idle_connection_does_not_hold_it(self) -> None:
        """A client that keeps a connection open between requests does not delay the end."""
        with Call(self.config.port, request("GET", "/up/echo")) as call:
            call.read()
            begin = time.monotonic()
            self.assertEqual(self.proxy.stop(), 0, self.proxy.last_words())
        self.assertLess(time.monotonic() - begin, ServerOptions().shutdown_timeout)

    def test_no_child_after_sigterm(self) -> None:
        """When the proxy has ended, its children have."""
        children = self.children()
        self.assertEqual(self.proxy.stop(), 0, self.proxy.last_words())
        self.assertTrue(wait_until(lambda: gone(children)), f"{children} still run")

    def test_no_child_after_sigkill(self) -> None:
        """Children end by themselves when the proxy was killed."""
        children = self.children()
        self.proxy.process.kill()
        self.proxy.process.wait(PATIENCE)
        self.assertTrue(wait_until(lambda: gone(children)), f"{children} still run")

    def test_killed_in_mid_stream(self) -> None:
        """Every byte that a client got of a stream is in its capture, though the proxy was killed in it."""
        with Call(self.config.port, request("GET", "/up/events?cut")) as call:
            call.read_until(3 * len(upstream.event("cut", 0)))
            self.proxy.process.kill()
            self.proxy.process.wait(PATIENCE)
            call.read()
        self.assertFalse(call.whole)
        self.start_proxy(self.config)
        capture = self.capture_of(self.config, "/up/events?cut")
        self.assertEqual(capture.outcome, "interrupted")
        assert capture.response is not None
        whole = b"".join(upstream.event("cut", number) for number in range(EVENTS))
        self.assertTrue(capture.response.body.startswith(call.body))
        self.assertTrue(whole.startswith(capture.response.body))

    def test_killed_in_a_large_body(self) -> None:
        """The same of a body that is read, recorded and written in large pieces, wherever it is cut."""
        with socket.create_connection(("127.0.0.1", self.config.port), timeout=60) as client:
            client.sendall(request("GET", "/up/large"))
            head, got = b"", bytearray()
            while b"\r\n\r\n" not in head:
                head += client.recv(1 << 16)
            got += head.partition(b"\r\n\r\n")[2]
            while len(got) < LARGE:
                got += client.recv(1 << 20)
            self.proxy.process.kill()
            try:
                while piece := client.recv(1 << 20):
                    got += piece
            except ConnectionResetError:
                pass
        self.proxy.process.wait(PATIENCE)
        self.start_proxy(self.config)
        capture = self.capture_of(self.config, "/up/large")
        self.assertEqual(capture.outcome, "interrupted")
        assert capture.response is not None
        body, source = capture.response.body, random.Random(b"/large")
        self.assertTrue(body.startswith(got), f"{len(body)} bytes of {len(got)}")
        whole = b"".join(source.randbytes(1 << 20) for _ in range(len(body) // (1 << 20) + 1))
        self.assertTrue(whole.startswith(body))


class StartTests(EndToEndCase):
    def test_busy_port(self) -> None:
        """A port that somebody else has is one line that names it, and exit status 1."""
        config = self.configure(9)
        with socket.create_server(("127.0.0.1", config.port)):
            done = run_twistd(self.folder, "-n", "logging-proxy", "--config", str(config.path))
        self.assertEqual(done.returncode, 1, done)
        (line,) = done.stderr.splitlines()
        self.assertIn(str(config.port), line)
        self.assertNotIn("Traceback", done.stdout)

    def test_mistakes(self) -> None:
        """Every mistake in the configuration is a line with its place; the status is 1, nothing listens."""
        routes = {"up": {"pattern": "/up/", "destination": "ftp://127.0.0.1/"}, "twin": {"pattern": "/up/"}}
        config = write_configuration(self.folder, routes, server={"colour": "red"})
        done = run_twistd(self.folder, "-n", "logging-proxy", "--config", config.path.name)
        self.assertEqual(done.returncode, 1, done)
        lines = done.stderr.splitlines()
        self.assertGreaterEqual(len(lines), 3, done)
        for line in lines:
            self.assertRegex(line, r"^config\.yaml:\d+:\d+: \S")
        self.assertFalse(is_listening("127.0.0.1", config.port))

    def test_missing_file(self) -> None:
        """A configuration that is not there is one line, and exit status 1."""
        done = run_twistd(self.folder, "-n", "logging-proxy", "--config", "nowhere.yaml")
        self.assertEqual(done.returncode, 1, done)
        (line,) = done.stderr.splitlines()
        self.assertIn("nowhere.yaml", line)

    def test_daemon(self) -> None:
        """As a daemon the proxy has a pidfile and a logfile, serves, and leaves neither behind."""
        peer = self.start_upstream({"/echo": upstream.echo})
        config = self.configure(peer.port)
        files = ("--pidfile=proxy.pid", "--logfile=proxy.log")
        done = run_twistd(self.folder, *files, "logging-proxy", "--config", "config.yaml")
        self.assertEqual(done.returncode, 0, done)
        pidfile, logfile = self.folder / "proxy.pid", self.folder / "proxy.log"
        self.assertTrue(wait_until(pidfile.exists))
        pid = int(pidfile.read_text())
        self.addCleanup(end, pid)
        self.assertTrue(wait_until(lambda: is_listening("127.0.0.1", config.port)), logfile.read_text())
        self.assertEqual(get(config.port, "/up/echo").status, 200)
        self.capture_of(config, "/up/echo")
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: not pidfile.exists()), logfile.read_text())
        self.assertTrue(wait_until(lambda: not is_listening("127.0.0.1", config.port)))
        self.assertRegex(logfile.read_text(), r"\] GET /up/echo -> http://127\.0\.0\.1:\d+/echo \[log\]")


def end(pid: int) -> None:
    """Kill a process that no context holds, if it still runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
