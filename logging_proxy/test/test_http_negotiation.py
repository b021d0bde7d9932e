"""Which clients are told in JSON, and which in plain text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.negotiation import fields_of, prefers_json

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

CASES = [
    # Accept, Content-Type, whether JSON is preferred
    (JSON, b"", True),  # the SDKs
    (JSON, FORM, True),
    (b"application/json, text/plain, */*", b"", True),  # axios
    (b"application/json, text/javascript, */*; q=0.01", b"", True),  # jQuery
    (b"application/vnd.github+json", b"", True),
    (b"application/x-ndjson", b"", True),
    (b"Application/JSON; charset=utf-8", b"", True),
    (b"application/*", b"", True),
    (BROWSER, b"", False),
    (BROWSER, JSON, False),
    (b"text/plain", JSON, False),
    (b"text/html, application/json;q=0.5", b"", False),
    (b"text/html;q=0.5, application/json", b"", True),
    (b"application/json;q=0", JSON, False),
    (b"*/*", b"", False),  # curl
    (b"*/*", FORM, False),  # curl -d
    (b"*/*", JSON, True),  # curl --json, fetch
    (b"*/*", b"application/json; charset=utf-8", True),
    (b"text/event-stream", JSON, True),
    (b"text/event-stream", b"", False),
    (None, b"", False),
    (None, JSON, True),
    (b"", b"multipart/form-data; boundary=application/json", False),
    (b"application/jsonp", b"", False),
    (b"application/json;q=nonsense", b"", True),
    (b",;,;q=1,", b"", False),
]


class PreferenceTests(SynchronousTestCase):
    def test_cases(self) -> None:
        """`Accept` decides if it names one of the two, and otherwise the type of what the client has sent."""
        for accept, sent, expected in CASES:
            fields = [(b"accept", accept)] if accept is not None else []
            fields += [(b"content-type", sent)] if sent else []
            self.assertEqual(prefers_json(fields), expected, (accept, sent))

    def test_several_fields(self) -> None:
        """Fields that are called `Accept` are one list (RFC 9110 §5.3)."""
        fields = [(b"accept", b"text/html;q=0.3"), (b"host", b"h"), (b"accept", JSON)]
        self.assertTrue(prefers_json(fields))

    def test_malformed_head(self) -> None:
        """Of a head that cannot be read as a whole, the lines that can be read decide."""
        for begun, expected in (
            (b"POST / HTTP/1.1\r\nHost : x\r\nACCEPT: application/json\r\n\r\n", True),
            (b"POST / HTTP/1.1\nContent-Type:application/json\nX: 1", True),
            (b"GET / HTTP/1.1\r\nX-Accept: application/json\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nAccept: application/json", True),
            (b"\x16\x03\x01\x02", False),
            (b"", False),
        ):
            self.assertEqual(prefers_json(fields_of(begun)), expected, begun)

    @given(st.lists(st.tuples(st.sampled_from([b"accept", b"content-type", b"x"]), st.binary())), st.binary())
    def test_never_raises(self, fields: list[tuple[bytes, bytes]], begun: bytes) -> None:
        """Whatever a client sends, there is an answer."""
        self.assertIn(prefers_json(fields), (True, False))
        self.assertIn(prefers_json(fields_of(begun)), (True, False))
