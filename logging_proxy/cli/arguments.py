"""The command line: commands, options, and the help that shows how they are used."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from logging_proxy._version import __version__
from logging_proxy.index.columns import FILTERS
from logging_proxy.service.console import safe

_DESCRIPTION = """\
Look at what logging proxies captured: list, show, search, follow, export.

Captures come from a logging server, or straight from a log directory:
  --log-dir DIR        the files in a directory
  --url URL            the logging server there (or LOGGING_PROXY_URL)
  --config FILE        the logging server of a configuration (config.yaml, if it
                       is here); while it does not run, its log_dir
The server's token comes from LOGGING_PROXY_TOKEN or from the configuration."""

_EXAMPLES = """\
examples:
  logging-proxy ls --status 5xx --since 2h     what went wrong lately
  logging-proxy show 092d                      one exchange; any 4 or more digits of its id
  logging-proxy show 092d --stream             its stream, with arrival times
  logging-proxy search "rate limit" -n 5       by what was said
  logging-proxy tail                           as it happens
  logging-proxy export 092d --curl             to send it again
  logging-proxy ls --json | jq -r .model       for programs

exit status: 0; 1 if there is no such exchange, or something failed; 2 for a wrong command line"""

_TIMES = "ISO 8601, today, yesterday, or how long ago: 30min, 2h, 7d"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without what a terminal would act upon."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {safe(message)}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
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
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _Commands(commands, common).add_all()
    return top


def _given(text: str) -> str:
    """An empty text is a variable of the shell that is not set: nobody means the default by it."""
    if not text:
        raise argparse.ArgumentTypeError("nothing is given")
    return text


def _common() -> argparse.ArgumentParser:
    """Options that may stand before the command or after it."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("which captures, and how to write")
    group.add_argument(
        "-c", "--config", metavar="FILE", type=_given, help="the configuration (default: config.yaml)"
    )
    group.add_argument(
        "--url", metavar="URL", type=_given, help="a logging server, such as http://localhost:8080"
    )
    group.add_argument(
        "--log-dir", metavar="DIR", type=_given, help="a directory of captures, without a server"
    )
    group.add_argument("--json", action="store_true", help="JSON lines")
    group.add_argument("--color", metavar="WHEN", choices=("auto", "always", "never"), help=_COLOUR)
    return common


_COLOUR = "auto (on a terminal, unless NO_COLOR is set), always or never"


class _Commands:
    def __init__(self, commands: Any, common: argparse.ArgumentParser) -> None:
        self._commands = commands
        self._parents = [common]

    def add_all(self) -> None:
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
            "\n\nSENT and RECEIVED are the bodies' bytes, TIME is that of the whole exchange.",
            "  logging-proxy ls -n 10\n"
            "  logging-proxy ls --route openai --status 4xx --since yesterday\n"
            "  logging-proxy ls --outcome upstream_reset --model gpt-5 --json",
        )
        _add_filters(ls, times=True)
        _add_limit(ls, 50)

    def _show(self) -> None:
        show = self._add(
            "show",
            "show one exchange: heads and bodies, decoded",
            "\n\nJSON is laid out, long bodies are cut unless --body asks for them, secrets are REDACTED.",
            "  logging-proxy show 092d0424\n"
            "  logging-proxy show 092d --headers\n"
            "  logging-proxy show 092d --body response | less -R\n"
            "  logging-proxy show 092d --raw --reveal --body response > answer.gz",
        )
        _add_id(show)
        part = show.add_mutually_exclusive_group()
        part.add_argument("--headers", action="store_true", help="only the heads")
        part.add_argument("--body", choices=("request", "response"), help="only this body, all of it")
        part.add_argument("--stream", action="store_true", help="the response as it arrived, with times")
        show.add_argument("--raw", action="store_true", help="the bytes as they were, not decoded")
        _add_reveal(show)

    def _search(self) -> None:
        search = self._add(
            "search",
            "find exchanges by the text of their bodies",
            '\n\nWhole words in any case; "a phrase", -without, begin* (quote them for the shell).',
            "  logging-proxy search timeout\n"
            "  logging-proxy search '\"rate limit\" -retry' --since 7d --model claude-sonnet-4-5",
        )
        search.add_argument("text", metavar="TEXT", nargs="+", help="what to look for")
        _add_filters(search, times=True)
        _add_limit(search, 20)

    def _tail(self) -> None:
        tail = self._add(
            "tail",
            "follow exchanges as they happen, until Ctrl-C",
            "\n\nOn a terminal those under way stand below, and grow. Without a server the log directory\n"
            "is watched, and exchanges come when they have ended.",
            "  logging-proxy tail\n  logging-proxy tail -n 0 --route anthropic --json",
        )
        _add_filters(tail, times=False)
        _add_limit(tail, 10, "rows to begin with", least=0)

    def _export(self) -> None:
        export = self._add(
            "export",
            "write an exchange in a form that other programs take",
            "\n\nIn a command of curl, secrets become variables such as $OPENAI_API_KEY, and a body that is\n"
            "binary, or too long for an argument, goes to a file beside it. The URL is the one that the\n"
            "client used, so it goes through the proxy again; --direct goes to the destination.",
            "  logging-proxy export 092d --curl\n"
            "  logging-proxy export 092d --curl --direct -o body.bin\n"
            "  logging-proxy export 092d --raw --reveal --half response -o response.bin",
        )
        _add_id(export)
        form = export.add_mutually_exclusive_group(required=True)
        form.add_argument("--curl", action="store_true", help="a command of curl")
        form.add_argument("--raw", action="store_true", help="the HTTP message as it is kept")
        export.add_argument(
            "--half", choices=("request", "response"), default="request", help="which message (--raw)"
        )
        export.add_argument("--direct", action="store_true", help="past the proxy (--curl)")
        export.add_argument("-o", "--output", metavar="FILE", help="file for the bytes, or for curl's body")
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
            "make the index of a log directory anew, from its files",
            "\n\nThe old one stays until the new one is done. Nothing in it is needed but for speed:\n"
            "the files have it all.",
            "  logging-proxy reindex --config config.yaml\n  logging-proxy reindex --log-dir logs --missing",
        )
        reindex.add_argument(
            "--missing", action="store_true", help="only add what is missing; a server may run meanwhile"
        )


def _add_id(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", metavar="ID", help="an id, or 4 or more of its first digits")


def _add_reveal(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reveal", action="store_true", help="leave secrets as they are")


def _add_limit(command: argparse.ArgumentParser, default: int, what: str = "rows", least: int = 1) -> None:
    def count(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return min(number, sys.maxsize)

    count.__name__ = "count"
    command.add_argument(
        "-n", "--limit", metavar="N", type=count, default=default, help=f"{what} (default: {default})"
    )


def _add_filters(command: argparse.ArgumentParser, times: bool) -> None:
    group = command.add_argument_group("only exchanges with")
    for name, filter in FILTERS.items():
        group.add_argument(f"--{name}", metavar=filter.metavar, help=filter.help)
    if times:
        group.add_argument("--since", metavar="TIME", help=f"a start then or later: {_TIMES}")
        group.add_argument("--until", metavar="TIME", help="a start before then (until a day: to its end)")
