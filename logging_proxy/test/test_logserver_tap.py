"""`twistd logging-server`: mistakes, and the process from start to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.index import SqliteIndex
from logging_proxy.index.sqlite import FILE
from logging_proxy.logserver.tap import Options, makeService
from logging_proxy.net.listening import bind
from logging_proxy.test.logserver_spools import Script, SpoolWriter, documents, other_id

TWISTD = [
    sys.executable,
    "-c",
    "from twisted.scripts.twistd import run; run()",
    "-n",
    "--pidfile=",
    "logging-server",
]


class TapTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.log_dir = os.path.join(self.directory, "logs")
        self.config = os.path.join(self.directory, "config.yaml")
        self.configure(0)

    def configure(self, port: int, more: str = "") -> None:
        with open(self.config, "w") as file:
            file.write(
                f"logging_server: {{port: {port}, host: 127.0.0.1, log_dir: {self.log_dir}{more}}}\n"
                'routes: {r: {pattern: "/", destination: "http://127.0.0.1:1/"}}\n'
            )

    def start(self, *more: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        process = subprocess.Popen(
            [*TWISTD, "--config", self.config, *more],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class MistakeTests(TapTestCase):
    def refused(self) -> str:
        process = self.start()
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertNotIn(b"Traceback", output)
        return output.decode()

    def test_configuration(self) -> None:
        """Mistakes of the configuration are told one per line, and the exit status is 1."""
        self.configure(8080, ", colour: red, weight: 1")
        lines = self.refused().strip().split("\n")
        self.assertEqual(len(lines), 2)
        self.assertTrue(all(line.startswith(f"{self.config}:1:") for line in lines), lines)

    def test_busy_port(self) -> None:
        """A busy port is one line."""
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            self.configure(busy.getsockname()[1])
            self.assertIn(" in use", self.refused())

    def test_unsafe_directory(self) -> None:
        """A log directory that others may write to is one line."""
        os.makedirs(self.log_dir)
        os.chmod(self.log_dir, 0o777)
        self.assertIn("others may write to it", self.refused())

    def test_newer_index(self) -> None:
        """An index of a newer version ends the start with one line, and is left alone."""
        path = os.path.join(self.log_dir, FILE)
        os.makedirs(os.path.dirname(path), mode=0o700)
        SqliteIndex(path).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE schema SET version = 1000")
            connection.commit()
        self.assertRegex(self.refused(), r"\A[^\n]*made by a newer version \(schema 1000[^\n]*\n\Z")

    def test_options(self) -> None:
        """Descriptors must be open, and what is sent must be named."""
        for arguments in (["--listen-fd=x"], ["--parent-pipe=999999"], ["--ship-to=http://localhost:1"]):
            self.assertRaises(usage.UsageError, Options().parseOptions, arguments)

    def test_service(self) -> None:
        """A service is made without starting anything; the umask is ours, and time is monotonic."""
        old = os.umask(0o022)
        self.addCleanup(os.umask, old)
        options = Options()
        options.parseOptions(["--config", self.config])
        makeService(options)
        self.assertEqual(os.umask(0o022), 0o077)
        from twisted.internet import reactor

        chosen: Any = reactor
        self.assertIs(chosen.seconds, time.monotonic)


class AloneTests(TapTestCase):
    def test_warnings(self) -> None:
        """A server that stands alone tells what its configuration deserves a warning for."""
        self.configure(0, ", open_to: machine")
        process = self.start()
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        self.assertIn("warn: ", said)
        self.assertIn("logging_server.open_to: every user of this machine can read all that is", said)

    def test_first_lines(self) -> None:
        """It says once where it listens, where captures go, how to look, and the page's address."""
        self.configure(0)
        process = self.start()
        assert process.stdout is not None
        first, captures, look, page = (process.stdout.readline().decode() for _ in range(4))
        self.assertRegex(first, r"^\S+ \S+ Logging server \S+ on http://127\.0\.0\.1:\d+\n$")
        self.assertEqual(captures, f"    captures  {self.log_dir}\n")
        self.assertRegex(look, r"^    look      .*logging-proxy.* tail\n$")
        self.assertRegex(page, r"^    page      http://127\.0\.0\.1:\d+/")


class ProcessTests(TapTestCase):
    def get(self, port: int, path: str) -> tuple[int, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, json.loads(answer.read())

    def wait_for(self, port: int, wanted: int) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if self.get(port, "/health")[1]["exchanges_stored"] >= wanted:
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.05)
        self.fail("not stored in time")

    def test_stores_until_stopped(self) -> None:
        """A server of its own stores what is in the spools, says so, and stops cleanly on SIGTERM."""
        writer = SpoolWriter(os.path.join(self.log_dir, ".spool", "5601"))
        writer.blocks(Script().simple())
        (listener,) = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        listener.close()
        self.configure(port)
        process = self.start()
        self.wait_for(port, 1)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        self.assertNotIn(b"Traceback", output)
        # twistd ends by the signal that stopped it.
        self.assertIn(process.returncode, (0, -signal.SIGTERM))
        self.assertEqual(len(documents(self.log_dir)), 2)

    def test_parent_gone(self) -> None:
        """With its parent's pipe closed the child frees its port, empties the spool and ends."""
        (listener,) = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        reading, writing = os.pipe()
        fds = (listener.fileno(), reading)
        process = self.start(f"--listen-fd={fds[0]}", f"--parent-pipe={fds[1]}", fds=fds)
        listener.close()
        os.close(reading)
        self.wait_for(port, 0)
        writer = SpoolWriter(os.path.join(self.log_dir, ".spool", "5601"))
        writer.blocks(Script().simple())
        os.write(writing, b"!")
        self.wait_for(port, 1)
        process.terminate()
        for number in range(2, 300):
            writer.block(b"".join(Script(number, other_id(number)).simple()))
        os.close(writing)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(documents(self.log_dir)), 2 * 299)

    def test_ships(self) -> None:
        """With --ship-to the spool goes to another server, which stores it."""
        spool = os.path.join(self.directory, "spool", "5601")
        SpoolWriter(spool).blocks(Script().simple())
        (listener,) = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        self.start(f"--listen-fd={listener.fileno()}", fds=(listener.fileno(),))
        self.start(f"--ship-to=http://127.0.0.1:{port}", f"--spool={spool}")
        listener.close()
        self.wait_for(port, 1)
        self.assertEqual(len(documents(self.log_dir)), 2)
