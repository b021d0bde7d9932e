"""Turns: connections are shared evenly, and none waits long for a worker that does not come for it."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.workers.board import Board, new_board_file
from logging_proxy.workers.turns import MANY, PATIENCE, SHARE, Turns


class BoardTests(SynchronousTestCase):
    def setUp(self) -> None:
        with new_board_file(3) as file:
            self.one, self.other = Board(file.fileno()), Board(file.fileno())

    def test_shared(self) -> None:
        """What one writes the others read; who has not come is not there."""
        self.assertEqual((self.one.workers, self.one.connections()), (3, {}))
        self.one.join(2)
        self.one.join(3)
        self.one.set_connections(3, 7)
        self.assertEqual(self.other.connections(), {2: 0, 3: 7})
        self.other.looked(2)
        self.assertEqual([self.one.looks(worker) for worker in (1, 2, 3)], [0, 1, 0])

    def test_come_and_go(self) -> None:
        """Who goes is not there any more; coming again changes nothing of what one has."""
        self.one.join(1)
        self.one.set_connections(1, 5)
        self.one.join(1)
        self.assertEqual(self.other.connections(), {1: 5})
        self.one.leave(1)
        self.assertEqual(self.other.connections(), {})


class TurnsCase(SynchronousTestCase):
    """Workers that all have come, each with `self.has[worker]` connections."""

    workers = 2

    def setUp(self) -> None:
        with new_board_file(self.workers) as file:
            self.board = Board(file.fileno())
        self.turns = {worker: Turns(self.board, worker) for worker in range(1, self.workers + 1)}
        for worker in self.turns:
            self.have(worker, 0)
        self.now = 0.0

    def have(self, worker: int, count: int) -> None:
        self.board.join(worker)
        self.board.set_connections(worker, count)

    def room(self, worker: int) -> int:
        return self.turns[worker].room(self.now)


class ShareTests(TurnsCase):
    def test_nobody_has_any(self) -> None:
        """The first connection is for whoever comes first."""
        self.assertEqual((self.room(1), self.room(2)), (1, 1))

    def test_ahead(self) -> None:
        """Who is ahead takes none; who is behind takes as many as he lacks, and a few more."""
        self.have(1, 10)
        self.assertEqual(self.room(1), 0)
        self.assertEqual(self.room(2), 11)
        self.have(2, 10)
        self.assertEqual((self.room(1), self.room(2)), (1, 1))

    def test_any_order(self) -> None:
        """In whatever order workers look, none of 2, 3 or 4 gets more than a small part above the average."""
        chance = random.Random(5)
        for self.workers in (2, 3, 4):
            for connections in (2, 64, 1000):
                self.setUp()
                waiting = connections
                while waiting:
                    worker = chance.choice(list(self.turns))
                    taken = min(self.room(worker), waiting)
                    waiting -= taken
                    self.have(worker, self.board.connections()[worker] + taken)
                most = max(self.board.connections().values())
                average = connections / self.workers
                self.assertLessEqual(most, average * (1 + (self.workers - 1) / SHARE) + 1)

    def test_someone_may(self) -> None:
        """Whatever the numbers are, the one with the fewest may take some: nobody waits for nobody."""
        chance = random.Random(7)
        for _ in range(100):
            for worker in self.turns:
                self.have(worker, chance.randrange(100))
            fewest = min(self.turns, key=lambda worker: self.board.connections()[worker])
            self.assertGreater(self.room(fewest), 0)

    def test_alone(self) -> None:
        """Who is alone takes all that come."""
        self.have(1, 50)
        self.board.leave(2)
        self.assertEqual(self.room(1), MANY)


class StuckTests(TurnsCase):
    """Worker 1 is ahead, and worker 2 does not take what waits."""

    def setUp(self) -> None:
        super().setUp()
        self.have(1, 10)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def test_stuck(self) -> None:
        """A worker that does not even look is not waited for again, until it looks."""
        self.assertEqual(self.room(1), 0)
        self.wait(PATIENCE / 2)
        self.assertEqual(self.room(1), 0)
        self.wait(PATIENCE)
        self.assertEqual(self.room(1), 1)
        self.assertEqual(self.room(1), MANY)
        self.room(2)
        self.assertEqual(self.room(1), 0)

    def test_looks_but_does_not_take(self) -> None:
        """One that looks is waited for each time, but never for longer than that."""
        for _ in range(3):
            self.assertEqual(self.room(1), 0)
            self.room(2)
            self.wait(PATIENCE)
            self.assertEqual(self.room(1), 1)

    def test_taken_meanwhile(self) -> None:
        """Waiting counts anew once the others have taken whoever waited."""
        self.assertEqual(self.room(1), 0)
        self.turns[1].queue_is_empty()
        self.wait(100)
        self.assertEqual(self.room(1), 0)

    def test_no_longer_ahead(self) -> None:
        """Waiting counts anew once it was our turn in between."""
        self.assertEqual(self.room(1), 0)
        self.have(1, 0)
        self.assertEqual(self.room(1), 1)
        self.have(1, 10)
        self.wait(100)
        self.assertEqual(self.room(1), 0)
