"""The commands that start, prepare and explain: run, init, help, and the command alone."""

from __future__ import annotations

import io
import os
import shlex
from contextlib import redirect_stderr
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.names import is_run_name
from logging_proxy.cli.arguments import command_names, parse
from logging_proxy.cli.behind import replaced, variables_for
from logging_proxy.cli.program import CannotStart, find_program
from logging_proxy.cli.starting import name_for, service_arguments
from logging_proxy.configuration import load_configuration
from logging_proxy.configuration.shipped import shipped_text
from logging_proxy.test.cli_stage import command
from logging_proxy.test.index_stage import write_capture


class ArgumentTests(SynchronousTestCase):
    def error(self, line: str) -> str:
        err = io.StringIO()
        with redirect_stderr(err):
            end = self.assertRaises(SystemExit, parse, shlex.split(line))
        self.assertEqual(end.code, 2)
        self.assertEqual(err.getvalue().count("\n"), 1)
        return err.getvalue()

    def test_program(self) -> None:
        """Everything after the first `--` of `run` is the program's, further ones included."""
        for line, program in (
            ("run", None),
            ("run --to http://h/", None),
            ("run -- cat", ["cat"]),
            ("run --port 1 -- npm run x -- --flag -- y", ["npm", "run", "x", "--", "--flag", "--", "y"]),
            ("--config c run -- python -c 'a b' --help", ["python", "-c", "a b", "--help"]),
            ("run -- --", ["--"]),
        ):
            self.assertEqual(parse(shlex.split(line)).program, program, line)

    def test_other_commands(self) -> None:
        """For other commands `--` means what it does elsewhere."""
        self.assertEqual(parse(["search", "--", "-a", "run"]).text, ["-a", "run"])
        self.assertEqual(parse(["search", "run", "--", "-a"]).text, ["run", "-a"])

    def test_mistakes(self) -> None:
        """A program without `--`, a `--` without a program, and a name without a run are told in one line."""
        for line, words in (
            ("run python agent.py", "-- is missing before the command: logging-proxy run -- python agent.py"),
            ("run --", "a command is missing after --"),
            ("run --name x", "--name is for a command"),
            ("run --name -x -- cat", "expected one argument"),
            ("run --name 'a b' -- cat", "expected 1 to 64 letters"),
            ("run --to '' -- cat", "nothing is given"),
            ("run --port x", "invalid int value"),
        ):
            self.assertIn(words, self.error(line), line)

    def test_service(self) -> None:
        """The service gets the options that were given, wherever they stand."""
        options = parse(shlex.split("--config c.yaml run --port 0 --log-dir d --to http://h/ -- cat"))
        self.assertEqual(
            service_arguments(options), ["--config=c.yaml", "--to=http://h/", "--port=0", "--log-dir=d"]
        )
        self.assertEqual(service_arguments(parse(["run"])), [])

    def test_names(self) -> None:
        """A run has a name of its own, made from its program, that every place takes."""
        for program, start in (("/usr/bin/python3", "python3-"), ("agent.py", "agent.py-"), ("é ;", "run-")):
            name = name_for(program)
            self.assertTrue(name.startswith(start), name)
            self.assertTrue(is_run_name(name))
            self.assertNotEqual(name, name_for(program))
        self.assertTrue(is_run_name(name_for("x" * 300)))


class VariableTests(SynchronousTestCase):
    def test_own_address_past_proxies(self) -> None:
        """A program that uses outbound proxies does not use them for ours; nothing is added otherwise."""
        ours = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
        self.assertEqual(variables_for({"A": "b"}, ours), {"A": "b", **ours})
        for environ, expected in (
            ({"https_proxy": "http://p:1"}, "127.0.0.1,localhost"),
            ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".corp"}, ".corp,127.0.0.1,localhost"),
            ({"ALL_PROXY": "socks5://p:1", "no_proxy": "a", "NO_PROXY": "b"}, "a,127.0.0.1,localhost"),
        ):
            made = variables_for(environ, ours)
            self.assertEqual((made["no_proxy"], made["NO_PROXY"]), (expected, expected))
        self.assertNotIn("NO_PROXY", variables_for({"HTTP_PROXY": ""}, ours))

    def test_told_where_it_led(self) -> None:
        """A base URL that led elsewhere is named, without secrets: its keys go to another place now."""
        ours = {"A": "http://127.0.0.1:1/v1", "B": "http://127.0.0.1:1", "C": "http://127.0.0.1:1"}
        before = {"A": "https://user:secret@llm.example/v1", "B": "", "C": "http://127.0.0.1:1", "D": "x"}
        (line,) = replaced(before, ours)
        self.assertIn("A was https://", line)
        self.assertIn("llm.example/v1", line)
        self.assertNotIn("secret", line)

    def test_ours_win(self) -> None:
        """A base URL that was set before is replaced: COMMAND shall come through the proxy."""
        self.assertEqual(variables_for({"X": "old"}, {"X": "new"}), {"X": "new"})


class ProgramTests(SynchronousTestCase):
    def test_found(self) -> None:
        """A program is found in PATH or at its path; the status without one is that of a shell."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        program, text = folder / "agent", folder / "text"
        program.write_text("")
        program.chmod(0o755)
        text.write_text("")
        path = {"PATH": str(folder)}
        self.assertEqual(find_program("agent", path), str(program))
        self.assertEqual(find_program(str(program), {}), str(program))
        for name, status in (("nothing", 127), ("text", 127), (str(text), 126), (str(folder / "no"), 127)):
            self.assertEqual(self.assertRaises(CannotStart, find_program, name, path).status, status, name)


class FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)


class InitTests(FolderCase):
    def test_writes(self) -> None:
        """The file has the shipped text, loads, and the next command is said."""
        status, out, err = command("init")
        self.assertEqual((status, err.text), (0, ""))
        self.assertEqual(Path("config.yaml").read_text(), shipped_text())
        self.assertIn("logging-proxy run", out.text)
        self.assertEqual(len(load_configuration("config.yaml", {}).routes), 4)
        self.assertEqual(os.listdir(), ["config.yaml"])

    def test_keeps(self) -> None:
        """An existing file stays as it is, unless `--force` says otherwise."""
        Path("own.yaml").write_text("mine")
        status, _, err = command("init", "--config", "own.yaml")
        self.assertEqual(status, 1)
        self.assertEqual(err.text, "logging-proxy: own.yaml exists already; --force replaces it\n")
        self.assertEqual(Path("own.yaml").read_text(), "mine")
        status, out, _ = command("init", "--config", "own.yaml", "--force")
        self.assertEqual((status, Path("own.yaml").read_text()), (0, shipped_text()))
        self.assertIn("logging-proxy run --config own.yaml", out.text)
        self.assertEqual(os.listdir(), ["own.yaml"])

    def test_nowhere(self) -> None:
        """A file that cannot be written is one line."""
        status, _, err = command("init", "--config", "no/such/config.yaml")
        self.assertEqual(status, 1)
        self.assertIn("No such file or directory", err.text)
        self.assertEqual(err.text.count("\n"), 1)

    def test_environment(self) -> None:
        """What would prevent the start is said: here a proxy variable without a usable URL."""
        status, _, err = command("init", environ={"https_proxy": "nonsense://x"})
        self.assertEqual(status, 1)
        self.assertIn("https_proxy", err.text)


class OverviewTests(FolderCase):
    def test_before_the_first(self) -> None:
        """Where nothing was captured yet, two ways to begin are shown, and the commands; that is no error."""
        Path("config.yaml").write_text(
            "logging_server: {port: 1, host: 127.0.0.1}\n"
            "routes: {a: {pattern: /, destination: 'http://127.0.0.1:9/'}}\n"
        )
        status, out, err = command()
        self.assertEqual((status, err.text), (0, ""))
        self.assertIn("logging-proxy run -- python agent.py", out.text)
        for name in command_names():
            self.assertIn(name, out.text)

    def test_newest(self) -> None:
        """With captures it is the newest ten, and the commands."""
        os.mkdir("logs", 0o700)
        for number in range(1, 13):
            write_capture("logs", number)
        status, out, _ = command("--log-dir", "logs")
        self.assertEqual(status, 0)
        lines = out.text.splitlines()
        self.assertEqual(len(lines), 1 + 10 + 2)
        self.assertIn("Commands: run, ", lines[-1])

    def test_unreachable(self) -> None:
        """A server that was asked for and does not answer is told of."""
        status, _, err = command("--url", "http://127.0.0.1:1")
        self.assertEqual(status, 0)
        self.assertIn("no logging server listens there", err.text)


class HelpTests(SynchronousTestCase):
    def test_all_and_one(self) -> None:
        """`help` shows what `--help` does, `help COMMAND` what `COMMAND --help` does."""
        self.assertIn("exit status: 0", command("help")[1].text)
        for name in command_names():
            self.assertIn(f"logging-proxy {name}", command("help", name)[1].text)

    def test_unknown(self) -> None:
        """An unknown command is told, with the nearest one."""
        status, _, err = command("help", "rnu")
        self.assertEqual(
            (status, err.text), (1, "logging-proxy: rnu: no such command, did you mean 'run'?\n")
        )
        self.assertIn("expected one of run, init", command("help", "\x1b[2J")[2].text)
