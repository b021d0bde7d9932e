"""Go's own test tables and recorded answers for ``http.ServeMux``, run as data against ours."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.routing.index import ConflictIndex
from logging_proxy.routing.mux import (
    BadTarget,
    Decision,
    MethodNotAllowed,
    Mux,
    NotFound,
    PatternConflict,
    Redirect,
    Serve,
)
from logging_proxy.routing.paths import END, clean_path, split_segments
from logging_proxy.routing.patterns import Pattern, PatternError, Segment, parse
from logging_proxy.routing.relations import (
    common_path,
    compare_methods,
    compare_paths,
    conflict,
    describe_conflict,
    difference_path,
)

Row = dict[str, Any]


def _find_cases() -> Path | None:
    """Return the data file, which lies in ``shared`` beside the repository."""
    for directory in Path(__file__).resolve().parents:
        if (directory / "pyproject.toml").exists():
            cases = directory.parent / "shared" / "conformance" / "servemux_cases.json"
            return cases if cases.exists() else None
    return None


_CASES = _find_cases()
_ROWS: list[Row] = json.loads(_CASES.read_text("utf-8")) if _CASES else []


def _rows(kind: str) -> Iterator[Row]:
    """Yield the rows of a kind, but for those that tell of a Go newer than 1.27.3."""
    for row in _ROWS:
        if row["kind"] == kind and row.get("since_go") != "after 1.27.3":
            yield row


def _observed(row: Row) -> Row | None:
    """Return what Go 1.27.3 answered, if that was recorded."""
    labels = [label for label in row.get("observed", {}) if label.endswith("1.27.3")]
    return row["observed"][labels[0]] if labels else None


def _mux(patterns: list[str]) -> Mux[str]:
    mux: Mux[str] = Mux()
    for text in patterns:
        mux.add(parse(text), text)
    return mux


def _answer(decision: Decision[str]) -> Row:
    """Return a decision in the data file's words."""
    match decision:
        case Serve(pattern=pattern):
            return {"status": 200, "pattern": pattern.text}
        case Redirect(location=location):
            return {"status": decision.status, "location": location.decode()}
        case MethodNotAllowed(allow=allow):
            return {"status": 405, "allow": allow.decode()}
        case NotFound():
            return {"status": 404}
        case BadTarget():
            return {"status": 400}


def _ask(mux: Mux[str], method: str, target: str, host: str) -> Row:
    return _answer(mux.match(method.encode(), target.encode(), host.encode()))


def _pair(row: Row) -> tuple[Pattern, Pattern]:
    return parse(row["inputs"]["p1"]), parse(row["inputs"]["p2"])


class ConformanceCase(SynchronousTestCase):
    """What the classes below share: the skip, and a count so that no table is read and found empty."""

    if _CASES is None:
        skip = "needs shared/conformance/servemux_cases.json beside the repository"

    def each(self, kind: str, expected: int) -> list[Row]:
        """Return the rows of a kind, of which there are as many as expected."""
        rows = list(_rows(kind))
        self.assertEqual(len(rows), expected, kind)
        return rows


class PatternConformanceTests(ConformanceCase):
    """Reading and comparing patterns."""

    def test_parse(self) -> None:
        """A pattern is read into Go's parts, or refused at the same place for the same reason."""
        for row in self.each("parse", 21):
            text, expected = row["inputs"]["pattern"], row["expected"]
            if not expected["valid"]:
                error = self.assertRaises(PatternError, parse, text)
                self.assertIn(expected["error_contains"], str(error), row["id"])
                continue
            pattern = parse(text)
            parts = (pattern.method.decode(), pattern.host.decode())
            self.assertEqual(parts, (expected["method"], expected["host"]), row["id"])
            segments = [_describe(segment) for segment in pattern.segments]
            self.assertEqual(segments, expected["segments"], row["id"])

    def test_compare(self) -> None:
        """Methods and paths relate as in Go, in both directions."""
        for kind, count, compare in (
            ("compare_methods", 5, compare_methods),
            ("compare_paths", 71, compare_paths),
        ):
            for row in self.each(kind, count):
                p1, p2 = _pair(row)
                self.assertEqual(compare(p1, p2).value, row["expected"]["relationship"], row["id"])
                self.assertEqual(compare(p2, p1).value, row["expected"]["relationship_reversed"], row["id"])

    def test_conflict(self) -> None:
        """Two patterns conflict exactly where they do in Go, whichever comes first."""
        for row in self.each("conflict", 15):
            p1, p2 = _pair(row)
            found = (conflict(p1, p2), conflict(p2, p1))
            self.assertEqual(found, (row["expected"]["conflict"],) * 2, row["id"])

    def test_conflict_message(self) -> None:
        """A conflict is explained."""
        for row in self.each("conflict_message", 3):
            self.assertIn(row["expected"]["message_contains"], describe_conflict(*_pair(row)), row["id"])

    def test_example_paths(self) -> None:
        """The examples in an explanation are those of Go."""
        for row in self.each("common_path", 8):
            self.assertEqual(common_path(*_pair(row)).decode(), row["expected"]["path"], row["id"])
        for row in self.each("difference_path", 13):
            self.assertEqual(difference_path(*_pair(row)).decode(), row["expected"]["path"], row["id"])

    def test_register_error(self) -> None:
        """A pattern that Go does not register is refused."""
        rows = [row for row in self.each("register_error", 6) if row["inputs"]["handler"] == "ok"]
        self.assertEqual(len(rows), 3)
        for row in rows:
            mux = _mux(row["inputs"]["already_registered"])
            with self.assertRaises((PatternError, PatternConflict)) as caught:
                mux.add(parse(row["inputs"]["pattern"]), "new")
            self.assertIn(row["expected"]["error_contains"], str(caught.exception), row["id"])

    def test_index_property(self) -> None:
        """The conflicts found while registering are those found by comparing every pair."""
        (row,) = self.each("index_property", 1)
        patterns = [parse(text) for text in _cross_product(row["inputs"])]
        self.assertEqual(len(patterns), 2400)
        index = ConflictIndex()
        registered: list[Pattern] = []
        random.Random(5601).shuffle(patterns)
        for pattern in patterns:
            found = index.find_conflict(pattern)
            self.assertEqual(found is not None, any(conflict(pattern, other) for other in registered))
            if found is None:
                index.add(pattern)
                registered.append(pattern)
            else:
                self.assertTrue(conflict(pattern, found))
        self.assertGreater(len(registered), 100)


class PathConformanceTests(ConformanceCase):
    """Cleaning, splitting and looking up escaped paths."""

    def test_clean_path(self) -> None:
        """A path is cleaned as in Go."""
        for row in self.each("clean_path", 6):
            cleaned = clean_path(row["inputs"]["path"].encode())
            self.assertEqual(cleaned.decode(), row["expected"]["cleaned"], row["id"])

    def test_split_segments(self) -> None:
        """A path is split as in Go."""
        for row in self.each("split_segments", 2):
            segments = split_segments(row["inputs"]["escaped_path"].encode())
            self.assertEqual(
                [segment.decode() for segment in segments], row["expected"]["segments"], row["id"]
            )

    def test_tree_match(self) -> None:
        """The tree finds Go's pattern."""
        for row in self.each("tree_match", 34 - 7):
            inputs = row["inputs"]
            method, host, path = (inputs[name].encode() for name in ("method", "host", "escaped_path"))
            decision = _mux(inputs["patterns"]).match(method, path, host)
            found = decision.pattern.text if isinstance(decision, Serve) else None
            self.assertEqual(found, row["expected"]["pattern"], row["id"])

    def test_allowed_methods(self) -> None:
        """The methods of a path are collected from the patterns of the host and those of none."""
        for row in self.each("allowed_methods", 5):
            inputs = row["inputs"]
            path, host = inputs["escaped_path"].encode(), inputs["host"].encode()
            decision = _mux(inputs["patterns"]).match(b"BREW", path, host)
            methods = ", ".join(row["expected"]["methods"]).encode()
            self.assertEqual(decision, MethodNotAllowed(methods) if methods else NotFound(), row["id"])


class MuxConformanceTests(ConformanceCase):
    """Whole decisions."""

    def test_mux(self) -> None:
        """A request gets Go's status, pattern, Location and Allow."""
        for row in self.each("mux", 61):
            inputs, expected = row["inputs"], row["expected"]
            if expected.get("answered_by") == "server, not mux":
                continue
            answer = _ask(_mux(inputs["patterns"]), *_mux_request(inputs))
            status = expected.get("status_by_go", {}).get("1.26+", expected["status"])
            self.assertEqual(answer["status"], status, row["id"])
            for name in {"pattern", "location", "allow"} & expected.keys():
                self.assertEqual(answer.get(name), expected[name], row["id"])
            self.assert_observed(row, [answer])

    def test_mux_follow(self) -> None:
        """A client that follows redirects arrives where it does with Go."""
        for row in self.each("mux_follow", 11):
            inputs, expected = row["inputs"], row["expected"]
            mux = _mux(inputs["patterns"])
            answers = [_ask(mux, inputs["method"], inputs["url"], inputs["host"])]
            if "location" in answers[0]:
                answers.append(_ask(mux, inputs["method"], answers[0]["location"], inputs["host"]))
            final = "final_status_after_at_most_one_redirect"
            status = expected.get(final, expected.get("final_status_after_redirects"))
            self.assertEqual(answers[-1]["status"], status, row["id"])
            if "redirect_expected" in expected:
                self.assertEqual(len(answers) == 2, expected["redirect_expected"], row["id"])
            if "allow" in expected:
                self.assertEqual(answers[-1].get("allow"), expected["allow"], row["id"])
            if "first_response" in expected:
                self.assertEqual(answers[0], expected["first_response"], row["id"])
            self.assert_observed(row, answers[:1])

    def test_mux_probe(self) -> None:
        """The recorded sets register or fail at the same pattern, and every request gets the same answer."""
        for row in self.each("mux_probe", 31):
            inputs, observed = row["inputs"], _observed(row)
            assert observed is not None
            failed = _first_refused(inputs["patterns"])
            self.assertEqual(failed, observed.get("fails_at"), row["id"])
            self.assertEqual(failed is None, observed["registers"], row["id"])
            if failed is None:
                mux = _mux(inputs["patterns"])
                requests = [request for request in inputs["requests"] if _reaches_the_mux(request)]
                self.assert_observed(row, [_ask(mux, *request) for request in requests])

    def test_recorded_registrations(self) -> None:
        """Of every row, the patterns register or are refused as real Go was seen to do."""
        seen = 0
        for row in _ROWS:
            observed = _observed(row)
            inputs = row["inputs"]
            names = [name for name in ("pattern", "p1", "p2") if name in inputs]
            patterns = inputs.get("patterns") or [inputs[name] for name in names]
            if observed is not None:
                self.assertEqual(_first_refused(patterns), observed.get("fails_at"), row["id"])
                seen += 1
        self.assertGreater(seen, 200)

    def test_path_values(self) -> None:
        """Patterns with wildcards are found, whatever the configuration thinks of them."""
        for row in self.each("path_values", 3):
            mux = _mux([row["inputs"]["pattern"]])
            answer = _ask(mux, "GET", row["inputs"]["target"], "a.example")
            self.assertEqual(answer, {"status": 200, "pattern": row["expected"]["pattern"]}, row["id"])

    def assert_observed(self, row: Row, answers: list[Row]) -> None:
        """Compare answers with what Go 1.27.3 gave, if that was recorded for the row."""
        observed = _observed(row)
        if observed is None or "results" not in observed:
            return
        requests = row["inputs"].get("requests", [None])
        results = [
            result
            for request, result in zip(requests, observed["results"], strict=True)
            if request is None or _reaches_the_mux(request)
        ]
        self.assertEqual(answers, results, row["id"])


def _describe(segment: Segment) -> Row:
    """Return a segment in the data file's words."""
    if segment.multi:
        return {"type": "multi", "value": segment.value.decode()}
    if segment.value == END:
        return {"type": "end", "value": "{$}"}
    return {"type": "wildcard" if segment.wild else "literal", "value": segment.value.decode()}


def _reaches_the_mux(request: list[str]) -> bool:
    """Tell whether the server asks the mux: not for ``OPTIONS *``, nor for a bad request line."""
    method, target, _ = request
    return " " not in method and (method, target) != ("OPTIONS", "*")


def _mux_request(inputs: Row) -> tuple[str, str, str]:
    """Return method, target and host of a row that has either a target or the path of a parsed URL."""
    method, host = inputs["method"], inputs["host"]
    if "target" in inputs:
        return method, inputs["target"], host
    if method == "CONNECT" or not inputs["path"]:
        # Such a URL has a host, and only a target that is not in origin-form has one.
        scheme = "" if method == "CONNECT" else "http://"
        return method, scheme + host + inputs["path"], host
    return method, inputs["path"], host


def _first_refused(patterns: list[str]) -> int | None:
    mux: Mux[None] = Mux()
    for index, text in enumerate(patterns):
        try:
            mux.add(parse(text), None)
        except (PatternError, PatternConflict):
            return index
    return None


def _cross_product(inputs: Row) -> Iterator[str]:
    middles = [
        "".join(segments)
        for repeat in range(4)
        for segments in itertools.product(inputs["segments"], repeat=repeat)
    ]
    parts = (inputs["methods"], inputs["hosts"], middles, inputs["final_segments"])
    for method, host, middle, final in itertools.product(*parts):
        path = middle + final
        for number in range(path.count("{x}")):
            path = path.replace("{x}", f"{{x{number}}}", 1)
        yield f"{method} {host}{path}".lstrip()
