"""Who may read what is captured: users of the machine, before real processes of theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.captures import wait_for_captures
from logging_proxy.demo.processes import Program, module
from logging_proxy.net.peer_user import kernel_tells
from logging_proxy.test.e2e.case import (
    START_TIMEOUT,
    EndToEndCase,
    Setup,
    environment,
    is_running,
    write_configuration,
)
from logging_proxy.test.e2e.client import get

ROOT, ALICE, MALLORY = 0, 54321, 54322
"""The server is Alice's.  Numbers do, nobody needs to have an account."""

UPLOAD = "/11111111-2222-3333-4444-555555555555/request"
SPOOL = "/api/spools/0123456789abcdef0123456789abcdef/0"
QUESTIONS = [
    ("GET", "/health"),
    ("GET", "/"),
    ("GET", "/api/exchanges"),
    ("GET", "/metrics"),
    ("GET", "/api/live"),
    ("POST", SPOOL),
    ("PUT", UPLOAD),
]
REFUSED = [200, 401, 401, 401, 401, 401, 401]
ANSWERED = [200, 200, 200, 200, 426, 200, 201]

_BECOME = """
import os, sys
user = int(sys.argv[1])
os.setgroups([]); os.setgid(user); os.setuid(user)
os.execv(sys.argv[2], sys.argv[2:])
"""

_ASK = """
import http.client, json, sys
host, port, token, questions = json.loads(sys.argv[1])
found = []
for method, path in questions:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    headers = {"Authorization": "Bearer " + token} if token else {}
    body = None if method == "GET" else b"GET / HTTP/1.1\\r\\n\\r\\n"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    found.append(answer.status)
    connection.close()
print(json.dumps(found))
"""


def as_user(user: int, command: list[str]) -> list[str]:
    """The command, run by another user."""
    return [sys.executable, "-c", _BECOME, str(user), *command]


class ServerCase(EndToEndCase):
    """A logging server and who asks it."""

    def run_as(self, user: int, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command if user == os.geteuid() else as_user(user, command),
            cwd="/",
            env=environment(),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
        )

    def start_server(self, command: list[str], home: Path) -> None:
        program = Program(
            "the logging server", command, self.folder / "server.log", folder=home, environment=environment()
        )
        self.stack.enter_context(program)
        program.wait_until(lambda: is_running(program), START_TIMEOUT)

    def statuses(self, user: int, setup: Setup, host: str = "127.0.0.1", token: str = "") -> list[int]:
        """What a user's questions are answered with."""
        what = json.dumps([host, setup.logging_port, token, QUESTIONS])
        asked = self.run_as(user, [sys.executable, "-c", _ASK, what])
        self.assertEqual(asked.returncode, 0, asked.stderr)
        found: list[int] = json.loads(asked.stdout)
        return found

    def command(self, user: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run_as(user, [sys.executable, "-m", "logging_proxy.cli.main", *arguments])

    @property
    def said(self) -> str:
        """The server's log."""
        return (self.folder / "server.log").read_text()


class UsersTests(ServerCase):
    def setUp(self) -> None:
        if os.geteuid() != ROOT:
            raise SkipTest("only root can be several users")
        if not kernel_tells():
            raise SkipTest("the kernel does not tell here")
        super().setUp()
        readable = self.run_as(ALICE, [sys.executable, "-c", "import logging_proxy, twisted"])
        if readable.returncode != 0:
            raise SkipTest("other users cannot read this checkout")

    def start(self, **options: Any) -> Setup:
        """A logging server of Alice's."""
        home = self.folder / "alice"
        home.mkdir(0o700)
        setup = write_configuration(home, {}, logging_server={"host": "localhost", **options})
        self.folder.chmod(0o755)
        for path in (home, setup.path):
            os.chown(path, ALICE, ALICE)
        twistd = ["-n", "--pidfile=", "logging-server", "--config", str(setup.path)]
        self.start_server(as_user(ALICE, module("logging_proxy.demo.tether", *twistd)), home)
        return setup

    def test_others(self) -> None:
        """Another user is refused everything but health until the token of the log directory is shown."""
        setup = self.start()
        self.assertEqual(self.statuses(MALLORY, setup), REFUSED)
        kept = setup.log_dir / ".token"
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        self.assertEqual(kept.stat().st_uid, ALICE)
        token = kept.read_text().strip()
        self.assertEqual(self.statuses(MALLORY, setup, token=token), ANSWERED)
        self.assertNotIn(token, self.said)

    def test_own_user_and_root(self) -> None:
        """The server's own user and root need no token, with IPv4 and with IPv6."""
        setup = self.start()
        self.assertEqual(self.statuses(ALICE, setup), ANSWERED)
        self.assertEqual(self.statuses(ROOT, setup)[:5], ANSWERED[:5])
        if Path("/proc/net/if_inet6").exists():
            self.assertEqual(self.statuses(ALICE, setup, "::1")[:5], ANSWERED[:5])
            self.assertEqual(self.statuses(MALLORY, setup, "::1"), REFUSED)

    def test_open_to_the_machine(self) -> None:
        """With `open_to: machine` everybody is answered, and the log warns of it."""
        setup = self.start(open_to="machine")
        self.assertEqual(self.statuses(MALLORY, setup), ANSWERED)
        self.assertIn("logging_server.open_to: every user of this machine", self.said)

    def test_command(self) -> None:
        """The command works for the own user and for root; another user is told what is missing."""
        setup = self.start()
        for user in (ALICE, ROOT):
            listed = self.command(user, "ls", "--config", str(setup.path))
            self.assertEqual((listed.returncode, listed.stderr), (0, "logging-proxy: no exchanges\n"))
        url = f"http://localhost:{setup.logging_port}"
        refused = self.command(MALLORY, "ls", "--url", url)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("a token is required; give it in LOGGING_PROXY_TOKEN", refused.stderr)
        self.assertIn(f"answers only user {ALICE} and root", refused.stderr)


class UnknownTests(ServerCase):
    """In a user namespace, as in some containers, the server cannot tell who calls."""

    def setUp(self) -> None:
        super().setUp()
        self.apart = ["unshare", "--user", "--map-root-user"]
        if sys.platform != "linux" or shutil.which("unshare") is None:
            raise SkipTest("there are no user namespaces here")
        if subprocess.run([*self.apart, "true"], capture_output=True).returncode != 0:
            raise SkipTest("a user namespace cannot be made here")

    def start(self) -> Setup:
        setup = write_configuration(self.folder, {}, logging_server={"host": "localhost"})
        twistd = ["-n", "--pidfile=", "logging-server", "--config", str(setup.path)]
        self.start_server([*self.apart, *module("logging_proxy.demo.tether", *twistd)], self.folder)
        return setup

    def test_own_user(self) -> None:
        """The own user shows the token, too; the log says where it is, and holds it not."""
        setup, user = self.start(), os.geteuid()
        self.assertEqual(self.statuses(user, setup), REFUSED)
        token = (setup.log_dir / ".token").read_text().strip()
        self.assertEqual(self.statuses(user, setup, token=token), ANSWERED)
        self.assertIn(f"http://localhost:{setup.logging_port}/ with the token in {setup.log_dir}", self.said)
        self.assertNotIn(token, self.said)

    def test_command(self) -> None:
        """The command reads the token from the log directory of its configuration."""
        setup, user = self.start(), os.geteuid()
        listed = self.command(user, "ls", "--config", str(setup.path))
        self.assertEqual((listed.returncode, listed.stderr), (0, "logging-proxy: no exchanges\n"))
        refused = self.command(user, "ls", "--url", f"http://localhost:{setup.logging_port}")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("and cannot tell who asks", refused.stderr)

    def test_proxy(self) -> None:
        """So does a proxy whose logging server this is."""
        server = self.start()
        home = self.folder / "proxy"
        home.mkdir()
        setup = write_configuration(
            home,
            {},
            logging={
                "server_url": f"http://localhost:{server.logging_port}",
                "spool_dir": str(home / "spool"),
                "ring_dir": str(home),
            },
            logging_server={"log_dir": str(server.log_dir)},
        )
        self.start_proxy(setup)
        self.assertEqual(get(setup.port, "/nowhere").status, 404)
        captures = wait_for_captures(server.log_dir, 1, timeout=60)
        self.assertEqual([urlsplit(capture.source_url).path for capture in captures], ["/nowhere"])
