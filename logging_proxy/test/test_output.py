"""Where our words go: in order, in UTF-8, and never in the proxy's way."""

from __future__ import annotations

import os
import stat
import sys
import syslog
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service import output
from logging_proxy.service.dressing import Dress
from logging_proxy.service.output import CannotLog, LogFile, Output, Syslog, Terminal, sink_for

ID = bytes(range(16))


class Pipe:
    """A sink that can be held up or broken; `lines` is what came through."""

    def __init__(self) -> None:
        self.data = b""
        self.error: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.held_up = threading.Event()
        self.rotations = 0

    def write(self, data: bytes) -> None:
        if not self.gate.is_set():
            self.held_up.set()
            self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.data += data

    def rotate(self) -> None:
        self.rotations += 1

    @property
    def lines(self) -> list[str]:
        return self.data.decode("utf-8").splitlines()


def terminal(fd: int) -> Terminal:
    return Terminal(fd, Dress(colour=False))


def wait_until(condition: Callable[[], bool], timeout: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


class OutputCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pipe = Pipe()
        self.now = 1_757_722_269.9
        self.output = Output(self.pipe, lambda: self.now)
        self.stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(self.now)))


class LineTests(OutputCase):
    def said(self, format: str, level: LogLevel = LogLevel.info, **values: Any) -> list[str]:
        Logger("logging_proxy.x", observer=self.output).emit(level, format, **values)
        self.output.close()
        return self.pipe.lines

    def test_order(self) -> None:
        """Console lines and diagnostics come out in the order in which they were said."""
        self.output.start()
        Logger("logging_proxy.x", observer=self.output).info("first")
        line = f"{self.output.stamp()} [00010203] GET /x -> NOT_FOUND [no-log]"
        self.output.line(line)
        self.output.line("third")
        self.output.close()
        self.assertEqual(self.pipe.lines, [f"{self.stamp} first", line, "third"])

    def test_name(self) -> None:
        """An output with a name puts it before diagnostics, and not before console lines."""
        self.output = Output(self.pipe, lambda: self.now, "worker 2")
        Logger("logging_proxy.x", observer=self.output).warn("low")
        line = "[00010203] GET /x -> NOT_FOUND [no-log]"
        self.output.line(line)
        self.output.close()
        self.assertEqual(self.pipe.lines, [f"{self.stamp} worker 2: warn: low", line])

    def test_time(self) -> None:
        """Each line has the second in which it was said."""
        self.output.say("a")
        self.now += 1
        self.output.say("b")
        self.output.close()
        first, second = self.pipe.lines
        self.assertNotEqual(first[:19], second[:19])

    def test_levels(self) -> None:
        """Warnings and worse say so."""
        self.assertEqual(self.said("oh", LogLevel.warn), [f"{self.stamp} warn: oh"])

    def test_debug(self) -> None:
        """Debugging is not shown."""
        self.assertEqual(self.said("x", LogLevel.debug), [])

    def test_others(self) -> None:
        """Of libraries only warnings and worse are shown."""
        log = Logger("twisted.x", observer=self.output)
        log.info("Starting factory")
        log.error("broken")
        self.output({"log_format": "no namespace", "log_level": LogLevel.info})
        self.output.close()
        self.assertEqual(self.pipe.lines, [f"{self.stamp} error: broken"])

    def test_injection(self) -> None:
        """What a client has a hand in cannot begin a line, nor reach the terminal's controls."""
        lines = self.said("path {path}", path=f"x\n{self.stamp} all is well\x1b[2J\r")
        self.assertEqual(lines[0], f"{self.stamp} path x")
        self.assertEqual(lines[1], f"    {self.stamp} all is well\\x1b[2J\\x0d")

    def test_secrets(self) -> None:
        """Secrets in URLs are taken out of diagnostics as well."""
        (line,) = self.said("to {url}", url="https://u:CANARY@host/?api_key=CANARY")
        self.assertNotIn("CANARY", line)

    def test_confided(self) -> None:
        """A secret is told to a person at a terminal; elsewhere, pipes included, another text is."""

        class Screen(Terminal):
            def __init__(self, person: bool) -> None:
                super().__init__(-1, Dress(colour=False))
                self.person = person
                self.data = b""

            def write(self, data: bytes) -> None:
                self.data += data

            def has_a_person(self) -> bool:
                return self.person

        sinks = (Screen(True), Screen(False), Pipe())
        for sink in sinks:
            said = Output(sink, lambda: 0.0)
            said.confide("open http://a/?token=canary", "open http://a/")
            said.close()
        self.assertIn(b" open http://a/?token=canary\n", sinks[0].data)
        for sink in sinks[1:]:
            self.assertTrue(sink.data.endswith(b" open http://a/\n"))

    def test_person(self) -> None:
        """Whoever has a terminal is a person, and a pipe is none."""
        screen, end = os.openpty()
        reading, writing = os.pipe()
        for fd in (screen, end, reading, writing):
            self.addCleanup(os.close, fd)
        self.assertTrue(terminal(end).has_a_person())
        self.assertFalse(terminal(writing).has_a_person())

    def test_traceback(self) -> None:
        """A failure comes with its traceback, indented."""
        try:
            raise ValueError("wrong")
        except ValueError:
            failure = Failure()
        lines = self.said("failed", LogLevel.critical, log_failure=failure)
        self.assertEqual(lines[0], f"{self.stamp} critical: failed")
        self.assertIn("    builtins.ValueError: wrong", lines)

    def test_endless(self) -> None:
        """An event of any size is bounded."""
        lines = self.said("{text}", text="x" * 10**6 + "\ny" * 10**4)
        self.assertLess(sum(map(len, lines)), 10_000)

    def test_utf8(self) -> None:
        """Lines are UTF-8, whatever the locale; what is no text is escaped."""
        self.output.say("Grüße \udc9b")
        self.output.line("\udc9b")
        self.output.close()
        self.assertEqual(self.pipe.lines, [f"{self.stamp} Grüße \\udc9b", "\\udc9b"])


class ThreadTests(OutputCase):
    def test_blocked(self) -> None:
        """A reader that does not read holds up nobody; lines that were dropped meanwhile are counted."""
        self.patch(output, "MOST_WAITING", 100)
        self.output.start()
        self.pipe.gate.clear()
        self.output.line("first")
        self.assertTrue(self.pipe.held_up.wait(60))
        for number in range(1000):
            self.output.line(str(number))
        self.pipe.gate.set()
        self.output.close()
        lines = self.pipe.lines
        self.assertEqual(lines[:101], ["first", *map(str, range(100))])
        self.assertEqual(lines[101:], [f"{self.stamp} warn: 900 lines could not be written"])

    def test_others_lines(self) -> None:
        """Lines of another output are passed on as they are, in order, and count as lines when dropped."""
        self.patch(output, "MOST_WAITING", 5)
        self.output.start()
        self.pipe.gate.clear()
        self.output.line("first")
        self.assertTrue(self.pipe.held_up.wait(60))
        for text in ("a\nb\nc", "d", "e", "f\ng"):
            self.output.pass_on(text)
        self.output.line("i")
        self.output.pass_on("j\nk\nl")
        self.pipe.gate.set()
        self.output.close()
        dropped = f"{self.stamp} warn: 5 lines could not be written"
        self.assertEqual(self.pipe.lines, ["first", "a", "b", "c", "d", "e", "i", dropped])

    def test_lost_on_the_way(self) -> None:
        """Lines of another output that cannot be written are counted as lines."""
        self.output.start()
        self.pipe.error = OSError(28, "No space left on device")
        self.output.pass_on("a\nb\nc")
        self.assertTrue(wait_until(lambda: self.output.dropped == 3))
        self.pipe.error = None
        self.output.line("d")
        self.output.close()
        self.assertEqual(self.pipe.lines[-1], f"{self.stamp} warn: 3 lines could not be written")

    def test_line_during_a_write(self) -> None:
        """A line that comes while others are being written is written without a further one."""
        self.output.start()
        self.pipe.gate.clear()
        self.output.line("first")
        self.assertTrue(self.pipe.held_up.wait(60))
        self.output.line("second")
        self.pipe.gate.set()
        self.assertTrue(wait_until(lambda: self.pipe.lines == ["first", "second"]))
        self.output.close()

    def test_close_is_bounded(self) -> None:
        """`close` does not wait for a reader that never comes back."""
        self.patch(output, "CLOSE_PATIENCE", 0.05)
        self.output.start()
        self.pipe.gate.clear()
        self.output.line("x")
        self.assertTrue(self.pipe.held_up.wait(60))
        self.output.close()
        self.patch(output, "CLOSE_PATIENCE", 60)
        self.output.close()
        self.assertEqual(self.pipe.lines, [])
        self.pipe.gate.set()

    def test_after_close(self) -> None:
        """What is said after the service has closed its output, at the very end, is written as well."""
        self.output.start()
        self.output.line("first")
        self.output.close()
        self.assertEqual(self.pipe.lines, ["first"])
        self.output.line("later")
        self.output.close()
        self.assertEqual(self.pipe.lines, ["first", "later"])

    def test_trouble_passes(self) -> None:
        """Lines that a full disk did not take are counted, and told of when it takes lines again."""
        self.output.start()
        self.pipe.error = OSError(28, "No space left on device")
        self.output.line("a")
        self.output.line("b")
        self.assertTrue(wait_until(lambda: self.output.dropped == 2))
        self.output.line("c")
        self.assertTrue(wait_until(lambda: self.output.dropped == 3))
        self.pipe.error = None
        self.output.line("d")
        self.output.close()
        self.assertEqual(self.pipe.lines, ["d", f"{self.stamp} warn: 3 lines could not be written"])

    def test_before_start(self) -> None:
        """What is said before the start is kept, and written by whoever starts or ends."""
        self.output.line("early")
        time.sleep(0.03)
        self.assertEqual(self.pipe.lines, [])
        self.output.start()
        self.output.close()
        self.output.close()
        self.assertEqual(self.pipe.lines, ["early"])

    def test_every_line(self) -> None:
        """Lines of several threads all arrive, whole."""
        self.output.start()

        def talk(name: str) -> None:
            for number in range(500):
                self.output.line(f"{name} {number}")

        threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.output.close()
        for name in "abc":
            mine = [line for line in self.pipe.lines if line.startswith(name)]
            self.assertEqual(mine, [f"{name} {number}" for number in range(500)])

    def test_idle(self) -> None:
        """A thread with nothing to write does nothing."""
        self.output.start()
        self.output.line("x")
        self.assertTrue(wait_until(lambda: self.pipe.lines == ["x"]))
        begin = time.process_time()
        time.sleep(0.2)
        self.assertLess(time.process_time() - begin, 0.1)
        self.output.close()

    def test_rotation(self) -> None:
        """A rotation that was asked for is done by the thread, without a line to write."""
        self.output.start()
        self.output.rotate()
        self.assertTrue(wait_until(lambda: self.pipe.rotations == 1))
        self.output.close()


class TerminalTests(SynchronousTestCase):
    def test_broken(self) -> None:
        """A pipe whose reader has gone is an error once, and ignored from then on."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        os.close(reading)
        ours = terminal(writing)
        self.assertRaises(BrokenPipeError, ours.write, b"x")
        ours.write(b"x")
        ours.rotate()

    def test_non_blocking(self) -> None:
        """A descriptor that somebody has made non-blocking gets every byte all the same."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        data = bytes(range(256)) * 1024
        found = []

        def read() -> None:
            with open(reading, "rb") as file:
                found.append(file.read())

        reader = threading.Thread(target=read)
        reader.start()
        terminal(writing).write(data)
        os.close(writing)
        reader.join(10)
        self.assertEqual(found, [data])


class LogFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()

    def open(self, size: int = 1 << 20) -> LogFile:
        file = LogFile(str(self.path), size)
        self.addCleanup(lambda: os.close(file._fd))
        return file

    def old(self, number: int) -> Path:
        return Path(f"{self.path}.{number}")

    def test_appended(self) -> None:
        """A file is appended to, and only we can read a new one."""
        self.open().write(b"a\n")
        self.open().write(b"b\n")
        self.assertEqual(self.path.read_bytes(), b"a\nb\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_rotated(self) -> None:
        """Rotation makes the file `.1`, and earlier ones count up."""
        file = self.open()
        for text in (b"a", b"b", b"c"):
            file.write(text)
            file.rotate()
        file.write(b"d")
        found = [path.read_bytes() for path in (self.path, self.old(1), self.old(2), self.old(3))]
        self.assertEqual(found, [b"d", b"c", b"b", b"a"])

    def test_moved_away(self) -> None:
        """A file that somebody has moved away, or replaced, is left alone: a new one is opened."""
        file = self.open()
        file.write(b"a")
        self.path.rename(self.old(7))
        file.rotate()
        file.write(b"b")
        self.assertEqual((self.path.read_bytes(), self.old(7).read_bytes()), (b"b", b"a"))
        self.assertFalse(self.old(1).exists())
        self.path.rename(self.old(8))
        self.path.write_bytes(b"theirs ")
        file.rotate()
        file.write(b"c")
        self.assertEqual(self.path.read_bytes(), b"theirs c")

    def test_size(self) -> None:
        """A file that is large enough is rotated by itself."""
        file = self.open(10)
        for _ in range(3):
            file.write(b"0123456789")
        self.assertEqual(self.path.read_bytes(), b"0123456789")
        self.assertTrue(self.old(2).exists())

    def test_no_file(self) -> None:
        """What is no regular file is not rotated."""
        self.path = Path(os.devnull)
        file = self.open(0)
        file.write(b"x")
        file.rotate()
        self.assertFalse(self.old(1).exists())


class SinkTests(SynchronousTestCase):
    def sink(self, **options: Any) -> Any:
        return sink_for(options)

    def test_foreground(self) -> None:
        """In the foreground lines go to the terminal, unless a file is named."""
        self.assertIsInstance(self.sink(nodaemon=True), Terminal)
        self.assertIsInstance(self.sink(nodaemon=True, logfile="-"), Terminal)

    def test_file(self) -> None:
        """A named file is used by its absolute path: the daemon may change its directory."""
        name = self.mktemp()
        for options in ({"nodaemon": True}, {"nodaemon": False}):
            sink = self.sink(logfile=name, **options)
            self.assertEqual(sink._path, os.path.abspath(name))
            os.close(sink._fd)

    def test_daemon(self) -> None:
        """A daemon cannot write to the terminal, and has a file where none is named."""
        self.assertRaises(CannotLog, self.sink, logfile="-", nodaemon=False)
        folder = Path(self.mktemp())
        folder.mkdir()
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        sink = self.sink(nodaemon=False)
        self.assertEqual(sink._path, str(Path.cwd() / "twistd.log"))
        os.close(sink._fd)

    def test_no_file(self) -> None:
        """A file that cannot be opened is an error with its name."""
        error = self.assertRaises(OSError, self.sink, logfile="/nowhere/x.log", nodaemon=True)
        self.assertEqual(error.filename, "/nowhere/x.log")

    def test_no_terminal(self) -> None:
        """Without a standard output lines go nowhere, not to whatever has its number now."""
        self.patch(sys, "stdout", None)
        sink = self.sink(nodaemon=True)
        self.assertTrue(os.path.samestat(os.fstat(sink._fd), os.stat(os.devnull)))
        os.close(sink._fd)

    def test_syslog(self) -> None:
        """Syslog gets line by line, with its own time instead of ours."""
        opened: list[Any] = []
        lines: list[str] = []
        self.patch(syslog, "openlog", lambda *arguments: opened.append(arguments))
        self.patch(syslog, "syslog", lines.append)
        sink = self.sink(syslog=True, prefix="p", facility=syslog.LOG_LOCAL0)
        self.assertIsInstance(sink, Syslog)
        sink.write("2025-09-13 02:11:09 Grüße\nsecond\n".encode())
        sink.rotate()
        self.assertEqual(lines, ["Grüße", "second"])
        self.assertEqual(opened, [("p", syslog.LOG_PID, syslog.LOG_LOCAL0)])
