"""The entry point: from the command line to an exit status."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Sequence

from logging_proxy.cli import commands, showing
from logging_proxy.cli.arguments import parser
from logging_proxy.cli.commands import Context
from logging_proxy.cli.paint import Paint, wants_colour
from logging_proxy.cli.sources import Trouble
from logging_proxy.cli.terminal import Terminal, columns_of, discard_output, tolerate_any_text
from logging_proxy.console import safe
from logging_proxy.logserver.index import BadFilter, IndexTrouble, TooSlow

_COMMANDS: dict[str, Callable[[Context], None]] = {
    "ls": commands.ls,
    "show": showing.show,
    "search": commands.search,
    "tail": commands.tail,
    "export": showing.export,
    "stats": commands.stats,
    "reindex": commands.reindex,
}

ERROR, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` are; the exit status."""
    tolerate_any_text(sys.stdout, sys.stderr)
    options = parser().parse_args(arguments)
    size = columns_of(sys.stdout)
    colour = wants_colour(getattr(options, "color", "auto"), size is not None, os.environ)
    columns, rows = size or (None, 0)
    terminal = Terminal(sys.stdout, sys.stderr, Paint(colour), columns, rows)
    try:
        status = run(Context(terminal, os.environ, options))
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return 0
    return status


def run(context: Context) -> int:
    """Runs a command; what the user can do something about is one line, never a traceback."""
    try:
        _COMMANDS[context.options.command](context)
    except BadFilter as error:
        return _end(context, f"--{error.name}: {error.reason}", USAGE)
    except (Trouble, IndexTrouble, TooSlow) as error:
        return _end(context, str(error), ERROR)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _end(context, f"{name}{error.strerror or error}", ERROR)
    except sqlite3.Error as error:
        return _end(context, f"the index: {error}", ERROR)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _end(context: Context, text: str, status: int) -> int:
    for line in text.splitlines():
        context.terminal.note(safe(line))
    return status


if __name__ == "__main__":
    sys.exit(main())
