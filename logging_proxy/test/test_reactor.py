"""The reactor: what can be read is read, what is due is done, what fails is said."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import skipUnless

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from logging_proxy.service.bootstrap import make_monotonic

if sys.platform == "linux":
    from logging_proxy.net.reactor import ProxyReactor


@implementer(IReadWriteDescriptor)
class End:
    """One end of a socket pair, as the reactor sees a transport."""

    def __init__(self, end: socket.socket, read: Callable[[End], object] = lambda end: None) -> None:
        self.socket = end
        self.heard: list[bytes] = []
        self.writes = 0
        self.lost: list[Failure] = []
        self._read = read

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "end"

    def doRead(self) -> Any:
        data = self.socket.recv(100)
        self.heard.append(data)
        return self._read(self)

    def doWrite(self) -> None:
        self.writes += 1

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


class Told:
    """A poller that reports what it was told."""

    def __init__(self, events: list[tuple[int, int]]) -> None:
        self._events = events
        self.timeouts: list[float | None] = []

    def poll(self, timeout: float | None, most: int) -> list[tuple[int, int]]:
        self.timeouts.append(timeout)
        return self._events

    def register(self, fd: int, events: int) -> None: ...

    modify = register

    def unregister(self, fd: int) -> None: ...


@skipUnless(sys.platform == "linux", "epoll is Linux's")
class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ProxyReactor()
        self.addCleanup(self.reactor._poller.close)

    def pair(self, read: Callable[[End], object] = lambda end: None) -> tuple[End, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        return End(ours, read), theirs

    def test_reads_what_is_there(self) -> None:
        """A descriptor with something to read is read, once a turn."""
        end, peer = self.pair()
        self.reactor.addReader(end)
        peer.send(b"a")
        self.reactor.doIteration(1)
        self.assertEqual(end.heard, [b"a"])
        self.reactor.doIteration(0)
        self.assertEqual(end.heard, [b"a"])

    def test_writes_when_it_can(self) -> None:
        """A descriptor that waits to write is told; reading and writing go together."""
        end, peer = self.pair()
        self.reactor.addWriter(end)
        self.reactor.addReader(end)
        peer.send(b"a")
        self.reactor.doIteration(1)
        self.assertEqual((end.heard, end.writes, end.lost), ([b"a"], 1, []))

    def test_what_an_earlier_one_closed(self) -> None:
        """A descriptor that another's reading has taken away in the same turn is not read any more."""

        def take_away(end: End) -> None:
            for each in ends:
                if each is not end:
                    self.reactor.removeReader(each)

        pairs = [self.pair(take_away) for _ in range(2)]
        ends = [end for end, _ in pairs]
        for end, peer in pairs:
            self.reactor.addReader(end)
            peer.send(b"a")
        self.reactor.doIteration(1)
        self.assertEqual(sorted(len(end.heard) for end in ends), [0, 1])

    def test_the_end(self) -> None:
        """Who says that its connection is over is removed and told why."""
        end, peer = self.pair(lambda end: ConnectionDone())
        self.reactor.addReader(end)
        peer.send(b"a")
        self.reactor.doIteration(1)
        self.assertNotIn(end, self.reactor.getReaders())
        self.assertIsInstance(end.lost[0].value, ConnectionDone)

    def test_a_hang_up(self) -> None:
        """A peer that is gone, with nothing left to read, ends the connection."""
        end, peer = self.pair()
        self.reactor.addWriter(end)
        peer.close()
        self.reactor.doIteration(1)
        self.assertEqual(len(end.lost), 1)

    def test_half_a_reset(self) -> None:
        """An error that comes before there is anything to read is what reading says, not the peer's end."""
        for event in (select.EPOLLERR, select.EPOLLHUP, select.EPOLLERR | select.EPOLLHUP):
            end, peer = self.pair(lambda end: ConnectionLost())
            peer.send(b"a")
            self.reactor.addReader(end)
            poller = Told([(end.fileno(), event)])
            self.patch(self.reactor, "_poller", poller)
            self.reactor.doIteration(1)
            self.assertEqual([type(reason.value) for reason in end.lost], [ConnectionLost])
            self.assertEqual(end.heard, [b"a"])

    def test_what_came_before_the_end(self) -> None:
        """Of a connection that is gone all is read before anything is written, which would end it."""
        ends = {event: self.pair() for event in (0, select.EPOLLERR, select.EPOLLHUP)}
        for end, peer in ends.values():
            peer.send(b"a")
            self.reactor.addReader(end)
        both = select.EPOLLIN | select.EPOLLOUT
        told = Told([(end.fileno(), event | both) for event, (end, _) in ends.items()])
        self.patch(self.reactor, "_poller", told)
        self.reactor.doIteration(1)
        self.assertEqual([end.heard for end, _ in ends.values()], [[b"a"]] * 3)
        self.assertEqual([end.writes for end, _ in ends.values()], [1, 1, 0])

    def test_one_that_fails(self) -> None:
        """An exception is logged and ends the connection that raised it, and no other."""

        def fail(end: End) -> None:
            raise ZeroDivisionError("reading went wrong")

        bad, bad_peer = self.pair(fail)
        good, good_peer = self.pair()
        for end, peer in ((bad, bad_peer), (good, good_peer)):
            self.reactor.addReader(end)
            peer.send(b"a")
        self.reactor.doIteration(1)
        self.assertIsInstance(bad.lost[0].value, ZeroDivisionError)
        self.assertEqual((good.heard, good.lost), ([b"a"], []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


@skipUnless(sys.platform == "linux", "epoll is Linux's")
class LoopTests(SynchronousTestCase):
    """The loop itself, run until something stops it."""

    def setUp(self) -> None:
        self.reactor = ProxyReactor()
        self.addCleanup(self.reactor._poller.close)

    def run_reactor(self) -> None:
        self.reactor.callLater(30, self.reactor.stop)
        self.reactor.run(installSignalHandlers=False)

    def test_delayed_calls(self) -> None:
        """Calls come when they are due, in their order; a cancelled one does not."""
        done: list[str] = []
        self.reactor.callLater(0.002, self.reactor.stop)
        self.reactor.callLater(0.001, done.append, "second")
        self.reactor.callLater(0, done.append, "first")
        self.reactor.callLater(0, done.append, "never").cancel()
        self.run_reactor()
        self.assertEqual(done, ["first", "second"])

    def test_postponed(self) -> None:
        """A call that was put off comes when it is due then."""
        done: list[str] = []
        postponed = self.reactor.callLater(0, done.append, "late")
        postponed.reset(0.004)
        self.reactor.callLater(0.002, done.append, "early")
        self.reactor.callLater(0.006, self.reactor.stop)
        self.run_reactor()
        self.assertEqual(done, ["early", "late"])

    def test_from_a_thread(self) -> None:
        """A thread's call wakes a loop that waits."""
        threads: list[int] = []

        def call() -> None:
            threads.append(threading.get_ident())
            self.reactor.stop()

        thread = threading.Thread(target=lambda: self.reactor.callFromThread(call))
        self.reactor.callWhenRunning(thread.start)
        self.run_reactor()
        thread.join()
        self.assertEqual(threads, [threading.get_ident()])

    def test_reading_while_nothing_is_due(self) -> None:
        """What is read meanwhile may ask for a call at once."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        end = End(ours, lambda end: self.reactor.callLater(0, self.reactor.stop) and None)
        self.reactor.addReader(end)
        self.reactor.callLater(0.001, os.write, theirs.fileno(), b"a")
        self.run_reactor()
        self.assertEqual(end.heard, [b"a"])

    def test_a_call_that_fails(self) -> None:
        """An exception in a delayed call is logged, and the loop goes on."""

        def fail() -> None:
            raise ZeroDivisionError("a call went wrong")

        self.reactor.callLater(0, fail)
        self.reactor.callLater(0.001, self.reactor.stop)
        self.run_reactor()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


@skipUnless(sys.platform == "linux", "epoll is Linux's")
class TimeTests(SynchronousTestCase):
    """Waits are told by a clock that nobody can set."""

    def setUp(self) -> None:
        self.reactor = ProxyReactor()
        self.addCleanup(self.reactor._poller.close)
        self.now = 1000.0

    def test_monotonic(self) -> None:
        """Its seconds are those of the monotonic clock, for its calls as well."""
        self.assertIs(self.reactor.seconds, time.monotonic)
        call = self.reactor.callLater(60, int)
        self.assertLess(abs(call.getTime() - time.monotonic() - 60), 30)
        self.assertIs(call.seconds, time.monotonic)

    def turn(self) -> float | None:
        """What the poller is told to wait in a turn of the loop."""
        poller = Told([])
        self.patch(self.reactor, "_poller", poller)
        self.patch(self.reactor, "running", True)
        self.reactor.doIteration(self.reactor._until_due())
        return poller.timeouts[0]

    def test_turns_are_told_by_it(self) -> None:
        """What is due by that clock is done, and the poll waits until the next is."""
        self.patch(self.reactor, "seconds", lambda: self.now)
        done: list[str] = []
        self.reactor.callLater(2, done.append, "first")
        self.reactor.callLater(5, done.append, "second")
        self.assertEqual((self.turn(), done), (2, []))
        self.assertEqual(self.turn(), 2)
        self.now += 3
        self.assertEqual((self.turn(), done), (2, ["first"]))

    def test_longest_wait(self) -> None:
        """A call in the far future does not ask epoll for more than it takes."""
        self.reactor.callLater(40 * 86400, int)
        for _ in range(3):
            wait = self.turn()
            assert wait is not None
            self.assertLessEqual(wait, 2**31 / 1000)


class OtherReactorTests(SynchronousTestCase):
    def test_made_monotonic(self) -> None:
        """A reactor that somebody has chosen gets the monotonic clock, for its calls as well."""
        reactor = SelectReactor()
        self.addCleanup(reactor.waker.connectionLost, Failure(ConnectionDone()))
        self.assertIs(make_monotonic(reactor), reactor)
        call = reactor.callLater(60, int)
        self.assertLess(abs(call.getTime() - time.monotonic() - 60), 30)
        self.assertLessEqual(reactor.timeout() or 0, 60)


@skipUnless(sys.platform == "linux", "epoll is Linux's")
class InstallTests(SynchronousTestCase):
    def test_another_reactor_stays(self) -> None:
        """Who has chosen a reactor keeps it."""
        import twisted.internet.reactor as installed

        from logging_proxy.net.reactor import install

        install()
        self.assertIs(sys.modules["twisted.internet.reactor"], installed)
