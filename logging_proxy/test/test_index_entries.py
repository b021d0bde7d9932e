"""From captures to entries: what is taken from where, and that no secret comes along; filters of the API."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from logging_proxy.index import BadFilter, Entry, Filters, entry_of, parse_filters
from logging_proxy.index.columns import iso_time
from logging_proxy.index.contents import BODY_LIMIT
from logging_proxy.index.values import microseconds
from logging_proxy.test.index_stage import IndexTestCase, documents, everything, id_of

ASKED = json.dumps(
    {"model": "m1", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
).encode()
ANSWERED = b'{"model": "m1-2025", "choices": [{"message": {"content": "good bye"}}]}'


def make(request: bytes = ASKED, response: bytes = ANSWERED, /, **fields: Any) -> Entry:
    asked, answered = documents(1, request, response, **fields)
    bodies = {asked["filename"]: request, answered["filename"]: response}
    return entry_of(asked, answered, lambda name, limit: bodies[name][:limit])


class EntryTests(IndexTestCase):
    def test_row(self) -> None:
        """A row holds what the two documents and bodies say."""
        row = make().row
        self.assertEqual((row.id, row.route, row.method, row.status), (id_of(1), "lmstudio", "POST", 200))
        self.assertEqual((row.model, row.stream, row.outcome, row.session), ("m1", True, "complete", None))
        self.assertEqual((row.request_bytes, row.response_bytes), (len(ASKED), len(ANSWERED)))
        self.assertEqual(iso_time(row.started), "2025-09-13T00:11:01.009000+00:00")
        self.assertEqual((row.duration, row.head_after), (491_000, 1000))
        self.assertEqual(row.client, "127.0.0.1:50001")
        self.assertEqual(row.request_file, f"2025-09-13_00-11-01.009_{id_of(1)[:8]}_request.bin")

    def test_clock_set_back(self) -> None:
        """Halves that were put with the clock set back in between have durations that are not negative."""
        asked, answered = documents(1, ASKED, ANSWERED)
        answered["started_at"] = answered["completed_at"] = "2025-09-12T20:00:00.000000+00:00"
        row = entry_of(asked, answered, lambda name, limit: b"").row
        self.assertEqual((row.duration, row.head_after), (0, 0))

    def test_texts(self) -> None:
        """The texts are those of the two bodies."""
        texts = make().texts
        self.assertEqual(texts.request.split(), ["m1", "user", "hello"])
        self.assertEqual(texts.response.split(), ["m1-2025", "good", "bye"])

    def test_content_coding(self) -> None:
        """A coded body is decoded; one that cannot be gives no text, and still a row."""
        headers = [["Content-Type", "application/json"], ["content-encoding", "gzip"]]
        coded = gzip.compress(ASKED)
        asked, _ = documents(1, coded)
        asked["headers"] = headers
        self.assertIn("hello", entry_of(asked, None, lambda name, limit: coded).texts.request)
        self.assertEqual(entry_of(asked, None, lambda name, limit: b"no gzip").texts.request, "")

    def test_one_half(self) -> None:
        """Either half alone makes an entry."""
        asked, answered = documents(1, ASKED, ANSWERED)
        alone = entry_of(asked, None, lambda name, limit: ASKED).row
        self.assertEqual((alone.status, alone.model, alone.response_file), (None, "m1", None))
        alone = entry_of(None, answered, lambda name, limit: ANSWERED).row
        self.assertEqual((alone.status, alone.model, alone.request_bytes), (200, "m1-2025", 0))

    def test_large_body(self) -> None:
        """Of a large body only the beginning is asked for, and it counts as cut."""
        asked, _ = documents(1)
        asked["bytes"] = BODY_LIMIT + 1
        limits = []

        def read(name: str, limit: int) -> bytes:
            limits.append(limit)
            return b'{"a": "text", "b": "tex'

        self.assertEqual(entry_of(asked, None, read).texts.request, "text\ntex")
        self.assertEqual(limits, [BODY_LIMIT])

    def test_members_of_a_long_body(self) -> None:
        """Model and session of a body that is too long to be parsed are found, coded or not."""
        body = json.dumps({"messages": [{"content": "x" * (BODY_LIMIT + 5)}], "model": "m1"}).encode()
        for coding, sent in (("identity", body), ("gzip", gzip.compress(body, 1))):
            asked, _ = documents(1, sent)
            asked["headers"] = [["Content-Type", "application/json"], ["Content-Encoding", coding]]

            def read(name: str, limit: int, start: int = 0, sent: bytes = sent) -> bytes:
                return sent[start : start + limit]

            entry = entry_of(asked, None, read)
            self.assertEqual((entry.row.model, entry.row.session), ("m1", None))

    def test_members_of_a_body_that_is_not_valid(self) -> None:
        """A body that is cut, deep or not valid JSON still tells what its first level holds."""
        deep = b"[" * 5000 + b"]" * 5000
        for body in (
            b'{"model": "m1", "stream": true, "session_id": "s1", "messages": [{"content": "cut',
            b'{"messages": %b, "session_id": "s1", "stream": true, "model": "m1"}' % deep,
            b'{"model": "m1", "stream": true, "session_id": "s1", "x": 01}',
        ):
            row = make(body, b"").row
            self.assertEqual((row.model, row.session, row.stream), ("m1", "s1", True))

    def test_model_of_the_url(self) -> None:
        """A model that the URL names counts, redacted as all else; one in the body counts more."""
        url = "http://127.0.0.1:1234/v1beta/models/gemini-2.5-pro:streamGenerateContent"
        row = make(b'{"contents": []}', b"", destination_url=url).row
        self.assertEqual((row.model, row.stream), ("gemini-2.5-pro", True))
        self.assertEqual(make(b'{"model": "m1"}', b"", destination_url=url).row.model, "m1")
        url = f"http://127.0.0.1:1234/model/sk-{'a1b2' * 8}/invoke"
        self.assertNotIn("a1b2a1b2", str(make(b"{}", b"", destination_url=url).row))

    def test_tunnel(self) -> None:
        """What went through a tunnel is not looked at."""
        asked, _ = documents(1, ASKED)
        asked["framing"] = "tunnel"
        self.assertEqual(entry_of(asked, None, lambda name, limit: ASKED).texts.request, "")

    @given(
        st.sampled_from(
            ["id", "started_at", "bytes", "status", "headers", "client", "route", "error", "filename"]
        ),
        st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text()), st.just("../../etc/passwd")),
    )
    def test_documents_of_others(self, name: str, value: Any) -> None:
        """Documents that are not ours give an entry that can be added, or a plain exception."""
        asked, answered = documents(1, ASKED)
        asked[name] = answered[name] = value
        try:
            made = entry_of(asked, answered, lambda name, limit: b"")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return
        self.make().add([made])


class CanaryTests(IndexTestCase):
    def test_no_secret_in_the_index(self) -> None:
        """Secrets in headers, URLs, members and texts are nowhere in the database, its words included."""
        secret = "canarysecret0123456789abcdefghij"
        body = json.dumps(
            {
                "api_key": secret,
                "metadata": {"password": secret},
                "messages": [{"content": f"my key is sk-{secret}, Bearer {secret}"}],
                "model": f"sk-{secret}",
            }
        ).encode()
        url = f"http://user:{secret}@h/p?key={secret}&x=visible#access_token={secret}"
        headers = [
            ["Content-Type", "application/json"],
            *(
                [name, secret]
                for name in ("Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-My-Token")
            ),
            ["X-Session-Id", f"sk-{secret}"],
        ]
        index = self.make()
        index.add(
            [
                make(
                    body, body, source_url=url, destination_url=url, headers=headers,
                    error=f"no route for sk-{secret}",
                )
            ]
        )  # fmt: skip
        index.mark_whole(True)
        self.assertNoCanary(index, id_of(1))

    def test_canary_would_be_seen(self) -> None:
        """The look into the database does see texts, so the test above can fail."""
        index = self.make()
        index.add([make(b'{"content": "canaryword"}', b"")])
        self.assertIn(b"canaryword", everything(index.path))


class FilterTests(IndexTestCase):
    def test_all(self) -> None:
        """Each parameter is read; empty ones and unknown ones do not count."""
        filters = parse_filters(
            {
                "route": "r", "method": "post", "status": "4xx", "outcome": "complete", "model": "m",
                "session": "s", "since": "2025-09-13T00:11:09Z", "until": "2025-09-13T02:11:09.5+02:00",
                "q": " two words ", "limit": "x",
            }
        )  # fmt: skip
        start = 1_757_722_269_000_000
        self.assertEqual(
            filters,
            Filters(
                route="r",
                method="POST",
                status=4,
                outcome="complete",
                model="m",
                session="s",
                since=start,
                until=start + 500_000,
                q="two words",
            ),
        )
        self.assertEqual(parse_filters({"route": "", "q": " ", "status": ""}), Filters())

    def test_status(self) -> None:
        """A status or its class, nothing else."""
        self.assertEqual(parse_filters({"status": "200"}).where, {"status": 200})
        self.assertEqual(parse_filters({"status": "5XX"}).where, {"status": 5})
        for status in ("2", "2x", "99", "600", "6xx", "-200", "20০", "2xx ,4xx"):
            self.assertRaises(BadFilter, parse_filters, {"status": status})

    def test_times(self) -> None:
        """Times with a zone, with the plus that a query turned into a space, in local time, and days."""
        self.assertEqual(
            parse_filters({"since": "2025-09-13T02:11:09 02:00"}),
            parse_filters({"since": "2025-09-13T00:11:09Z"}),
        )
        day = parse_filters({"since": "2025-09-13", "until": "2025-09-13"})
        assert day.since is not None and day.until is not None
        self.assertIn(day.until - day.since, [hours * 3_600_000_000 for hours in (23, 24, 25)])

    @given(st.text(max_size=30), st.sampled_from(["since", "until", "status", "q", "route"]))
    def test_any_value(self, value: str, name: str) -> None:
        """Any value is read or refused with `BadFilter`, which names it."""
        try:
            parse_filters({name: value})
        except BadFilter as refused:
            self.assertEqual(refused.name, name)

    def test_edges_of_time(self) -> None:
        """Times that no calendar has are refused."""
        for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2025-02-30", "soon"):
            for name in ("since", "until"):
                self.assertRaises(BadFilter, parse_filters, {name: value})

    @given(st.datetimes(timezones=st.timezones()))
    def test_iso_times(self, time: Any) -> None:
        """Microseconds and ISO 8601 lead to each other."""
        try:
            value = microseconds(time)
        except OverflowError:
            return
        self.assertEqual(parse_filters({"since": iso_time(value)}).since, value)
