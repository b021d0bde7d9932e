"""Child processes: started, watched, started again, and ended when its work is done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any, cast

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.logger import globalLogPublisher as publisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service.child import (
    FIRST_WAIT,
    LASTING,
    LINK_FD,
    LONGEST_WAIT,
    MOST_IN_A_LINE,
    NICENESS,
    ChildProcess,
)


class Process:
    """A child as the proxy sees it."""

    def __init__(self, protocol: Any, arguments: Any, options: dict[str, Any]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.environment = options["env"]
        self.descriptors = options["childFDs"]
        # What a real child would get: copies that outlive the parent's own.
        self.pipe = os.dup(self.descriptors[LINK_FD])
        with os.fdopen(os.dup(self.descriptors[0]), "rb") as given:
            self.input = given.read()
        self.signals: list[str] = []
        self.exited = False

    def signalProcess(self, name: str) -> None:
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(name)

    def said(self, data: bytes, fd: int = 1) -> None:
        self.protocol.childDataReceived(fd, data)

    def end(self, status: int = 0) -> None:
        os.close(self.pipe)
        error: Exception = ProcessTerminated(status) if status else ProcessDone(0)
        self.protocol.processEnded(Failure(error))

    def parent_is_there(self) -> bool:
        os.set_blocking(self.pipe, False)
        try:
            return os.read(self.pipe, 1) != b""
        except BlockingIOError:
            return True


class FakeReactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.refusals: list[OSError] = []

    def spawnProcess(self, protocol: Any, executable: str, arguments: Any, **options: Any) -> Process:
        if self.refusals:
            raise self.refusals.pop()
        self.processes.append(Process(protocol, arguments, options))
        return self.processes[-1]


class ChildCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.child = ChildProcess(
            self.reactor,
            "logging server",
            ["-n", "logging-server"],
            [self.listener],
            folder="/some/where",
            niceness=NICENESS,
        )
        self.lines: list[tuple[Any, str]] = []
        observer = cast(ILogObserver, self.observe)
        publisher.addObserver(observer)
        self.addCleanup(publisher.removeObserver, observer)

    def observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "logging_proxy.service.child.ChildProcess":
            self.lines.append((event["log_level"], event["log_format"].format(**event)))

    @property
    def process(self) -> Process:
        return self.reactor.processes[-1]

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


class RankTests(SynchronousTestCase):
    def run_python(self, program: str) -> str:
        outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return outcome.stdout.strip()

    def test_processors(self) -> None:
        """The child comes after the proxy; on the proxy's one processor, after everybody."""
        if not hasattr(os, "sched_setscheduler"):
            raise self.skipTest("there are no such ranks here")
        allowed = os.sched_getaffinity(0)
        for processors in {frozenset(allowed), frozenset([min(allowed)])}:
            ranks = self.run_python(
                "import os; from logging_proxy.service.child_main import give_way\n"
                f"os.sched_setaffinity(0, {set(processors)}); give_way({NICENESS})\n"
                "print(os.nice(0), os.sched_getscheduler(0))"
            )
            policy = os.SCHED_IDLE if len(processors) == 1 else os.SCHED_BATCH
            self.assertEqual(ranks.split(), [str(min(os.nice(0) + NICENESS, 19)), str(policy)])

    def test_twistd(self) -> None:
        """twistd is run in the folder, in a process group of its own, with its own arguments."""
        folder = os.path.realpath(self.mktemp())
        os.mkdir(folder)
        said = self.run_python(
            "import os, sys; from twisted.scripts import twistd\n"
            "from logging_proxy.service import child_main\n"
            "twistd.run = lambda: print(os.getcwd(), os.getpgrp() == os.getpid(), os.nice(0), sys.argv[1:])\n"
            f"child_main.main('a title', '0', {folder!r}, '-n', 'logging-proxy')"
        )
        self.assertEqual(said, f"{folder} True {os.nice(0)} ['-n', 'logging-proxy']")


class StartTests(ChildCase):
    def test_handed_down(self) -> None:
        """The child has the link, the listeners behind it, no input, our path, and we have its output."""
        self.child.start()
        process = self.process
        self.assertEqual((process.descriptors[1], process.descriptors[2]), ("r", "r"))
        self.assertEqual(process.descriptors[LINK_FD + 1], self.listener.fileno())
        self.assertEqual(sorted(process.descriptors), [0, 1, 2, LINK_FD, LINK_FD + 1])
        self.assertEqual(process.arguments[-2:], ["-n", "logging-server"])
        self.assertEqual(
            process.arguments[2:7],
            [
                *("-m", "logging_proxy.service.child_main", "logging-proxy: logging server"),
                *(str(NICENESS), "/some/where"),
            ],
        )
        self.assertEqual(
            process.environment["PYTHONPATH"].split(os.pathsep), [each for each in sys.path if each]
        )
        self.assertTrue(process.parent_is_there())
        self.assertEqual(process.input, b"")
        process.end()

    def test_document(self) -> None:
        """A child reads the same document at every start, from the beginning."""
        document = bytes(range(256)) * 1000
        self.child = ChildProcess(self.reactor, "logging server", [], document=document)
        self.child.start()
        for _ in range(3):
            self.assertEqual(self.process.input, document)
            self.process.end()
            self.reactor.advance(LONGEST_WAIT)
        self.process.end()

    def test_no_descriptor_stays(self) -> None:
        """Starting and ending, over and over, leaves no descriptor open."""
        self.child = ChildProcess(self.reactor, "logging server", [], [self.listener], document=b"text")
        self.child.start()
        self.process.end()
        before = self.descriptors()
        for _ in range(5):
            self.reactor.advance(LONGEST_WAIT)
            self.process.end()
        self.assertEqual(len(self.reactor.processes), 6)
        self.assertEqual(self.descriptors(), before)

    def test_cannot_be_started(self) -> None:
        """A child that cannot be started is tried again, and leaves no descriptor open."""
        before = self.descriptors()
        self.reactor.refusals = [OSError(11, "Resource temporarily unavailable")] * 3
        self.child.start()
        self.assertEqual(self.descriptors(), before)
        self.reactor.pump([FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT])
        self.assertEqual(len(self.reactor.processes), 1)
        self.assertIn("Resource temporarily unavailable", self.lines[0][1])
        self.process.end()


class RestartTests(ChildCase):
    def waits(self, count: int, after: float = 0.0) -> list[float]:
        """How long it takes each time until an ended child is there again."""
        found = []
        for _ in range(count):
            self.reactor.advance(after)
            started = len(self.reactor.processes)
            self.process.end(1)
            begin = self.reactor.seconds()
            while len(self.reactor.processes) == started:
                self.reactor.advance(0.25)
            found.append(self.reactor.seconds() - begin)
        return found

    def test_back_off(self) -> None:
        """A child that ends at once is started again after longer and longer waits."""
        self.child.start()
        self.assertEqual(self.waits(7), [0.5, 1, 2, 4, 8, LONGEST_WAIT, LONGEST_WAIT])
        self.process.end()

    def test_lasting(self) -> None:
        """One that has lasted is started again soon."""
        self.child.start()
        self.waits(5)
        self.assertEqual(self.waits(3, after=LASTING + 1), [FIRST_WAIT] * 3)
        self.process.end()

    def test_said(self) -> None:
        """How it ended is said."""
        self.child.start()
        self.process.end(1)
        ((level, line),) = self.lines
        self.assertIs(level, LogLevel.warn)
        self.assertIn("exit code 1; restarting in 0.5 s", line)


class OutputTests(ChildCase):
    def test_lines(self) -> None:
        """The child's lines are logged, each once and whole, in whatever pieces they come."""
        self.child.start()
        for each in b"Gr\xc3\xbc\xc3\x9fe\nsecond\n":
            self.process.said(bytes([each]))
        self.process.said(b"from stderr\n", 2)
        self.assertEqual([line for _, line in self.lines], ["Grüße", "second", "from stderr"])
        self.process.end()

    def test_last_words(self) -> None:
        """A line that was not ended when the child was is logged."""
        self.child.start()
        self.process.said(b"last words")
        self.process.end()
        self.assertEqual(self.lines[0][1], "last words")

    def test_endless_line(self) -> None:
        """A line that does not end does not fill the memory."""
        self.child.start()
        for _ in range(5):
            self.process.said(b"x" * MOST_IN_A_LINE)
        self.process.said(b"\n")
        self.assertLessEqual(len(self.lines[0][1]), 2 * MOST_IN_A_LINE)
        self.process.end()


class StopTests(ChildCase):
    def test_finishes(self) -> None:
        """The link's end tells the child; `stop` fires when it is gone, and nothing is left over."""
        self.child.start()
        stopped = self.child.stop(20)
        self.assertNoResult(stopped)
        self.assertFalse(self.process.parent_is_there())
        self.process.end()
        self.successResultOf(stopped)
        self.assertEqual(self.process.signals, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.listener.fileno(), -1)

    def test_does_not_finish(self) -> None:
        """A child that does not end in time is killed."""
        self.child.start()
        stopped = self.child.stop(20)
        self.reactor.advance(19.9)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(0.1)
        self.assertEqual(self.process.signals, ["KILL"])
        self.assertNoResult(stopped)
        self.process.end(1)
        self.successResultOf(stopped)

    def test_ends_while_it_is_killed(self) -> None:
        """A child that has ended just before it is killed is no error."""
        self.child.start()
        stopped = self.child.stop(20)
        self.process.exited = True
        self.reactor.advance(20)
        self.process.end()
        self.successResultOf(stopped)

    def test_between_two(self) -> None:
        """A child that waits to be started again is not."""
        self.child.start()
        self.process.end(1)
        self.successResultOf(self.child.stop(20))
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_never_started(self) -> None:
        """A child that was not started has stopped."""
        self.successResultOf(self.child.stop(20))
