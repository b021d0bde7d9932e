"""The command line: commands, options and help texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from logging_proxy._version import __version__
from logging_proxy.cli.start_arguments import add_start_commands, given, split_program
from logging_proxy.index.columns import FILTERS
from logging_proxy.service.console import safe

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_DESCRIPTION = """\
Start Logging Proxy, and inspect its captures: list, show, search, follow, export.

Without a command: the newest exchanges.

Captures are read from a logging server, or directly from a log directory:
  --log-dir DIR        the files in a directory
  --url URL            the logging server at a URL (or LOGGING_PROXY_URL)
  --config FILE        the logging server of a configuration (default:
                       config.yaml), or its log_dir if the server does not run
The server's token is taken from LOGGING_PROXY_TOKEN or from the configuration."""

_EXAMPLES = """\
examples:
  logging-proxy run                            start the proxy
  logging-proxy run -- python agent.py         start a program behind a proxy of its own
  logging-proxy ls --status 5xx --since 2h     recent server errors
  logging-proxy show 092d                      one exchange, by the first 4 or more digits of its id
  logging-proxy show 092d --stream             the events of its stream, with arrival times
  logging-proxy search "rate limit" -n 5       full-text search
  logging-proxy tail                           follow exchanges as they happen
  logging-proxy export 092d --curl             a curl command that repeats the request
  logging-proxy ls --json | jq -r .model       JSON lines for other programs

exit status: 0 on success, 1 if the exchange was not found or another error occurred, 2 for an invalid
command line"""

_TIMES = "how long ago (90m, 2h, '1 day'), 10:30, 'yesterday 14:00', a date, or ISO 8601"


class _Parser(argparse.ArgumentParser):
    """Prints an error as one line, without control characters."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {safe(message)}; see {self.prog} --help\n")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """As argparse's, which since Python 3.12 hides that the help cannot be written."""
        (file or sys.stdout).write(self.format_help())


def parser() -> argparse.ArgumentParser:
    """The parser for the whole command line."""
    return _parser_and_commands()[0]


def _parser_and_commands() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    common = _common()
    top = _Parser(
        prog="logging-proxy",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"logging-proxy {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    _Commands(commands, common).add_all()
    return top, commands.choices


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; `program` has the words after `--` of the command `run`.  Raises SystemExit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    before, program = split_program(arguments)
    options = parser().parse_args(before)
    if program is not None and options.command != "run":
        return parser().parse_args(arguments)
    if options.command == "run":
        _check_program(options, program)
    return options


def _check_program(options: argparse.Namespace, program: list[str] | None) -> None:
    run = _parser_and_commands()[1]["run"]
    if options.words:
        run.error(f"-- is missing before the command: logging-proxy run -- {' '.join(options.words)}")
    if program is not None and not program:
        run.error("a command is missing after --")
    if options.name is not None and program is None:
        run.error("--name is for a command: logging-proxy run --name NAME -- COMMAND")
    options.program = program


def command_names() -> list[str]:
    """The commands, in the order of the help."""
    return list(_parser_and_commands()[1])


def help_text(command: str | None = None) -> str:
    """The help of a command, or of all.  Raises KeyError for an unknown one."""
    top, commands = _parser_and_commands()
    return (top if command is None else commands[command]).format_help()


def _common() -> argparse.ArgumentParser:
    """Options accepted both before and after the command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("source and output")
    group.add_argument(
        "-c", "--config", metavar="FILE", type=given, help="configuration file (default: config.yaml)"
    )
    group.add_argument(
        "--url", metavar="URL", type=given, help="logging server, such as http://localhost:8080"
    )
    group.add_argument(
        "--log-dir", metavar="DIR", type=given, help="read a directory of captures, without a server"
    )
    group.add_argument("--json", action="store_true", help="print JSON lines")
    group.add_argument("--color", metavar="WHEN", choices=("auto", "always", "never"), help=_COLOUR)
    return common


_COLOUR = "auto (on a terminal, unless NO_COLOR is set), always or never"


class _Commands:
    def __init__(self, commands: Any, common: argparse.ArgumentParser) -> None:
        self._commands = commands
        self._parents = [common]

    def add_all(self) -> None:
        add_start_commands(self._commands, self._parents[0])
        self._ls()
        self._show()
        self._search()
        self._tail()
        self._export()
        self._stats()
        self._reindex()

    def _add(self, name: str, summary: str, more: str = "", examples: str = "") -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.{more}",
            epilog=examples and f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=self._parents,
            allow_abbrev=False,
        )
        return added

    def _ls(self) -> None:
        ls = self._add(
            "ls",
            "list exchanges, newest first",
            "\n\nSENT and RECEIVED are the sizes of the bodies, TIME is the duration of the exchange.",
            "  logging-proxy ls -n 10\n"
            "  logging-proxy ls --route openai --status 4xx --since yesterday\n"
            "  logging-proxy ls --outcome upstream_reset --model gpt-5 --json",
        )
        _add_filters(ls, times=True)
        _add_limit(ls, 50)

    def _show(self) -> None:
        show = self._add(
            "show",
            "show one exchange: the conversation with a model, or heads and bodies, decoded",
            "\n\nJSON is indented, long bodies are cut unless --body is given, secrets are REDACTED.",
            "  logging-proxy show\n"
            "  logging-proxy show 092d0424 --http\n"
            "  logging-proxy show 092d --headers\n"
            "  logging-proxy show 092d --body response | less -R\n"
            "  logging-proxy show 092d --raw --reveal --body response > answer.gz",
        )
        _add_id(show)
        part = show.add_mutually_exclusive_group()
        part.add_argument("--http", action="store_true", help="show heads and bodies, not the conversation")
        part.add_argument("--headers", action="store_true", help="show the heads only")
        part.add_argument("--body", choices=("request", "response"), help="show this body only, in full")
        part.add_argument(
            "--stream", action="store_true", help="show the response as events, with arrival times"
        )
        show.add_argument("--raw", action="store_true", help="write the captured bytes, without decoding")
        _add_reveal(show)

    def _search(self) -> None:
        search = self._add(
            "search",
            "find exchanges by the text of their bodies",
            '\n\nMatches whole words, ignoring case. Also: "a phrase", -without, begin* (quoted).',
            "  logging-proxy search timeout\n"
            "  logging-proxy search '\"rate limit\" -retry' --since 7d --model claude-sonnet-4-5",
        )
        search.add_argument("text", metavar="TEXT", nargs="+", type=given, help="text to search for")
        _add_filters(search, times=True)
        _add_limit(search, 20)

    def _tail(self) -> None:
        tail = self._add(
            "tail",
            "follow exchanges as they happen, until Ctrl-C",
            "\n\nOn a terminal, exchanges under way are shown at the bottom and updated. Without a server\n"
            "the log directory is watched, and exchanges are shown when they have ended.",
            "  logging-proxy tail\n  logging-proxy tail -n 0 --route anthropic --json",
        )
        _add_filters(tail, times=False)
        _add_limit(tail, 10, "number of past exchanges to begin with", least=0)

    def _export(self) -> None:
        export = self._add(
            "export",
            "export an exchange for other programs",
            "\n\nIn a curl command, secrets are replaced by variables such as $OPENAI_API_KEY, and a body\n"
            "that is binary, or too long for an argument, is written to a file. The URL is the one that\n"
            "the client used, so that the request passes the proxy again; with --direct it is the\n"
            "destination's.",
            "  logging-proxy export 092d --curl\n"
            "  logging-proxy export 092d --curl --direct -o body.bin\n"
            "  logging-proxy export 092d --raw --reveal --half response -o response.bin",
        )
        _add_id(export)
        form = export.add_mutually_exclusive_group(required=True)
        form.add_argument("--curl", action="store_true", help="a curl command")
        form.add_argument("--raw", action="store_true", help="the captured HTTP message")
        export.add_argument(
            "--half",
            choices=("request", "response"),
            default="request",
            help="message to export (with --raw)",
        )
        export.add_argument("--direct", action="store_true", help="bypass the proxy (with --curl)")
        export.add_argument(
            "-o", "--output", metavar="FILE", type=given, help="output file, or file for curl's body"
        )
        _add_reveal(export)

    def _stats(self) -> None:
        stats = self._add(
            "stats",
            "count exchanges, bytes and times, by route, outcome, status and model",
            examples="  logging-proxy stats --since today\n"
            "  logging-proxy stats --route openai --since 2026-11-01 --until 2026-11-07",
        )
        _add_filters(stats, times=True)

    def _reindex(self) -> None:
        reindex = self._add(
            "reindex",
            "rebuild the index of a log directory from its files",
            "\n\nThe old index is kept until the new one is complete. The index only makes queries fast:\n"
            "everything in it comes from the files.",
            "  logging-proxy reindex --config config.yaml\n  logging-proxy reindex --log-dir logs --missing",
        )
        reindex.add_argument(
            "--missing", action="store_true", help="only add missing exchanges; the server may be running"
        )


def _add_id(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "id",
        metavar="ID",
        nargs="?",
        type=given,
        help="an id, or its first 4 or more digits; the newest without one, -2 for the one before it",
    )


def _add_reveal(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reveal", action="store_true", help="do not redact secrets")


def _add_limit(
    command: argparse.ArgumentParser, default: int, what: str = "maximum number of rows", least: int = 1
) -> None:
    def count(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 1000 else -1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from {least}")
        return min(number, sys.maxsize)

    command.add_argument(
        "-n", "--limit", metavar="N", type=count, default=default, help=f"{what} (default: {default})"
    )


def _add_filters(command: argparse.ArgumentParser, times: bool) -> None:
    group = command.add_argument_group("filters")
    for name, filter in FILTERS.items():
        group.add_argument(f"--{name}", metavar=filter.metavar, help=filter.help)
    if times:
        group.add_argument("--since", metavar="TIME", help=f"started at this time or later: {_TIMES}")
        group.add_argument(
            "--until", metavar="TIME", help="started before this time (a date includes the whole day)"
        )
