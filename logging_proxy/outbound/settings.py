"""Selects the outbound proxy for a destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from logging_proxy.outbound.addresses import ProxyAddress, parse_proxy_url
from logging_proxy.outbound.exceptions import NoProxy
from logging_proxy.routing.mapping import Destination


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxies for http:// and https:// destinations, and the exceptions from both."""

    http: ProxyAddress | None = None
    https: ProxyAddress | None = None
    no_proxy: NoProxy = NoProxy()


def proxy_for(destination: Destination, settings: ProxySettings) -> ProxyAddress | None:
    """The proxy for connections to `destination`, or None for a direct connection."""
    proxy = settings.https if destination.scheme == "https" else settings.http
    if proxy is None or settings.no_proxy.covers(destination.host, destination.port):
        return None
    return proxy


def proxy_variable(scheme: str, environ: Mapping[str, str]) -> str | None:
    """
    The environment variable that applies to destinations of `scheme` (http or https).

    Lower case takes precedence, as in curl and Python.  An empty variable counts as unset.
    """
    return next((name for name in _names(scheme, environ) if environ.get(name)), None)


def _names(scheme: str, environ: Mapping[str, str]) -> Iterator[str]:
    yield f"{scheme}_proxy"
    # In a CGI program, upper-case variables may hold the client's header fields: `Proxy: x` becomes
    # HTTP_PROXY=x (CVE-2016-5385, "httpoxy").
    if scheme != "http" or "REQUEST_METHOD" not in environ:
        yield f"{scheme.upper()}_PROXY"
    yield "all_proxy"
    yield "ALL_PROXY"


def no_proxy_text(environ: Mapping[str, str]) -> str:
    """The exceptions listed in the environment."""
    return environ.get("no_proxy") or environ.get("NO_PROXY") or ""


def parse_variable(value: str) -> ProxyAddress:
    """Parse the proxy in a variable, where http:// may be omitted.  Raises `ProxyURLError`."""
    value = value.strip()
    return parse_proxy_url(value if "://" in value else f"http://{value}")
