"""
Prints the browser address with its token, where the kernel cannot identify local users.

The token is shown on a terminal only.  A log, which others may read or which may be sent
elsewhere, gets the token's file name instead.
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
    """Print the address for browsers on `output`, if a generated token is required."""
    if options.token is not None or options.open_to == "machine" or tells():
        return
    try:
        token = keep_token(options.log_dir)
    except (OSError, UnsafeDirectory):
        return  # the logging server reports this error
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}/"
    output.confide(
        f"To look at captures open {address}?token={token}",
        f"To look at captures open {address}, its parameter `token` as in {options.log_dir}/{NAME}",
    )
