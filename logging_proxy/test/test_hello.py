"""The lines that the proxy starts with."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy import __version__
from logging_proxy.configuration import read_configuration
from logging_proxy.service.hello import MOST_ROUTES, look_command, starting_lines

SHIPPED = """
logging_server: {log_dir: /srv/logs}
routes:
  openai: {pattern: /openai/, destination: "https://api.openai.com/"}
  local: {pattern: /local/, destination: "http://127.0.0.1:9000/", logging: false}
"""


class StartingLinesTests(SynchronousTestCase):
    def lines(self, text: str, page: str = "", **more: int) -> list[str]:
        configuration = read_configuration(text, "config.yaml", {})
        return starting_lines(configuration, "logging-proxy", page, **more)

    def test_everything_once(self) -> None:
        """Listener, routes, captures, how to look and the page have one line each, the page the last."""
        self.assertEqual(
            self.lines(SHIPPED),
            [
                f"Logging Proxy {__version__} on http://localhost:5601",
                "openai    OPENAI_BASE_URL=http://localhost:5601/openai/v1 -> https://api.openai.com/",
                "local     http://localhost:5601/local [no-log] -> http://127.0.0.1:9000/",
                "captures  /srv/logs",
                "look      logging-proxy tail",
                "page      http://localhost:8080/",
            ],
        )

    def test_narrow_terminal(self) -> None:
        """Where a line would be broken it does without the destination, and its URL stays whole."""
        lines = self.lines(SHIPPED, columns=60)
        self.assertIn("openai    OPENAI_BASE_URL=http://localhost:5601/openai/v1", lines)
        self.assertEqual([line for line in lines if len(line) > 60], [])
        self.assertIn("OPENAI_BASE_URL=http://localhost:5601/openai/v1", self.lines(SHIPPED, columns=56))

    def test_what_is_known_at_the_start_only(self) -> None:
        """Ports that the system chose, the number of workers, and an address with a token are shown."""
        text = (
            "server: {port: 0, host: '::'}\nroutes: {a: {pattern: /, destination: 'https://api.openai.com'}}"
        )
        lines = self.lines(text, port=7, page="http://localhost:8/?token=t", workers=3)
        self.assertEqual(lines[0], f"Logging Proxy {__version__} on http://[::]:7, 3 workers")
        self.assertIn("a         OPENAI_BASE_URL=http://localhost:7/v1 -> https://api.openai.com/", lines)
        self.assertEqual(lines[-1], "page      http://localhost:8/?token=t")

    def test_logging_server_elsewhere(self) -> None:
        """With `server_url` captures go there, and that is where the page is."""
        lines = self.lines("logging: {server_url: 'http://logs.example:8080/'}")
        self.assertEqual(
            lines[1::2], ["captures  http://logs.example:8080/", "page      http://logs.example:8080/"]
        )

    def test_nothing_recorded(self) -> None:
        """Where nothing is recorded there is nothing to look at."""
        lines = self.lines("logging: {default: false}")
        self.assertEqual(lines[1:], ["captures  none: logging is off for every route"])

    def test_many_routes(self) -> None:
        """Of many routes the first are named, and the others counted."""
        routes = "".join(f"  r{n}: {{pattern: /{n}/, destination: 'http://a.example'}}\n" for n in range(60))
        lines = self.lines(f"routes:\n{routes}")
        self.assertEqual(len(lines), 1 + MOST_ROUTES + 1 + 3)
        self.assertEqual(lines[MOST_ROUTES + 1].split(), ["and", "10", "more", "routes"])


class LookCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.bin = self.folder / ".venv" / "bin"
        self.bin.mkdir(parents=True)
        self.python = str(self.bin / "python")
        self.script = self.bin / "logging-proxy"
        self.script.touch(0o755)

    def command(self, config: str | None = "config.yaml", folder: str = "", path: str = "/nowhere") -> str:
        return look_command(config, folder or str(self.folder), self.python, path)

    def test_in_the_folder(self) -> None:
        """The command is shown as it can be typed where the proxy was started."""
        self.assertEqual(self.command(), ".venv/bin/logging-proxy")
        self.assertEqual(self.command(folder="/"), str(self.script))

    def test_on_the_path(self) -> None:
        """Where a shell finds it, its name is enough."""
        self.assertEqual(self.command(path=str(self.bin)), "logging-proxy")

    def test_not_installed(self) -> None:
        """Without the script the module is run."""
        os.remove(self.script)
        self.assertEqual(self.command(), ".venv/bin/python -m logging_proxy")

    def test_other_configuration(self) -> None:
        """A file that the command would not find by itself is named."""
        self.assertEqual(
            self.command("/etc/my proxy.yaml"), ".venv/bin/logging-proxy --config '/etc/my proxy.yaml'"
        )
        self.assertEqual(self.command(str(self.folder / "config.yaml")), ".venv/bin/logging-proxy")
        self.assertEqual(self.command(None), ".venv/bin/logging-proxy")
