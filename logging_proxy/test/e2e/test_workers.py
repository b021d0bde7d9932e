"""Several workers: they share the port and the load, and what befalls one does not befall the others."""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.captures import read_captures, wait_for_captures
from logging_proxy.demo.processes import Program, free_port, is_listening
from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import (
    PATIENCE,
    START_TIMEOUT,
    EndToEndCase,
    environment,
    is_running,
    twistd,
    wait_until,
)
from logging_proxy.test.e2e.client import Call, get, request
from logging_proxy.test.e2e.test_service import PROC, descendants, gone

EVENTS = 5

MOST = 200
"""Connections after which every worker has had some."""


def link(entry: os.DirEntry[str]) -> str:
    """What a descriptor is; nothing if it has been closed just now."""
    try:
        return os.readlink(entry.path)
    except OSError:
        return ""


class WorkersCase(EndToEndCase):
    """A proxy with two workers, before an upstream whose streams last until `go_on` is set."""

    def setUp(self) -> None:
        super().setUp()
        if not PROC.exists():
            raise SkipTest("there is no /proc to find the workers in")
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        events = upstream.events(EVENTS, gap=0.01, go_on=self.go_on)
        self.peer = self.start_upstream({"/events": events, "/echo": upstream.echo})
        self.config = self.configure(self.peer.port, server={"workers": 2})
        self.proxy = self.start_proxy(self.config)

    def workers(self) -> dict[int, int]:
        """The process ids of the workers that run, by number."""
        found = {}
        for pid in descendants(self.proxy.process.pid):
            try:
                number = re.search(rb"worker (\d+) of", (PROC / str(pid) / "cmdline").read_bytes())
            except OSError:
                continue
            if number is not None:
                found[int(number[1])] = pid
        return found

    def connections(self, pid: int) -> int:
        """How many of the proxy's clients a process has."""
        table = (PROC / str(pid) / "net" / "tcp").read_text().splitlines()[1:]
        established = {
            line.split()[9]
            for line in table
            if line.split()[3] == "01" and int(line.split()[1].split(":")[1], 16) == self.config.port
        }
        links = list(filter(None, map(link, os.scandir(PROC / str(pid) / "fd"))))
        return sum(1 for each in links if each.startswith("socket:") and each[8:-1] in established)

    def streams(self, stack: ExitStack, count: int, first: int = 0) -> list[Call]:
        """So many streams that have begun."""
        paths = [f"/up/events?s{number}" for number in range(first, first + count)]
        calls = [stack.enter_context(Call(self.config.port, request("GET", path))) for path in paths]
        return [call.read_until(1) for call in calls]

    def streams_at_both(self, stack: ExitStack, count: int) -> list[Call]:
        """At least so many streams that have begun, some of them at each worker."""
        calls = self.streams(stack, count)
        while not all(self.connections(pid) for pid in self.workers().values()):
            self.assertLess(len(calls), MOST, "one worker has no connection")
            calls += self.streams(stack, 1, len(calls))
        return calls

    def metrics(self, port: int, name: str) -> float:
        """The sum of a metric's series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))


class ShareTests(WorkersCase):
    def test_both(self) -> None:
        """Both have connections; all are recorded, and the figures of both add up."""
        with ExitStack() as stack:
            count = len(self.streams_at_both(stack, 20))
            self.assertEqual(sum(self.connections(pid) for pid in self.workers().values()), count)
            self.assert_metric("logging_proxy_exchanges_in_flight", count)
            spools = sorted(path.name for path in (self.config.log_dir / ".spool").iterdir())
            self.assertEqual(spools, [f"{self.config.port}", f"{self.config.port}-2"])
        captures = wait_for_captures(self.config.log_dir, count, timeout=PATIENCE)
        self.assertEqual(len({capture.source_url for capture in captures}), count)
        self.assert_metric("logging_proxy_exchanges_total", count)
        line = re.compile(r"^\S+ \S+ \[\w{8}\] GET /up/events\S+ -> \S+ \[log\]$", re.M)
        said = wait_until(lambda: len(line.findall(self.proxy.words())) == count)
        self.assertTrue(said, self.proxy.words())

    def assert_metric(self, name: str, wanted: int) -> None:
        """A metric gets to this value."""
        reached = wait_until(lambda: self.metrics(self.config.logging_port, name) == wanted)
        self.assertTrue(reached, f"{name} is {self.metrics(self.config.logging_port, name)}, not {wanted}")


class EndTests(WorkersCase):
    def test_killed(self) -> None:
        """One is killed: its exchanges are interrupted, the others' are not, and another takes its place."""
        with ExitStack() as stack:
            calls = self.streams_at_both(stack, 8)
            victim = self.workers()[1]
            os.kill(victim, signal.SIGKILL)
            self.assertEqual(get(self.config.port, "/up/echo").status, 200)
            self.go_on.set()
            whole = [call.read().whole for call in calls]
        self.assertIn(True, whole)
        self.assertIn(False, whole)
        self.assertTrue(wait_until(lambda: self.workers().get(1, victim) != victim), self.proxy.words())
        found = wait_for_captures(self.config.log_dir, len(calls) + 1, timeout=PATIENCE)
        outcomes = [each.outcome for each in found]
        self.assertEqual(outcomes.count("interrupted"), whole.count(False))
        self.assertEqual(outcomes.count("complete"), whole.count(True) + 1)
        self.assertIn("worker 1: ", self.proxy.words())

    def test_stop(self) -> None:
        """After SIGTERM new clients are refused, what is in flight ends as it would, and the status is 0."""
        with ExitStack() as stack:
            calls = self.streams(stack, 6)
            processes = descendants(self.proxy.process.pid)
            self.proxy.process.send_signal(signal.SIGTERM)
            refused = wait_until(lambda: not is_listening("127.0.0.1", self.config.port))
            self.assertTrue(refused, "new connections are accepted after SIGTERM")
            self.go_on.set()
            self.assertEqual([call.read().whole for call in calls], [True] * 6)
        self.assertEqual(self.proxy.process.wait(PATIENCE), 0, self.proxy.last_words())
        self.assertTrue(wait_until(lambda: gone(processes)), "children still run")
        outcomes = [capture.outcome for capture in read_captures(self.config.log_dir)]
        self.assertEqual(outcomes, ["complete"] * 6)

    def test_hurry(self) -> None:
        """A second SIGTERM interrupts what is in flight at all workers."""
        with ExitStack() as stack:
            calls = self.streams(stack, 6)
            self.proxy.process.send_signal(signal.SIGTERM)
            self.assertTrue(wait_until(lambda: "no new connections" in self.proxy.words()))
            self.proxy.process.send_signal(signal.SIGTERM)
            self.assertEqual([call.read().whole for call in calls], [False] * 6)
        self.assertEqual(self.proxy.process.wait(PATIENCE), 0, self.proxy.last_words())
        outcomes = [capture.outcome for capture in read_captures(self.config.log_dir)]
        self.assertEqual(outcomes, ["interrupted"] * 6)

    def test_proxy_killed(self) -> None:
        """No worker outlives the proxy's own process; the next start has port, spools, and all bytes."""
        with ExitStack() as stack:
            calls = self.streams(stack, 4)
            processes = descendants(self.proxy.process.pid)
            self.proxy.process.kill()
            self.proxy.process.wait(PATIENCE)
            self.assertEqual([call.read().whole for call in calls], [False] * 4)
            bodies = {f"s{number}": call.body for number, call in enumerate(calls)}
            self.assertTrue(wait_until(lambda: gone(processes)), f"{processes} still run")
        self.start_proxy(self.config)
        captures = wait_for_captures(self.config.log_dir, 4, timeout=PATIENCE)
        self.assertEqual([capture.outcome for capture in captures], ["interrupted"] * 4)
        for capture in captures:
            assert capture.response is not None
            self.assertTrue(capture.response.body.startswith(bodies[capture.source_url.rpartition("?")[2]]))


class ReloadTests(WorkersCase):
    def reload(self, *changes: tuple[str, str], said: str) -> None:
        text = self.config.path.read_text()
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        self.config.path.write_text(text)
        self.proxy.process.send_signal(signal.SIGHUP)
        self.assertTrue(wait_until(lambda: said in self.proxy.words()), self.proxy.last_words())

    def statuses(self, port: int, path: str) -> set[int]:
        """Of more requests than one worker would take."""
        with ExitStack() as stack:
            calls = [stack.enter_context(Call(port, request("GET", path))) for _ in range(6)]
            return {call.read().status for call in calls}

    def test_all(self) -> None:
        """A new configuration, with another port, is in use at all workers; old streams go on."""
        port = free_port()
        with ExitStack() as stack:
            calls = self.streams(stack, 4)
            moved = (f"port: {self.config.port}", f"port: {port}")
            self.reload(moved, ("pattern: /up/", "pattern: /new/"), said="has been read again")
            closed = wait_until(lambda: not is_listening("127.0.0.1", self.config.port))
            self.assertTrue(closed, "the old port still accepts connections")
            self.assertEqual(self.statuses(port, "/new/echo"), {200})
            self.assertEqual(self.statuses(port, "/up/echo"), {404})
            self.go_on.set()
            self.assertEqual([call.read().whole for call in calls], [True] * 4)

    def test_number(self) -> None:
        """Another number of workers waits for the next start, and that is said."""
        self.reload(("workers: 2", "workers: 1"), said="server.workers has changed; that takes effect")
        self.assertEqual(sorted(self.workers()), [1, 2])
        self.assertEqual(self.statuses(self.config.port, "/up/echo"), {200})

    def test_bad(self) -> None:
        """A configuration with a mistake is reported once, and the old one stays everywhere."""
        self.reload(("pattern: /up/", "pattern: up"), said="routes.up.pattern")
        self.assertEqual(self.statuses(self.config.port, "/up/echo"), {200})
        self.assertEqual(self.proxy.words().count("the configuration stays as it was"), 1)


class FewerTests(WorkersCase):
    def test_fewer(self) -> None:
        """What workers that are no more have recorded is taken in, though all were killed."""
        with ExitStack() as stack:
            self.streams(stack, 4)
            self.proxy.process.send_signal(signal.SIGSTOP)
            for pid in [*descendants(self.proxy.process.pid), self.proxy.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.proxy.process.wait(PATIENCE)
        text = self.config.path.read_text()
        self.config.path.write_text(text.replace("workers: 2", "workers: 1"))
        self.proxy = self.start_proxy(self.config)
        self.assertEqual(self.workers(), {})
        captures = wait_for_captures(self.config.log_dir, 4, timeout=PATIENCE)
        self.assertEqual([capture.outcome for capture in captures], ["interrupted"] * 4)


class ElsewhereTests(EndToEndCase):
    def test_shipped(self) -> None:
        """The spools of all workers go to a logging server that runs elsewhere."""
        port, log_dir = free_port(), self.folder / "elsewhere"
        self.start_server(port, log_dir)
        peer = self.start_upstream({"/echo": upstream.echo})
        url = f"http://127.0.0.1:{port}"
        config = self.configure(peer.port, server={"workers": 2}, logging={"server_url": url})
        self.start_proxy(config)
        spools, count = config.log_dir / ".spool", 0
        with ExitStack() as stack:
            while count < 6 or len({path.parent for path in spools.glob("*/*.seg")}) < 2:
                self.assertLess(count, MOST, "one worker records nothing")
                call = stack.enter_context(Call(config.port, request("GET", f"/up/echo?e{count}")))
                self.assertEqual(call.read().status, 200)
                count += 1
        self.assertEqual(len(wait_for_captures(log_dir, count, timeout=PATIENCE)), count)

    def start_server(self, port: int, log_dir: Path) -> None:
        """A logging server, when it listens."""
        path = self.folder / "server.yaml"
        path.write_text(f"logging_server: {{host: 127.0.0.1, port: {port}, log_dir: {log_dir}}}\n")
        program = Program(
            "the logging server",
            twistd("-n", "--pidfile=", "logging-server", "--config", str(path)),
            self.folder / "server.log",
            folder=self.folder,
            environment=environment(),
        )
        self.stack.enter_context(program)
        program.wait_until(lambda: is_running(program), START_TIMEOUT)
