"""Runs a fault test of `logging_proxy.test.stress` in small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.test.stress.figures import Figure
from logging_proxy.test.stress.stage import Stage


class FaultTest(Protocol):
    """A module of the fault tests."""

    SMALL: Any

    def figures(self, stage: Stage, scale: Any, /) -> Iterator[Figure]:
        """What was measured."""


class FaultCase(SynchronousTestCase):
    """
    A test that holds the figures of a fault test to their criteria.

    Times and sizes are judged by `make stress` alone: here other tests run beside this one.
    """

    def hold(self, fault: FaultTest) -> None:
        """Every figure is as it must be; a skip if nothing could be measured here."""
        with Stage() as stage:
            figures = list(fault.figures(stage, fault.SMALL))
        wrong = [figure for figure in figures if figure.passed is False and not figure.measured]
        self.assertEqual([str(figure) for figure in wrong], [])
        if all(figure.passed is None for figure in figures):
            raise SkipTest("; ".join(figure.criterion for figure in figures))
