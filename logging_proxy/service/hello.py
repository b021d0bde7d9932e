"""The lines that the proxy starts with: where it listens, what clients have to set, and how to look."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from logging_proxy import __version__
from logging_proxy.configuration import Configuration
from logging_proxy.configuration.base_urls import BaseURL, authority, base_urls, connectable, proxy_url
from logging_proxy.redaction.redact import redact_url
from logging_proxy.routing.mapping import destination_url

MOST_ROUTES = 50
"""Routes that are named; of more, the number is."""

NEAR = 3
"""Parts of a relative path that is shown in place of the absolute one."""


def starting_lines(
    configuration: Configuration,
    command: str,
    page: str = "",
    *,
    port: int | None = None,
    workers: int = 1,
    columns: int = 0,
) -> list[str]:
    """
    What a person wants to know at the start, one line for each thing; the page's address is the last.

    `command` is the command line's, see `look_command`.  `port` is where the proxy listens and `page` the
    page's address, where the configuration leaves that open.  Lines of more than `columns` characters
    leave out where a route leads, and then its name.
    """
    several = f", {workers} workers" if workers > 1 else ""
    server = configuration.server
    return [
        f"Logging Proxy {__version__} on {proxy_url(server, port, connect=False)}{several}",
        *route_lines(configuration, port, columns),
        *_capture_lines(configuration, command, page),
    ]


def route_lines(configuration: Configuration, port: int | None = None, columns: int = 0) -> list[str]:
    """What clients have to set for each route, and where it leads if there is room for that."""
    urls = base_urls(configuration, port)
    lines = [_route_line(url, _width(configuration), columns) for url in urls[:MOST_ROUTES]]
    if len(urls) > MOST_ROUTES:
        lines.append(f"and {len(urls) - MOST_ROUTES} more routes")
    return lines


def capture_lines(captures: str, command: str, page: str, width: int = len("captures")) -> list[str]:
    """Where captures go, how to look at them, and the page's address."""
    things = {"captures": captures, "look": f"{command} tail", "page": page}
    return [f"{name:{width}}  {text}" for name, text in things.items()]


def _capture_lines(configuration: Configuration, command: str, page: str) -> list[str]:
    width = _width(configuration)
    if not records(configuration):
        return [f"{'captures':{width}}  none: logging is off for every route"]
    where = captures_of(configuration)
    return capture_lines(where, command, page or address_of(configuration), width)


def _route_line(url: BaseURL, width: int, columns: int) -> str:
    """The longest form that is not broken in `columns`; the URL is always whole."""
    short = _shown_url(url)
    middle = f"{_shown_name(url.route.name):{width}}  {short}"
    long = f"{middle} -> {_destination(url)}"
    return next((line for line in (long, middle) if not columns or len(line) <= columns), short)


def _width(configuration: Configuration) -> int:
    names = [len(_shown_name(route.name)) for route in configuration.routes[:MOST_ROUTES]]
    return max([len("captures"), *names])


def _shown_name(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _shown_url(base: BaseURL) -> str:
    """`OPENAI_BASE_URL=http://localhost:5601/openai/v1`."""
    variables = "".join(f"{name}=" for name in base.variables)
    method = base.route.pattern.method.decode("latin-1")
    text = f"{method} {base.url}" if method else f"{variables}{base.url}"
    return text if base.route.logging else f"{text} [no-log]"


def _destination(base: BaseURL) -> str:
    to = base.route.destination
    target = to.path + (b"?" + to.query if to.query else b"")
    return redact_url(destination_url(to, target).decode())


def records(configuration: Configuration) -> bool:
    """Whether anything is recorded."""
    return configuration.logging.default or any(route.logging for route in configuration.routes)


def captures_of(configuration: Configuration) -> str:
    """Where captures go: a directory, absolute, or a logging server's URL."""
    return configuration.logging.server_url or os.path.abspath(configuration.logging_server.log_dir)


def address_of(configuration: Configuration) -> str:
    """The address of the logging server, as far as the configuration tells."""
    if configuration.logging.server_url is not None:
        return configuration.logging.server_url
    options = configuration.logging_server
    return f"http://{authority(connectable(options.host), options.port)}/"


def look_command(config: str | None, folder: str, executable: str = sys.executable, path: str = "") -> str:
    """
    The command line's command, as it is typed in `folder`.

    `config` is the configuration file, which is named unless the command finds it by itself; None if there
    is none.  `path` is the value of `PATH`.
    """
    script = Path(executable).with_name("logging-proxy")
    if not script.exists():
        command = f"{_near(Path(executable), folder)} -m logging_proxy"
    elif shutil.which("logging-proxy", path=path or os.defpath) == str(script):
        command = "logging-proxy"
    else:
        command = _near(script, folder)
    if config is None or os.path.join(folder, config) == os.path.join(folder, "config.yaml"):
        return command
    return f"{command} --config {shlex.quote(config)}"


def _near(path: Path, folder: str) -> str:
    """`path`, relative to `folder` if it is not far below it."""
    below = path.relative_to(folder) if path.is_relative_to(folder) else path
    return shlex.quote(str(below if len(below.parts) <= NEAR else path))
