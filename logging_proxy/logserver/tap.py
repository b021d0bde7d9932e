"""
`twistd logging-server`: its options, and the service they make.

The hidden options are for the proxy, which starts the logging server as a child process: they hand over the
configuration, bound sockets, a pipe whose end of file signals the proxy's exit and, for a remote logging
server, its URL and the spools to send.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TextIO

from treq.client import HTTPClient
from twisted.application.service import IService
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python import usage
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from logging_proxy import __version__
from logging_proxy.configuration import Configuration, ConfigurationError, load_configuration
from logging_proxy.configuration.base_urls import authority
from logging_proxy.index import IndexTrouble
from logging_proxy.index.questions import check_version
from logging_proxy.index.sqlite import FILE
from logging_proxy.logserver.process import Drainable, Listeners, ParentWatch, ServerService
from logging_proxy.logserver.server import make_server
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.net.descriptors import raise_limit
from logging_proxy.net.listening import CannotListen, addresses, bind
from logging_proxy.outbound.ourselves import Ourselves
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import token_for
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.service.bootstrap import give_up, install_reactor, spare_the_collector, spool_root
from logging_proxy.service.handover import OtherVersion, take_over
from logging_proxy.service.hello import capture_lines, look_command
from logging_proxy.service.invitation import page_of
from logging_proxy.service.output import CannotLog, Output, sink_for
from logging_proxy.shipping.bearer import BearerAgent
from logging_proxy.shipping.shipper import Shipper, Shippers

CONNECT_TIMEOUT = 10.0
"""Connect timeout to a remote logging server, in seconds."""


class Options(usage.Options):
    """The command line of `twistd logging-server`."""

    synopsis = "[--config FILE]"
    longdesc = "Keeps what logging proxies captured: files of every exchange."
    optParameters = [["config", "c", "config.yaml", "The configuration file."]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.update(
            {"handed-over": False, "listen-fd": [], "parent-pipe": None, "ship-to": None, "spool": []}
        )

    def opt_handed_over(self) -> None:
        """(for the proxy) Read the configuration from standard input instead of a file."""
        self["handed-over"] = True

    def opt_listen_fd(self, number: str) -> None:
        """(for the proxy) Listen on an inherited socket; may be repeated."""
        self["listen-fd"].append(_descriptor(number))

    def opt_parent_pipe(self, number: str) -> None:
        """(for the proxy) Exit when this inherited pipe reaches its end of file."""
        self["parent-pipe"] = _descriptor(number)

    def opt_ship_to(self, url: str) -> None:
        """(for the proxy) Send spools to the logging server at this URL."""
        self["ship-to"] = url

    def opt_spool(self, directory: str) -> None:
        """(for the proxy) A spool to send; may be repeated."""
        self["spool"].append(os.path.abspath(directory))

    def postOptions(self) -> None:
        if self["ship-to"] is not None and not self["spool"]:
            raise usage.UsageError("--ship-to needs --spool")


def _descriptor(number: str) -> int:
    try:
        os.fstat(int(number))
    except (ValueError, OSError):
        raise usage.UsageError(f"no open file descriptor: {number}") from None
    return int(number)


def makeService(options: Options) -> IService:
    """
    The service that the configuration and the options describe.

    Sockets are bound and the log directory is checked here: every mistake ends the process with status 1 and
    a clear message before any service starts.
    """
    reactor = install_reactor()
    os.umask(0o077)
    spare_the_collector()
    raise_limit()
    try:
        configuration = _configuration(options)
        if options["ship-to"] is not None:
            return _shipping(reactor, options, configuration)
        return _serving(reactor, options, configuration)
    except (
        ConfigurationError,
        OtherVersion,
        CannotListen,
        UnsafeDirectory,
        CannotLog,
        IndexTrouble,
    ) as error:
        give_up(str(error))
    except OSError as error:
        give_up(f"{error.filename}: {error.strerror}")


def _configuration(options: Options) -> Configuration:
    if options["handed-over"]:
        return take_over(sys.stdin.buffer.read())
    return load_configuration(options["config"], os.environ)


def _serving(reactor: Any, options: Options, configuration: Configuration) -> IService:
    sockets = _sockets(options, configuration)
    directory = LogDirectory(configuration.logging_server.log_dir)
    if options["parent-pipe"] is None:
        directory.open()
        check_version(os.path.join(directory.path, FILE))
    server = make_server(
        reactor,
        configuration.logging_server,
        directory,
        str(spool_root(configuration)),
        configuration.logging.spool_limit,
        sockets,
        [route.name for route in configuration.routes],
    )
    listeners = Listeners(reactor, sockets, server.site)
    parts = [server.storing, server.housekeeping, server.viewers, listeners]
    port = sockets[0].getsockname()[1]
    command = look_command(options["config"], os.getcwd(), path=os.environ.get("PATH", ""))

    def greet(output: Output) -> None:
        _greet(configuration, command, port, output)

    return _assemble(reactor, options, parts, listeners, server.storing, greet)


def _greet(configuration: Configuration, command: str, port: int, output: Output) -> None:
    """Writes the first lines of a standalone server; a proxy writes those for its child."""
    for warning in configuration.warnings:
        if not warning.key_path.startswith("routes"):  # the proxy's business
            output.say(warning.as_warning())
    options = configuration.logging_server
    page = page_of(options, port)
    first = f"Logging server {__version__} on http://{authority(options.host, port)}"
    captures = os.path.abspath(options.log_dir)

    def lines(address: str) -> str:
        return "\n".join([first, *capture_lines(captures, command, address)])

    output.confide(lines(page.confided), lines(page.logged))


def _shipping(reactor: Any, options: Options, configuration: Configuration) -> IService:
    token, url = configuration.logging_server.token, options["ship-to"]
    log_dir = os.path.abspath(configuration.logging_server.log_dir)
    agent: Any = Agent.usingEndpointFactory(
        reactor, ToServer(reactor, url, configuration), HTTPConnectionPool(reactor)
    )
    if token is None:
        agent = BearerAgent(agent, lambda: token_for(url, log_dir))
    given = token.value if token is not None else None
    client = HTTPClient(agent)
    shippers = Shippers([Shipper(reactor, spool, url, given, client) for spool in options["spool"]])
    return _assemble(reactor, options, [shippers], Listeners(reactor, [], None), shippers)


@implementer(IAgentEndpointFactory)
class ToServer:
    """
    Connects to the logging server at `url` in the way a destination is connected to, certificate check
    included.

    A name that resolves to the proxy itself is refused: the proxy would record what it ships.
    """

    def __init__(self, reactor: Any, url: str, configuration: Configuration) -> None:
        server = configuration.server
        ourselves = Ourselves()
        ourselves.listen_on((address, server.port) for address in addresses(server.host))
        self._endpoint = endpoint_for(reactor, parse_destination(url), CONNECT_TIMEOUT, ourselves=ourselves)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint


def _assemble(
    reactor: Any,
    options: Options,
    parts: list[Any],
    listeners: Listeners,
    work: Drainable,
    greet: Callable[[Output], None] = lambda output: None,
) -> ServerService:
    embedded = options["parent-pipe"] is not None
    if embedded:
        service = ServerService(reactor, None, ChildOutput(sys.stdout))
    else:
        output = Output(sink_for(options.parent or {"nodaemon": True}))
        atexit.register(output.close)
        service = ServerService(reactor, output, greet=greet)
    for part in parts:
        part.setServiceParent(service)
    if embedded:
        fd = options["parent-pipe"]
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        ParentWatch(reactor, fd, listeners, work).setServiceParent(service)
    return service


def _sockets(options: Options, configuration: Configuration) -> list[socket.socket]:
    if not options["listen-fd"]:
        return bind(configuration.logging_server.host, configuration.logging_server.port)
    sockets = [socket.socket(fileno=number) for number in options["listen-fd"]]
    for each in sockets:
        each.set_inheritable(False)
        each.setblocking(False)
    return sockets


@implementer(ILogObserver)
class ChildOutput:
    """
    Writes log lines for the parent, which adds the time: our own messages, and warnings from anywhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        ours = str(event.get("log_namespace", "")).startswith("logging_proxy")
        if level >= LogLevel.warn or (ours and level >= LogLevel.info):
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            self._stream.write(text + "\n")
            self._stream.flush()


__all__ = ["Options", "makeService"]
