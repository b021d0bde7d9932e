"""
The URLs that clients use in place of a destination's, and the environment variables that take them.

SDKs append a path such as `/chat/completions` to a base URL.  Providers differ in the part of the path that
belongs to the base: OpenAI's ends in `/v1`, Anthropic's does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from logging_proxy.configuration.listeners import is_loopback
from logging_proxy.configuration.options import Configuration, RouteOptions, ServerOptions
from logging_proxy.routing.mapping import Destination

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""Hosts to listen on that are no addresses to connect to."""

VERSION = re.compile(r"/v[0-9][0-9a-z.]*")
"""The last segment of many base URLs."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What SDKs expect of one provider's API."""

    base: str
    """The path of the base URL at the provider, without a final slash."""
    variables: tuple[str, ...]
    """Environment variables from which SDKs and tools read the base URL."""


_OPENAI_LIKE = Provider("/v1", ("OPENAI_BASE_URL",))

_BY_HOST = {
    "api.openai.com": _OPENAI_LIKE,
    "api.anthropic.com": Provider("", ("ANTHROPIC_BASE_URL",)),
    "openrouter.ai": Provider("/api/v1", ("OPENROUTER_BASE_URL",)),
    "generativelanguage.googleapis.com": Provider("", ("GOOGLE_GEMINI_BASE_URL",)),
    "api.groq.com": Provider("", ("GROQ_BASE_URL",)),
    "api.together.xyz": Provider("/v1", ("TOGETHER_BASE_URL",)),
    "api.cerebras.ai": Provider("", ("CEREBRAS_BASE_URL",)),
}

_BY_LOCAL_PORT = {
    11434: Provider("", ("OLLAMA_HOST",)),
    1234: Provider("/v1", ()),  # LM Studio
}


class BaseURL(NamedTuple):
    """How clients reach the destination of a route."""

    route: RouteOptions
    url: str
    """Without a final slash."""
    variables: tuple[str, ...]
    """The environment variables to set to `url`; none if no SDK is known to fit."""


def base_urls(configuration: Configuration, port: int | None = None) -> list[BaseURL]:
    """
    The base URL of every route, in the order of the file.

    `port` is where the proxy listens, if the configuration leaves that open.  Where several routes name a
    variable, the first of them is the one to set it to.
    """
    return base_urls_at(proxy_url(configuration.server, port), configuration.routes)


def base_urls_at(root: str, routes: Sequence[RouteOptions]) -> list[BaseURL]:
    """The base URLs of `routes`, where `root` is the URL of the proxy, without a path."""
    openai = any(provider_of(route.destination) is _OPENAI_LIKE for route in routes)
    return [_base_url(route, root, guess=not openai) for route in routes]


def proxy_url(server: ServerOptions, port: int | None = None, *, connect: bool = True) -> str:
    """The URL of the proxy without a path: for clients on this machine, or else as it is configured."""
    scheme = "http" if server.tls is None else "https"
    host = connectable(server.host) if connect else server.host
    return f"{scheme}://{authority(host, server.port if port is None else port)}"


def connectable(host: str) -> str:
    """The host by which a listener on `host` is reached from this machine."""
    return "localhost" if host in EVERY_ADDRESS else host


def provider_of(destination: Destination) -> Provider | None:
    """The provider whose API a destination is, as far as its address tells."""
    host = destination.host.lower().removesuffix(".")
    if host in _BY_HOST:
        return _BY_HOST[host]
    return _BY_LOCAL_PORT.get(destination.port) if is_loopback(host) else None


def is_provider(destination: Destination) -> bool:
    """Whether a destination is a provider's public API."""
    return destination.host.lower().removesuffix(".") in _BY_HOST


def base_path(pattern: str, destination: str, base: str) -> str | None:
    """
    The path that leads to the path `base` at the destination, all without final slashes.

    `pattern` and `destination` are the paths of a route.  None if there is no such path.
    """
    if f"{base}/".startswith(f"{destination}/"):
        return pattern + base[len(destination) :]
    missing = destination.removeprefix(base)  # a part of the path that SDKs append to the base
    if f"{destination}/".startswith(f"{base}/") and pattern.endswith(missing):
        return pattern.removesuffix(missing)
    return None


def paths_of(route: RouteOptions) -> tuple[str, str]:
    """The paths of a route's pattern and of its destination, without final slashes."""
    _, _, pattern = route.pattern.text.partition("/")
    return f"/{pattern}".rstrip("/"), route.destination.path.decode().rstrip("/")


def _base_url(route: RouteOptions, root: str, guess: bool) -> BaseURL:
    """`guess` says whether a local server of unknown kind is taken for one with OpenAI's API."""
    pattern, destination = paths_of(route)
    root = _root_for(route, root)
    provider = provider_of(route.destination)
    if guess and is_loopback(route.destination.host) and not (provider and provider.variables):
        provider = _OPENAI_LIKE
    path = base_path(pattern, destination, provider.base) if provider else None
    if provider is None or path is None or not route.pattern.is_subtree:
        return BaseURL(route, root + pattern, ())
    return BaseURL(route, root + path, provider.variables)


def _root_for(route: RouteOptions, root: str) -> str:
    """`root` with the host that the route's pattern names, if it names one."""
    host = route.pattern.host.decode("utf-8", "replace")
    if not host:
        return root
    scheme, _, old = root.partition("://")
    _, _, port = old.rpartition(":")
    return f"{scheme}://{authority(host, int(port)) if port.isdecimal() else host}"


def authority(host: str, port: int) -> str:
    """`host:port` as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def variables_of(urls: list[BaseURL]) -> Iterator[tuple[str, str]]:
    """Each environment variable once, with the URL to set it to."""
    seen: set[str] = set()
    for each in urls:
        for name in each.variables:
            if name not in seen:
                seen.add(name)
                yield name, each.url
