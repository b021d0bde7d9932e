"""Listening sockets: which addresses a host is, and what is said when they cannot be had."""

from __future__ import annotations

import errno
import os
import socket
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.demo.processes import free_port
from logging_proxy.net import listening
from logging_proxy.net.listening import CannotListen, bind, drop_syns


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class BindTests(SynchronousTestCase):
    def bind(self, host: str, port: int = 0) -> list[socket.socket]:
        sockets = bind(host, port)
        for each in sockets:
            self.addCleanup(each.close)
        return sockets

    def test_localhost(self) -> None:
        """`localhost` is 127.0.0.1 and ::1, on the same port, whatever the hosts file says."""
        if not has_ipv6():
            raise SkipTest("this machine has no ::1")
        asked: list[str] = []
        real = socket.getaddrinfo

        def numbers_only(host: str, *arguments: object, **options: object) -> object:
            asked.append(host)
            return real(host, *arguments, **options)  # type: ignore[arg-type]

        self.patch(socket, "getaddrinfo", numbers_only)
        first, second = self.bind("localhost")
        self.assertEqual((first.getsockname()[0], second.getsockname()[0]), ("127.0.0.1", "::1"))
        self.assertEqual(first.getsockname()[1], second.getsockname()[1])
        self.assertNotIn("localhost", asked)

    def test_every_address(self) -> None:
        """`::`, however it is written, is every address of both families, on the same port."""
        if not has_ipv6():
            raise SkipTest("this machine has no ::1")
        for host in ("::", "0:0:0:0:0:0:0:0"):
            sockets = self.bind(host)
            self.assertEqual([each.getsockname()[0] for each in sockets], ["0.0.0.0", "::"])
            (port,) = {each.getsockname()[1] for each in sockets}
            for address in ("127.0.0.1", "::1"):
                with socket.create_connection((address, port), timeout=60):
                    pass
        (only,) = self.bind("0.0.0.0")
        self.assertEqual(only.getsockname()[0], "0.0.0.0")

    def test_every_address_of_ipv4(self) -> None:
        """... and of IPv4 alone on a machine without IPv6."""
        real = listening._listen

        def no_ipv6(family: int, address: str, port: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "")
            return real(family, address, port)

        self.patch(listening, "_listen", no_ipv6)
        (only,) = self.bind("::")
        self.assertEqual(only.getsockname()[0], "0.0.0.0")

    def test_one_family(self) -> None:
        """On a machine without IPv6 `localhost` is 127.0.0.1 alone."""
        real = listening._listen

        def no_ipv6(family: int, address: str, port: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "")
            return real(family, address, port)

        self.patch(listening, "_listen", no_ipv6)
        (only,) = self.bind("localhost")
        self.assertEqual(only.getsockname()[0], "127.0.0.1")

    def test_connects(self) -> None:
        """Clients can connect as soon as `bind` returns, and no descriptor is inherited."""
        for each in self.bind("localhost"):
            with socket.create_connection(each.getsockname()[:2], timeout=60):
                pass
            self.assertFalse(each.get_inheritable())
            self.assertFalse(each.getblocking())

    def test_busy(self) -> None:
        """A port that is taken on one address is an error in one line, and nothing stays bound."""
        with socket.socket() as taken:
            port = free_port()
            taken.bind(("127.0.0.1", port))
            taken.listen()
            self.patch(listening, "holder_of", lambda port: "")
            error = self.assertRaises(CannotListen, bind, "localhost", port)
        self.assertEqual(str(error), f"cannot listen on localhost:{port}: {os.strerror(errno.EADDRINUSE)}")
        self.bind("localhost", port)

    def test_any_free_port(self) -> None:
        """With port 0 one is found that is free on both addresses, though the first try may not be."""
        real, refusals = listening._listen, [OSError(errno.EADDRINUSE, "")] * 3

        def sometimes(family: int, address: str, port: int) -> socket.socket:
            if port and refusals:
                raise refusals.pop()
            return real(family, address, port)

        if not has_ipv6():
            raise SkipTest("this machine has no ::1")
        self.patch(listening, "_listen", sometimes)
        first, second = self.bind("localhost")
        self.assertEqual(refusals, [])
        self.assertEqual(first.getsockname()[1], second.getsockname()[1])

    def test_forbidden(self) -> None:
        """Whatever the system says against it is in the line."""

        def refuse(family: int, address: str, port: int) -> socket.socket:
            raise OSError(errno.EACCES, "")

        self.patch(listening, "_listen", refuse)
        error = self.assertRaises(CannotListen, bind, "127.0.0.1", 80)
        self.assertEqual(str(error), "cannot listen on 127.0.0.1:80: Permission denied")

    def test_elsewhere(self) -> None:
        """An address of another machine is an error."""
        error = self.assertRaises(CannotListen, bind, "203.0.113.1", 0)
        self.assertIn("203.0.113.1:0: ", str(error))

    def test_no_such_name(self) -> None:
        """A name that means nothing is an error in one line."""

        def unknown(*arguments: object, **options: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.patch(socket, "getaddrinfo", unknown)
        error = self.assertRaises(CannotListen, bind, "nowhere.invalid", 1)
        self.assertEqual(str(error), "cannot listen on nowhere.invalid:1: Name or service not known")

    def test_twice_the_same(self) -> None:
        """An address that a name gives twice is bound once."""
        twice = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))] * 2
        self.patch(socket, "getaddrinfo", lambda *arguments, **options: twice)
        self.assertEqual(len(self.bind("twice.test")), 1)


class ClosingTests(SynchronousTestCase):
    def setUp(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("only Linux can be told")

    def closing(self, host: str) -> None:
        (listener,) = bind(host, 0)
        self.addCleanup(listener.close)
        with socket.create_connection(listener.getsockname()[:2]) as early:
            drop_syns(listener)
            with socket.socket(listener.family) as late:
                late.settimeout(0.05)
                self.assertRaises(TimeoutError, late.connect, listener.getsockname()[:2])
            accepted, _ = listener.accept()
            with accepted:
                early.sendall(b"asked")
                self.assertEqual(accepted.recv(9), b"asked")
                accepted.sendall(b"answered")
                self.assertEqual(early.recv(9), b"answered")
                early.close()
                self.assertEqual(accepted.recv(9), b"")
            self.assertRaises(BlockingIOError, listener.accept)

    def test_syn_dropped(self) -> None:
        """Connections in the accept queue are served; later ones are dropped rather than refused."""
        self.closing("127.0.0.1")

    def test_syn_dropped_ipv6(self) -> None:
        """The same with IPv6."""
        if not has_ipv6():
            raise SkipTest("this machine has no ::1")
        self.closing("::1")

    def test_best_effort(self) -> None:
        """Where the kernel does not support it nothing happens."""
        here, there = socket.socketpair()
        with here, there:
            drop_syns(here)
            here.sendall(b"x")
            self.assertEqual(there.recv(1), b"x")
        drop_syns(here)
