"""
The figures of an exchange that are listed and searched: fields named as the columns of the index.

Times are in microseconds, costs in nano-dollars.  None is not known.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from logging_proxy.understanding.pricing.prices import Prices
from logging_proxy.understanding.understood import Read, understood
from logging_proxy.understanding.verdicts import Ending, verdict


class Figures(NamedTuple):
    """What is known of an exchange besides its model and session."""

    verdict: str | None = None
    verdict_class: str | None = None
    dialect: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool | None = None
    cost: int | None = None
    cost_source: str | None = None
    cost_partial: bool | None = None
    first_token: int | None = None
    longest_gap: int | None = None
    stalls: int | None = None
    failed_tools: int | None = None
    understood: str | None = None
    """The API's document as JSON; None where no model was called."""


def figures(ending: Ending, read: Read | None, prices: Prices) -> Figures:
    """The figures of an exchange; `read` is None where no model was called."""
    if read is None:
        found = verdict(ending)
        return Figures(str(found), str(found.kind))
    document = understood(read, prices)
    usage, cost, clocks = document["usage"] or {}, document["cost"] or {}, read.stream.clocks
    return Figures(
        document["verdict"],
        document["class"],
        document["dialect"],
        document["provider"],
        document["finish_reason"],
        usage.get("input_tokens"),
        usage.get("cached_tokens"),
        usage.get("cache_write_tokens"),
        usage.get("output_tokens"),
        usage.get("reasoning_tokens"),
        usage.get("estimated"),
        cost.get("nanodollars"),
        cost.get("source"),
        cost.get("partial"),
        clocks.first_token,
        clocks.longest_gap,
        document["timing"]["stalls"],
        document["tools"]["failed"],
        json.dumps(document, separators=(",", ":")),
    )
