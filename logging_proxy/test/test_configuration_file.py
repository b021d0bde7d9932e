"""The configuration file itself: what cannot be read, and who may read it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, ConfigurationError, Problem, load_configuration
from logging_proxy.configuration.reading import MAX_BYTES

TOKEN = "logging_server:\n  token: correct-horse-battery\n"


class FileTests(SynchronousTestCase):
    """Loading a file."""

    def write(self, content: bytes, mode: int = 0o600) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def line(self, path: str) -> str:
        error = self.assertRaises(ConfigurationError, load_configuration, path, {})
        return str(error).removeprefix(path)

    def warned(self, path: str, **environ: str) -> list[Problem]:
        """The warnings, but the one about a file without routes."""
        warnings = load_configuration(path, environ).warnings
        return [warning for warning in warnings if warning.key_path != "routes"]

    def defaults(self, path: str) -> Configuration:
        """The defaults, in the directory of `path`."""
        default = Configuration()
        log_dir = os.path.join(os.path.dirname(os.path.abspath(path)), "logs")
        return replace(default, logging_server=replace(default.logging_server, log_dir=log_dir))

    def test_loads(self) -> None:
        """A file is read as UTF-8, with or without a byte order mark."""
        for content in (b"{}", b"\xef\xbb\xbf{}"):
            path = self.write(content)
            self.assertEqual(load_configuration(path, {}), self.defaults(path))

    def test_missing(self) -> None:
        """A file that is not there is one line without a position."""
        self.assertEqual(self.line("absent.yaml"), ": cannot be read: No such file or directory")

    def test_unreadable(self) -> None:
        """So is a directory, a file that is not ours to read, and a path that is none."""
        self.assertEqual(self.line("."), ": cannot be read: Is a directory")
        self.assertEqual(self.line("a\x00b").removeprefix("a\\x00b"), ": cannot be read: embedded null byte")
        if os.geteuid() != 0:
            self.assertEqual(self.line(self.write(b"{}", 0)), ": cannot be read: Permission denied")

    def test_not_utf8(self) -> None:
        """A byte that is not UTF-8 is reported where it stands, in characters."""
        self.assertEqual(
            self.line(self.write("{}\n# é".encode() + b"\xff")),
            ":2:4: not UTF-8: the byte 0xff does not belong here",
        )

    def test_too_large(self) -> None:
        """A file of 1 MiB is read, one byte more is refused."""
        blanks = b"{}\n".ljust(MAX_BYTES, b"\n")
        path = self.write(blanks)
        self.assertEqual(load_configuration(path, {}), self.defaults(path))
        self.assertEqual(
            self.line(self.write(blanks + b"\n")), ": larger than 1 MiB: expected a configuration"
        )

    def test_secret_file(self) -> None:
        """A token's file is read; one without a token, or none at all, is a mistake that does not name it."""
        secret = os.path.abspath(self.write(b"correct-horse-battery\n"))
        configuration = load_configuration(
            self.write(f"logging_server: {{token: {{file: {secret}}}}}".encode()), {}
        )
        token = configuration.logging_server.token
        assert token is not None
        self.assertEqual(token.value, "correct-horse-battery")
        for path in (self.write(b"\n"), self.write(b"hunter 2"), self.write(b"\xff"), self.mktemp()):
            other = os.path.abspath(path)
            line = self.line(self.write(f"logging_server: {{token: {{file: {other}}}}}".encode()))
            self.assertIn(": logging_server.token: the file", line)
            self.assertNotIn(other, line)

    def test_short_token(self) -> None:
        """A token that can be found by trying is warned of, without being named."""
        for token, warnings in (("fifteen-letters", 1), ("sixteen-letters!", 0)):
            path = self.write(f"logging_server: {{token: '{token}'}}".encode(), 0o600)
            found = self.warned(path)
            self.assertEqual(len(found), warnings)
            self.assertNotIn(token, "".join(map(str, found)))

    def test_exposed_token(self) -> None:
        """A token in a file that every user can read earns a warning, and nothing else does."""
        path = self.write(TOKEN.encode(), 0o644)
        (warning,) = self.warned(path)
        self.assertEqual(
            str(warning),
            f"{path}:2:3: logging_server.token: every local user can read it: "
            "make the file private, or use {file: path} or {env: NAME}",
        )
        self.assertEqual(self.warned(self.write(TOKEN.encode(), 0o640)), [])
        self.assertEqual(self.warned(self.write(b"{}", 0o644)), [])
        by_name = self.write(b"logging_server: {token: {env: T}}", 0o644)
        self.assertEqual(self.warned(by_name, T="correct-horse-battery"), [])

    def test_open_to_the_machine(self) -> None:
        """Captures that every user can read earn a warning, and so does what has no effect."""
        path = self.write(b"logging_server:\n  open_to: machine\n", 0o644)
        configuration = load_configuration(path, {})
        self.assertEqual(configuration.logging_server.open_to, "machine")
        self.assertEqual(
            [str(warning) for warning in self.warned(path)],
            [
                f"{path}:2:3: logging_server.open_to: every user of this machine can read all "
                "that is captured, keys included"
            ],
        )
        both = self.write(b"logging_server: {open_to: machine, token: correct-horse-battery}")
        (warning,) = self.warned(both)
        self.assertIn("this has no effect: logging_server.token is required from every client", str(warning))
        self.assertEqual(self.warned(self.write(b"logging_server: {open_to: user}")), [])

    def test_relative_paths(self) -> None:
        """Paths in the file start from its directory, wherever the process is; absolute ones stay."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "secret").write_text("correct-horse-battery\n")
        path = folder / "config.yaml"
        path.write_text(
            "logging: {spool_dir: spools, ring_dir: ../rings}\n"
            "logging_server: {log_dir: logs/here, token: {file: secret}}\n"
        )
        configuration = load_configuration(os.path.relpath(path), {})
        logging, server = configuration.logging, configuration.logging_server
        self.assertEqual(
            [logging.spool_dir, os.path.normpath(logging.ring_dir), server.log_dir],
            [f"{folder}/spools", f"{folder.parent}/rings", f"{folder}/logs/here"],
        )
        assert server.token is not None
        self.assertEqual(server.token.value, "correct-horse-battery")
        path.write_text("logging: {ring_dir: /r}\nlogging_server: {log_dir: /l}\n")
        configuration = load_configuration(str(path), {})
        found = (configuration.logging.ring_dir, configuration.logging_server.log_dir)
        self.assertEqual((found, configuration.logging.spool_dir), (("/r", "/l"), None))

    def test_pipe(self) -> None:
        """A configuration that comes through a pipe has no directory: its paths start from the process's."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"logging_server: {log_dir: logs}")
        os.close(writing)
        configuration = load_configuration(f"/dev/fd/{reading}", {})
        self.assertEqual(configuration.logging_server.log_dir, os.path.abspath("logs"))
