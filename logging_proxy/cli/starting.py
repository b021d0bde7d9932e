"""The commands `run` and `init`: start the proxy, or a program behind it, and write a configuration."""

from __future__ import annotations

import os
import secrets
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress

from logging_proxy.cli.behind import ProxyFailed, RunningProxy, replaced, variables_for
from logging_proxy.cli.commands import Context
from logging_proxy.cli.program import CannotStart, Program, find_program
from logging_proxy.cli.sources import Trouble
from logging_proxy.configuration import ConfigurationError, load_configuration, read_configuration
from logging_proxy.configuration.shipped import DEFAULT_FILE, NAME, shipped_text
from logging_proxy.service.hello import look_command


def run(context: Context) -> int:
    """`logging-proxy run`."""
    if context.options.program is None:
        return run_proxy(service_arguments(context.options))
    return run_behind(context, context.options.program)


def service_arguments(options: Namespace) -> list[str]:
    """The options of the service that correspond to those of the command line."""
    given = {name: getattr(options, name, None) for name in ("config", "to", "port", "log_dir")}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def run_proxy(arguments: list[str]) -> int:
    """Run the proxy in this process, as `twistd -n logging-proxy` does, until a signal ends it."""
    # Imported here, because it takes longer than most commands do.
    from twisted.scripts._twistd_unix import ServerOptions
    from twisted.scripts.twistd import runApp

    options = ServerOptions()
    options.parseOptions(["-n", "--pidfile=", "logging-proxy", *arguments])
    runApp(options)
    return 0


# --- a program behind the proxy ------------------------------------------------------------


def run_behind(context: Context, words: list[str]) -> int:
    """Run a program behind a proxy of its own; the program's exit status."""
    name = context.options.name or name_for(words[0])
    proxy = RunningProxy(name, service_arguments(context.options))
    program = Program(context.environ)
    try:
        path = find_program(words[0], context.environ)
        with program.signals():
            proxy.start()
            if context.options.to is None:
                for line in replaced(context.environ, proxy.variables):
                    context.terminal.note(line)
            try:
                status = program.run(path, words, variables_for(context.environ, proxy.variables))
            finally:
                program.late = proxy.hurry
                summary = proxy.stop()
    except CannotStart as error:
        context.terminal.note(str(error))
        return error.status
    except ProxyFailed as error:
        raise Trouble(str(error)) from None
    _end(context, name, summary, proxy.complaints())
    return status


def name_for(program: str) -> str:
    """A new name for a run of `program`."""
    base = "".join(c for c in os.path.basename(program) if c.isascii() and (c.isalnum() or c in "._-"))
    return f"{base.lstrip('._-')[:50] or 'run'}-{secrets.token_hex(3)}"


def _end(context: Context, name: str, summary: Mapping[str, int] | None, complaints: list[str]) -> None:
    """The last lines: what went wrong in the proxy, how many exchanges there were, and where to look."""
    for line in complaints:
        context.terminal.note(line)
    if summary is None:
        context.terminal.note(f"run {name}: the proxy ended before COMMAND; look with {_look(context)}{name}")
        return
    exchanges, errors = summary["exchanges"], summary["errors"]
    if not exchanges:
        context.terminal.note(
            f"run {name}: no exchange came through the proxy; does COMMAND use its variables?"
        )
        return
    context.terminal.note(
        f"run {name}: {_count(exchanges, 'exchange')}, {_count(errors, 'error')}; {_look(context)}{name}"
    )


def _look(context: Context) -> str:
    log_dir = getattr(context.options, "log_dir", None)
    command = look_command(
        getattr(context.options, "config", None), os.getcwd(), path=context.environ.get("PATH", "")
    )
    where = f" --log-dir {log_dir}" if log_dir is not None else ""
    return f"{command} ls{where} --run "


def _count(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}{'' if number == 1 else 's'}"


# --- init ------------------------------------------------------------------------------


def init(context: Context) -> None:
    """`logging-proxy init`."""
    path = getattr(context.options, "config", None) or DEFAULT_FILE
    text = shipped_text()
    try:
        read_configuration(text, NAME, context.environ)
        write_new(path, text, replace=context.options.force)
        load_configuration(path, context.environ)
    except FileExistsError:
        raise Trouble(f"{path} exists already; --force replaces it") from None
    except ConfigurationError as error:
        raise Trouble(str(error)) from None
    named = "" if path == DEFAULT_FILE else f" --config {path}"
    context.terminal.lines([f"{path} is written. Start the proxy with: logging-proxy run{named}"])


def write_new(path: str, text: str, *, replace: bool) -> None:
    """Write a file as a whole; an existing one stays unless it is to be replaced.  Raises OSError."""
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
