"""The closing line of a test run."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.summary import Summary, conclude, parse_result


class ParseResultTests(SynchronousTestCase):
    def test_passed(self) -> None:
        """A run in which everything passed has only successes."""
        self.assertEqual(parse_result(b"PASSED (successes=12)\n"), Summary(12, 0, 0))

    def test_everything(self) -> None:
        """Errors and unexpected successes are failures, expected failures are skips."""
        counts = b"skips=1, expectedFailures=2, failures=4, errors=8, unexpectedSuccesses=16, successes=32"
        self.assertEqual(parse_result(b"FAILED (" + counts + b")"), Summary(32, 28, 3))

    def test_nothing_ran(self) -> None:
        """Trial names no number when there is none."""
        self.assertEqual(parse_result(b"PASSED\n"), Summary(0, 0, 0))

    def test_other_lines(self) -> None:
        """What a test prints about passing is not trial's result."""
        for line in (
            b"PASSED (ok)",
            b"  PASSED (successes=1)",
            b"Ran 3 tests in 0.1s",
            b"FAILED: successes=1",
        ):
            self.assertIsNone(parse_result(line), line)


class ConcludeTests(SynchronousTestCase):
    def test_success(self) -> None:
        """A good run is reported as it is."""
        self.assertEqual(conclude(Summary(3, 0, 1), 0), (Summary(3, 0, 1), 0))

    def test_failure(self) -> None:
        """A bad run keeps its numbers and its status."""
        self.assertEqual(conclude(Summary(3, 2, 1), 1), (Summary(3, 2, 1), 1))

    def test_died(self) -> None:
        """A trial that ended by a signal, before any result, is a failure."""
        self.assertEqual(conclude(None, -9), (Summary(0, 1, 0), -9))

    def test_failed_without_a_test(self) -> None:
        """A status that no number explains, such as a module that cannot be imported, shows as a failure."""
        self.assertEqual(conclude(Summary(3, 0, 0), 1), (Summary(3, 1, 0), 1))

    def test_no_test(self) -> None:
        """A run without a test is not a success."""
        self.assertEqual(conclude(Summary(0, 0, 0), 0), (Summary(0, 1, 0), 1))

    def test_wording(self) -> None:
        """The line is the plain one."""
        self.assertEqual(str(Summary(1, 2, 3)), "1 passed, 2 failed, 3 skipped")
