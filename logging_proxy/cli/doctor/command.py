"""`logging-proxy doctor`: runs the checks and shows them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from twisted.internet.defer import Deferred, gatherResults

from logging_proxy.cli import render
from logging_proxy.cli.api import ApiSource
from logging_proxy.cli.choosing import url_of
from logging_proxy.cli.commands import Context
from logging_proxy.cli.connection import Server
from logging_proxy.cli.doctor import machine, network
from logging_proxy.cli.doctor.check import Check, State, fail, lines, ok, warn
from logging_proxy.cli.sources import Trouble
from logging_proxy.configuration import Configuration, ConfigurationError
from logging_proxy.service.bootstrap import install_reactor
from logging_proxy.service.chosen import Chosen, choose

INTERRUPTED = 130


def examine(context: Context) -> int:
    """`logging-proxy doctor`: 0 if the proxy can work, 1 if not."""
    options = context.options
    chosen = choose(
        getattr(options, "config", None), options.to, options.port, getattr(options, "log_dir", None)
    )
    try:
        configuration, checks = _load(chosen, context)
        checks += _local(configuration)
        remote = _remote(configuration)
    except KeyboardInterrupt:
        return INTERRUPTED
    if remote is None:
        return INTERRUPTED
    checks += [*remote, *machine.check_parts()]
    if context.json:
        context.terminal.lines(render.json_line(check.document()) for check in checks)
    else:
        context.terminal.lines(lines(checks, context.terminal.paint))
    return int(any(check.state is State.FAIL for check in checks))


def _load(chosen: Chosen, context: Context) -> tuple[Configuration | None, list[Check]]:
    """The configuration, None if it has mistakes, and the check of its file."""
    name = "file"
    try:
        configuration = chosen.load(context.environ)
    except ConfigurationError as error:
        return None, [fail(name, str(problem), "correct it") for problem in error.problems]
    if chosen.filename is None:
        text = "no config.yaml here, the built-in configuration applies (logging-proxy init writes one)"
        checks = [ok(name, text)]
    else:
        checks = [ok(name, f"{chosen.filename}: {len(configuration.routes)} routes")]
    return configuration, [*checks, *(warn(name, str(each), "") for each in configuration.warnings)]


def _local(configuration: Configuration | None) -> Iterator[Check]:
    if configuration is None:
        return
    known = configuration

    @cache
    def runs() -> bool:
        url = url_of(known)
        try:
            return url is not None and ApiSource(Server(url)).check() is not None
        except Trouble:
            return False

    yield from network.check_ports(configuration, runs)
    yield from machine.check_disk(configuration)
    yield machine.check_ring(configuration)
    yield machine.check_clock(configuration)


def _remote(configuration: Configuration | None) -> list[Check] | None:
    """The checks that need a reactor; None if they were interrupted."""
    if configuration is None:
        return []
    reactor = install_reactor()
    found: list[list[Check]] = []

    def begin(known: Configuration) -> None:
        all_checks: Deferred[list[list[Check]]] = gatherResults(
            [network.check_destinations(reactor, known), network.check_server_url(reactor, known)]
        )
        all_checks.addCallback(found.extend)
        all_checks.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin, configuration)
    reactor.run()
    return [check for checks in found for check in checks] if found else None
