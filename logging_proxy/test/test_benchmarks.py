"""The benchmarks' own words: what load generators say is read rightly, and results are shown as they are."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

import logging_proxy
from logging_proxy.configuration import load_configuration

SOURCE = Path(logging_proxy.__file__).resolve().parents[1]

skip = None if (SOURCE / "benchmarks").is_dir() else "this is not a source tree"

if skip is None:
    from benchmarks import bars, lines, loads, micro, report, results
    from benchmarks.__main__ import read_arguments
    from benchmarks.contenders import CONTENDERS, Contender, Place, configure, is_here
    from benchmarks.curves import Curve
    from benchmarks.figures import byte_count, duration, number
    from benchmarks.processes import Trouble
    from benchmarks.timing import per_call

WRK = """Running 2s test @ http://127.0.0.1:15001/bench/v1/chat/completions
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.37ms  402.15us   9.65ms   92.61%
    Req/Sec    19.05k   668.83    19.89k    80.00%
  Latency Distribution
     50%    3.31ms
     75%    3.46ms
     90%  951.00us
     99%    1.05s
  37906 requests in 2.00s, 23.94MB read
Requests/sec:  18948.38
Transfer/sec:     11.97MB
"""

MACHINE = {"date": "2026-11-25", "processor": "abacus", "Python": "3.11.7", "Go": "1.27.3"}

POST = {
    "capturing": [
        {"cpu_us": 30.0, "tree_cpu_us": 200.0, "requests_s": 18_000.0, "errors": 0.0},
        {"cpu_us": 40.0, "tree_cpu_us": 210.0, "requests_s": 17_000.0, "errors": 0.0},
        {"cpu_us": 90.0, "tree_cpu_us": 190.0, "requests_s": 19_000.0, "errors": 0.0},
    ],
    "go": [
        {"cpu_us": 60.0, "tree_cpu_us": 60.0, "requests_s": 12_000.0, "errors": 0.0},
        {"cpu_us": 50.0, "tree_cpu_us": 50.0, "requests_s": 10_000.0, "errors": 2.0},
        {"cpu_us": 100.0, "tree_cpu_us": 100.0, "requests_s": 5_000.0, "errors": 0.0},
    ],
}


class LoadTests(SynchronousTestCase):
    def test_wrk(self) -> None:
        """What wrk says is read in µs, whatever unit it chose."""
        work = loads.read_wrk(WRK)
        self.assertEqual(work.units, 37906)
        expected = {"requests_s": 18948.38, "p50_us": 3310.0, "p99_us": 1_050_000.0, "errors": 0.0}
        self.assertEqual(work.figures, expected)

    def test_wrk_with_errors(self) -> None:
        """Refused requests and broken connections count as errors."""
        broken = "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 10\n"
        self.assertEqual(loads.read_wrk(WRK + broken).figures["errors"], 17.0)

    def test_wrk_without_a_word(self) -> None:
        """A wrk that has measured nothing is trouble, and its own words are shown."""
        error = self.assertRaises(Trouble, loads.read_wrk, "unable to connect to 127.0.0.1:1")
        self.assertIn("unable to connect", str(error))

    def test_missing_tools(self) -> None:
        """Tools that are missing are named in one line, with what installs them."""
        with mock.patch("shutil.which", lambda name: None):
            error = self.assertRaises(Trouble, loads.require_tools)
        self.assertEqual(str(error), "wrk and curl missing: apt-get install wrk curl nginx-light")


class ContenderTests(SynchronousTestCase):
    def test_left_out(self) -> None:
        """A proxy that is not installed is left out; ours is always there."""
        absent = Contender("x", "X", "X", "/nowhere/x", lambda place: ["/nowhere/x"])
        self.assertFalse(is_here(absent))
        self.assertTrue(is_here(CONTENDERS[0]))

    def test_configuration(self) -> None:
        """The configuration that ours is measured with is a valid one, with as many routes as asked for."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = configure(Place(folder, folder, 5601, 9101, 8080), capture=False, routes=3)
        configuration = load_configuration(str(path), {})
        self.assertEqual([route.name for route in configuration.routes], ["other0", "other1", "bench"])
        self.assertFalse(any(route.logging for route in configuration.routes))


class NumberTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Three digits are shown, and thousands are marked."""
        shown = [number(value) for value in (0.0, 0.567, 9.949, 9.96, 45.51, 99.96, 17_440.3)]
        self.assertEqual(shown, ["0", "0.57", "9.95", "10.0", "45.5", "100", "17,440"])

    def test_units(self) -> None:
        """Sizes and times have the unit that suits them."""
        self.assertEqual(
            [byte_count(1 << power) for power in (4, 10, 28, 30)], ["16 B", "1 KiB", "256 MiB", "1 GiB"]
        )
        self.assertEqual([duration(ns) for ns in (64.5, 6200.0, 3.59e6)], ["64.5 ns", "6.20 µs", "3.59 ms"])


class TableTests(SynchronousTestCase):
    def test_comparison(self) -> None:
        """Cells are medians; a ratio is the median of the rounds' ratios; runs with errors are marked."""
        lines = report.comparison({"post": POST}, MACHINE).splitlines()
        self.assertEqual(
            lines[:6],
            [
                "|  | Logging Proxy | Go ReverseProxy |",
                "| --- | ---: | ---: |",
                "| **JSON POST, 64 connections** |  |  |",
                "| CPU per request, µs | 40.0 (0.80) | 60.0 † |",
                "| CPU per request, files and index written, µs | 200 (3.33) | 60.0 † |",
                "| requests per second | 18,000 (1.70) | 10,000 † |",
            ],
        )
        self.assertIn("†: with errors.", lines[7])
        self.assertEqual(lines[-1], "2026-11-25, abacus, Python 3.11.7, Go 1.27.3.")

    def test_micro(self) -> None:
        """A part is shown with its cost and what that is the cost of."""
        table = report.micro([micro.Cost("request head, new", "head", 6200.0)], MACHINE)
        self.assertIn("| request head, new | 6.20 µs | head |\n", table)


CURVE = ("CPU per byte", "size", "ns of CPU per byte", (1024, 1 << 20, 1 << 30))


class PictureTests(SynchronousTestCase):
    def texts(self, picture: str) -> list[str]:
        """The words of a picture that any XML parser takes."""
        root = ElementTree.fromstring(picture)
        self.assertEqual(root.findall(".//{*}script"), [])
        return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]

    def test_bars(self) -> None:
        """Each figure of the chart has a title, and for each proxy its name and its number."""
        texts = self.texts(bars.draw({"post": POST}))
        self.assertEqual(texts.count("JSON POST, 64 connections"), 2)
        self.assertEqual(texts.count("Logging Proxy"), 2)
        for word in ("CPU per request (µs), less is better", "40.0", "60.0", "18,000", "10,000"):
            self.assertIn(word, texts)

    def test_longest_bar(self) -> None:
        """One value that dwarfs all others does not make them invisible."""
        self.assertEqual(bars.longest([20.0, 40.0, 1500.0]), 60.0)
        self.assertEqual(bars.longest([20.0, 40.0, 100.0]), 100.0)
        self.assertEqual(bars.longest([5.0]), 5.0)

    def test_curve(self) -> None:
        """A curve has its title, its points and its lines."""
        curve = Curve(*CURVE, lines={"down": [80.0, 1.5, 1.4]}, both_logarithmic=True, x_in_bytes=True)
        texts = self.texts(lines.draw(curve))
        for word in ("CPU per byte", "ns of CPU per byte", "down", "1 MiB", "100", "1"):
            self.assertIn(word, texts)

    def test_ticks(self) -> None:
        """The axis reaches from 0, or from a power of ten, to beyond all values."""
        curve = Curve(*CURVE, lines={"a": [80.0, 33.0, 0.5], "b": [135.0, 48.0, 51.0]})
        self.assertEqual(lines.y_ticks(curve), [0, 50, 100, 150])
        logarithmic = Curve(*CURVE, lines={"a": [80.0, 33.0, 0.5]}, both_logarithmic=True)
        self.assertEqual(lines.y_ticks(logarithmic), [0.1, 1, 10, 100])


class PlanTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Without a name all parts are run."""
        plan = read_arguments([])
        self.assertEqual(plan.parts, results.PARTS)
        self.assertEqual(plan.cases, ())

    def test_some(self) -> None:
        """Parts and cases are run in their own order."""
        plan = read_arguments(["micro", "sse", "routes", "post"])
        self.assertEqual(plan.parts, ("routes", "micro"))
        self.assertEqual([case.name for case in plan.cases], ["post", "sse"])


class TimingTests(SynchronousTestCase):
    def test_per_call(self) -> None:
        """A call is made again and again, and has a cost."""
        calls: list[None] = []
        self.assertGreater(per_call(lambda: calls.append(None), least_ns=1, repeats=5), 0)
        self.assertGreaterEqual(len(calls), 6)

    def test_parts(self) -> None:
        """Every part of the micro-benchmarks can be measured."""
        costs = list(micro.costs(least_ns=1))
        self.assertEqual(len({cost.name for cost in costs}), len(costs))
        self.assertTrue(all(cost.ns > 0 for cost in costs))


class ResultsTests(SynchronousTestCase):
    def test_page_is_written(self) -> None:
        """A new table takes the place of the old one; the rest of the page stays."""
        page = f"before\n{results.BEGIN}old\n{results.END}after\n"
        expected = f"before\n{results.BEGIN}new\n{results.END}after\n"
        self.assertEqual(results.put_into_page(page, "new\n"), expected)
        self.assertRaises(ValueError, results.put_into_page, "no place", "new\n")

    def test_page_shows_results(self) -> None:
        """The table of docs/performance.md is the one of the figures that are kept."""
        page = results.PAGE.read_text()
        table = results.text(results.RESULTS, results.COMPARISON)
        self.assertEqual(results.put_into_page(page, table), page)

    def test_results_are_drawn(self) -> None:
        """Page and pictures beside the kept figures are what is drawn from them."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for path in results.RESULTS.glob("*.json"):
            shutil.copy(path, folder)
        results.draw(folder)
        self.assertEqual(_contents(folder), _contents(results.RESULTS))

    def test_all_parts_have_results(self) -> None:
        """Every part was run."""
        for part in results.PARTS:
            self.assertIsNotNone(results.load(results.RESULTS, part), part)


def _contents(folder: Path) -> dict[str, str]:
    """All files but `decisions.md`, which is written by hand."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != "decisions.md"}
