"""The command line's part in the configuration: which file applies, and which options replace its keys."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import logging_proxy
from logging_proxy.configuration import Configuration, ConfigurationError, read_configuration
from logging_proxy.configuration.overlay import Given
from logging_proxy.configuration.shipped import shipped_text
from logging_proxy.service.chosen import choose, route_name

FILE = """\
server:
  port: 6000
logging_server:
routes:
  one: {pattern: "/one/", destination: "http://127.0.0.1:9/"}
"""


class ShippedTests(SynchronousTestCase):
    def test_loads(self) -> None:
        """The built-in configuration has no mistakes and no warnings, and leads to the usual providers."""
        shipped = read_configuration(shipped_text(), "built-in", {})
        self.assertEqual(shipped.warnings, ())
        self.assertEqual(
            [route.name for route in shipped.routes], ["lmstudio", "openrouter", "openai", "anthropic"]
        )

    def test_one_text(self) -> None:
        """The file at the top of the source tree is the one that `logging-proxy init` writes."""
        path = Path(logging_proxy.__file__).resolve().parents[1] / "config.yaml"
        if not path.exists():
            raise SkipTest("the source tree is not part of this installation")
        self.assertEqual(path.read_text("utf-8"), shipped_text())


class ChosenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def load(self, **options: str) -> Configuration:
        return choose(**options).load({})

    def mistakes(self, **options: str) -> list[str]:
        return str(self.assertRaises(ConfigurationError, self.load, **options)).splitlines()

    def test_file_or_built_in(self) -> None:
        """`config.yaml` applies if it exists, else the built-in configuration; a named file must exist."""
        self.assertEqual(self.load().server.port, 5601)
        Path("config.yaml").write_text(FILE)
        self.assertEqual(self.load().server.port, 6000)
        self.assertEqual(
            self.mistakes(config="other.yaml"), ["other.yaml: cannot be read: No such file or directory"]
        )

    def test_captures_beside_the_file(self) -> None:
        """Without a file captures go to `logs` in the working directory, where `--log-dir` starts as well."""
        here = os.getcwd()
        self.assertEqual(self.load().logging_server.log_dir, os.path.join(here, "logs"))
        Path("below").mkdir()
        Path("below/config.yaml").write_text(FILE)
        file = {"config": "below/config.yaml"}
        self.assertEqual(self.load(**file).logging_server.log_dir, os.path.join(here, "below", "logs"))
        self.assertEqual(self.load(**file, log_dir="x").logging_server.log_dir, os.path.join(here, "x"))

    def test_options(self) -> None:
        """Options replace keys, also in a section that is absent or empty; the rest of the file applies."""
        Path("config.yaml").write_text(FILE)
        loaded = self.load(to="https://llm.example/v1", port="7000", log_dir="/captures")
        self.assertEqual((loaded.server.port, loaded.logging_server.log_dir), (7000, "/captures"))
        (route,) = loaded.routes
        self.assertEqual((route.name, str(route.pattern)), ("llm.example", "/"))
        self.assertEqual((route.destination.host, route.destination.path), ("llm.example", b"/v1"))
        self.assertEqual([route.name for route in self.load(port="1").routes], ["one"])

    def test_mistakes(self) -> None:
        """A mistake in an option is told of the option, one in the file of its line."""
        Path("config.yaml").write_text(FILE.replace("6000", "x"))
        for options, told in (
            ({"to": "nonsense", "port": "1"}, "--to: must start with http:// or https://"),
            ({"port": "70000"}, "--port: expected a port from 0 to 65535, not 70000"),
            ({"to": "http://127.0.0.1:8080", "port": "1"}, "--to: this is the embedded logging server's own"),
            ({}, "config.yaml:2:3: server.port: "),
        ):
            (line,) = self.mistakes(**options)
            self.assertTrue(line.startswith(told), line)

    def test_reload_from_another_directory(self) -> None:
        """A process that has moved reads the same file, and the one that was made since."""
        chosen = choose().absolute()
        Path("config.yaml").write_text(FILE)
        os.chdir("/")
        self.assertEqual(chosen.load({}).server.port, 6000)

    def test_route_names(self) -> None:
        """The one route has its destination's host as a name, whatever the URL is."""
        for url, name in (
            ("http://[::1]:80/", "::1"),
            ("http://[", "to"),
            ("x", "to"),
            ("http://A.b/", "a.b"),
        ):
            self.assertEqual(route_name(url), name)

    @given(st.text(), st.lists(st.sampled_from(["server", "port", "x"]), min_size=1, max_size=3))
    def test_any_file(self, text: str, path: list[str]) -> None:
        """Whatever the file is, options lead to a configuration or to mistakes."""
        try:
            read_configuration(text, "f", {}, given=(Given("--x", tuple(path), 1),))
        except ConfigurationError as error:
            self.assertTrue(error.problems)
