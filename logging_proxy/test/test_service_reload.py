"""A configuration that cannot be used leaves everything as it was, wherever that shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, read_configuration
from logging_proxy.configuration.options import ServerOptions, ServerTLS
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.routing.mux import PatternConflict
from logging_proxy.service.engine import Serving
from logging_proxy.service.output import Output
from logging_proxy.service.proxy_service import ProxyService
from logging_proxy.test.proxy_stage import Wire, get, route
from logging_proxy.test.test_service_stop import Lines
from logging_proxy.tls.pem import PEMError, PEMFile

GOOD = Configuration(
    server=ServerOptions(shutdown_timeout=1), routes=(route("a", "/a/", "http://127.0.0.1:9/"),)
)
BAD = Configuration(
    server=ServerOptions(shutdown_timeout=2),
    routes=(route("a", "/a/", "http://127.0.0.1:9/"), route("b", "/a/", "http://127.0.0.1:8/")),
)
"""Two routes with one pattern, which the configuration's own checks refuse."""


class ForwardingTests(SynchronousTestCase):
    def test_stays(self) -> None:
        """The tree is the one before, and its connections are kept and closed as before."""
        forwarding = Forwarding(MemoryReactorClock(), None, lambda configuration: ())
        tree = forwarding.use(GOOD)
        (pool,) = [each.pool for each in tree.routes]
        self.assertRaises(PatternConflict, forwarding.use, BAD)
        self.assertIs(forwarding.tree, tree)
        again = forwarding.use(GOOD)
        self.assertEqual([each.pool for each in again.routes], [pool])


class ServingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.serving = Serving(MemoryReactorClock(), GOOD, None, Output(Lines()))

    def refused(self, configuration: Configuration, why: type[Exception]) -> None:
        tree = self.serving.site.root
        self.failureResultOf(Deferred.fromCoroutine(self.serving.use(configuration, [])), why)
        self.assertEqual((self.serving.site.root, self.serving.site.scheme), (tree, b"http"))
        self.assertEqual(self.serving._configuration, GOOD)

    def test_routes(self) -> None:
        """Routes that cannot be mounted change nothing, nor does anything else of that configuration."""
        self.refused(BAD, PatternConflict)

    def test_certificate(self) -> None:
        """A certificate that cannot be used is told of before the routes change."""
        file = PEMFile("none.pem", b"no certificate")
        server = replace(GOOD.server, tls=ServerTLS(certificate=file, key=file))
        self.refused(replace(GOOD, server=server, routes=()), PEMError)


class ObserverTests(SynchronousTestCase):
    def test_console(self) -> None:
        """Whether exchanges have lines is what the latest configuration says."""
        lines: list[str] = []
        output = Output(Lines())
        self.patch(output, "line", lines.append)
        reactor: Any = MemoryReactorClock()
        serving = Serving(reactor, GOOD, None, output)
        for console, expected in ((True, 2), (False, 2), (True, 4), ("brief", 5)):
            configuration = replace(GOOD, logging=replace(GOOD.logging, console=console))
            self.successResultOf(Deferred.fromCoroutine(serving.use(configuration, [])))
            Wire(reactor, serving.site.buildProtocol(None)).connect().deliver(get("/nope"))
            self.assertEqual(len(lines), expected)


class ServiceTests(SynchronousTestCase):
    def test_told(self) -> None:
        """The service says that the old one stays, compares the next one with it, and can use that."""
        read = [BAD, GOOD]
        reactor: Any = MemoryReactorClock()
        output = Output(Lines())
        serving = Serving(reactor, GOOD, None, output)
        service = ProxyService(reactor, GOOD, [], serving, None, output, lambda: read.pop(0), lambda *_: None)
        service.reload()
        self.assertEqual(len(self.flushLoggedErrors(PatternConflict)), 1)
        self.assertIs(service._configuration, GOOD)
        service.reload()
        self.assertEqual(read, [])
        self.assertEqual([each.options.name for each in serving.forwarding.tree.routes], ["a"])

    def test_changes(self) -> None:
        """Changed routes are told, with what clients have to set from now on, and so are warnings."""
        text = "server: {port: 7}\nroutes:\n  b: {pattern: /b/, destination: 'https://api.openai.com/v1/'}\n"
        new = read_configuration(text, "config.yaml", {})
        lines, reactor = Lines(), cast(Any, MemoryReactorClock())
        output = Output(lines, lambda: 0.0)
        old = replace(new, routes=GOOD.routes)
        serving = Serving(reactor, old, None, output)
        service = ProxyService(reactor, old, [], serving, None, output, lambda: new, lambda *_: None)
        service.reload()
        output.close()
        told = [line.partition(" ")[2].partition(" ")[2] for line in lines.data.decode().splitlines()]
        self.assertEqual(
            [line.strip() for line in told],
            [
                "route a is gone; its exchanges in flight finish",
                "route b is new",
                "the routes are now:",
                "b         OPENAI_BASE_URL=http://localhost:7/b -> https://api.openai.com/v1/",
                "config.yaml:3:21: warn: routes.b.destination: a request for /b/v1/models would go to "
                "/v1/v1/models: expected https://api.openai.com/, or the pattern /b/v1/",
            ],
        )
