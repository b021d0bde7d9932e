"""TCP keepalive: silent connections are probed, those that are accepted and those that are made."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.upstream_link import UpstreamLink
from logging_proxy.net import keepalive
from logging_proxy.net.keepalive import COUNT, IDLE, INTERVAL, keep_alive
from logging_proxy.net.listening import bind
from logging_proxy.net.wire import keep_probing
from logging_proxy.test.test_http_wire import Pair, tcp_pair


def probes(of: socket.socket) -> tuple[int, ...]:
    """Whether it is probed, and how."""
    found = [of.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    found += [of.getsockopt(socket.IPPROTO_TCP, option) for option, _ in keepalive._OPTIONS if option]
    return tuple(found)


class KeepAliveTests(SynchronousTestCase):
    def assertProbed(self, of: socket.socket) -> None:
        enabled, *times = probes(of)
        self.assertTrue(enabled)
        self.assertEqual(times, [value for option, value in keepalive._OPTIONS if option])

    def test_before_others_forget(self) -> None:
        """The first probe comes within a minute, and a peer that is gone is lost within five."""
        self.assertLessEqual(IDLE, 60)
        self.assertLess(IDLE + INTERVAL * COUNT, 300)

    def test_accepted(self) -> None:
        """What a listener of ours accepts is probed."""
        (listener,) = bind("127.0.0.1", 0)
        self.addCleanup(listener.close)
        with socket.create_connection(listener.getsockname()):
            listener.settimeout(60)
            accepted, _ = listener.accept()
            self.addCleanup(accepted.close)
            self.assertProbed(accepted)

    def test_made(self) -> None:
        """So is a connection to an upstream."""
        pair = Pair(self, pair=tcp_pair)
        UpstreamLink(Clock().seconds).makeConnection(pair.transport)
        self.assertProbed(pair.transport.socket)

    def test_others(self) -> None:
        """What is no TCP stays as it is."""
        keep_probing(StringTransport())
        pair = Pair(self)
        keep_probing(pair.transport)
        Protocol().makeConnection(pair.transport)

    def test_without_the_options(self) -> None:
        """A system that has no such options, or refuses them, has its own times."""
        self.patch(keepalive, "_OPTIONS", ((None, IDLE), (-1, INTERVAL)))
        with socket.socket() as of:
            keep_alive(of)
            self.assertTrue(of.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def test_closed(self) -> None:
        """A socket that is closed already is no failure."""
        of: Any = socket.socket()
        of.close()
        keep_alive(of)
