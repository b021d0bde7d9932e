"""`twistd logging-proxy`: its command line, and the service made from it."""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import IService
from twisted.python import usage

from logging_proxy.configuration import Configuration, ConfigurationError
from logging_proxy.net.descriptors import raise_limit
from logging_proxy.net.listening import CannotListen, bind
from logging_proxy.outbound.ourselves import addresses_of
from logging_proxy.recording.directories import make_directory_apart
from logging_proxy.recording.disk import make_private_directory
from logging_proxy.recording.recorder import RING_SIZE, Recording
from logging_proxy.recording.rings import remove_unused, salvage_all
from logging_proxy.recording.spool import Spool, SpoolBusy, describe
from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.bootstrap import (
    give_up,
    install_reactor,
    spare_the_collector,
    spool_root,
    worker_count,
)
from logging_proxy.service.child import LINK_FD, NICENESS, ChildProcess
from logging_proxy.service.chosen import Chosen, choose
from logging_proxy.service.engine import Serving
from logging_proxy.service.handover import hand_over
from logging_proxy.service.hello import look_command, starting_lines
from logging_proxy.service.invitation import Page, page_of
from logging_proxy.service.output import CannotLog, Output, sink_for
from logging_proxy.service.proxy_service import CHILD_PATIENCE, Engine, ProxyService
from logging_proxy.service.run import (
    Run,
    RunService,
    Tally,
    any_is_read,
    first_free_slot,
    hello,
    is_read,
    settings_of_run,
)
from logging_proxy.workers.fleet import Fleet
from logging_proxy.workers.spools import end_sessions, former_spools, spool_directories
from logging_proxy.workers.worker import GATHER, WorkerService

PREDECESSOR = 3.0
"""Seconds to wait at start for a port or spool that is still in use by processes of a killed proxy."""

T = TypeVar("T")


class Options(usage.Options):
    """The command line of `twistd logging-proxy`."""

    synopsis = "[--config FILE] [--to URL] [--port PORT] [--log-dir DIR]"
    longdesc = "A reverse proxy that keeps every HTTP request and response byte for byte."
    optParameters = [
        [
            "config",
            "c",
            None,
            "The configuration file; by default config.yaml, or built-in routes without it.",
        ],
        ["to", None, None, "Forward everything to this URL, in place of the configured routes."],
        ["port", None, None, "Port to listen on, in place of the configured one."],
        ["log-dir", None, None, "Directory for captures, in place of the configured one."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["worker"] = self["run"] = self["link"] = None

    def opt_worker(self, number: str) -> None:
        """(for the proxy) Run as the worker with this number."""
        self["worker"] = int(number)

    def opt_run(self, name: str) -> None:
        """(for `logging-proxy run -- COMMAND`) Record the exchanges as a run of this name."""
        self["run"] = name

    def opt_link(self, number: str) -> None:
        """(for `logging-proxy run -- COMMAND`) The descriptor of the link to the command line."""
        self["link"] = int(number)

    def postOptions(self) -> None:
        if self["port"] is not None and not self["port"].isascii() or not (self["port"] or "0").isdecimal():
            raise usage.UsageError("--port: expected a number")

    @property
    def chosen(self) -> Chosen:
        """The configuration to use."""
        return choose(self["config"], self["to"], self["port"], self["log-dir"])


def makeService(options: Options) -> IService:
    """
    Make the service that the configuration describes, or one of its workers.

    Ports are bound, and the log and the spools opened, here: any mistake ends the process
    with status 1 and a clear message before anything is started.
    """
    reactor = install_reactor()
    os.umask(0o077)
    raise_limit()
    if options["worker"] is not None:
        return _worker(reactor, options)
    try:
        return (_proxy if options["run"] is None else _run)(reactor, options)
    except (ConfigurationError, CannotListen, SpoolBusy, CannotLog) as error:
        give_up(str(error))
    except OSError as error:
        give_up(": ".join(str(each) for each in (error.filename, describe(error)) if each is not None))


def _worker(reactor: Any, options: Options) -> IService:
    number = options["worker"]
    fcntl.fcntl(LINK_FD, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    output = Output(sink_for(options.parent or {"nodaemon": True}), name=f"worker {number}", gather=GATHER)
    atexit.register(output.close)
    spare_the_collector()
    return WorkerService(reactor, number, LINK_FD, output)


def _proxy(reactor: Any, options: Options) -> IService:
    chosen = options.chosen
    parent = options.parent or {"nodaemon": True}
    configuration = chosen.load(os.environ)
    listeners = bind(configuration.server.host, configuration.server.port)
    server_listeners = _server_listeners(configuration)
    output = Output(sink_for(parent))
    workers = worker_count(configuration)
    root, port = spool_root(configuration), listeners[0].getsockname()[1]
    spools = _spools(configuration, root, port, workers)
    server = addresses_of(server_listeners)
    engine: Engine
    if workers == 1:
        recording = _recording(reactor, configuration, spools)
        engine = Serving(reactor, configuration, recording, output, server=server)
    else:
        _patiently(lambda: _try(spools, configuration))
        homes: Sequence[Path | None] = spools or [None] * workers
        engine = Fleet(reactor, configuration, homes, output, _worker_arguments(parent), server)
    former = former_spools(root, port, workers)
    end_sessions(former)
    # Flushes the messages logged until then if the start fails after this point.
    atexit.register(output.close)
    page = None
    if server_listeners:
        page = page_of(configuration.logging_server, server_listeners[0].getsockname()[1])
    if chosen.filename is None and options["to"] is None:
        output.say(
            "no config.yaml here: the built-in routes apply, which `logging-proxy init` writes to a file"
        )
    command = look_command(options["config"], os.getcwd(), path=os.environ.get("PATH", ""))
    spare_the_collector()
    return ProxyService(
        reactor,
        configuration,
        listeners,
        engine,
        _child(reactor, configuration, server_listeners, [*spools, *former]),
        output,
        partial(chosen.absolute().load, os.environ),
        _greeting(output, command, page, workers),
    )


def _greeting(
    output: Output, command: str, page: Page | None, workers: int
) -> Callable[[Configuration, int], None]:
    """Writes the first lines; a terminal is also shown what it takes to open the page."""

    def greet(configuration: Configuration, port: int) -> None:
        def lines(address: str) -> str:
            return "\n".join(
                starting_lines(
                    configuration, command, address, port=port, workers=workers, columns=output.room()
                )
            )

        if page is None:
            output.say(lines(""))
        else:
            output.confide(lines(page.confided), lines(page.logged))

    return greet


def _run(reactor: Any, options: Options) -> IService:
    """The proxy of a run, which uses the logging server that reads the spools already, if there is one."""
    chosen, run = options.chosen, Run(options["run"], options["link"])
    fcntl.fcntl(run.link, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    port = int(options["port"] or 0)
    configuration = settings_of_run(chosen.load(os.environ), port)
    listeners = bind(configuration.server.host, configuration.server.port)
    output = Output(sink_for(options.parent or {"nodaemon": True}))
    atexit.register(output.close)
    root = spool_root(configuration)
    server_listeners = [] if any_is_read(root) else _listeners_if_free(configuration)
    recording = _recording_of_run(reactor, configuration, root, run.name)
    spools = [] if recording is None else [recording.directory]
    tally = Tally()
    server = addresses_of(server_listeners)
    engine = Serving(reactor, configuration, recording, output, server=server, observers=[tally])
    spare_the_collector()
    own = bool(server_listeners) or not configuration.embedded
    service = ProxyService(
        reactor,
        configuration,
        listeners,
        engine,
        _child(reactor, configuration, server_listeners, spools) if own else None,
        output,
        lambda: settings_of_run(chosen.absolute().load(os.environ), port),
        lambda configuration, port: None,
    )
    RunService(  # type: ignore[no-untyped-call]
        reactor,
        run.link,
        hello(configuration, listeners[0].getsockname()[1], everything=options["to"] is not None),
        tally,
        lambda: own or not spools or is_read(spools[0]),
        lambda: _child(reactor, configuration, _listeners_anywhere(configuration), spools),
        CHILD_PATIENCE,
    ).setServiceParent(service)
    return service


def _listeners_if_free(configuration: Configuration) -> list[socket.socket]:
    """The embedded logging server's sockets; none if its port is taken, as by one that reads the spools."""
    server = configuration.logging_server
    if not configuration.embedded:
        return []
    try:
        return bind(server.host, server.port)
    except CannotListen:
        return []


def _listeners_anywhere(configuration: Configuration) -> list[socket.socket]:
    """The same, on another port if the configured one is taken."""
    return _listeners_if_free(configuration) or bind(configuration.logging_server.host, 0)


def _recording_of_run(reactor: Any, configuration: Configuration, root: Path, name: str) -> Recording | None:
    if not _prepare_spools(configuration, root):
        return None
    return first_free_slot(root, lambda slot: Recording(slot, configuration.logging, reactor, run=name))


# --- spools -----------------------------------------------------------------------------


def _spools(configuration: Configuration, root: Path, port: int, workers: int) -> list[Path]:
    """Prepare and return the proxy's spool directories; none if nothing is to be recorded."""
    return spool_directories(root, port, workers) if _prepare_spools(configuration, root) else []


def _prepare_spools(configuration: Configuration, root: Path) -> bool:
    """Recover what dead proxies left, and make the directory of spools; False if nothing is recorded."""
    salvage_all(root)
    remove_unused(Path(configuration.logging.ring_dir))
    if not configuration.logging.default and not any(route.logging for route in configuration.routes):
        return False
    if configuration.embedded:
        make_directory_apart(Path(configuration.logging_server.log_dir))
    make_private_directory(root)
    return True


def _recording(reactor: Any, configuration: Configuration, spools: Sequence[Path]) -> Recording | None:
    """Open the spool of a proxy with one process."""
    if not spools:
        return None
    return _patiently(lambda: Recording(spools[0], configuration.logging, reactor))


def _try(spools: Sequence[Path], configuration: Configuration) -> None:
    """Check that the workers can open all of their spools at the same time."""
    logging = configuration.logging
    with ExitStack() as stack:
        for spool in spools:
            opened = Spool(
                spool,
                Path(logging.ring_dir),
                RING_SIZE,
                logging.spool_limit,
                lambda: None,
                workers=len(spools),
            )
            stack.enter_context(closing(opened))


def _patiently(attempt: Callable[[], T]) -> T:
    """Call `attempt` until it succeeds, for a while, in case a previous proxy is still ending."""
    until = time.monotonic() + PREDECESSOR
    while True:
        try:
            return attempt()
        except (CannotListen, SpoolBusy):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


# --- processes --------------------------------------------------------------------------


def _server_listeners(configuration: Configuration) -> list[socket.socket]:
    """Bind the embedded logging server's sockets here, so that they stay open when it is restarted."""
    if not configuration.embedded:
        return []
    server = configuration.logging_server
    return _patiently(lambda: bind(server.host, server.port))


def _child(
    reactor: Any,
    configuration: Configuration,
    listeners: list[socket.socket],
    spools: Sequence[Path],
) -> ChildProcess | None:
    """The logging server process; with `server_url`, the process that ships the spools to that server."""
    arguments = ["-n", "--pidfile=", "--logfile=-", "logging-server", "--handed-over"]
    arguments += [f"--parent-pipe={LINK_FD}"]
    if configuration.logging.server_url is not None:
        if not spools:
            return None
        arguments += [f"--ship-to={configuration.logging.server_url}"]
        arguments += [f"--spool={spool}" for spool in spools]
    arguments += [f"--listen-fd={number}" for number, _ in enumerate(listeners, LINK_FD + 1)]
    url = configuration.logging.server_url
    return ChildProcess(
        reactor,
        "logging server",
        arguments,
        listeners,
        document=hand_over(configuration),
        niceness=NICENESS,
        title="" if url is None else f"sends captures to {redact_url(url)}",
    )


def _worker_arguments(parent: Any) -> list[str]:
    """twistd's arguments for a worker, with the reactor of the current command line."""
    reactor = parent.get("reactor")
    chosen = [] if reactor is None else [f"--reactor={reactor}"]
    return [*chosen, "-n", "--pidfile=", "--logfile=-", "logging-proxy"]


__all__ = ["Options", "makeService"]
