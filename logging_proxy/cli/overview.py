"""The command without a subcommand, and `help`."""

from __future__ import annotations

import os
from itertools import islice

from logging_proxy.cli.arguments import command_names, help_text
from logging_proxy.cli.choosing import log_dir_of
from logging_proxy.cli.commands import Context, write_rows
from logging_proxy.cli.sources import Trouble
from logging_proxy.configuration.kinds import nearest
from logging_proxy.service.console import safe

NEWEST = 10

START = """\
No captures yet. To begin:
  logging-proxy run                      start the proxy
  logging-proxy run -- python agent.py   start a program behind a proxy of its own"""


def overview(context: Context) -> None:
    """`logging-proxy`: the newest exchanges, and a hint of the commands."""
    terminal = context.terminal
    try:
        rows = list(islice(context.source().list({}), NEWEST))
    except Trouble as error:
        rows = []
        if not _is_new(context):
            terminal.note(safe(str(error)))
    if rows:
        write_rows(terminal, rows)
    else:
        terminal.lines(START.splitlines())
    terminal.lines(["", f"Commands: {', '.join(command_names())}. More: logging-proxy help [COMMAND]"])


def _is_new(context: Context) -> bool:
    """Whether nothing was captured yet, as far as the configuration tells."""
    choice = context.choice
    return choice.url is None and choice.log_dir is None and not os.path.exists(log_dir_of(choice))


def help_command(context: Context) -> None:
    """`logging-proxy help [COMMAND]`."""
    topic = context.options.topic
    try:
        text = help_text(topic)
    except KeyError:
        names = tuple(command_names())
        hint = nearest(topic, names) or f": expected one of {', '.join(names)}"
        raise Trouble(f"{safe(topic, 60)}: no such command{hint}") from None
    context.terminal.out.write(text)
