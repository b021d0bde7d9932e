"""
The configuration that the proxy hands over to the logging server that it starts.

A logging server that is started again must run on what the proxy runs on, and not on
a file that somebody is just writing, or that takes effect at the next start.
"""

from __future__ import annotations

import pickle

from logging_proxy import __version__
from logging_proxy.configuration import Configuration


class OtherVersion(Exception):
    """The proxy that hands over is of another version."""


def hand_over(configuration: Configuration) -> bytes:
    """What a logging server needs of a configuration, for `take_over` in its process; holds the token."""
    needed = Configuration(
        routes=(), logging=configuration.logging, logging_server=configuration.logging_server
    )
    return pickle.dumps((__version__, pickle.dumps(needed)))


def take_over(data: bytes) -> Configuration:
    """Raises `OtherVersion`.  `data` must come from a proxy that has started this process."""
    version, document = pickle.loads(data)
    if version != __version__:
        raise OtherVersion(
            f"this is version {__version__}, and the proxy is {version}: start the proxy again"
        )
    configuration: Configuration = pickle.loads(document)
    return configuration
