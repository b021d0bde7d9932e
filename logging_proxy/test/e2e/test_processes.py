"""Child processes of the demonstration and of these tests end, whatever happens to who started them."""

from __future__ import annotations

import socket
import sys
import time

from logging_proxy.demo.processes import Program, ProgramError, free_port, is_free, is_listening, module
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, environment, wait_until

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
TETHERED = "from logging_proxy.demo.tether import follow_parent; follow_parent(); " + SLEEP
LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
MIDDLE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], stdin=subprocess.PIPE)
time.sleep(60)
"""


class ProgramCase(EndToEndCase):
    def program(self, code: str, *arguments: str, patience: float = 10.0) -> Program:
        """A Python program that runs `code`."""
        return Program(
            "the program",
            [sys.executable, "-c", code, *arguments],
            self.folder / "program.log",
            environment=environment(),
            patience=patience,
        )


class ProgramTests(ProgramCase):
    def test_ends_with_the_context(self) -> None:
        """Leaving the context with an error ends the process as well."""
        program = self.program(SLEEP)

        def fail() -> None:
            with program:
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(program.process.returncode, -15)

    def test_words(self) -> None:
        """What an earlier program left in the same file is not taken for this one's words."""
        self.folder.joinpath("program.log").write_text("up\n")
        with self.program("print('down', flush=True); " + SLEEP) as program:
            program.wait_until(lambda: "up" in program.words(), PATIENCE)
            self.assertEqual(program.words().split(), ["down", "up"])

    def test_deaf(self) -> None:
        """A process that ignores SIGTERM is killed when the patience is over."""
        with self.program(DEAF, patience=0.2) as program:
            program.wait_until(lambda: program.last_words() == "up", PATIENCE)
            self.assertEqual(program.stop(), -9)

    def test_early_end(self) -> None:
        """A process that ends instead of getting ready is told with its status and its last words."""
        with self.program("import sys; sys.exit('the reason')") as program:
            error = self.assertRaises(ProgramError, program.wait_until, lambda: False, PATIENCE)
        self.assertIn("status 1", str(error))
        self.assertIn("the reason", str(error))

    def test_not_ready(self) -> None:
        """Waiting ends after the given time."""
        with self.program(SLEEP) as program:
            begin = time.monotonic()
            self.assertRaises(ProgramError, program.wait_until, lambda: False, 0.1)
        self.assertLess(time.monotonic() - begin, 50)

    def test_orphan(self) -> None:
        """A tethered process ends when the one that started it is killed."""
        port = free_port()
        with self.program(MIDDLE, LISTEN + TETHERED, str(port)) as middle:
            middle.wait_until(lambda: is_listening("127.0.0.1", port), PATIENCE)
            middle.process.kill()
            self.assertTrue(wait_until(lambda: is_free("127.0.0.1", port)))


class PortTests(ProgramCase):
    def test_free(self) -> None:
        """A free port can be listened on."""
        port = free_port()
        self.assertTrue(is_free("127.0.0.1", port))
        self.assertTrue(is_free("localhost", port))

    def test_given_once(self) -> None:
        """A port that was given is not given to another process, though nobody listens there yet."""
        port = free_port()
        again = (
            "import sys; from logging_proxy.demo.processes import free_port; free_port([int(sys.argv[1])])"
        )
        with self.program(again, str(port)) as rival:
            self.assertEqual(rival.process.wait(PATIENCE), 1)
        self.assertIn("no free port", rival.words())
        self.assertRaises(OSError, free_port, [port])

    def test_taken(self) -> None:
        """A port is taken on every name of its address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.assertFalse(is_free("127.0.0.1", port))
            self.assertFalse(is_free("localhost", port))

    def test_module(self) -> None:
        """A module's command runs with this Python."""
        self.assertEqual(module("a.b", "c"), [sys.executable, "-m", "a.b", "c"])
