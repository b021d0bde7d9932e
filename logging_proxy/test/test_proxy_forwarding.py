"""A new configuration takes the place of the old one as a whole, or not at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import read_configuration
from logging_proxy.proxy import forwarding
from logging_proxy.proxy.forwarding import Forwarding

ROUTES = "routes: {a: {pattern: /, destination: 'http://127.0.0.1:9/'}}"


class UseTests(SynchronousTestCase):
    def test_a_tree_that_cannot_be_made(self) -> None:
        """The tree of before is still the one in use, and its connections are closed when all are."""
        configuration = read_configuration(ROUTES, "config.yaml", {})
        routes = Forwarding(MemoryReactorClock(), None, lambda configuration: ())
        tree = routes.use(configuration)
        (pool,) = routes._pools.values()

        def fail(*arguments: Any, **named: Any) -> None:
            raise ZeroDivisionError("no tree")

        patched = self.patch(forwarding, "RouteResource", fail)
        self.assertRaises(ZeroDivisionError, routes.use, configuration)
        patched.restore()
        self.assertIs(routes.tree, tree)
        routes.close()
        self.assertTrue(pool._closed)
        self.assertIs(routes.use(configuration).routes[0].pool, pool)
