"""Destinations to connect to directly, in the notation of `NO_PROXY`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Address = IPv4Address | IPv6Address
_PORT = re.compile(r"(.*):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class _Name:
    """A domain and its subdomains; `apex` says whether the domain itself is included."""

    domain: str
    apex: bool
    port: int | None

    def matches(self, host: str, address: _Address | None, port: int) -> bool:
        if self.port not in (None, port) or address is not None:
            return False
        return host.endswith("." + self.domain) or (self.apex and host == self.domain)


@dataclass(frozen=True, slots=True)
class _Network:
    """A range of addresses.  Names are not resolved to match it."""

    network: IPv4Network | IPv6Network
    port: int | None

    def matches(self, host: str, address: _Address | None, port: int) -> bool:
        return self.port in (None, port) and address is not None and address in self.network


@dataclass(frozen=True, slots=True)
class NoProxy:
    """The destinations for which no proxy is used."""

    rules: tuple[_Name | _Network, ...] = ()
    everything: bool = False
    loopback: bool = False
    """Whether loopback destinations are included, as Go does for proxies from the environment."""

    def covers(self, host: str, port: int) -> bool:
        """Whether `host`, a name or an address without brackets, is connected to directly."""
        if self.everything:
            return True
        host = host.lower().rstrip(".")
        address = _address(host)
        if self.loopback and _is_loopback(host, address):
            return True
        return any(rule.matches(host, address, port) for rule in self.rules)


def parse_no_proxy(text: str, *, loopback: bool = False) -> NoProxy:
    """
    Parse a list of exceptions, separated by commas or blanks, with Go's rules.

    An entry is a domain (with its subdomains), a domain after a dot or ``*.``
    (subdomains only), an address, a network such as 10.0.0.0/8, or ``*`` for
    everything; a colon and a port may follow.  Other entries are ignored.
    """
    entries = [entry.lower() for entry in re.split(r"[,\s]+", text) if entry]
    rules = tuple(rule for rule in map(_rule, entries) if rule is not None)
    return NoProxy(rules, "*" in entries, loopback)


def _rule(entry: str) -> _Name | _Network | None:
    network = _network(entry)
    if network is not None:
        return _Network(network, None)
    host, port = entry, None
    parts = _PORT.fullmatch(entry)
    if parts is not None:
        host, port = parts[1], int(parts[2])
    network = _network(host)
    if network is not None:
        return _Network(network, port)
    domain = host.removeprefix("*").strip(".")
    if not domain or not {"*", "/", ":", "["}.isdisjoint(domain):
        return None
    return _Name(domain, not host.startswith((".", "*")), port)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    address = _address(text.removeprefix("[").removesuffix("]"))
    if address is not None:
        return ip_network(address)
    try:
        return ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _address(text: str) -> _Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _is_loopback(host: str, address: _Address | None) -> bool:
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    # A connection to 0.0.0.0 or :: goes to this machine.
    return address.is_loopback or address.is_unspecified
