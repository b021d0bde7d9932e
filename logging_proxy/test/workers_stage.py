"""What the tests of workers share: a link in memory, and a reactor that has processes and adopts links."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.testing import StringTransport

from logging_proxy.test.test_service_child import FakeReactor, Process
from logging_proxy.workers.orders import Order, Subordinate


class LinkTransport(StringTransport):
    """One end of a link; descriptors that are sent wait with the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []

    def sendFileDescriptor(self, descriptor: int) -> None:
        self.sent.append(descriptor)

    def loseConnection(self) -> None:
        self.disconnected = True


def pass_on(here: Any, there: Any, step: int = 1 << 20) -> None:
    """Bring what one end has sent to the other, in pieces; its descriptors come first, as new ones."""
    transport = here.transport
    sent, transport.sent = transport.sent, []
    for descriptor in sent:
        there.fileDescriptorReceived(os.dup(descriptor))
    data = transport.value()
    transport.clear()
    for start in range(0, len(data), step):
        there.dataReceived(data[start : start + step])


class FleetReactor(FakeReactor):
    """Runs processes and links that the test plays."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[End] = []

    def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(LinkTransport())
        self.ends.append(End(self.processes[-1], protocol))


class End:
    """A worker process, as far as it obeys."""

    def __init__(self, process: Process, commander: Any) -> None:
        self.process = process
        self.commander = commander
        self.dead = False
        self.orders: list[tuple[Order, int]] = []
        """Each with the number of descriptors that came with it."""
        self.subordinate = Subordinate(self._obey, lambda: None)
        self.subordinate.makeConnection(LinkTransport())

    async def _obey(self, order: Order, attached: list[int]) -> None:
        self.orders.append((order, len(attached)))
        for descriptor in attached:
            os.close(descriptor)

    def read(self) -> list[str]:
        """Take in what was ordered, and answer; the orders so far, by name and number of descriptors."""
        pass_on(self.commander, self.subordinate)
        pass_on(self.subordinate, self.commander)
        return [f"{type(order).__name__} {count}" for order, count in self.orders]

    def die(self, status: int = 1) -> None:
        self.dead = True
        self.commander.connectionLost()
        self.process.end(status)
