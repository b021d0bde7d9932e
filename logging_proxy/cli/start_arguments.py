"""The command line of the commands that start the proxy, prepare it, or explain: run, init, doctor, help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from logging_proxy.captures.names import RUN_NAME_FORM, is_run_name

_RUN_MORE = """

Without COMMAND the proxy of the configuration runs in the foreground until Ctrl-C: the same as
`twistd -n logging-proxy`. Without config.yaml the built-in routes apply (see `logging-proxy init`).

With COMMAND a proxy of its own serves this one program. The variables of the routes, such as
OPENAI_BASE_URL, lead COMMAND there, and LOGGING_PROXY_BASE_URL has the proxy's own address. The
exchanges are marked as one run. The exit status is COMMAND's."""

_RUN_EXAMPLES = """\
examples:
  logging-proxy run
  logging-proxy run --to http://127.0.0.1:1234 --port 8000
  logging-proxy run -- python agent.py
  logging-proxy run --name nightly -- claude -p "hello"
  logging-proxy ls --run nightly"""

_INIT_EXAMPLES = """\
examples:
  logging-proxy init
  logging-proxy init --config proxies/config.yaml --force"""

_DOCTOR_MORE = """

Checks the configuration, ports, destinations, disk, ring buffer, clock and compiled parts. To each
destination a connection is opened, and TLS verified; no request is sent. Exit status: 0 if the
proxy can work, else 1."""

_DOCTOR_EXAMPLES = """\
examples:
  logging-proxy doctor
  logging-proxy doctor --config config.yaml --json"""

_HELP_EXAMPLES = """\
examples:
  logging-proxy help
  logging-proxy help run"""


def add_start_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to a parser's subcommands; `common` are the options that all commands take."""
    _add_run(commands)
    _add_init(commands)
    doctor = _add(commands, "doctor", "check whether the proxy can work here", _DOCTOR_MORE, _DOCTOR_EXAMPLES)
    _add_configuration(doctor)
    _add_overrides(doctor)
    doctor.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON lines")
    help_ = _add(commands, "help", "show help, for all or for one command", "", _HELP_EXAMPLES)
    help_.add_argument("topic", metavar="COMMAND", nargs="?", help="a command")


def _add(commands: Any, name: str, summary: str, more: str, examples: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{more}",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return added


def _add_run(commands: Any) -> None:
    run = _add(commands, "run", "start the proxy, or a program behind it", _RUN_MORE, _RUN_EXAMPLES)
    run.usage = "logging-proxy run [options] [-- COMMAND [ARGUMENT ...]]"
    _add_configuration(run)
    _add_overrides(run)
    run.add_argument(
        "--name", type=run_name, help="name of the run (with COMMAND; default: made from COMMAND)"
    )
    run.add_argument("words", metavar="COMMAND", nargs="*", help="a program and its arguments, after --")


def _add_init(commands: Any) -> None:
    init = _add(commands, "init", "write a configuration file, with comments", "", _INIT_EXAMPLES)
    _add_configuration(init)
    init.add_argument("--force", action="store_true", help="replace an existing file")


def _add_configuration(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=given,
        default=argparse.SUPPRESS,
        help="configuration file (default: config.yaml)",
    )


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--to", metavar="URL", type=given, help="forward everything there, in place of the routes"
    )
    command.add_argument("--port", type=int, help="port to listen on, in place of server.port")
    command.add_argument(
        "--log-dir",
        metavar="DIR",
        type=given,
        default=argparse.SUPPRESS,
        help="directory for captures, in place of logging_server.log_dir",
    )


def given(text: str) -> str:
    """Refuse an empty argument: usually an unset shell variable, not a wish for the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("nothing is given")
    if "\0" in text:
        raise argparse.ArgumentTypeError("contains a NUL character")
    return text


def run_name(text: str) -> str:
    """The name of a run."""
    if not is_run_name(text):
        raise argparse.ArgumentTypeError(f"expected {RUN_NAME_FORM}")
    return text


def split_program(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """
    The arguments before the first `--`, and those after it if the command may be `run`, else None.

    argparse would remove every further `--` of the program's own arguments, depending on its version.
    """
    before, after = list(arguments), None
    if "--" in before:
        at = before.index("--")
        if "run" in before[:at]:
            before, after = before[:at], before[at + 1 :]
    return before, after
