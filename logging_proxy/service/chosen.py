"""The configuration that a command line asks for: a file or the built-in one, and options for some keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from logging_proxy.configuration import Configuration, load_configuration, read_configuration
from logging_proxy.configuration.overlay import Given
from logging_proxy.configuration.shipped import DEFAULT_FILE, NAME, shipped_text


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a command line says of the configuration."""

    file: str | None = None
    """The file that was named."""
    default: str = DEFAULT_FILE
    """The file to read if none was named, provided that it exists."""
    given: tuple[Given, ...] = ()

    @property
    def filename(self) -> str | None:
        """The file to read; None for the built-in configuration."""
        if self.file is not None:
            return self.file
        return self.default if os.path.exists(self.default) else None

    def absolute(self) -> Chosen:
        """The same choice for a process that may move to another directory."""
        file = None if self.file is None else os.path.abspath(self.file)
        return replace(self, file=file, default=os.path.abspath(self.default))

    def load(self, environ: Mapping[str, str], *, tls_files: bool = True) -> Configuration:
        """
        Read the configuration.  Raises `ConfigurationError`.

        Whether there is a file is decided at each call, so that a reload finds one that was made meanwhile.
        """
        if self.filename is None:
            folder = os.path.dirname(os.path.abspath(self.default))
            return read_configuration(
                shipped_text(), NAME, environ, tls_files=tls_files, folder=folder, given=self.given
            )
        return load_configuration(self.filename, environ, tls_files=tls_files, given=self.given)


def choose(
    config: str | None = None,
    to: str | None = None,
    port: int | str | None = None,
    log_dir: str | None = None,
) -> Chosen:
    """The choice of a command line with these options, each None if it was not given."""
    return Chosen(config, given=tuple(_given(to, port, log_dir)))


def _given(to: str | None, port: int | str | None, log_dir: str | None) -> list[Given]:
    given = []
    if to is not None:
        route: Any = {"pattern": "/", "destination": to}
        given.append(Given("--to", ("routes",), {route_name(to): route}))
    if port is not None:
        given.append(Given("--port", ("server", "port"), int(port)))
    if log_dir is not None:
        given.append(Given("--log-dir", ("logging_server", "log_dir"), os.path.abspath(log_dir)))
    return given


def route_name(url: str) -> str:
    """A name for the route to the one destination `url`: its host, which tells most in a listing."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        name = ""
    return name if name.isprintable() and 0 < len(name) <= 100 else "to"
