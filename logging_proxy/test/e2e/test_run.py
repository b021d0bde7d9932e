"""The command `logging-proxy run` as a process: the proxy alone, and with a program behind it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from logging_proxy.cli.connection import Server
from logging_proxy.demo.processes import Program, free_port, module
from logging_proxy.service.run import is_read
from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, Setup, environment, is_running, wait_until
from logging_proxy.test.e2e.client import get

AGENT = """\
import os, sys, urllib.error, urllib.request
for path in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(os.environ["LOGGING_PROXY_BASE_URL"] + path).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
print(os.environ["OPENAI_BASE_URL"])
sys.exit(3)
"""

SIGNALLED = """\
import signal, sys
def end(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(40)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""


def said(received: upstream.Received) -> Iterable[upstream.Step]:
    """The request's target, as the answer."""
    yield upstream.answer(received.target)


COUNTING = """\
import os, signal, sys, time, urllib.request
got = []
signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
print("ready", flush=True)
while not got:
    time.sleep(0.05)
urllib.request.urlopen(os.environ["LOGGING_PROXY_BASE_URL"] + "/one").read()
sys.exit(40 + len(got))
"""


class RunCase(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_upstream({"/one": said, "/two": said})
        self.log_dir = self.folder / "logs"

    def to_peer(self, setup: Setup | None = None) -> list[str]:
        """Options that lead to the peer, with a logging server on a port of the test's own."""
        setup = setup or self.configure(self.peer.port)
        return ["--config", str(setup.path), "--to", f"http://127.0.0.1:{self.peer.port}"]

    def run_command(
        self, *arguments: str, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            module("logging_proxy", *arguments),
            cwd=self.folder,
            env={**environment(), **(more or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )

    def run_agent(self, name: str, *paths: str, options: list[str]) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", AGENT, *paths]
        return self.run_command("run", *options, "--name", name, "--", *program)

    def spools(self) -> list[Path]:
        return list((self.log_dir / ".spool").iterdir())

    def rows(self, *filters: str) -> list[dict[str, Any]]:
        done = self.run_command("ls", "--log-dir", str(self.log_dir), "--json", *filters)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


class BehindTests(RunCase):
    def test_program(self) -> None:
        """
        A program comes through the proxy by its variables, and its status is the command's.

        The last line has the counts, and a name that finds its exchanges again, and no others.
        """
        options = self.to_peer()
        done = self.run_agent("first", "/one?a", "/nothing", options=options)
        self.assertEqual(done.returncode, 3, done.stderr)
        answer, status, base_url = done.stdout.splitlines()
        self.assertEqual((answer, status), ("/one?a", "404"))
        self.assertTrue(base_url.startswith("http://127.0.0.1:") and base_url.endswith("/v1"), base_url)
        (line,) = done.stderr.splitlines()
        self.assertIn("run first: 2 exchanges, 1 error; ", line)
        self.assertTrue(line.endswith("logging-proxy ls --run first"), line)
        self.run_agent("second", "/two?b", options=options)
        self.assertEqual(
            [(row["source_url"].rpartition("/")[2], row["run"]) for row in self.rows()],
            [("two?b", "second"), ("nothing", "first"), ("one?a", "first")],
        )
        self.assertEqual({row["run"] for row in self.rows("--run", "second")}, {"second"})
        documents = [json.loads(path.read_text()) for path in self.log_dir.glob("*_metadata.json")]
        self.assertEqual(sorted(each["run"] for each in documents), ["first"] * 4 + ["second"] * 2)
        self.assertEqual([each.name for each in self.spools()], ["run-1"])

    def test_beside_a_proxy(self) -> None:
        """While a proxy runs, its logging server stores a run's exchanges, and shows them at once."""
        setup = self.configure(self.peer.port)
        self.start_proxy(setup)
        done = self.run_agent("beside", "/one", options=self.to_peer(setup))
        self.assertEqual(done.returncode, 3, done.stderr)

        server = Server(f"http://127.0.0.1:{setup.logging_port}")

        def rows() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = server.ask("/api/exchanges", {"run": "beside"})["exchanges"]
            return found

        self.assertTrue(wait_until(lambda: len(rows()) == 1))
        self.assertEqual(rows()[0]["outcome"], "complete")
        self.assertEqual({each.name for each in self.spools()}, {str(setup.port), "run-1"})
        self.assertTrue(all(map(is_read, self.spools())), "a spool has no reader")

    def test_signals(self) -> None:
        """A signal goes to the program, which decides; the proxy ends after it."""
        command = module("logging_proxy", "run", *self.to_peer(), "--", sys.executable, "-c", SIGNALLED)
        program = Program(
            "run", command, self.folder / "run.log", folder=self.folder, environment=environment()
        )
        with program:
            program.wait_until(lambda: "ready" in program.words(), PATIENCE)
            program.process.send_signal(signal.SIGTERM)
            self.assertEqual(program.process.wait(PATIENCE), 40, program.last_words())
        self.assertIn("got SIGTERM", program.words())
        self.assertIn("no exchange came through the proxy", program.words())

    def test_interrupt_key(self) -> None:
        """Ctrl-C on the terminal reaches the program once, and the proxy outlives it."""
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        with os.fdopen(theirs, "wb") as terminal:
            process = subprocess.Popen(
                module("logging_proxy", "run", *self.to_peer(), "--", sys.executable, "-c", COUNTING),
                cwd=self.folder,
                env=environment(),
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        os.write(ours, b"\x03")
        rest = process.stdout.read().decode()
        self.assertEqual(process.wait(PATIENCE), 41, rest)
        self.assertIn("1 exchange, no errors", rest)

    def test_ended_by_a_signal(self) -> None:
        """A program that a signal ended has a shell's status for that."""
        done = self.run_command("run", *self.to_peer(), "--", "sh", "-c", "kill -KILL $$")
        self.assertEqual(done.returncode, 128 + signal.SIGKILL, done.stderr)

    def test_nothing_is_started(self) -> None:
        """Without such a program, or with a mistake in the configuration, nothing runs; one line says why."""
        for arguments, status, words in (
            ([*self.to_peer(), "--", "no-such-program"], 127, "no-such-program: no such command"),
            (["--to", "nonsense", "--", "touch", "ran"], 1, "--to: must start with"),
            (["--config", "none.yaml", "--", "touch", "ran"], 1, "none.yaml: cannot be read"),
        ):
            done = self.run_command("run", *arguments)
            self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
            self.assertIn(words, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertFalse((self.folder / "ran").exists())

    def test_own_environment(self) -> None:
        """A program has the umask and the streams of the command, and the proxy none of its descriptors."""
        program = "import os, sys; print(oct(os.umask(0)), sys.stdin.read())"
        done = subprocess.run(
            module("logging_proxy", "run", *self.to_peer(), "--", sys.executable, "-c", program),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            input="typed",
            timeout=PATIENCE,
            umask=0o027,
        )
        self.assertEqual(done.stdout, "0o27 typed\n", done.stderr)


class AloneTests(RunCase):
    def start(self, *arguments: str) -> Program:
        program = Program(
            "run",
            module("logging_proxy", "run", *arguments),
            self.folder / "run.log",
            folder=self.folder,
            environment=environment(),
            patience=40,
        )
        self.stack.enter_context(program)
        program.wait_until(lambda: is_running(program), PATIENCE)
        return program

    def test_to_one_destination(self) -> None:
        """`run --to URL --port N` forwards everything, keeps it in `--log-dir`, and leaves no pidfile."""
        setup = self.configure(self.peer.port)
        port, captures = free_port(), self.folder / "captures"
        program = self.start(*self.to_peer(setup), "--port", str(port), "--log-dir", "captures")
        self.assertEqual(get(port, "/one").status, 200)
        self.assertEqual(program.stop(), 0, program.last_words())
        self.assertEqual(len(list(captures.glob("*.bin"))), 2)
        self.assertEqual(list(self.folder.glob("*.pid")), [])


class DoctorTests(RunCase):
    def test_process(self) -> None:
        """`doctor` ends with 0 where the proxy can work, and with 1 where it cannot."""
        done = self.run_command("doctor", *self.to_peer(), "--json")
        checks = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("route 127.0.0.1", {check["name"] for check in checks})
        Path(self.folder, "config.yaml").write_text("server: {port: x}\nroutes: {}\n")
        done = self.run_command("doctor")
        self.assertEqual(done.returncode, 1)
        self.assertIn("config.yaml:1:10: server.port", done.stdout)
        self.assertNotIn("Traceback", done.stderr)


class InitTests(RunCase):
    def test_start_with_it(self) -> None:
        """What `init` has written is a configuration that the proxy starts with."""
        done = self.run_command("init")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = (self.folder / "config.yaml").read_text()
        text = text.replace("5601", str(free_port())).replace("8080", str(free_port()))
        (self.folder / "config.yaml").write_text(text)
        program = Program(
            "run",
            module("logging_proxy", "run"),
            self.folder / "run.log",
            folder=self.folder,
            environment=environment(),
            patience=40,
        )
        self.stack.enter_context(program)
        program.wait_until(lambda: is_running(program), PATIENCE)
        self.assertEqual(program.stop(), 0, program.last_words())
        self.assertTrue(os.path.isdir(self.log_dir))
