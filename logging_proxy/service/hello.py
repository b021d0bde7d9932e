"""The lines that the proxy starts with: where it listens, what clients have to set, and how to look."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from logging_proxy import __version__
from logging_proxy.configuration import Configuration
from logging_proxy.configuration.base_urls import BaseURL, base_urls, connectable, proxy_url
from logging_proxy.routing.mapping import destination_url

MOST_ROUTES = 50
"""Routes that are named; of more, the number is."""

NEAR = 3
"""Parts of a relative path that is shown in place of the absolute one."""


def starting_lines(
    configuration: Configuration,
    command: str,
    *,
    port: int | None = None,
    page: str | None = None,
    workers: int = 1,
    columns: int | None = None,
) -> Iterator[str]:
    """
    What a person wants to know at the start, one line for each thing; the page's address is the last.

    `command` is the command line's, see `look_command`.  `port` is where the proxy listens, `page` the
    logging server's address, if the configuration leaves them open.  Lines of more than `columns`
    characters leave out where a route leads.
    """
    server = configuration.server
    several = f", {workers} workers" if workers > 1 else ""
    yield f"Logging Proxy {__version__} on {proxy_url(server, port, connect=False)}{several}"
    for name, text, more in _things(configuration, command, port, page):
        line = f"{name:{_width(configuration)}}  {text}"
        yield line + more if columns is None or len(line + more) <= columns else line


def _things(
    configuration: Configuration, command: str, port: int | None, page: str | None
) -> Iterator[tuple[str, str, str]]:
    """Name, text, and what may be left out."""
    urls = base_urls(configuration, port)
    for url in urls[:MOST_ROUTES]:
        yield _shown_name(url.route.name), _shown_url(url), f" -> {_destination(url)}"
    if len(urls) > MOST_ROUTES:
        yield "", f"and {len(urls) - MOST_ROUTES} more routes", ""
    yield "captures", captures_of(configuration), ""
    if records(configuration):
        yield "look", f"{command} tail", ""
        yield "page", page or page_of(configuration), ""


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
    return destination_url(to, to.path).decode()


def records(configuration: Configuration) -> bool:
    """Whether anything is recorded."""
    return configuration.logging.default or any(route.logging for route in configuration.routes)


def captures_of(configuration: Configuration) -> str:
    """Where captures go: a directory, absolute, or a logging server's URL."""
    if not records(configuration):
        return "none: logging is off for every route"
    return configuration.logging.server_url or os.path.abspath(configuration.logging_server.log_dir)


def page_of(configuration: Configuration, port: int | None = None) -> str:
    """The address of the logging server for a browser."""
    if configuration.logging.server_url is not None:
        return configuration.logging.server_url
    options = configuration.logging_server
    host = connectable(options.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port if port is None else port}/"


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
