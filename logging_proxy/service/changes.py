"""Differences between two configurations, and which of them take effect at the next start only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from logging_proxy.configuration.options import Configuration

_AT_START = {
    "server": ("workers",),
    "logging": ("server_url", "on_capture_error", "spool_dir", "spool_limit", "fsync_interval", "ring_dir"),
    "logging_server": (),
}
"""By section, the keys that are read at start-up only; an empty tuple stands for all of them."""


def waiting(old: Configuration, new: Configuration) -> list[str]:
    """The changed keys that take effect at the next start only, as `section.key`."""
    return [
        f"{section}.{key}"
        for section, keys in _AT_START.items()
        for key in keys or (field.name for field in fields(getattr(new, section)))
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    ]


def routes(old: Configuration, new: Configuration) -> Iterator[str]:
    """One line for each route that is new, removed or changed."""
    before = {route.name: route for route in old.routes}
    after = {route.name: route for route in new.routes}
    for name in before.keys() - after.keys():
        yield f"route {name} is gone; its exchanges in flight finish"
    for name, route in after.items():
        was = before.get(name)
        if was is None:
            yield f"route {name} is new"
        elif (was.pattern, was.destination, was.logging, was.tls) != (
            route.pattern,
            route.destination,
            route.logging,
            route.tls,
        ):
            yield f"route {name} has changed"
