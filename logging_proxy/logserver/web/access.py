"""The access policy that the configuration asks for."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from twisted.logger import Logger

from logging_proxy.configuration.options import LoggingServerOptions
from logging_proxy.logserver.web.guard import Gate, local_hosts
from logging_proxy.logserver.web.visitors import Visitors
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import keep_token

_log = Logger()


def make_gate(
    options: LoggingServerOptions,
    local: bool,
    seconds: Callable[[], float],
    keep: Callable[[], str],
    visitors: Visitors,
) -> Gate:
    """
    The gate for a server that is reachable from this machine only if `local`.

    A configured token is required of every client.  Without one, the token is what `keep` returns, and on
    this machine `visitors` decides which clients need none.
    """
    hosts = local_hosts(options.host) if local else frozenset[str]()
    if options.token is not None:
        return Gate(hosts, options.token.value, seconds)
    if local and options.open_to == "machine":
        return Gate(hosts, None, seconds)
    return Gate(hosts, keep(), seconds, visitors if local else None)


def kept_token(log_dir: str) -> str:
    """The token in the log directory, made if need be; a random one, known to no client, if that fails."""
    try:
        return keep_token(log_dir)
    except UnsafeDirectory as error:
        reason = str(error)
    except OSError as error:
        reason = f"{log_dir}: {error.strerror}"
    _log.error("no token can be kept for other users: {reason}", reason=reason)
    return secrets.token_urlsafe(32)
