"""Entry point: runs a command line and returns its exit status."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

from logging_proxy.cli import commands, overview, showing, starting
from logging_proxy.cli.arguments import parse
from logging_proxy.cli.commands import Context
from logging_proxy.cli.paint import Paint, wants_colour
from logging_proxy.cli.sources import Misused, Trouble
from logging_proxy.cli.terminal import (
    Terminal,
    columns_of,
    discard_output,
    open_standard_streams,
    tolerate_any_text,
)
from logging_proxy.index import BadFilter, IndexTrouble, TooSlow
from logging_proxy.service.console import safe


def _examine(context: Context) -> int:
    # Imported here: it needs the reactor and TLS, and would delay every command.
    from logging_proxy.cli.doctor.command import examine

    return examine(context)


_COMMANDS: dict[str, Callable[[Context], int | None]] = {
    "ls": commands.ls,
    "show": showing.show,
    "search": commands.search,
    "tail": commands.tail,
    "export": showing.export,
    "stats": commands.stats,
    "reindex": commands.reindex,
    "run": starting.run,
    "init": starting.init,
    "doctor": _examine,
    "help": overview.help_command,
}

ERROR, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` and return the exit status."""
    open_standard_streams()
    tolerate_any_text(sys.stdout, sys.stderr)
    status = 0
    try:
        status = _run_arguments(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        # The buffers cannot be written: discard them, so that the error is reported once only.
        discard_output()
        if status == 0:
            with suppress(OSError):
                sys.stderr.write(f"logging-proxy: {error.strerror}\n")
        return status or ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _run_arguments(arguments: Sequence[str] | None) -> int:
    try:
        options = parse(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    size = columns_of(sys.stdout)
    colour = wants_colour(getattr(options, "color", "auto"), size is not None, os.environ)
    columns, rows = size or (None, 0)
    return run(Context(Terminal(sys.stdout, sys.stderr, Paint(colour), columns, rows), os.environ, options))


def run(context: Context) -> int:
    """Run a command.  Errors that the user can act upon are shown as one line, without a traceback."""
    try:
        command = context.options.command
        status = (overview.overview if command is None else _COMMANDS[command])(context)
    except BadFilter as error:
        return _end(context, f"--{error.name}: {error.reason}", USAGE)
    except Misused as error:
        return _end(context, str(error), USAGE)
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
    except AssertionError:
        raise
    except Exception as error:
        return _end(context, f"a fault of this program: {type(error).__name__} in {_place_of(error)}", ERROR)
    return status or 0


def _place_of(error: Exception) -> str:
    """Where an exception was raised.  Its text is not shown, because it may contain captured data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"


def _end(context: Context, text: str, status: int) -> int:
    for line in text.splitlines():
        context.terminal.note(safe(line))
    return status


if __name__ == "__main__":
    sys.exit(main())
