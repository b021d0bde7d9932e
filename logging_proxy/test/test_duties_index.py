"""
Every duty of a proxy and the tests that hold it, so that none is without; the few that had none are here.

The duties are the rows of `facts/proxy-duties.md` §1, which lies in `../shared` beside the repository.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.test.proxy_stage import Stage, get, ok

FACTS = Path(__file__).parents[2].parent / "shared" / "facts" / "proxy-duties.md"

CHECKLIST: dict[str, str] = {
    "request: drop Connection and what it names": """
        test_proxy_headers.RequestHeaderTests.test_hop_by_hop
        test_proxy_headers.RequestHeaderTests.test_framing_cannot_be_named
        test_wire_strictness.PlainerTests.test_named_trailers""",
    "response: the same, Proxy-Authenticate": "test_proxy_headers.ResponseHeaderTests.test_hop_by_hop",
    "`TE: trailers` put back": "test_proxy_headers.RequestHeaderTests.test_te_trailers",
    "X-Forwarded-For": """
        test_proxy_headers.ForwardedTests.test_keep
        test_proxy_headers.ForwardedTests.test_replace
        test_proxy_headers.ForwardedTests.test_append""",
    "Via on requests": """
        test_proxy_headers.RequestHeaderTests.test_nothing_added
        test_proxy_headers.ForwardedTests.test_via
        test_proxy_headers.ForwardedTests.test_loop""",
    "Accept-Encoding added": "test_duties_index.MissingTests.test_no_accept_encoding",
    "Host towards upstream": """
        test_proxy_headers.RequestHeaderTests.test_host_in_its_place
        test_proxy_headers.RequestHeaderTests.test_no_host
        test_proxy_headers.RequestHeaderTests.test_absolute_form""",
    "order, case, duplicates": """
        test_proxy_headers.RequestHeaderTests.test_as_they_came
        test_proxy_headers.ResponseHeaderTests.test_as_they_came
        test_proxy_property.AnyExchangeTests.test_same_everywhere""",
    "response trailers": "test_proxy_trailers.TrailerTests.test_of_a_response",
    "103": """
        test_proxy_informational.InformationalTests.test_passed_on
        test_proxy_http10.ToHTTP10Tests.test_no_interim""",
    "Expect: 100-continue": """
        test_proxy_expect_continue.ExpectContinueTests.test_the_upstream_decides
        test_proxy_expect_continue.ExpectContinueTests.test_refused""",
    "close-delimited upstream": """
        test_proxy_framing.ToHTTP11Tests.test_close_delimited
        test_proxy_http10.ToHTTP10Tests.test_close_delimited""",
    "HTTP/1.0 client, chunked": "test_proxy_http10.ToHTTP10Tests.test_chunked",
    "204, 304, HEAD": "test_proxy_framing.ToHTTP11Tests.test_bodiless",
    "dies mid-body, Content-Length": """
        test_proxy_truncation.TruncationTests.test_fin
        test_proxy_truncation.TruncationTests.test_rst
        test_proxy_sockets.SocketTests.test_cut_while_the_client_is_slow""",
    "dies mid-chunked": """
        test_proxy_truncation.TruncationTests.test_fin
        test_proxy_truncation.TruncationTests.test_rst
        test_proxy_sockets.SocketTests.test_reset_in_a_stream""",
    "two different Content-Length": "test_wire_upstreams.HostileUpstreamTests.test_bad_heads",
    "Content-Length with Transfer-Encoding": "test_wire_upstreams.HostileUpstreamTests.test_bad_heads",
    "obs-fold": "test_wire_upstreams.HostileUpstreamTests.test_bad_heads",
    "NUL in a header": "test_wire_upstreams.HostileUpstreamTests.test_bad_heads",
    "garbage instead of a head": "test_wire_upstreams.HostileUpstreamTests.test_bad_heads",
    "connects, then resets": "test_proxy_failures.FailureTests.test_closed_without_an_answer",
    "bytes after a complete response": """
        test_wire_upstreams.HostileUpstreamTests.test_excess
        test_proxy_pool.PoolTests.test_bytes_while_idle""",
    "302": "test_proxy_headers.ResponseHeaderTests.test_redirect_is_passed",
    "early 413": """
        test_proxy_early_answers.EarlyAnswerTests.test_passed_on_at_once
        test_proxy_early_answers.EarlyAnswerTests.test_no_more_goes_up
        test_http_server.AnswerTests.test_linger_ends""",
    "… and the upstream resets": """
        test_proxy_early_answers.EarlyAnswerTests.test_upstream_resets_behind_it
        test_proxy_sockets.SocketTests.test_early_answer_then_reset""",
    "client leaves while upstream is silent": """
        test_proxy_client_left.ClientLeftTests.test_while_waiting
        test_proxy_sockets.SocketTests.test_client_leaves""",
    "client leaves during a stream": "test_proxy_client_left.ClientLeftTests.test_during_stream",
    "client half-closes": """
        test_proxy_client_left.ClientLeftTests.test_half_close_allowed
        test_proxy_sockets.SocketTests.test_half_close_allowed""",
    "SSE event delay": "test_duties_index.MissingTests.test_events_at_once",
    "Upgrade": """
        test_proxy_tunnel.AnswerTests.test_switch
        test_proxy_tunnel.BytesTests.test_both_ways
        test_proxy_tunnel.EndTests.test_half_close""",
    "absolute-form with another host": """
        test_duties_index.MissingTests.test_foreign_absolute_form
        test_proxy_tree.RoutedTests.test_by_host""",
    "stale keep-alive": """
        test_duties_index.MissingTests.test_stale_connections
        test_proxy_retries.RetryTests.test_stale_connection""",
    "large bodies": """
        test_proxy_flow_control.SlowClientTests.test_ten_gibibytes
        test_proxy_flow_control.SlowUpstreamTests.test_pauses_the_client""",
}
"""By the beginnings of the table's first column."""

MORE: dict[str, str] = {
    "obs-fold, blank before the colon": "test_wire_strictness.TableTests.test_fields",
    "missing, double or bad Host": "test_wire_strictness.TableTests.test_hosts",
    "Content-Length with Transfer-Encoding: 400 and close": "test_wire_strictness.TableTests.test_lengths",
    "Transfer-Encoding in HTTP/1.0, unknown codings": "test_wire_strictness.TableTests.test_codings",
    "chunk sizes and extensions": """
        test_wire_strictness.TableTests.test_chunks
        test_proxy_framing.ToHTTP11Tests.test_chunked""",
    "bare LF, bare CR": "test_wire_strictness.TableTests.test_line_ends",
    "1xx never to HTTP/1.0": "test_proxy_http10.ToHTTP10Tests.test_no_interim",
    "a request line of 8,000 bytes; 414 and 431": """
        test_wire_strictness.TableTests.test_request_lines
        test_http_limits_and_deadlines.SizeTests.test_head
        test_http_limits_and_deadlines.SizeTests.test_fields""",
    "Max-Forwards": """
        test_proxy_headers.RequestHeaderTests.test_max_forwards
        test_proxy_tree.UnroutedTests.test_max_forwards""",
    "405 needs Allow; CONNECT": """
        test_proxy_tree.UnroutedTests.test_method_not_allowed
        test_proxy_tree.UnroutedTests.test_connect""",
    "OPTIONS *": "test_proxy_tree.UnroutedTests.test_options_star",
    "* with other methods": "test_wire_strictness.TableTests.test_request_lines",
    "TLS and DNS 502, time-outs 504": """
        test_duties_outcomes.OutcomeTests.test_connect_failed
        test_duties_outcomes.OutcomeTests.test_tls_failed
        test_proxy_failures.FailureTests.test_no_head_in_time""",
    "no byte before verification": """
        test_proxy_failures.HandshakeTests.test_nothing_before_verification
        test_proxy_sockets.SocketTests.test_unknown_authority""",
    "close after a 4xx to a malformed request": "test_http_server.FaultTests.test_malformed_head",
    "pipelined requests in order": """
        test_proxy_framing.RequestFramingTests.test_pipelined
        test_http_pipelining.OrderTests.test_any_split""",
    "a head in 10 s, absolute": "test_http_limits_and_deadlines.HeadTimeTests.test_absolute",
    "60 s idle in a body": "test_http_limits_and_deadlines.BodyTimeTests.test_idle",
    "idle time does not run while we hold the peer": """
        test_proxy_flow_control.SlowClientTests.test_time_does_not_run
        test_proxy_flow_control.SlowUpstreamTests.test_time_does_not_run""",
    "retries only where they are safe, recorded": """
        test_proxy_retries.RetryTests.test_not_a_post
        test_proxy_retries.RetryTests.test_never_twice
        test_proxy_retries.RetryTests.test_not_after_a_byte_of_the_response
        test_proxy_retries.RetryTests.test_recorded""",
    "outcomes and counts": "test_duties_outcomes.OutcomeTests.test_every_outcome",
    "one mapping, the id, no secret": """
        test_proxy_failures.VerdictTests.test_table
        test_duties_secrets.SecretsTests.test_every_end""",
}
"""Under "More to hold", and from §2 to §4."""


class IndexTests(SynchronousTestCase):
    def test_tests_exist(self) -> None:
        """What the index names is there."""
        for duty, names in {**CHECKLIST, **MORE}.items():
            self.assertTrue(names.split(), duty)
            for name in names.split():
                module, case, test = name.split(".")
                found = getattr(import_module(f"logging_proxy.test.{module}"), case)
                self.assertTrue(callable(getattr(found, test)), name)
                self.assertTrue(issubclass(found, SynchronousTestCase), name)

    def test_no_duty_missing(self) -> None:
        """Every row of the checklist is in the index, and nothing else."""
        if not FACTS.exists():
            raise SkipTest(f"no {FACTS.name} beside the repository")
        _, _, section = FACTS.read_text().partition("## 1. The checklist")
        section, _, _ = section.partition("### More to hold")
        rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
        duties = [row for row in rows if row != "duty" and not row.startswith("---")]
        self.assertEqual(len(duties), len(CHECKLIST))
        for duty, key in zip(duties, CHECKLIST, strict=True):
            self.assertTrue(duty.startswith(key), (duty, key))


class MissingTests(SynchronousTestCase):
    def test_no_accept_encoding(self) -> None:
        """Accept-Encoding is the client's, or is not said: bytes stay as they are sent."""
        for fields in ((), ("Accept-Encoding: identity",), ("accept-encoding: br;q=0.5",)):
            stage = Stage()
            stage.client(get("/api/x", *fields))
            head = stage.upstream.received().decode()
            found = [line for line in head.split("\r\n") if line.lower().startswith("accept-encoding")]
            self.assertEqual(found, list(fields))

    def test_events_at_once(self) -> None:
        """Each event of a stream is with the client before the reactor turns, however small."""
        for framing in (b"Transfer-Encoding: chunked\r\n", b""):
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n"
            )
            self.assertIn(b"\r\n\r\n", client.received())
            for number in range(20):
                event = b"data: %d\n\n" % number
                stage.upstream.deliver(b"%x\r\n%b\r\n" % (len(event), event) if framing else event)
                self.assertEqual(client.received(), b"%x\r\n%b\r\n" % (len(event), event))

    def test_foreign_absolute_form(self) -> None:
        """The URL's host selects the route, 404 without one; the destination's own Host goes up."""
        routes = {
            "one": ("one.example/", "http://up.example/1/"),
            "two": ("two.example/", "http://up.example/2/"),
        }
        for host, target in (("one.example", b"/1/x"), ("two.example:99", b"/2/x")):
            stage = Stage(routes)
            stage.client(get(f"http://{host}/x", host="one.example"))
            self.assertEqual(
                stage.upstream.received(), b"GET %b HTTP/1.1\r\nHost: up.example\r\n\r\n" % target
            )
        stage = Stage(routes)
        client = stage.client(get("http://three.example/x", host="one.example"))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 404 "))
        self.assertEqual(stage.endpoint.wires, [])

    def test_stale_connections(self) -> None:
        """Six requests, the upstream closing after each answer: each reaches it once."""
        for end in ("fin", "rst"):
            stage = Stage()
            client = stage.client()
            seen = []
            for number in range(6):
                client.deliver(get(f"/api/{number}"))
                seen.append(stage.upstream.received().split(b" ")[1])
                stage.upstream.deliver(ok())
                self.assertEqual(client.received(), ok())
                getattr(stage.upstream, end)()
            self.assertEqual(seen, [b"/%d" % number for number in range(6)])
            self.assertEqual([bytes(wire.sent) for wire in stage.endpoint.wires], [b""] * 6)
