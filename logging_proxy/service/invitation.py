"""
The address of the logging server for a browser, with its token where the kernel cannot identify local users.

The token is shown on a terminal only.  A log, which others may read or which may be sent
elsewhere, gets the token's file name instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from logging_proxy.configuration.base_urls import authority, connectable
from logging_proxy.configuration.options import LoggingServerOptions
from logging_proxy.net.peer_user import kernel_tells
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import NAME, keep_token


@dataclass(frozen=True, slots=True)
class Page:
    """The address of the page."""

    confided: str
    """For a person at a terminal."""
    logged: str
    """For everything else: without a secret."""


def page_of(options: LoggingServerOptions, port: int, tells: Callable[[], bool] = kernel_tells) -> Page:
    """The page of a logging server that listens on `port`; keeps a token if one is needed."""
    address = f"http://{authority(connectable(options.host), port)}/"
    if options.token is not None or options.open_to == "machine" or tells():
        return Page(address, address)
    try:
        token = keep_token(options.log_dir)
    except (OSError, UnsafeDirectory):
        return Page(address, address)  # the logging server reports this error
    return Page(f"{address}?token={token}", f"{address} with the token in {options.log_dir}/{NAME}")
