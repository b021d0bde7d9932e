"""Prices and costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.answers import Answer, Usage
from logging_proxy.understanding.pricing.cost import Cost, cost_of
from logging_proxy.understanding.pricing.prices import FILE, Prices, list_prices

AT = datetime(2026, 12, 1, 12, tzinfo=UTC)
URL = "https://api.example/v1/messages"


def table(*prices: dict[str, Any], match: list[Any] | None = None) -> Prices:
    model = {"id": "m", "match": match or ["=", "m"], "window": 1000, "prices": list(prices)}
    provider = {"id": "p", "url": "https://api\\.example", "fallback": [], "models": [model]}
    return Prices({"date": "2026-12-01", "source": "test", "providers": [provider]})


PLAIN = table({"per": {"input": "3", "output": "15", "read": "0.3", "write": "3.75", "write_1h": "6"}})


def cost(prices: Prices, usage: Usage, raw: dict[str, Any] | None = None, **more: Any) -> Cost | None:
    answer = Answer()
    answer.model, answer.usage, answer.raw_usage = "m", usage, raw or {}
    return cost_of(answer, prices, more.pop("url", URL), more.pop("asked", "m"), more.pop("at", AT), **more)


class CostTests(SynchronousTestCase):
    def nano(self, prices: Prices, usage: Usage, raw: dict[str, Any] | None = None, **more: Any) -> int:
        found = cost(prices, usage, raw, **more)
        assert found is not None
        return found.nanodollars

    def test_parts(self) -> None:
        """What was read from the cache and written to it is not charged as input again."""
        self.assertEqual(self.nano(PLAIN, Usage(1000, 0, 0, 100)), 3_000_000 + 1_500_000)
        self.assertEqual(self.nano(PLAIN, Usage(1000, 600, 300, 0)), 300_000 + 180_000 + 1_125_000)

    def test_lifetimes(self) -> None:
        """Writes for an hour have their price, if the split adds up."""
        split = {"cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}}
        self.assertEqual(self.nano(PLAIN, Usage(300, 0, 300, 0), split), 375_000 + 1_200_000)
        self.assertEqual(self.nano(PLAIN, Usage(400, 0, 400, 0), split), 1_500_000)

    def test_reported(self) -> None:
        """What the provider reports counts as it is."""
        found = cost(PLAIN, Usage(1000, 0, 0, 100), {"cost": 0.0000086})
        self.assertEqual(found, Cost(8600, "reported"))

    def test_tiers(self) -> None:
        """An input above a start puts all tokens at that tier's price."""
        tiers = table({"per": {"input": [[0, "1"], [200, "2"]], "output": [[0, "10"], [200, "15"]]}})
        self.assertEqual(self.nano(tiers, Usage(200, 0, 0, 10)), 200_000 + 100_000)
        self.assertEqual(self.nano(tiers, Usage(201, 0, 0, 10)), 402_000 + 150_000)

    def test_variants(self) -> None:
        """The response's tier chooses the variant; `auto` is none."""
        prices = table({"per": {"input": "2"}}, {"per": {"input": "1"}, "when": {"service_tier": "flex"}})
        for tier, expected in (("flex", 1000), ("auto", 2000), ("default", 2000), (None, 2000)):
            self.assertEqual(self.nano(prices, Usage(1), {"service_tier": tier}), expected)

    def test_dates_and_hours(self) -> None:
        """The price is that of the day and the hour."""
        prices = table(
            {"per": {"input": "3"}},
            {"per": {"input": "2"}, "since": "2026-11-01"},
            {"per": {"input": "1"}, "hours": ["16:30:00+00:00", "00:30:00+00:00"]},
        )
        for at, expected in (
            (datetime(2026, 10, 31, 12, tzinfo=UTC), 3000),
            (AT, 2000),
            (datetime(2026, 12, 1, 16, 30, tzinfo=UTC), 1000),
            (datetime(2026, 12, 1, 0, 29, tzinfo=UTC), 1000),
            (datetime(2026, 12, 1, 0, 30, tzinfo=UTC), 2000),
        ):
            self.assertEqual(self.nano(prices, Usage(1), at=at), expected, at)

    def test_unknown_is_unknown(self) -> None:
        """No usage, no price, another host: no cost, and never zero."""
        answer = Answer()
        self.assertIsNone(cost_of(answer, PLAIN, URL, "m", AT))
        self.assertIsNone(cost(PLAIN, Usage(1), url="http://localhost:8080/v1"))
        self.assertIsNone(cost(table({"per": {"input": "1"}}, match=["=", "x"]), Usage(1)))

    def test_partial(self) -> None:
        """A used kind without a price makes the cost partial."""
        found = cost(table({"per": {"input": "1"}}), Usage(10, 0, 0, 5))
        self.assertEqual((found and found.nanodollars, found and found.partial), (10_000, True))

    def test_writes_without_a_price(self) -> None:
        """Tokens written to a cache for nothing cost what other tokens do; those read from it are unknown."""
        prices = table({"per": {"input": "2"}})
        self.assertEqual(cost(prices, Usage(10, 0, 4, 0)), Cost(20_000, "list", False, True, "2026-12-01"))
        self.assertEqual(cost(prices, Usage(10, 4, 0, 0)), Cost(12_000, "list", True, True, "2026-12-01"))

    def test_plan(self) -> None:
        """What a plan pays for is a list price that is not billed."""
        found = cost(PLAIN, Usage(10), by_plan=True)
        self.assertFalse(found and found.billed)

    def test_overrides(self) -> None:
        """Prices of one's own come first."""
        own = {"id": "mine", "url": "http://localhost", "models": [
            {"id": "m", "match": ["~", "m"], "prices": [{"per": {"input": "9"}}]}]}  # fmt: skip
        self.assertEqual(self.nano(PLAIN.with_overrides([own]), Usage(1), url="http://localhost:1"), 9000)


class ShippedTests(SynchronousTestCase):
    def test_providers(self) -> None:
        """A destination's URL tells its provider."""
        prices = list_prices()
        for url, provider in (
            ("https://api.anthropic.com/v1/messages", "anthropic"),
            ("https://api.openai.com/v1/responses", "openai"),
            ("https://openrouter.ai/api/v1/chat/completions", "openrouter"),
            ("https://bedrock-runtime.us-east-1.amazonaws.com/model/x/converse", "aws"),
            ("http://127.0.0.1:8080/v1/chat/completions", None),
        ):
            self.assertEqual(prices.provider_of(url), provider)

    def test_origin(self) -> None:
        """The table says where it comes from, of which day it is, and under which licence it stands."""
        document = json.loads(FILE.read_text("utf-8"))
        self.assertIn("MIT", document["licence"])
        self.assertEqual(document["date"], list_prices().date)
        self.assertIn("genai-prices", list_prices().source)

    def test_claude(self) -> None:
        """A dated name of a model finds its prices."""
        found = list_prices().find(
            "https://api.anthropic.com/v1/messages", ["claude-sonnet-4-5-20250929"], AT, {}
        )
        assert found is not None
        self.assertEqual((found.provider, found.per["read"] is not None), ("anthropic", True))
