"""What `tail` makes of events, how it draws them, and what `stats` makes of rows."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.following import WAIT_FOR_INDEX, Following, is_wanted
from logging_proxy.cli.paint import Paint
from logging_proxy.cli.statistics import VALUES, Statistics, percentile, statistics_lines
from logging_proxy.cli.terminal import Progress, Terminal
from logging_proxy.index import Filters
from logging_proxy.test.cli_stage import Output


def row(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "outcome": None, "processing_time_ms": 0.0, "response": {"bytes": 0}, **fields}


def event(kind: str, id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": id, **fields}


class FollowingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.following = Following()

    def take(self, *events: dict[str, Any], now: float = 0.0) -> list[dict[str, Any]]:
        return [row for event in events for row in self.following.take(event, now)]

    def test_an_exchange(self) -> None:
        """Under way it grows; with what was understood of it, it is there once, and for good."""
        self.take(event("start", exchange=row("a")), event("response", exchange=row("a", status=200)))
        self.take(event("piece", side="response", offset=100, size=50, time=2_000_000))
        (now,) = self.following.under_way(1.0)
        self.assertEqual(
            (now["status"], now["response"], now["processing_time_ms"]), (200, {"bytes": 150}, 3000)
        )
        done = row("a", outcome="complete")
        self.assertEqual(self.take(event("end", exchange=done)), [])
        self.assertEqual(self.following.under_way(0), [])
        self.assertEqual(self.take(event("indexed", exchange=done)), [done])
        self.assertEqual(self.take(event("indexed", exchange=done), event("end", exchange=done)), [])
        self.assertEqual(list(self.following.due(99)), [])

    def test_without_index(self) -> None:
        """An end that the index does not follow is shown after a while."""
        done = row("a", outcome="complete")
        self.take(event("start", exchange=row("a")), event("end", exchange=done), now=5)
        self.assertEqual(list(self.following.due(5 + WAIT_FOR_INDEX - 0.1)), [])
        self.assertEqual(list(self.following.due(5 + WAIT_FOR_INDEX)), [done])
        self.assertEqual(self.take(event("indexed", exchange=done)), [])

    def test_before(self) -> None:
        """What was listed before is not shown again; what was under way then goes on."""
        self.following.start_with([row("a"), row("b", outcome="complete")], 0)
        self.take(event("piece", side="response", offset=0, size=7))
        self.assertEqual([each["response"] for each in self.following.under_way(0)], [{"bytes": 7}])
        self.assertEqual(self.take(event("indexed", "b", exchange=row("b", outcome="complete"))), [])

    def test_gap(self) -> None:
        """After a gap what ended meanwhile is shown, in order, and what does not go on is gone."""
        listed = [row(id, outcome="complete", started_at=at) for id, at in (("c", "3"), ("b", "2"))]
        self.following.start_with(listed, 0)
        self.take(event("start", "d", exchange=row("d", started_at="4")))
        now = [
            row("f", started_at="6"),
            *(row(id, outcome="complete", started_at=at) for id, at in (("e", "5"), ("d", "4"), ("c", "3"))),
            *(row(id, outcome="complete", started_at=at) for id, at in (("b", "2"), ("a", "1"))),
        ]
        self.assertEqual([each["id"] for each in self.following.after_gap(iter(now), 0)], ["d", "e"])
        self.assertEqual([each["id"] for each in self.following.under_way(0)], ["f"])

    def test_nonsense(self) -> None:
        """Events of unknown exchanges and kinds do nothing."""
        found = self.take(
            event("piece", "x", side="response", offset=0, size=1),
            *(
                event("hello"),
                event("gap"),
                event("start"),
                {},
                event("piece"),
                event("new", exchange=row("a")),
            ),
        )
        self.assertEqual((found, self.following.under_way(0)), ([], []))

    def test_filters(self) -> None:
        """Rows are wanted by what they have."""
        one = row("a", route="r", method="GET", status=404, outcome="complete")
        for wanted, answer in (
            (Filters(), True),
            (Filters(route="r", method="GET", status=4), True),
            (Filters(status=404), True),
            (Filters(status=5), False),
            (Filters(route="s"), False),
            (Filters(model="m"), False),
        ):
            self.assertEqual(is_wanted(one, wanted), answer)


class TerminalTests(SynchronousTestCase):
    def test_changing_lines(self) -> None:
        """Lines that change are drawn over, cut to the terminal; lasting ones stay above."""
        out = Output()
        terminal = Terminal(out, Output(), Paint(), 10, 24)
        terminal.change(["done"], ["a" * 20, "b"])
        self.assertEqual(out.text, "done\n" + "a" * 8 + "…\nb\n")
        terminal.change(["more"], [])
        self.assertTrue(out.text.endswith("b\n\x1b[2F\x1b[Jmore\n"))
        terminal.change([], [])
        self.assertTrue(out.text.endswith("more\n"))

    def test_pipe(self) -> None:
        """In a pipe only what lasts is written."""
        out = Output()
        Terminal(out, Output(), Paint(), None).change(["done"], ["a"])
        self.assertEqual(out.text, "done\n")

    def test_progress(self) -> None:
        """A bar on a terminal, which is gone afterwards; nothing elsewhere."""
        err = Output()
        Progress(err, "indexing").show(1, 2, "x")
        self.assertEqual(err.text, "")
        err.isatty = lambda: True  # type: ignore[method-assign]
        progress = Progress(err, "indexing")
        progress.show(1, 2, "7 exchanges")
        self.assertIn("[###############...............]  50 %  7 exchanges", err.text)
        progress.show(0, 0, "")
        progress.clear()
        self.assertTrue(err.text.endswith("\r\x1b[K"))


class StatisticsTests(SynchronousTestCase):
    def test_percentiles(self) -> None:
        """The nearest rank, of few as of many."""
        self.assertIsNone(percentile([], 0.5))
        self.assertEqual(percentile([7], 0.95), 7)
        self.assertEqual(percentile([4, 1, 3, 2], 0.5), 2)
        self.assertEqual(percentile(list(range(1, 101)), 0.95), 95)
        self.assertEqual(percentile(list(range(1, 21)), 0.95), 19)

    def make(self, count: int) -> Statistics:
        statistics = Statistics()
        for number in range(count):
            fields = {"model": f"m{number % (VALUES + 5)}", "outcome": "complete", "status": 200}
            times = {"processing_time_ms": float(number), "started_at": f"2025-09-13T02:00:{59 - number:02}Z"}
            statistics.add(row("x", request={"bytes": 2}, **fields, **times))
        return statistics

    def test_numbers(self) -> None:
        """Counts, bytes, times and the range of time."""
        document = self.make(40).document()
        self.assertEqual((document["exchanges"], document["request_bytes"]), (40, 80))
        self.assertEqual(document["processing_time_ms"], {"p50": 19.0, "p95": 37.0})
        self.assertEqual((document["oldest"][-4:], document["newest"][-4:]), (":20Z"[-4:], ":59Z"))
        self.assertEqual([each["value"] for each in document["status"]], [200])

    def test_many_values(self) -> None:
        """Of many values the rarest are put together, so that all are counted."""
        lines = list(statistics_lines(self.make(40), Paint()))
        self.assertTrue(any(line.startswith("5 more ") for line in lines))
        self.assertIn("40 exchanges", lines[0])

    def test_none(self) -> None:
        """No exchanges, no numbers."""
        self.assertEqual(list(statistics_lines(Statistics(), Paint())), ["No exchanges."])
