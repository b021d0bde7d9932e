"""What is derived from captures holds no secrets."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.redaction.redact import (
    REDACTED,
    is_secret_header,
    redact_headers,
    redact_line,
    redact_text,
    redact_url,
)

CANARY = "canary-7d1f"


class HeaderTests(SynchronousTestCase):
    def test_secret_names(self) -> None:
        """The named headers and all that look like them are secrets, in any case."""
        names = (
            "Authorization proxy-authorization COOKIE Set-Cookie x-api-key api-key x-goog-api-key "
            "X-Amz-Security-Token x-litellm-api-key X-Auth-Token x_secret_thing My-Password "
            "Ocp-Apim-Subscription-ApiKey X-Session X-My-Session-Key Sec-Token-Binding"
        )
        for name in names.split():
            self.assertEqual(redact_headers([(name, CANARY)]), [(name, REDACTED)])

    def test_identifiers(self) -> None:
        """Names that group exchanges or count tokens look secret and stay readable."""
        names = (
            "X-Claude-Code-Session-Id X-Claude-Code-Parent-Agent-Id session-id session_id X-Session-Id "
            "X-Client-Request-Id Helicone-Session-Id x-ratelimit-remaining-tokens "
            "anthropic-ratelimit-input-tokens-reset anthropic-ratelimit-tokens-limit Content-Type Host"
        )
        for name in names.split():
            self.assertEqual(redact_headers([(name, "abc")]), [(name, "abc")])

    def test_order_and_doubles(self) -> None:
        """Names stay as they came: order, case and doubles."""
        headers = [("B", "1"), ("cookie", CANARY), ("a", "2"), ("Cookie", CANARY), ("B", "3")]
        self.assertEqual(
            redact_headers(headers),
            [("B", "1"), ("cookie", REDACTED), ("a", "2"), ("Cookie", REDACTED), ("B", "3")],
        )

    def test_urls_in_headers(self) -> None:
        """URLs in headers are redacted as URLs."""
        self.assertEqual(
            redact_headers([("Location", f"https://u:{CANARY}@h/?api_key={CANARY}&x=1")]),
            [("Location", f"https://{REDACTED}:{REDACTED}@h/?api_key={REDACTED}&x=1")],
        )

    def test_known_secrets_under_other_names(self) -> None:
        """A key under a harmless name is known by how it begins."""
        self.assertEqual(
            redact_headers([("X-Note", "use sk-abcdefghijklmnopqrst")]), [("X-Note", f"use {REDACTED}")]
        )

    def test_secrets_within_values(self) -> None:
        """Whatever the field, URLs, parameters, JSON members and credentials in its value are found."""
        for name, value, wanted in (
            (
                "Link",
                f'<https://x/?access_token={CANARY}>; rel="next"',
                '<https://x/?access_token=*>; rel="next"',
            ),
            ("X-Original-URL", f"/a?key={CANARY}&b=1", "/a?key=*&b=1"),
            ("Refresh", f"0; url=http://u:{CANARY}@h/", "0; url=http://*:*@h/"),
            ("baggage", f"a=1,token={CANARY}", "a=1,token=*"),
            ("X-Note", f'form-data; name="key"; token="{CANARY} d"', 'form-data; name="key"; token=*'),
            ("X-Context", f'{{"a":1, "api_key": "{CANARY}"}}', '{"a":1, "api_key": "*"}'),
            ("X-Upstream", f"Bearer {CANARY}", "Bearer *"),
            ("X-Upstream", f"bEARER  {CANARY}==", "bEARER *"),
            ("X-Upstream", f"Basic {CANARY}", "Basic *"),
            ("Host", f"u:{CANARY}@h", "*@h"),
            ("Referer", f"http://h/?code={CANARY}", "http://h/?code=*"),
        ):
            self.assertEqual(redact_headers([(name, value)]), [(name, wanted.replace("*", REDACTED))])

    def test_harmless_values(self) -> None:
        """Challenges, attributes and words that only look so stay as they are."""
        for name, value in (
            ("WWW-Authenticate", 'Bearer realm="x", error="invalid_token"'),
            ("WWW-Authenticate", 'Basic realm="api key"'),
            ("X-Note", "Token expired"),
            ("Content-Type", "text/html; charset=utf-8"),
            ("Server-Timing", "auth;dur=1, keyword;dur=2"),
            ("baggage", "max_tokens=1,sessionId=2"),
            ("Forwarded", "for=1;host=h;proto=https"),
            ("Set-Monkey", "a=1; HttpOnly"),
        ):
            self.assertEqual(redact_headers([(name, value)]), [(name, value)])

    def test_subprotocols(self) -> None:
        """Keys that travel as subprotocols of a WebSocket are found, the subprotocols themselves stay."""
        for value, wanted in (
            (f"realtime, openai-insecure-api-key.{CANARY}, openai-beta.realtime-v1",) * 2,
            (f"app, base64url.bearer.authorization.{CANARY}",) * 2,
            (f"app, base64url.bearer.authorization.k8s.io.{CANARY}", "app, base64url.bearer.authorization.*"),
            (f"auth-token, {CANARY}, chat",) * 2,
            (f"chat,access_token,{CANARY}",) * 2,
            (f"jwt.{CANARY}",) * 2,
            (f"Bearer {CANARY}",) * 2,
            ("c4naryc4naryc4nary0123456789", "*"),
            ("550e8400-e29b-41d4-a716-446655440000", "*"),
            ("graphql-transport-ws, graphql-ws, v4.channel.k8s.io, v12.stomp, wamp.2.json, ocpp2.0.1",) * 2,
            ("SPDY/3.1+portforward.k8s.io, json.reliable.webpubsub.azure.v1, com.microsoft.nmf",) * 2,
        ):
            self.assertEqual(
                redact_headers([("Sec-WebSocket-Protocol", value)]),
                [("Sec-WebSocket-Protocol", wanted.replace(CANARY, "*").replace("*", REDACTED))],
            )

    def test_subprotocols_in_several_fields(self) -> None:
        """A list that is spread over fields is one list."""
        fields = [("Sec-WebSocket-Protocol", "auth-token"), ("Sec-WebSocket-Protocol", CANARY)]
        self.assertEqual(redact_headers(fields)[1], ("Sec-WebSocket-Protocol", REDACTED))

    def test_malformed_fields(self) -> None:
        """A line without a colon, a blank before it, and a folded line do not get a secret through."""
        for fields in (
            [(f"Authorization Bearer {CANARY}", "")],
            [("Authorization ", CANARY)],
            [("X-Api-Key", CANARY), (f"  {CANARY}", "")],
            [("X-Api-Key", ""), (f"\tand: {CANARY}", CANARY)],
            [(f"/?key={CANARY}", "")],
        ):
            self.assertNotIn(CANARY, repr(redact_headers(fields)), fields)

    @given(st.text(max_size=30))
    def test_any_name(self, name: str) -> None:
        """A name with a telling word anywhere is secret, or it is one of the identifiers."""
        self.assertTrue(is_secret_header(f"{name}-password"))
        self.assertTrue(is_secret_header(f"{name}-x-API-Key"))


class UrlTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        """Values of secret parameters go, names and the rest stay; in queries and fragments."""
        for name in (
            "key api_key access_token sig X-Amz-Signature X-Amz-Credential X-Amz-Security-Token "
            "client_secret API%5Fkey %6bey password code"
        ).split():
            self.assertEqual(redact_url(f"/p?a=1&{name}={CANARY}&b=2"), f"/p?a=1&{name}={REDACTED}&b=2")
            self.assertEqual(redact_url(f"/p#{name}={CANARY}"), f"/p#{name}={REDACTED}")

    def test_anywhere(self) -> None:
        """Repeated, encoded, in the path, in a fragment, in a URL that is a parameter: a secret is found."""
        for url in (
            "/p?key=*&key=*&a=1",
            "/p?%256bey=*",
            "/p?auth[token]=*&x",
            "/p;jsessionid=*/rest?a=1",
            "/p;v=1;token=*;b=2?a=1",
            "/p?a=1;key=*",
            "/p?a=1?key=*",
            "/p#/route?token=*",
            "/p?url=http://h/?token=*&b=1",
            "/p?url=https%3A%2F%2Fh%2F%3Fkey%3D*%26a%3D1&b=2",
            "/p?url=https%253A%252F%252Fh%252F%253Fkey%253D*",
            "/go/https%3A%2F%2F*%3A*%40h%2F%3Fkey%3D*",
            "//*:*@h/",
            "http://*:*@h/?sig=*&a=b",
        ):
            self.assertEqual(redact_url(url.replace("*", CANARY)), url.replace("*", REDACTED))

    def test_signs_in_values(self) -> None:
        """A semicolon in a value does not end it, nor an @ in a password."""
        self.assertEqual(redact_url(f"/p?key=a;{CANARY}&b=1"), f"/p?key={REDACTED}&b=1")
        self.assertEqual(redact_url(f"http://u:a@{CANARY}@h/"), f"http://{REDACTED}:{REDACTED}@h/")

    def test_harmless_parameters(self) -> None:
        """Other parameters stay as they are, byte for byte."""
        url = "http://h:1/p?alt=sse&keyword=a%20b&q=monkey&=&&x"
        self.assertEqual(redact_url(url), url)

    def test_userinfo(self) -> None:
        """User information is replaced whole; an @ in a path is none."""
        self.assertEqual(redact_url(f"https://{CANARY}@h/"), f"https://{REDACTED}:{REDACTED}@h/")
        self.assertEqual(redact_url("http://h/@scope/a"), "http://h/@scope/a")


class LineTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Lines of a head, right or malformed, are redacted as what they are."""
        for line in (
            "GET /p?key=* HTTP/1.1",
            "GET http://*:*@h/ HTTP/1.1",
            "Authorization: *",
            "Authorization : *",
            "Authorization *",
            "Accept: text/html;q=0.9",
            "HTTP/1.1 200 OK",
            "",
        ):
            self.assertEqual(redact_line(line.replace("*", CANARY)), line.replace("*", REDACTED))
        self.assertEqual(redact_line(f"GET /?key=a {CANARY} HTTP/1.1"), f"GET /?key={REDACTED} HTTP/1.1")


class TextTests(SynchronousTestCase):
    def test_known_secrets(self) -> None:
        """Keys of providers, tokens and JWTs are known by their form."""
        for secret in (
            "sk-proj-abcdefghij0123456789",
            "sk-ant-api03-abcdefghij0123456789",
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        ):
            self.assertEqual(redact_text(f'say "{secret}", please'), f'say "{REDACTED}", please')
        self.assertEqual(redact_text("Bearer abcdefghijklmnop1234"), f"Bearer {REDACTED}")

    def test_ordinary_text(self) -> None:
        """Words that contain such beginnings are left alone."""
        text = "the task-list of a risk-averse disk-jockey-association-of-the-world, right? sk-short"
        self.assertEqual(redact_text(text), text)

    def test_hostile_text(self) -> None:
        """Text made to make the patterns search again and again takes no more time than other text."""
        began = time.process_time()
        for text in (
            "eyJ-" * 60_000,
            "sk-" * 80_000,
            "?a" * 100_000,
            "://" * 80_000,
            "a=" * 100_000,
            ";key=a" * 30_000,
            "%3Fa" * 60_000,
        ):
            redact_text(text)
            redact_url(f"?{text}")
            redact_headers([("x", text), ("sec-websocket-protocol", text), (text, "x")])
            redact_line(text)
        self.assertLess(time.process_time() - began, 5)
