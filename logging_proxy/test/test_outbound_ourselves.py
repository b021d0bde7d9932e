"""Which connections would end at our own listeners."""

from __future__ import annotations

import socket

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.outbound import ourselves as module
from logging_proxy.outbound.ourselves import LeadsToOurselves, Ourselves, Where, addresses_of
from logging_proxy.proxy.failures import verdict


class OurselvesTests(SynchronousTestCase):
    def setUp(self) -> None:
        machine = {"127.0.0.1", "127.0.0.9", "::1", "192.0.2.7", "2001:db8::7"}
        self.patch(module, "_is_of_this_machine", lambda address: str(address) in machine)

    def assertLeads(self, listeners: list[Where], yes: list[Where], no: list[Where]) -> None:
        found = Ourselves()
        found.listen_on(listeners)
        for where in yes:
            self.assertRaises(LeadsToOurselves, found.check, *where)
        for where in no:
            found.check(*where)

    def test_an_address(self) -> None:
        """A listener on an address is reached by it alone, however it is written."""
        self.assertLeads(
            [("127.0.0.1", 80), ("::1", 80)],
            [("127.0.0.1", 80), ("::ffff:127.0.0.1", 80), ("0.0.0.0", 80), ("::", 80), ("0::1", 80)],
            [("127.0.0.1", 81), ("127.0.0.9", 80), ("192.0.2.7", 80), ("2001:db8::7", 80)],
        )

    def test_every_address(self) -> None:
        """One on every address of a family is reached by all that this machine has of it."""
        self.assertLeads(
            [("0.0.0.0", 80)],
            [("127.0.0.1", 80), ("127.0.0.9", 80), ("192.0.2.7", 80), ("0.0.0.0", 80)],
            [("192.0.2.8", 80), ("::1", 80), ("2001:db8::7", 80), ("192.0.2.7", 81)],
        )
        self.assertLeads([("::", 80)], [("::1", 80), ("2001:db8::7", 80)], [("127.0.0.1", 80)])

    def test_the_logging_server(self) -> None:
        """Its listeners count as well, and stay when the proxy's change."""
        found = Ourselves([("127.0.0.1", 8080)])
        found.listen_on([("127.0.0.1", 5601)])
        found.listen_on([("127.0.0.1", 5602)])
        found.check("127.0.0.1", 5601)
        error = self.assertRaises(LeadsToOurselves, found.check, "127.0.0.1", 8080)
        self.assertEqual(str(error), "127.0.0.1 port 8080 is the logging server's own listener")
        error = self.assertRaises(LeadsToOurselves, found.check, "127.0.0.1", 5602)
        self.assertEqual(str(error), "127.0.0.1 port 5602 is the proxy's own listener")
        self.assertEqual(
            (verdict(Failure(error)).status, verdict(Failure(error)).outcome), (508, "connect_failed")
        )

    def test_loopback(self) -> None:
        """Whether others can reach the proxy is what all of its sockets say."""
        for listeners, expected in (
            ([("127.0.0.1", 1), ("::1", 1)], True),
            ([("127.0.1.1", 1)], True),
            ([("127.0.0.1", 1), ("192.0.2.7", 1)], False),
            ([("0.0.0.0", 1)], False),
            ([("::", 1)], False),
            ([], False),
        ):
            found = Ourselves()
            found.listen_on(listeners)
            self.assertIs(found.loopback, expected, listeners)


class MachineTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """All of 127.0.0.0/8 is this machine's, what is for documentation nobody's."""
        found = Ourselves()
        found.listen_on([("0.0.0.0", 80)])
        self.assertRaises(LeadsToOurselves, found.check, "127.0.0.1", 80)
        found.check("203.0.113.1", 80)

    def test_sockets(self) -> None:
        """Where sockets listen is what they say."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.assertEqual(addresses_of([listener]), [("127.0.0.1", listener.getsockname()[1])])
