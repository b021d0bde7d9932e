"""Connections to a destination: which are used again, and which never."""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.proxy_stage import Stage, Wire, client_of, get, limits, ok


def used(stage: Stage, count: int = 1) -> list[Wire]:
    """Connections that have answered, all open at once; the last has been idle the shortest."""
    clients = [stage.client(get()) for _ in range(count)]
    wires = stage.endpoint.wires[-count:]
    for wire in wires:
        wire.deliver(ok())
    stage.turn()
    for client in clients:
        client.rst()
    return wires


class PoolTests(SynchronousTestCase):
    def test_used_again(self) -> None:
        """A connection whose response was complete carries the next request."""
        stage = Stage()
        (wire,) = used(stage)
        wire.received()
        client = stage.client(get("/api/2"))
        self.assertTrue(wire.received().startswith(b"GET /2 "))
        wire.deliver(ok())
        self.assertEqual(client.received(), ok())
        self.assertEqual(client_of(wire).uses, 2)

    def test_youngest_first(self) -> None:
        """The connection that was idle the shortest is taken."""
        stage = Stage()
        first, second = used(stage, 2)
        self.assertIs(stage.pool.take(), second.protocol)
        self.assertIs(stage.pool.take(), first.protocol)
        self.assertIsNone(stage.pool.take())

    def test_idle_timeout(self) -> None:
        """An idle connection is closed in good order after `pool_idle_timeout`."""
        stage = Stage(limits=limits(pool_idle_timeout=15.0))
        (wire,) = used(stage)
        stage.pass_time(14)
        self.assertFalse(wire.closed)
        stage.pass_time(2)
        self.assertTrue(wire.closed)
        self.assertFalse(wire.aborted)
        self.assertIsNone(stage.pool.take())

    def test_deadline_of_a_taken_connection(self) -> None:
        """The idle time of a connection does not end it once it is in use."""
        stage = Stage(limits=limits(pool_idle_timeout=15.0))
        (wire,) = used(stage)
        stage.client(get())
        stage.pass_time(60)
        self.assertFalse(wire.closed or wire.aborted)

    def test_max_age(self) -> None:
        """A connection older than `pool_max_age` is closed, not taken."""
        stage = Stage(limits=limits(pool_idle_timeout=1000.0, pool_max_age=30.0))
        (wire,) = used(stage)
        stage.pass_time(29)
        stage.client(get()).rst()
        self.assertTrue(wire.aborted)
        (wire,) = used(stage)
        stage.pass_time(31)
        stage.client(get())
        self.assertIsNot(stage.upstream, wire)
        self.assertTrue(wire.closed)

    def test_size(self) -> None:
        """No more than `pool_size` idle connections are kept; 0 keeps none."""
        for size in (0, 2):
            stage = Stage(limits=limits(pool_size=size))
            wires = used(stage, 3)
            self.assertEqual([wire.closed for wire in wires].count(False), size)

    def test_closed_by_the_upstream(self) -> None:
        """An idle connection that the upstream ends is gone."""
        for end in (Wire.fin, Wire.rst):
            stage = Stage()
            (wire,) = used(stage)
            end(wire)
            self.assertIsNone(stage.pool.take())

    def test_bytes_while_idle(self) -> None:
        """Bytes on an idle connection are never the next response: it is reset, and that is logged."""
        stage = Stage()
        (wire,) = used(stage)
        with capturedLogs() as logs:
            wire.deliver(ok(b"stray"))
        self.assertTrue(wire.aborted)
        self.assertIsNone(stage.pool.take())
        self.assertEqual([event["size"] for event in logs], [len(ok(b"stray"))])

    def test_bytes_behind_a_response(self) -> None:
        """Bytes after a complete response end the connection, and reach no client."""
        for response in (ok(b"one"), b"HTTP/1.1 204 No Content\r\n\r\n"):
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(response + ok(b"two"))
            stage.turn()
            self.assertEqual(client.received(), response)
            self.assertTrue(stage.upstream.aborted)
            self.assertIsNone(stage.pool.take())
            self.assertEqual(stage.problems(), [])

    def test_upstream_closes(self) -> None:
        """`Connection: close` from the upstream: closed in good order, not kept, and not reset."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(ok(b"", "Connection: close"))
        self.assertIsNone(stage.pool.take())
        self.assertTrue(stage.upstream.closed)
        self.assertFalse(stage.upstream.aborted)

    def test_close_that_hangs(self) -> None:
        """A connection that will not close in good order is reset a little later."""
        stage = Stage()
        stage.client(get())
        stage.upstream.stalled = True
        stage.upstream.write(b"unread")
        stage.upstream.deliver(ok(b"", "Connection: close"))
        stage.pass_time(4)
        self.assertFalse(stage.upstream.aborted)
        stage.pass_time(2)
        self.assertTrue(stage.upstream.aborted)
        self.assertTrue(stage.upstream.lost)

    def test_closing_the_pool(self) -> None:
        """`close` ends idle connections at once, and the others after their responses."""
        stage = Stage()
        (idle,) = used(stage)
        client = stage.client(get())
        busy = stage.upstream
        self.assertIs(idle, busy)
        other = stage.client(get())
        stage.upstream.deliver(ok())
        self.assertEqual(other.received(), ok())
        stage.pool.close()
        self.assertTrue(stage.upstream.closed)
        busy.deliver(ok(b"last"))
        self.assertEqual(client.received(), ok(b"last"))
        self.assertTrue(busy.closed)

    def test_nothing_is_left(self) -> None:
        """When all connections are gone, so are their timers."""
        stage = Stage()
        for wire in used(stage, 3):
            wire.fin()
        self.assertEqual(stage.clock.getDelayedCalls(), [])
