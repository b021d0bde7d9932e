"""
Which hosts a listener is asked for that only this machine can reach.

A page whose name was bound to 127.0.0.1 after it had been loaded (DNS rebinding) may read what the
proxy answers: for the browser it is the page's own server.  Servers on this machine keep such pages out
by looking at Host, which a destination does not see as the client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from logging_proxy.routing.targets import strip_port

_NO_DOMAIN = re.compile(r"[a-z0-9_-]*")
"""Nobody elsewhere can own a name without a dot: no top-level domain has addresses of its own."""

_ADDRESS = re.compile(r"\[.*\]|(.*\.)?([0-9]+|0x[0-9a-f]*)")
"""What browsers take for an address: brackets, or a number as last label (WHATWG's URL standard)."""


@dataclass(frozen=True, slots=True)
class LocalHosts:
    """Names of this machine; addresses, and names without a dot, are always among them."""

    names: frozenset[str]
    domains: tuple[str, ...]
    """Everything below these is meant; they begin with a dot."""

    def include(self, host: bytes) -> bool:
        """Whether a request for `host`, with a port or without, is for this machine; one for none is."""
        name = _canonical(strip_port(host).decode("latin-1"))
        if _NO_DOMAIN.fullmatch(name) or _ADDRESS.fullmatch(name) or ":" in name:
            return True
        return name in self.names or name.endswith(self.domains)


def local_hosts(names: Iterable[str]) -> LocalHosts:
    """`names`, of which `*.name` is everything below a name, and what is local anyway."""
    known = [_canonical(name) for name in names]
    below = [name.removeprefix("*") for name in known if name.startswith("*.")]
    return LocalHosts(frozenset(known), (".localhost", *below))


def _canonical(name: str) -> str:
    return name.lower().removesuffix(".")
