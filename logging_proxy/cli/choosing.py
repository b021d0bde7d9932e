"""
Selects the source of captures: a logging server or a directory.

The order of precedence is `--log-dir`, `--url`, `LOGGING_PROXY_URL`, then the
configuration.  If the configuration's logging server is the embedded one and does
not run, its log directory is used instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from logging_proxy.cli.api import ApiSource
from logging_proxy.cli.connection import Server
from logging_proxy.cli.directory import DirectorySource
from logging_proxy.cli.sources import NoServer, Source, Trouble
from logging_proxy.configuration import Configuration, ConfigurationError, load_configuration
from logging_proxy.recording.token_file import token_for

URL_VARIABLE = "LOGGING_PROXY_URL"
TOKEN_VARIABLE = "LOGGING_PROXY_TOKEN"
DEFAULT_FILE = "config.yaml"


@dataclass(frozen=True, slots=True)
class Choice:
    """The options of the command line that select a source."""

    config: str | None = None
    url: str | None = None
    log_dir: str | None = None


def choose(
    choice: Choice,
    environ: Mapping[str, str],
    note: Callable[[str], None],
    warn: Callable[[str], None] = lambda text: None,
) -> Source:
    """
    Return the selected source.  Raises `Trouble` if it is not available.

    `note` is called when a log directory is used in place of a server, `warn` when the server is in trouble.
    """
    if choice.log_dir is not None:
        return DirectorySource(choice.log_dir)
    url = choice.url or environ.get(URL_VARIABLE)
    if url:
        return _checked(url, _token_for(choice, environ, url), warn)
    configuration = configured(choice)
    url = url_of(configuration)
    if url is not None:
        try:
            return _checked(url, environ.get(TOKEN_VARIABLE) or _token_of(configuration, url), warn)
        except NoServer as error:
            return _instead(configuration, error, note)
    return _instead(configuration, None, note)


def configured(choice: Choice) -> Configuration:
    """The configuration file that was named, or `config.yaml` if it exists, or the defaults."""
    path = choice.config or DEFAULT_FILE
    if choice.config is None and not os.path.exists(path):
        return Configuration()
    try:
        return load_configuration(path, os.environ, tls_files=False)
    except ConfigurationError as error:
        raise Trouble(str(error).rstrip("\n")) from None


def url_of(configuration: Configuration) -> str | None:
    """The URL of a configuration's logging server; None if its port is chosen by the system."""
    if configuration.logging.server_url is not None:
        return str(configuration.logging.server_url)
    host, port = configuration.logging_server.host, configuration.logging_server.port
    if not port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def log_dir_of(choice: Choice) -> str:
    """The selected log directory."""
    return choice.log_dir or configured(choice).logging_server.log_dir


def _checked(url: str, token: str | None, warn: Callable[[str], None]) -> ApiSource:
    source = ApiSource(Server(url, token))
    trouble = source.check()
    if trouble:
        warn(f"the logging server is in trouble: {trouble}")
    return source


def _token_for(choice: Choice, environ: Mapping[str, str], url: str) -> str | None:
    """The token for an explicit URL; a configuration's token is used only if `--config` names one."""
    if environ.get(TOKEN_VARIABLE) or choice.config is None:
        return environ.get(TOKEN_VARIABLE)
    return _token_of(configured(choice), url)


def _token_of(configuration: Configuration, url: str) -> str | None:
    """The configured token, or the one that a server on this machine keeps in its log directory."""
    server = configuration.logging_server
    return server.token.value if server.token is not None else token_for(url, server.log_dir)


def _instead(configuration: Configuration, error: NoServer | None, note: Callable[[str], None]) -> Source:
    """The log directory, in place of an embedded logging server that does not run."""
    log_dir = configuration.logging_server.log_dir
    if not configuration.embedded and error is not None:
        raise error
    if not os.path.isdir(log_dir):
        where = f"{error}, and " if error is not None else ""
        raise Trouble(
            f"{where}{log_dir}: no such directory; select captures with --config, --url or --log-dir"
        )
    note(f"no logging server answers; reading the files in {log_dir}")
    return DirectorySource(log_dir, routes=[route.name for route in configuration.routes])
