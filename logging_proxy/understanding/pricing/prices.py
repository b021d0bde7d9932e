"""
Finds list prices: by the destination's URL, the model's name and the time.

The data are described in `export`; overrides of the same form may be laid over them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("prices.json")

LONGEST_NAME, LONGEST_URL = 256, 2048

Price = str | list[tuple[int, str]]
"""Dollars for a million tokens, or a thousand searches; or by the size of the input, from each start on."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of a model at a time."""

    per: Mapping[str, Price]
    window: int | None
    """Tokens that fit into the model's context."""
    provider: str
    model: str


class Prices:
    """A table of prices."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.date = str(document["date"])
        self.source = str(document["source"])
        self._providers: list[dict[str, Any]] = list(document["providers"])
        self._by_id = {each["id"]: each for each in self._providers}
        self._by_url = lru_cache(maxsize=1024)(self._find)
        self._urls = [(re.compile(each["url"]), each) for each in self._providers if each.get("url")]

    def with_overrides(self, providers: Iterable[Mapping[str, Any]]) -> Prices:
        """These prices, with those of `providers` before them."""
        own = [{"url": "", "fallback": [], **each} for each in providers]
        return Prices({"date": self.date, "source": self.source, "providers": [*own, *self._providers]})

    def provider_of(self, url: str) -> str | None:
        """The provider at a URL; None if it is not known."""
        found = self._found(url)
        return str(found["id"]) if found else None

    def find(
        self, url: str, names: Iterable[str | None], at: datetime, context: Mapping[str, str]
    ) -> ModelPrice | None:
        """
        The prices of the first model of `names` that is known at `url`, at a time with a zone.

        `context` chooses variants: `service_tier`, `speed`.
        """
        provider = self._found(url)
        if provider is None:
            return None
        for name in names:
            if name and (found := self._model(provider, name[:LONGEST_NAME].lower())):
                return ModelPrice(
                    _active(found, at, context), found.get("window"), provider["id"], found["id"]
                )
        return None

    def _found(self, url: str) -> dict[str, Any] | None:
        return self._by_url(url[:LONGEST_URL].partition("?")[0])

    def _find(self, url: str) -> dict[str, Any] | None:
        return next((each for pattern, each in self._urls if pattern.match(url)), None)

    def _model(self, provider: Mapping[str, Any], name: str) -> dict[str, Any] | None:
        for each in (provider, *(self._by_id.get(id) for id in provider["fallback"])):
            for model in each["models"] if each else ():
                if _matches(model["match"], name):
                    found: dict[str, Any] = model
                    return found
        return None


@lru_cache(maxsize=1)
def list_prices() -> Prices:
    """The prices that are shipped."""
    return Prices(json.loads(FILE.read_text("utf-8")))


def _matches(clause: list[Any], name: str) -> bool:
    sign, *rest = clause
    if sign == "or":
        return any(_matches(each, name) for each in rest)
    if sign == "and":
        return all(_matches(each, name) for each in rest)
    if sign == "re":
        return re.search(rest[0], name) is not None
    text = rest[0].lower()
    if sign == "=":
        return bool(name == text)
    if sign == "^":
        return name.startswith(text)
    return name.endswith(text) if sign == "$" else text in name


def _active(model: Mapping[str, Any], at: datetime, context: Mapping[str, str]) -> dict[str, Price]:
    """The prices at a time: of those that hold, the last one; and over it the variants for the context."""
    standard = [each for each in model["prices"] if "when" not in each]
    holding = [each for each in standard if _holds(each, at)] or standard[:1]
    prices: dict[str, Price] = dict(holding[-1]["per"]) if holding else {}
    variants = [each for each in model["prices"] if "when" in each and _holds(each, at)]
    for each in reversed(variants):
        if all(context.get(name) == value for name, value in each["when"].items()):
            prices |= each["per"]
    return prices


def _holds(price: Mapping[str, Any], at: datetime) -> bool:
    if "since" in price and at.date().isoformat() < price["since"]:
        return False
    if "hours" not in price:
        return True
    start, end = (time.fromisoformat(each) for each in price["hours"])
    now = at.timetz().replace(tzinfo=start.tzinfo)
    return start <= now < end if start <= end else now >= start or now < end
