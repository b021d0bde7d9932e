"""`make demo`, on ports of the test's own."""

from __future__ import annotations

import re
import socket
import subprocess

from logging_proxy.demo.conversation import TURNS
from logging_proxy.demo.processes import Program, free_port, is_free, is_listening, module
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, environment, wait_until, write_configuration
from logging_proxy.test.e2e.model import require
from logging_proxy.test.e2e.test_sdk import AT_DONE


class DemoTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        require("openai", "anthropic")
        self.model = free_port()
        route = {"pattern": "/lmstudio/", "destination": f"http://127.0.0.1:{self.model}/"}
        self.config = write_configuration(self.folder, {"lmstudio": route})
        self.command = module("logging_proxy.demo", "--config", str(self.config.path))

    def run_demo(self) -> subprocess.CompletedProcess[str]:
        """The demonstration, to its end."""
        return subprocess.run(
            self.command, env=environment(), capture_output=True, text=True, timeout=120, cwd=self.folder
        )

    def assert_ended(self) -> None:
        """Neither the model server nor the proxy nor the logging server listens any more."""
        ports = (self.model, self.config.port, self.config.logging_port)
        ended = wait_until(lambda: all(is_free("127.0.0.1", port) for port in ports))
        self.assertTrue(ended, f"somebody still listens on one of {ports}")

    def test_to_the_end(self) -> None:
        """It asks, shows what was kept, ends all that it started, and succeeds."""
        done = self.run_demo()
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        for turn in TURNS:
            self.assertIn(turn.title, done.stdout)
        outcomes = re.findall(r"^ +(\w+), status 200", done.stdout, re.MULTILINE)
        self.assertEqual(len(outcomes), len(TURNS))
        self.assertLessEqual(set(outcomes), set(AT_DONE))
        self.assertIn("POST /v1/chat/completions HTTP/1.1", done.stdout)
        self.assertIn(f"X-Proxy-Path: http://127.0.0.1:{self.config.port}/lmstudio/v1/", done.stdout)
        self.assertIn("_request_metadata.json", done.stdout)
        self.assert_ended()

    def test_busy_port(self) -> None:
        """A port that is in use is one line, and nothing is started."""
        with socket.create_server(("127.0.0.1", self.model)):
            done = self.run_demo()
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        (line,) = done.stderr.splitlines()
        self.assertIn(f"127.0.0.1:{self.model}", line)
        self.assert_ended()

    def test_killed(self) -> None:
        """Killed, it leaves nothing behind all the same."""
        output = self.folder / "demo.log"
        with Program("the demonstration", self.command, output, environment=environment()) as demo:
            demo.wait_until(lambda: is_listening("127.0.0.1", self.config.port), 60)
            demo.process.kill()
            demo.process.wait(PATIENCE)
            self.assert_ended()
