"""
Passes the running configuration from the proxy to the logging server that it starts.

A restarted logging server must use the proxy's current configuration, not the file: the
file may be half edited, or have changes that take effect at the next start only.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

from logging_proxy import __version__
from logging_proxy.configuration import Configuration


class OtherVersion(Exception):
    """The proxy that passed the configuration runs another version."""


def hand_over(configuration: Configuration) -> bytes:
    """Serialize the parts that a logging server needs, token included, for `take_over` in its process."""
    routes = tuple(replace(route, tls=None) for route in configuration.routes)  # keys stay with the proxy
    needed = Configuration(
        routes=routes, logging=configuration.logging, logging_server=configuration.logging_server
    )
    return pickle.dumps((__version__, pickle.dumps(needed)))


def take_over(data: bytes) -> Configuration:
    """Read what `hand_over` made; `data` must come from the parent process.  Raises `OtherVersion`."""
    version, document = pickle.loads(data)
    if version != __version__:
        raise OtherVersion(
            f"this is version {__version__}, and the proxy is {version}: start the proxy again"
        )
    configuration: Configuration = pickle.loads(document)
    return configuration
