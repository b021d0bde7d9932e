"""What is derived from captures holds no secrets."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.redaction import (
    REDACTED,
    is_secret_header,
    is_secret_key,
    redact_headers,
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

    def test_harmless_parameters(self) -> None:
        """Other parameters stay as they are, byte for byte."""
        url = "http://h:1/p?alt=sse&keyword=a%20b&q=monkey&=&&x"
        self.assertEqual(redact_url(url), url)

    def test_userinfo(self) -> None:
        """User information is replaced whole; an @ in a path is none."""
        self.assertEqual(redact_url(f"https://{CANARY}@h/"), f"https://{REDACTED}:{REDACTED}@h/")
        self.assertEqual(redact_url("http://h/@scope/a"), "http://h/@scope/a")


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

    def test_keys_of_objects(self) -> None:
        """Members named like secrets are known; counts, ids and ordinary words are not."""
        for name in "api_key apiKey x-api-key password client_secret access_token refreshToken".split():
            self.assertTrue(is_secret_key(name), name)
        for name in "max_tokens token key content session_id prompt_cache_key secretary".split():
            self.assertFalse(is_secret_key(name), name)

    def test_hostile_text(self) -> None:
        """Text made to make the patterns search again and again takes no more time than other text."""
        began = time.process_time()
        for text in ("eyJ-" * 60_000, "sk-" * 80_000, "?a" * 100_000, "://" * 80_000, "a=" * 100_000):
            redact_text(text)
            redact_url(f"?{text}")
            is_secret_key(text)
        self.assertLess(time.process_time() - began, 5)
