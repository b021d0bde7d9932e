"""
The address that a browser opens, with the token, where the kernel does not tell that it is the own user's.

It is for a person at the terminal: a log, which others may read or which is sent on, only says where
the token is.
"""

from __future__ import annotations

from collections.abc import Callable

from logging_proxy.configuration.options import LoggingServerOptions
from logging_proxy.net.peer_user import kernel_tells
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import NAME, keep_token
from logging_proxy.service.output import Output


def invite(
    options: LoggingServerOptions, port: int, output: Output, tells: Callable[[], bool] = kernel_tells
) -> None:
    """Tell on `output` how a browser gets in, if it needs a token that nobody has configured."""
    if options.token is not None or options.open_to == "machine" or tells():
        return
    try:
        token = keep_token(options.log_dir)
    except (OSError, UnsafeDirectory):
        return  # the logging server says so
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}/"
    output.confide(
        f"To look at captures open {address}?token={token}",
        f"To look at captures open {address}, its parameter `token` as in {options.log_dir}/{NAME}",
    )
