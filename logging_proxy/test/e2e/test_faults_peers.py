"""Peers that misbehave, in small; `make stress` does the same at full size."""

from __future__ import annotations

from logging_proxy.test.e2e.faults import FaultCase
from logging_proxy.test.stress import (
    client_leaves,
    slow_peers,
    stale_pool,
    unreachable,
    upstream_dies,
    upstream_resets,
)


class PeerTests(FaultCase):
    def test_upstream_dies(self) -> None:
        """A client sees every cut, however the upstream ends; outcome and bytes are in the capture."""
        self.hold(upstream_dies)

    def test_upstream_resets(self) -> None:
        """A response or a tunnel that was reset is never complete, whatever was sent at that moment."""
        self.hold(upstream_resets)

    def test_client_leaves(self) -> None:
        """When a client leaves, the upstream is left at once, and nothing stays open."""
        self.hold(client_leaves)

    def test_slow_peers(self) -> None:
        """Slow heads are cut; a normal client and the memory do not notice slow peers or large bodies."""
        self.hold(slow_peers)

    def test_stale_pool(self) -> None:
        """Connections that an upstream closes between requests double no POST and fail no GET."""
        self.hold(stale_pool)

    def test_unreachable(self) -> None:
        """Who cannot be reached, or not be trusted, is told of in time, in status and capture."""
        self.hold(unreachable)
