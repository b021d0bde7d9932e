"""Outbound proxies from the configuration file and from the environment, and their validation."""

from __future__ import annotations

from collections.abc import Mapping

from logging_proxy.configuration.checks import Draft, arrives, own_listeners
from logging_proxy.configuration.problems import Findings
from logging_proxy.outbound.addresses import EXPECTED, ProxyAddress, ProxyURLError, parse_proxy_url
from logging_proxy.outbound.exceptions import NoProxy, parse_no_proxy
from logging_proxy.outbound.settings import (
    ProxySettings,
    no_proxy_text,
    parse_variable,
    proxy_variable,
)

PROXY_URL = ("http_client", "proxy_url")
FROM_ENVIRONMENT = ("http_client", "proxy_from_environment")


def proxy_settings(draft: Draft, environ: Mapping[str, str], findings: Findings) -> ProxySettings:
    """
    Return the configured proxies; invalid ones are added to `findings`.

    An environment variable without a valid proxy is a mistake only if some route would use it.
    """
    client = draft.http_client
    if not findings.sound(PROXY_URL, FROM_ENVIRONMENT):
        return ProxySettings()
    if client.proxy_url is not None:
        proxy = parse_proxy_url(client.proxy_url.value)
        _check(proxy, PROXY_URL, "this", draft, findings)
        return ProxySettings(proxy, proxy, parse_no_proxy(client.no_proxy or ""))
    if not client.proxy_from_environment:
        return ProxySettings()
    text = no_proxy_text(environ) if client.no_proxy is None else client.no_proxy
    no_proxy = parse_no_proxy(text, loopback=True)
    names = {scheme: proxy_variable(scheme, environ) for scheme in ("http", "https")}
    proxies: dict[str | None, ProxyAddress | None] = {None: None}
    for name in filter(None, names.values()):
        if name not in proxies:
            schemes = [scheme for scheme in names if names[scheme] == name]
            used = _are_used(schemes, no_proxy, draft)
            proxies[name] = _from_variable(name, environ[name], used, draft, findings)
    http, https = proxies[names["http"]], proxies[names["https"]]
    return ProxySettings(http, https, no_proxy) if http or https else ProxySettings()


def _are_used(schemes: list[str], no_proxy: NoProxy, draft: Draft) -> bool:
    """Whether a route's destination has one of `schemes` and is not excluded by `no_proxy`."""
    destinations = (route.values.get("destination") for route in draft.routes)
    return any(
        destination is not None
        and destination.scheme in schemes
        and not no_proxy.covers(destination.host, destination.port)
        for destination in destinations
    )


def _from_variable(
    name: str, value: str, used: bool, draft: Draft, findings: Findings
) -> ProxyAddress | None:
    try:
        proxy = parse_variable(value)
    except ProxyURLError as error:
        if used:
            message = f"the environment variable {name} {error}: expected {EXPECTED}"
            findings.add(findings.position(FROM_ENVIRONMENT), FROM_ENVIRONMENT, message)
        return None
    _check(proxy, FROM_ENVIRONMENT, f"the environment variable {name}", draft, findings)
    return proxy


def _check(proxy: ProxyAddress, path: tuple[str, ...], what: str, draft: Draft, findings: Findings) -> None:
    for owner, host, port in own_listeners(draft, findings):
        if arrives(proxy, host, port):
            message = f"{what} is {owner} own listener: expected another server"
            findings.add(findings.position(path), path, message)
