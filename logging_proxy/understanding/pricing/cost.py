"""
What a call has cost, in whole nano-dollars.

What the provider reports counts as it is.  Else it is the list price of what was used; a used kind without a
price makes the result partial, and nothing is ever taken for zero because it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from logging_proxy.understanding.answers import Answer, Usage
from logging_proxy.understanding.lenient import mapping, number
from logging_proxy.understanding.pricing.prices import ModelPrice, Price, Prices

NANO = 10**9

_PER = {"searches": 1_000}
_MILLION = 1_000_000

_LIKE = {"write_1h": "write", "write": "input"}
"""Where writing to a cache has no price of its own it is free, and its tokens cost what others do."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a call."""

    nanodollars: int
    source: str
    """`reported` by the provider, or `list` price."""
    partial: bool = False
    """Whether something was used that has no price."""
    billed: bool = True
    """False for calls that a plan pays for: the list price says what they would have cost."""
    price_date: str | None = None


def cost_of(
    answer: Answer,
    prices: Prices,
    url: str,
    asked: str | None,
    at: datetime,
    by_plan: bool = False,
) -> Cost | None:
    """
    The cost of an answer; None if it is not known.

    `url` is the destination's, `asked` the model that was asked for, `at` the start of the exchange with its
    zone, `by_plan` whether a plan pays for it.
    """
    reported = _reported(answer.raw_usage)
    if reported is not None:
        return Cost(reported, "reported")
    if answer.usage is None:
        return None
    found = prices.find(url, (answer.model, asked), at, context_of(answer.raw_usage))
    if found is None or not found.per:
        return None
    total, partial = _charge(
        _quantities(answer.usage, answer.raw_usage), found, answer.usage.input_tokens or 0
    )
    return Cost(total, "list", partial, not by_plan, prices.date)


def context_of(usage: Mapping[str, Any]) -> dict[str, str]:
    """What chooses a variant of the price; `auto` is no tier."""
    told = {name: usage.get(name) for name in ("service_tier", "speed")}
    return {name: value for name, value in told.items() if isinstance(value, str) and value != "auto"}


def _reported(usage: Mapping[str, Any]) -> int | None:
    cost = usage.get("cost")
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 <= cost < 1e6:
        return None
    return int((Decimal(repr(cost)) * NANO).to_integral_value(ROUND_HALF_EVEN))


def _quantities(usage: Usage, raw: Mapping[str, Any]) -> dict[str, int]:
    """How much of each priced kind was used; input and output are what no other kind has counted."""
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    long = number(mapping(raw.get("cache_creation")).get("ephemeral_1h_input_tokens")) or 0
    # The split by lifetime counts only if it adds up to the total.
    short = number(mapping(raw.get("cache_creation")).get("ephemeral_5m_input_tokens")) or 0
    long = long if long + short == written else 0
    heard = number(mapping(raw.get("prompt_tokens_details")).get("audio_tokens")) or 0
    said = number(mapping(raw.get("completion_tokens_details")).get("audio_tokens")) or 0
    searches = number(mapping(raw.get("server_tool_use")).get("web_search_requests")) or 0
    return {
        "input": max(0, (usage.input_tokens or 0) - read - written - heard),
        "read": read,
        "write": written - long,
        "write_1h": long,
        "input_audio": heard,
        "output": max(0, (usage.output_tokens or 0) - said),
        "output_audio": said,
        "searches": searches,
    }


def _charge(used: Mapping[str, int], found: ModelPrice, total_input: int) -> tuple[int, bool]:
    """Nano-dollars for what was used, and whether some of it has no price."""
    total, partial = Decimal(0), False
    for kind, count in used.items():
        if not count:
            continue
        price = _price_of(kind, found)
        if price is None:
            partial = True
            continue
        total += Decimal(_at(price, total_input)) * NANO * count / _PER.get(kind, _MILLION)
    return int(total.to_integral_value(ROUND_HALF_EVEN)), partial


def _price_of(kind: str, found: ModelPrice) -> Price | None:
    while kind not in found.per and kind in _LIKE:
        kind = _LIKE[kind]
    return found.per.get(kind)


def _at(price: Price, total_input: int) -> str:
    """
    The price for an input of this size.

    Tiers are cliffs: an input above a start puts all tokens, those of the output too, at its price.
    """
    if isinstance(price, str):
        return price
    return next((each for start, each in reversed(price) if total_input > start), price[0][1])
