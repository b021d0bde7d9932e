"""Who is on this machine is sent to without pacing; everybody else as the system has it."""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any
from unittest import skipUnless

from twisted.internet.protocol import ClientFactory
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.net.listening import bind
from logging_proxy.net.pacing import do_not_pace, is_local

if sys.platform == "linux":
    from logging_proxy.net.reactor import ProxyReactor


class FakeSocket:
    """A socket whose congestion control is `name`."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
        return self.name.ljust(size, b"\0")

    def setsockopt(self, level: int, option: int, name: bytes) -> None:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
        if self.name == b"bbr-only":
            raise OSError(errno.EPERM, "not allowed")
        self.name = name


@skipUnless(hasattr(socket, "TCP_CONGESTION"), "this system has one congestion control")
class PacingTests(SynchronousTestCase):
    def test_bbr_alone(self) -> None:
        """Only what paces is replaced, and where that is refused nothing happens."""
        for name, after in ((b"bbr", b"reno"), (b"cubic", b"cubic"), (b"bbr-only", b"bbr-only")):
            of: Any = FakeSocket(name)
            do_not_pace(of)
            self.assertEqual(of.name, after)

    def test_no_tcp(self) -> None:
        """A socket that is not TCP stays as it is, without an error."""
        of, peer = socket.socketpair(socket.AF_UNIX)
        with of, peer:
            do_not_pace(of)
            of.sendall(b"still connected")
            self.assertEqual(peer.recv(99), b"still connected")

    def test_is_local(self) -> None:
        """Numbers of the loopback interface; a name is nobody's before it is looked up."""
        for address in ("127.0.0.1", "127.9.9.9", "::1"):
            self.assertTrue(is_local(address))
        for address in ("192.0.2.1", "0.0.0.0", "::", "localhost", ""):
            self.assertFalse(is_local(address))


def congestion_control(of: socket.socket) -> bytes:
    return of.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@skipUnless(sys.platform == "linux", "the reactor of ours is for Linux")
class SocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        with socket.socket() as any_socket:
            if not congestion_control(any_socket).startswith(b"bbr"):
                raise SkipTest("this system does not pace")

    def test_listeners(self) -> None:
        """A connection that is accepted has it from its listener."""
        (listener,) = bind("127.0.0.1", 0)
        self.addCleanup(listener.close)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            self.addCleanup(accepted.close)
            self.assertEqual(congestion_control(accepted), b"reno")
        (listener,) = bind("0.0.0.0", 0)
        self.addCleanup(listener.close)
        self.assertEqual(congestion_control(listener), b"bbr")

    def test_connections(self) -> None:
        """What the reactor connects to this machine; not what it connects to others."""
        reactor = ProxyReactor()
        self.addCleanup(reactor._poller.close)
        for address, name in (("127.0.0.1", b"reno"), ("192.0.2.1", b"bbr")):
            connector: Any = reactor.connectTCP(address, 9, ClientFactory())
            self.assertEqual(congestion_control(connector.transport.socket), name)
            connector.stopConnecting()
