"""Which outbound proxy a destination is reached through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from logging_proxy.outbound.addresses import ProxyAddress, parse_proxy_url
from logging_proxy.outbound.exceptions import NoProxy
from logging_proxy.routing.mapping import Destination


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxies for http:// and for https:// destinations, and what goes past both."""

    http: ProxyAddress | None = None
    https: ProxyAddress | None = None
    no_proxy: NoProxy = NoProxy()


def proxy_for(destination: Destination, settings: ProxySettings) -> ProxyAddress | None:
    """The proxy that connections to `destination` go through, or None for none."""
    proxy = settings.https if destination.scheme == "https" else settings.http
    if proxy is None or settings.no_proxy.covers(destination.host, destination.port):
        return None
    return proxy


def proxy_variable(scheme: str, environ: Mapping[str, str]) -> str | None:
    """
    The environment variable that decides for destinations of `scheme`, http or https.

    Lower case is asked first, as curl and Python do.  An empty variable is none.
    """
    return next((name for name in _names(scheme, environ) if environ.get(name)), None)


def _names(scheme: str, environ: Mapping[str, str]) -> Iterator[str]:
    yield f"{scheme}_proxy"
    # A CGI program gets the client's header fields as variables in upper case: `Proxy: x` becomes
    # HTTP_PROXY=x (CVE-2016-5385, "httpoxy").
    if scheme != "http" or "REQUEST_METHOD" not in environ:
        yield f"{scheme.upper()}_PROXY"
    yield "all_proxy"
    yield "ALL_PROXY"


def no_proxy_text(environ: Mapping[str, str]) -> str:
    """What the environment excepts from its proxies."""
    return environ.get("no_proxy") or environ.get("NO_PROXY") or ""


def parse_variable(value: str) -> ProxyAddress:
    """The proxy that a variable names; http:// may be left out there.  Raises `ProxyURLError`."""
    value = value.strip()
    return parse_proxy_url(value if "://" in value else f"http://{value}")
