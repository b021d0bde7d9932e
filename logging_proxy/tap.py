"""`twistd logging-proxy`: its options, and the service they make."""

from __future__ import annotations

import atexit
import os
import socket
import time
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from logging_proxy.capture.disk import make_private_directory
from logging_proxy.capture.recording import Recording
from logging_proxy.capture.rings import salvage_all
from logging_proxy.capture.spool import SpoolBusy, describe
from logging_proxy.child import PIPE_FD, ChildProcess
from logging_proxy.configuration import Configuration, ConfigurationError, load_configuration
from logging_proxy.directories import make_directory_apart
from logging_proxy.listening import CannotListen, bind
from logging_proxy.output import CannotLog, Output, sink_for
from logging_proxy.service import ProxyService
from logging_proxy.starting import give_up, install_reactor, spare_the_collector, spool_root

PREDECESSOR = 3.0
"""Seconds that the port of the embedded logging server may be busy at the start."""


class Options(usage.Options):
    """The command line of `twistd logging-proxy`."""

    synopsis = "[--config FILE]"
    longdesc = "A reverse proxy that keeps every HTTP request and response byte for byte."
    optParameters = [["config", "c", "config.yaml", "The configuration file."]]


def makeService(options: Options) -> IService:
    """
    The service that the configuration describes.

    Every mistake ends the process with status 1 and clear lines, before
    anything is started: ports are bound, the log and the spool are opened here.
    """
    install_reactor()
    from twisted.internet import reactor

    os.umask(0o077)
    path = options["config"]
    try:
        configuration = load_configuration(path, os.environ)
        listeners = bind(configuration.server.host, configuration.server.port)
        server_listeners = _server_listeners(configuration)
        output = Output(sink_for(options.parent or {"nodaemon": True}))
        recording = _recording(reactor, configuration, listeners)
    except (ConfigurationError, CannotListen, SpoolBusy, CannotLog) as error:
        give_up(str(error))
    except OSError as error:
        give_up(": ".join(str(each) for each in (error.filename, describe(error)) if each is not None))
    # What was logged by a start that fails after this is not kept back for ever.
    atexit.register(output.close)
    child = _child(reactor, configuration, path, server_listeners, recording)
    found = os.path.abspath(path)
    spare_the_collector()
    return ProxyService(
        reactor,
        configuration,
        listeners,
        recording,
        child,
        output,
        lambda: load_configuration(found, os.environ),
    )


def _records(configuration: Configuration) -> bool:
    return configuration.logging.default or any(route.logging for route in configuration.routes)


def _recording(
    reactor: Any, configuration: Configuration, listeners: list[socket.socket]
) -> Recording | None:
    """The spool of this proxy: named after its port, below the spools of its logging server."""
    root = spool_root(configuration)
    salvage_all(root)
    if not _records(configuration):
        return None
    if configuration.embedded:
        make_directory_apart(Path(configuration.logging_server.log_dir))
    make_private_directory(root)
    port = listeners[0].getsockname()[1]
    return Recording(root / str(port), configuration.logging, reactor)


def _server_listeners(configuration: Configuration) -> list[socket.socket]:
    """
    The embedded logging server's sockets are bound here, so that they outlive its restarts.

    The logging server of a proxy that was killed just now may hold them for a moment yet.
    """
    if not configuration.embedded:
        return []
    server = configuration.logging_server
    until = time.monotonic() + PREDECESSOR
    while True:
        try:
            return bind(server.host, server.port)
        except CannotListen:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _child(
    reactor: Any,
    configuration: Configuration,
    config_path: str,
    listeners: list[socket.socket],
    recording: Recording | None,
) -> ChildProcess | None:
    arguments = [
        "-n",
        "--pidfile=",
        "--logfile=-",
        "logging-server",
        "--config",
        os.path.abspath(config_path),
    ]
    arguments += [f"--parent-pipe={PIPE_FD}"]
    if configuration.logging.server_url is not None:
        if recording is None:
            return None
        arguments += [f"--ship-to={configuration.logging.server_url}", f"--spool={recording.directory}"]
    arguments += [f"--listen-fd={number}" for number, _ in enumerate(listeners, PIPE_FD + 1)]
    return ChildProcess(reactor, arguments, listeners)


__all__ = ["Options", "makeService"]
