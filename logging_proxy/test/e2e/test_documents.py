"""What README and documents show works: configurations, commands, and requests."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.configuration import load_configuration, read_configuration
from logging_proxy.demo.processes import Program, is_listening
from logging_proxy.test.e2e.case import (
    ROOT,
    RUNNING,
    START_TIMEOUT,
    EndToEndCase,
    Setup,
    environment,
    is_running,
    run_twistd,
    twistd,
    wait_until,
    write_configuration,
)

CONFIGURATION = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:sh|shell|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?((?:twistd|make) [^#\n]*)", re.MULTILINE)
INLINE = re.compile(r"`(twistd [^`\n]* --config config\.yaml)`")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")
CURL = re.compile(r"^((?:printf .* \| )?curl (?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)


def pages() -> dict[str, str]:
    """The texts of README and documents by file name; the test is skipped without them."""
    if not (ROOT / "docs").is_dir():
        raise SkipTest("the documents are not part of this installation")
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    return {path.name: path.read_text("utf-8") for path in paths}


def commands(program: str) -> list[list[str]]:
    """The arguments of every command of the documents that runs `program`, in blocks and in the text."""
    text = "\n".join(pages().values())
    lines = [line for block in SHELL.findall(text) for line in COMMAND.findall(block)] + INLINE.findall(text)
    found = [shlex.split(line) for line in dict.fromkeys(lines)]
    return [words[1:] for words in found if words[0] == program]


class ConfigurationTests(SynchronousTestCase):
    def test_blocks(self) -> None:
        """Every YAML block is a configuration, or a part of one, without a mistake."""
        blocks = [(name, block) for name, text in pages().items() for block in CONFIGURATION.findall(text)]
        self.assertTrue(blocks)
        shipped = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
        for name, block in blocks:
            # A block that shows one section is read with the shipped file's others.
            part = yaml.safe_load(block)
            text = block if "routes" in part else yaml.safe_dump({**shipped, **part})
            read_configuration(text, name, {"LOGGING_PROXY_TOKEN": "x" * 32})

    def test_shipped(self) -> None:
        """The shipped configuration has no mistake, and is the one that the documents show."""
        block = CONFIGURATION.search(pages()["configuration.md"])
        assert block is not None
        self.assertEqual(block[1], (ROOT / "config.yaml").read_text("utf-8"))
        names = [route.name for route in load_configuration(str(ROOT / "config.yaml"), {}).routes]
        self.assertIn("lmstudio", names)


class LinkTests(SynchronousTestCase):
    def test_files(self) -> None:
        """Every link to a file of the project leads to one."""
        for name, text in pages().items():
            folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
            missing = [link for link in LINK.findall(text) if not (folder / link).exists()]
            self.assertEqual(missing, [], name)


class CommandTests(EndToEndCase):
    def test_curl(self) -> None:
        """Every request that docs/api.md shows is answered, and none as a mistake of the caller's."""
        if shutil.which("curl") is None:
            raise SkipTest("there is no curl here")
        block = "\n".join(SHELL.findall(pages()["api.md"]))
        setup = self.configure(9)
        self.start_proxy(setup)
        shown = CURL.findall(block)
        self.assertGreater(len(shown), 3)
        for command in shown:
            here = command.replace("localhost:8080", f"127.0.0.1:{setup.logging_port}")
            script = here.replace("curl ", "curl -s -o answer -w '%{http_code}' ").replace("-O -J ", "")
            done = subprocess.run(
                script, shell=True, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
            self.assertEqual(done.returncode, 0, command)
            # 404 is right for the capture that is an example only.
            self.assertIn(done.stdout, ("200", "201", "404"), command)

    def test_make(self) -> None:
        """Every target that the documents name is one of the Makefile's."""
        named = {word for words in commands("make") for word in words if "=" not in word and "/" not in word}
        targets = set(TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
        self.assertTrue(named)
        self.assertLessEqual(named, targets)

    def test_twistd(self) -> None:
        """Every twistd command starts what it names, in the foreground or as a daemon."""
        shown = commands("twistd")
        self.assertTrue(shown)
        for number, words in enumerate(shown):
            folder = self.folder / str(number)
            folder.mkdir()
            setup = write_configuration(
                folder, {"up": {"pattern": "/", "destination": "http://127.0.0.1:9/"}}
            )
            port = setup.port if "logging-proxy" in words else setup.logging_port
            if "-n" in words:
                self.assert_foreground(words, setup, port)
            else:
                self.assert_daemon(words, setup, port)

    def assert_foreground(self, words: list[str], setup: Setup, port: int) -> None:
        """The command listens on `port` until it is ended, and then succeeds."""
        folder = setup.path.parent
        output = folder / "output"
        with Program("twistd", twistd(*words), output, folder=folder, environment=environment()) as program:
            program.wait_until(lambda: is_running(program), START_TIMEOUT)
            self.assertTrue(is_listening("127.0.0.1", port), words)
            self.assertEqual(program.stop(), 0, f"{words}: {program.last_words()}")

    def assert_daemon(self, words: list[str], setup: Setup, port: int) -> None:
        """The command returns, and its daemon listens on `port` until it is ended."""
        done = run_twistd(setup.path.parent, *words)
        self.assertEqual(done.returncode, 0, done)
        given = dict(word.split("=") for word in words if "=" in word)
        pidfile = setup.path.parent / given.get("--pidfile", "twistd.pid")
        logfile = setup.path.parent / given.get("--logfile", "twistd.log")
        runs = wait_until(lambda: logfile.exists() and RUNNING in logfile.read_text(), START_TIMEOUT)
        listens = is_listening("127.0.0.1", port)
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        self.assertTrue(runs and listens, words)
        self.assertTrue(wait_until(lambda: not pidfile.exists()), words)
