"""The token that the logging server makes for itself."""

from __future__ import annotations

import os
import stat
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.web import access
from logging_proxy.logserver.web.access import kept_token
from logging_proxy.recording import token_file
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import keep_token, token_for


def read_token(log_dir: str) -> str | None:
    """The token of a log directory, for a server of whom nothing can be told."""
    return token_for("http://localhost:8080", log_dir, lambda address, port: None)


class TokenFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        self.path = os.path.join(self.log_dir, ".token")

    def test_made(self) -> None:
        """The first start makes the directory and the token, which only we can read; nothing else is left."""
        token = keep_token(self.log_dir)
        self.assertRegex(token, r"\A[A-Za-z0-9_-]{43}\Z")
        self.assertEqual(os.listdir(self.log_dir), [".token"])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.log_dir).st_mode), 0o700)
        self.assertEqual(read_token(self.log_dir), token)

    def test_kept(self) -> None:
        """Later starts have the same; another directory has another; a deleted one is made anew."""
        token = keep_token(self.log_dir)
        self.assertEqual(keep_token(self.log_dir), token)
        self.assertNotEqual(keep_token(os.path.abspath(self.mktemp())), token)
        os.unlink(self.path)
        self.assertNotEqual(keep_token(self.log_dir), token)

    def test_private_whatever_the_umask(self) -> None:
        """The mode does not depend on the umask."""
        old = os.umask(0)
        try:
            keep_token(self.log_dir)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_not_private(self) -> None:
        """A token that others may have read, or that is known under another name, is replaced."""
        token = keep_token(self.log_dir)
        os.chmod(self.path, 0o640)
        second = keep_token(self.log_dir)
        self.assertNotEqual(second, token)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        os.link(self.path, os.path.join(self.log_dir, "link"))
        self.assertNotEqual(keep_token(self.log_dir), second)

    def test_not_whole(self) -> None:
        """What is no whole token, as damage leaves it, is replaced, and is none for who reads."""
        for content in (b"", b"\0" * 44, b"short\n", b"A" * 43, b"A" * 44 + b"\n", b"\xff" * 43 + b"\n"):
            os.makedirs(self.log_dir, 0o700, exist_ok=True)
            with open(self.path, "wb") as file:
                file.write(content)
            os.chmod(self.path, 0o600)
            self.assertIsNone(read_token(self.log_dir))
            token = keep_token(self.log_dir)
            self.assertEqual(read_token(self.log_dir), token)

    def test_links(self) -> None:
        """A link is not followed: not where it leads, nor for what is written."""
        elsewhere = os.path.abspath(self.mktemp())
        os.makedirs(self.log_dir, 0o700)
        with open(elsewhere, "wb") as file:
            file.write(b"A" * 43 + b"\n")
        for name in (".token", ".token.tmp"):
            os.symlink(elsewhere, os.path.join(self.log_dir, name))
        self.assertIsNone(read_token(self.log_dir))
        token = keep_token(self.log_dir)
        self.assertNotEqual(token, "A" * 43)
        self.assertFalse(os.path.islink(self.path))
        with open(elsewhere, "rb") as file:
            self.assertEqual(file.read(), b"A" * 43 + b"\n")

    def test_pipes(self) -> None:
        """Whatever lies there under the name, nothing waits for it."""
        os.makedirs(self.log_dir, 0o700)
        os.mkfifo(self.path, 0o600)
        self.assertIsNone(read_token(self.log_dir))
        self.assertEqual(keep_token(self.log_dir), read_token(self.log_dir))

    def test_whole_or_nothing(self) -> None:
        """A start that fails while it writes leaves no token, and the next one is not in its way."""
        real = os.fsync

        def fail(fd: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        self.assertRaises(OSError, keep_token, self.log_dir)
        self.assertIsNone(read_token(self.log_dir))
        self.patch(os, "fsync", real)
        self.assertEqual(keep_token(self.log_dir), read_token(self.log_dir))
        self.assertEqual(os.listdir(self.log_dir), [".token"])

    def test_unsafe_directory(self) -> None:
        """In a directory that others may write to no token is kept."""
        os.makedirs(self.log_dir)
        os.chmod(self.log_dir, 0o777)
        self.assertRaises(UnsafeDirectory, keep_token, self.log_dir)
        self.assertEqual(os.listdir(self.log_dir), [])

    def test_nothing_to_read(self) -> None:
        """Who reads gets no token where there is no directory, or none in it; nothing is made."""
        self.assertIsNone(read_token(self.log_dir))
        os.makedirs(self.log_dir)
        self.assertIsNone(read_token(self.log_dir))
        self.assertEqual(os.listdir(self.log_dir), [])


class TokenForTests(SynchronousTestCase):
    """Who is given the token of a log directory."""

    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        self.token = keep_token(self.log_dir)
        self.listening: dict[tuple[str, int], int | None] = {}

    def given(self, url: str) -> str | None:
        return token_for(url, self.log_dir, lambda address, port: self.listening.get((str(address), port)))

    def test_this_machine(self) -> None:
        """A server on this machine, of whom nothing is told or that nobody runs now."""
        for url in (
            "http://localhost:8080",
            "http://127.0.0.1:8080/",
            "http://[::1]:8080",
            "https://localhost/logs",
        ):
            self.assertEqual(self.given(url), self.token, url)

    def test_elsewhere(self) -> None:
        """No other machine, and nothing that is no URL."""
        for url in ("http://logs.example:8080", "http://10.0.0.1", "https://[2001:db8::1]", "http://a:b", ""):
            self.assertIsNone(self.given(url), url)

    def test_own_server(self) -> None:
        """The one that the token's owner runs, or root."""
        for user in (os.geteuid(), 0):
            self.listening = {("127.0.0.1", 8080): user, ("::1", 8080): user}
            self.assertEqual(self.given("http://localhost:8080"), self.token)

    def test_somebody_else(self) -> None:
        """Nobody else who listens there, on whichever address of `localhost`."""
        stranger = os.geteuid() + 1
        for listener in (("127.0.0.1", 8080), ("::1", 8080)):
            self.listening = {listener: stranger}
            self.assertIsNone(self.given("http://localhost:8080"))
            self.assertEqual(self.given("http://localhost:8081"), self.token)
        self.listening = {("127.0.0.1", 80): stranger}
        self.assertIsNone(self.given("http://127.0.0.1"))
        self.listening = {("127.0.0.1", 443): stranger}
        self.assertIsNone(self.given("https://127.0.0.1"))

    def test_not_shown(self) -> None:
        """No text that is made of what was found holds it."""
        found = token_file._stored_token(self.log_dir)
        self.assertNotIn(self.token, f"{found} {found!r}")


class NotKeptTests(SynchronousTestCase):
    def test_nobody_knows_it(self) -> None:
        """Where no token can be kept there is one that nobody knows, another each time, and that is said."""
        said: list[dict[str, Any]] = []
        self.patch(access._log, "observer", said.append)
        log_dir = os.path.abspath(self.mktemp())
        with open(log_dir, "w"):
            pass
        first, second = kept_token(log_dir), kept_token(log_dir)
        self.assertGreaterEqual(len(first), 43)
        self.assertNotEqual(first, second)
        self.assertEqual([event["reason"] for event in said], [f"{log_dir}: Not a directory"] * 2)
        self.assertNotIn(first, str(said))
