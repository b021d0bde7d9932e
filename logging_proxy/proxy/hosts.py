"""
The hosts for which a listener on loopback answers.

A web page whose name is bound to 127.0.0.1 after it was loaded (DNS rebinding) could read the proxy's
responses: to the browser, the proxy is the page's own server.  Other servers on this machine defend
themselves by checking Host, but behind the proxy they do not see the client's value, so the proxy checks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from logging_proxy.routing.targets import strip_port

_NO_DOMAIN = re.compile(r"[a-z0-9_-]*")
"""A name without a dot cannot be registered: top-level domains have no addresses of their own."""

_ADDRESS = re.compile(r"\[.*\]|(.*\.)?([0-9]+|0x[0-9a-f]*)")
"""A host that browsers read as an address: brackets, or a number as last label (WHATWG's URL standard)."""


@dataclass(frozen=True, slots=True)
class LocalHosts:
    """Names of this machine; addresses, and names without a dot, are always among them."""

    names: frozenset[str]
    domains: tuple[str, ...]
    """All names that end in one of these; they begin with a dot."""

    def include(self, host: bytes) -> bool:
        """Whether `host`, with or without a port, is one of these.  An empty host is."""
        name = _canonical(strip_port(host).decode("latin-1"))
        if _NO_DOMAIN.fullmatch(name) or _ADDRESS.fullmatch(name) or ":" in name:
            return True
        return name in self.names or name.endswith(self.domains)


def local_hosts(names: Iterable[str]) -> LocalHosts:
    """`names`, where `*.name` stands for all subdomains, and the names that are always local."""
    known = [_canonical(name) for name in names]
    below = [name.removeprefix("*") for name in known if name.startswith("*.")]
    return LocalHosts(frozenset(known), (".localhost", *below))


def _canonical(name: str) -> str:
    return name.lower().removesuffix(".")
