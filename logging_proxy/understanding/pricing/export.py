"""
Writes `prices.json` from the data of genai-prices: `python -m logging_proxy.understanding.pricing.export`.

genai-prices (MIT, Pydantic Services Inc., https://github.com/pydantic/genai-prices) is needed for this only.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("prices.json")

_UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "read",
    "cache_write_mtok": "write",
    "cache_write_1h_mtok": "write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "web_searches_kcount": "searches",
}
"""Prices that an answer's usage can be charged with; the others need figures that no usage reports."""

_CLAUSES = {
    "ClauseEquals": ("=", "equals"),
    "ClauseStartsWith": ("^", "starts_with"),
    "ClauseEndsWith": ("$", "ends_with"),
    "ClauseContains": ("~", "contains"),
    "ClauseRegex": ("re", "regex"),
}


def main() -> None:
    data: Any = importlib.import_module("genai_prices.data")
    version = importlib.metadata.version("genai-prices")
    document = {
        "source": f"genai-prices {version}, https://github.com/pydantic/genai-prices",
        "licence": "MIT, Copyright (c) Pydantic Services Inc. 2025 to present",
        "date": datetime.date.today().isoformat(),
        "providers": [_provider(each) for each in data.providers],
    }
    FILE.write_text(_lines(document), "utf-8")


def _provider(provider: Any) -> dict[str, Any]:
    models = [_model(model) for model in provider.models]
    return {
        "id": provider.id,
        "url": provider.api_pattern,
        "fallback": provider.fallback_model_providers or [],
        "models": [model for model in models if model["prices"]],
    }


def _model(model: Any) -> dict[str, Any]:
    given = model.prices if isinstance(model.prices, list) else [None, model.prices]
    standard = [_price(each) for each in given if each is not None]
    variants = [_price(each) for each in model.price_variants or ()]
    return {
        "id": model.id,
        "match": _clause(model.match),
        "window": model.context_window,
        "prices": [each for each in [*standard, *variants] if each["per"]],
    }


def _price(conditional: Any) -> dict[str, Any]:
    prices = getattr(conditional, "prices", conditional)
    constraint: Any = getattr(conditional, "constraint", None)
    found: dict[str, Any] = {"per": dict(_units(prices))}
    if when := getattr(conditional, "when", None):
        found["when"] = dict(when)
    if start := getattr(constraint, "start_date", None):
        found["since"] = start.isoformat()
    if start := getattr(constraint, "start_time", None):
        found["hours"] = [start.isoformat(), constraint.end_time.isoformat()]
    return found


def _units(prices: Any) -> Iterator[tuple[str, Any]]:
    for name, ours in _UNITS.items():
        price = getattr(prices, name, None)
        if isinstance(price, Decimal):
            yield ours, _decimal(price)
        elif price is not None:
            yield (
                ours,
                [[0, _decimal(price.base)], *[[each.start, _decimal(each.price)] for each in price.tiers]],
            )


def _decimal(price: Decimal) -> str:
    return format(price.normalize(), "f")


def _clause(clause: Any) -> list[Any]:
    name = type(clause).__name__
    if name in _CLAUSES:
        sign, member = _CLAUSES[name]
        return [sign, getattr(clause, member)]
    parts = getattr(clause, "or_", None) or getattr(clause, "and_", None) or []
    return ["or" if name == "ClauseOr" else "and", *map(_clause, parts)]


def _lines(document: dict[str, Any]) -> str:
    """The document with a line for each model, so that differences between two exports can be read."""
    providers = document.pop("providers")
    start = json.dumps(document, indent=1)[:-2]
    parts = []
    for provider in providers:
        models = provider.pop("models")
        lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
        parts.append(f'{json.dumps(provider)[:-1]}, "models": [\n{lines}\n]}}')
    joined = ",\n".join(parts)
    return f'{start},\n "providers": [\n{joined}\n]\n}}\n'


if __name__ == "__main__":
    main()
