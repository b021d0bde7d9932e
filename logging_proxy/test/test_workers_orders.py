"""Orders: they arrive whole, in order, with their descriptors, and are answered when they are carried out."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, LoggingOptions
from logging_proxy.test.proxy_stage import route
from logging_proxy.test.workers_stage import LinkTransport, pass_on
from logging_proxy.workers.orders import Begin, Commander, Hurry, Listen, Order, Stop, Subordinate, Use


class OrdersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.orders: list[Order] = []
        self.attached: list[int] = []
        self.wait: Deferred[None] | None = None
        self.alone = 0
        self.commander = Commander()
        self.subordinate = Subordinate(self.obey, self.left_alone)
        for each in (self.commander, self.subordinate):
            each.makeConnection(LinkTransport())

    async def obey(self, order: Order, attached: list[int]) -> None:
        self.orders.append(order)
        self.attached += attached
        for descriptor in attached:
            self.addCleanup(os.close, descriptor)
        if self.wait is not None:
            await self.wait

    def left_alone(self) -> None:
        self.alone += 1

    def test_arrive(self) -> None:
        """Every order arrives as it was given, one byte at a time too."""
        configuration = Configuration(routes=(route("api", "/api/", "http://127.0.0.1:9/"),))
        given: list[Order] = [
            Begin(configuration, Path("/spool/5601"), LoggingOptions()),
            Listen(),
            Use(configuration),
            Hurry(),
            Stop(),
        ]
        for step in (1 << 20, 1):
            self.orders.clear()
            for order in given:
                self.commander.give(order)
            pass_on(self.commander, self.subordinate, step)
            self.assertEqual(self.orders, given)

    def test_descriptors(self) -> None:
        """Descriptors come with the order that they belong to, though they arrive earlier, as copies."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.commander.give(Listen(), [one])
            self.commander.give(Listen(), [other])
            # What the caller does with his before they are sent does not matter.
            names = [one.getsockname(), other.getsockname()]
        pass_on(self.commander, self.subordinate)
        received = [socket.socket(fileno=os.dup(descriptor)) for descriptor in self.attached]
        self.assertEqual([each.getsockname() for each in received], names)
        for each in received:
            each.close()
        self.assertEqual([os.get_inheritable(descriptor) for descriptor in self.attached], [False, False])

    def test_one_by_one(self) -> None:
        """An order waits until the one before it has been carried out, and is answered when it is itself."""
        self.wait = first = Deferred[None]()
        answers = [self.commander.give(Listen()), self.commander.give(Stop())]
        pass_on(self.commander, self.subordinate)
        self.assertEqual(self.orders, [Listen()])
        self.wait = None
        first.callback(None)
        self.assertEqual(self.orders, [Listen(), Stop()])
        self.assertNoResult(answers[0])
        pass_on(self.subordinate, self.commander)
        for answer in answers:
            self.successResultOf(answer)

    def test_fails(self) -> None:
        """An order that cannot be carried out is logged, and does not keep the next from being so."""
        self.wait = Deferred()
        self.wait.errback(ValueError("a fault of ours"))
        answer = self.commander.give(Listen())
        pass_on(self.commander, self.subordinate)
        pass_on(self.subordinate, self.commander)
        self.successResultOf(answer)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.wait = None
        self.commander.give(Stop())
        pass_on(self.commander, self.subordinate)
        self.assertEqual(self.orders, [Listen(), Stop()])

    def test_gone(self) -> None:
        """Orders to somebody who is gone are settled, and leave no descriptor open."""
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with open(os.devnull, "rb") as file:
            answer = self.commander.give(Listen(), [file])
            self.assertNoResult(answer)
            self.commander.connectionLost()
            self.successResultOf(answer)
            cast(LinkTransport, self.commander.transport).loseConnection()
            self.successResultOf(self.commander.give(Stop(), [file]))
        self.assertEqual(len(os.listdir("/proc/self/fd")) if before else 0, before)

    def test_alone(self) -> None:
        """The worker is told when nobody is there any more to order."""
        self.subordinate.connectionLost()
        self.assertEqual(self.alone, 1)
