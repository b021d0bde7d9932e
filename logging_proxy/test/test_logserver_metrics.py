"""`GET /health` and `GET /metrics`: true numbers, in a form that Prometheus reads, and nothing private."""

from __future__ import annotations

import os
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.ingest.spools import Status
from logging_proxy.logserver.telemetry.counters import behind
from logging_proxy.logserver.telemetry.prometheus import MOST_SERIES, Counter, Histogram, gauge, text
from logging_proxy.recording.ring import Ring
from logging_proxy.test.web_stage import ServerTestCase

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(body: bytes) -> Samples:
    """The samples, as prometheus_client reads them."""
    families = text_string_to_metric_families(body.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


class MetricsTests(ServerTestCase):
    def metrics(self) -> Samples:
        reply = self.ask("GET", "/metrics")
        self.assertEqual(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        return parsed(reply.body)

    def value(self, name: str, /, **labels: str) -> float | None:
        return self.metrics().get((f"logging_proxy_{name}", frozenset(labels.items())))

    def test_exchanges(self) -> None:
        """Exchanges by route, method, class of status and outcome; durations, first bytes, bytes."""
        self.capture(1, b"abc", b"defgh")
        script = self.script(2, route=b"other", method=b"BREW")
        self.record(script.head(), script.end("connect_failed"))
        self.assertEqual(
            self.value("exchanges_total", route="lmstudio", method="POST", status="2xx", outcome="complete"),
            1,
        )
        self.assertEqual(
            self.value(
                "exchanges_total", route="other", method="other", status="none", outcome="connect_failed"
            ),
            1,
        )
        self.assertEqual(self.value("body_bytes_total", route="lmstudio", side="request"), 3)
        self.assertEqual(self.value("body_bytes_total", route="lmstudio", side="response"), 5)
        self.assertEqual(self.value("exchange_duration_seconds_count", route="other"), 1)
        self.assertAlmostEqual(self.value("exchange_duration_seconds_sum", route="lmstudio") or 0, 0.004)
        self.assertEqual(self.value("time_to_first_byte_seconds_bucket", route="lmstudio", le="0.005"), 1)
        self.assertEqual(self.value("time_to_first_byte_seconds_count", route="other"), None)

    def test_in_flight(self) -> None:
        """What is under way, by route."""
        script = self.script(1)
        self.record(script.head())
        self.assertEqual(self.value("exchanges_in_flight", route="lmstudio"), 1)
        self.record(*script.simple()[1:])
        self.assertEqual(self.value("exchanges_in_flight", route="lmstudio"), 0)

    def test_counted_once(self) -> None:
        """A spool that is read again after trouble counts nothing twice."""
        script = self.script(1)
        self.record(script.head(), script.response_head())
        self.publish()
        self.record(script.response(b"abc"), script.end())
        (member,) = self.spools._members.values()
        self.spools._close_member(member)
        self.clock.advance(1)
        self.spools.turn()
        self.publish()
        counted = [v for (name, _), v in self.metrics().items() if name == "logging_proxy_exchanges_total"]
        self.assertEqual(counted, [1])
        self.assertEqual(self.value("body_bytes_total", route="lmstudio", side="response"), 3)

    def test_standing(self) -> None:
        """Backlog, losses, sizes, trouble."""
        self.capture(1)
        self.parts.housekeeping.startService()
        self.addCleanup(self.parts.housekeeping.stopService)
        self.spools.status = replace(
            self.spools.status, backlog=7, behind_since=0, lost_exchanges=2, trouble="No space left"
        )
        for name, wanted in (
            ("spool_backlog_bytes", 7),
            ("captures_lost_total", 2),
            ("captures_stored_total", 1),
            ("storage_trouble", 1),
            ("index_exchanges", 1),
            ("log_dir_files", 4),
            ("deleted_exchanges_total", 0),
            ("live_viewers", 0),
        ):
            self.assertEqual(self.value(name), wanted, name)
        self.assertGreater(self.value("log_dir_bytes") or 0, 500)
        self.assertGreater(self.value("spool_backlog_seconds") or 0, 1e9)

    def test_private(self) -> None:
        """Neither paths nor queries nor headers are in it."""
        script = self.script(1)
        self.record(script.head(b"X-Secret: canary\r\n"), *script.simple()[1:])
        for path in ("/metrics", "/health"):
            body = self.ask("GET", path).body
            for private in (b"canary", b"chat", b"localhost", self.id_of(1).encode()):
                self.assertNotIn(private, body)


class HealthTests(ServerTestCase):
    def test_well(self) -> None:
        """200 and the numbers while captures can be stored."""
        self.capture(1)
        self.clock.advance(4)
        reply = self.ask("GET", "/health")
        value = reply.json()
        self.assertEqual((reply.status, value["status"]), (200, "ok"))
        self.assertEqual((value["exchanges_stored"], value["exchanges_lost"]), (1, 0))
        self.assertEqual(value["uptime_seconds"], 5)

    def test_trouble(self) -> None:
        """503 and the reason while they cannot."""
        self.spools.status = Status(trouble="No space left on device")
        reply = self.ask("GET", "/health")
        self.assertEqual((reply.status, reply.json()["reason"]), (503, "No space left on device"))

    def test_other_trouble(self) -> None:
        """While the index or retention is in trouble it is not well; captures are stored: still 200."""
        for name, where in (("_trouble", self.parts.housekeeping), ("trouble", self.indexer)):
            setattr(where, name, "disk I/O error")
            reply = self.ask("GET", "/health")
            self.assertEqual((reply.status, reply.json()["status"]), (200, "trouble"))
            self.assertIn("disk I/O error", reply.json()["reason"])
            setattr(where, name, "")
        self.assertEqual(self.get("/health")["status"], "ok")

    def test_a_proxy_in_trouble(self) -> None:
        """503 and the reason while a proxy cannot write what it records; 200 again when it can."""
        with open(os.path.join(self.log_dir, ".spool", "5601", "ring"), "w+b") as file:
            ring = Ring.create(file.fileno(), 1 << 16, 0)
        self.addCleanup(ring.close)
        for told, status in (("", 200), ("No space left on device", 503), ("", 200)):
            ring.tell(told)
            self.clock.advance(2)
            self.spools.turn()
            reply = self.ask("GET", "/health")
            self.assertEqual(reply.status, status)
            reason = told and f"a proxy cannot write what it records: {told}"
            self.assertEqual(reply.json().get("reason", ""), reason)
            metrics = parsed(self.ask("GET", "/metrics").body)
            self.assertEqual(metrics["logging_proxy_recording_trouble", frozenset()], bool(told))
            self.assertEqual(metrics["logging_proxy_storage_trouble", frozenset()], 0)

    def test_behind(self) -> None:
        """The age of what waits; nothing waits, no age; a clock that is ahead, none either."""
        for since, wanted in ((None, 0), (1_000_000_000, 4), (9_000_000_000, 0)):
            self.assertEqual(behind(Status(behind_since=since), 5_000_000_000), wanted)


class TextTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Whatever a label holds, a reader gets it back."""
        hostile = 'a"b\\c\nd} 1\n# TYPE x counter'
        counter = Counter("x_total", "X.", ("label",))
        counter.add(2.5, hostile)
        self.assertEqual(parsed(text(counter.lines())), {("x_total", frozenset([("label", hostile)])): 2.5})

    def test_histogram(self) -> None:
        """Buckets are cumulated, and a value on a bound is within it."""
        histogram = Histogram("h", "H.", (0.5, 1), ())
        for value in (0.1, 0.5, 0.7, 1, 3):
            histogram.observe(value)
        samples = parsed(text(histogram.lines()))
        counts = [samples["h_bucket", frozenset([("le", le)])] for le in ("0.5", "1", "+Inf")]
        self.assertEqual(counts, [2, 4, 5])
        self.assertAlmostEqual(samples["h_sum", frozenset()], 5.3)

    def test_bounded(self) -> None:
        """However many values a label has, the number of series is bounded."""
        counter = Counter("x_total", "X.", ("label",))
        for number in range(MOST_SERIES + 100):
            counter.add(1, str(number))
        samples = parsed(text(counter.lines()))
        self.assertEqual(len(samples), MOST_SERIES + 1)
        self.assertEqual(samples["x_total", frozenset([("label", "other")])], 100)

    def test_empty_label(self) -> None:
        """What no route took is counted under an empty name."""
        lines = gauge("g", "G.", {("",): 1.0}, ("route",))
        self.assertEqual(parsed(text(lines)), {("g", frozenset([("route", "")])): 1})
