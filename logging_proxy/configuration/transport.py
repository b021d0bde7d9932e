"""Checks of TLS settings: certificates, keys and destinations together."""

from __future__ import annotations

from collections.abc import Iterator

from logging_proxy.configuration.checks import Draft, RouteDraft
from logging_proxy.configuration.options import ServerTLS, UpstreamTLS
from logging_proxy.configuration.problems import Findings, KeyPath, Problem
from logging_proxy.tls.contexts import server_options
from logging_proxy.tls.pem import PairError, PEMFile, check_pair

SERVER_TLS: KeyPath = ("server", "tls")


def check_tls(draft: Draft, now: float, findings: Findings) -> None:
    """Add the mistakes in TLS settings, judged at the time `now`.  Files that were not read are skipped."""
    server = draft.server.tls
    if server is not None:
        _check_server(server, now, findings)
    for route in draft.routes:
        tls = route.values.get("tls")
        if tls is not None:
            _check_route(route, tls, now, findings)


def warnings(draft: Draft, findings: Findings) -> Iterator[Problem]:
    """Warn about every route whose destination is not verified."""
    for route in draft.routes:
        tls = route.values.get("tls")
        if tls is not None and not tls.verify:
            path = (*route.path, "tls", "verify")
            message = "certificates are not verified: anyone on the network path can read and change traffic"
            yield findings.problem(findings.position(path), path, message)


def _check_server(tls: ServerTLS, now: float, findings: Findings) -> None:
    _check_pair(SERVER_TLS, "certificate", tls.certificate, "key", tls.key, now, findings)


def _check_route(route: RouteDraft, tls: UpstreamTLS, now: float, findings: Findings) -> None:
    path = (*route.path, "tls")
    destination = route.values.get("destination")
    if destination is not None and destination.scheme != "https":
        message = "the destination is not reached by TLS: expected an https:// destination"
        findings.add(findings.position(path), path, message)
    certificate, key = tls.client_certificate, tls.client_key
    if certificate is not None and key is not None:
        _check_pair(path, "client_certificate", certificate, "client_key", key, now, findings)
    elif certificate is not None or key is not None:
        given, other = (
            ("client_certificate", "client_key") if key is None else ("client_key", "client_certificate")
        )
        if findings.sound((*path, other)):
            findings.add(findings.position((*path, given)), (*path, given), f"expected {other} beside it")


def _check_pair(
    path: KeyPath,
    certificate_name: str,
    certificate: PEMFile,
    key_name: str,
    key: PEMFile,
    now: float,
    findings: Findings,
) -> None:
    if not certificate.content or not key.content:
        return
    try:
        check_pair(certificate.content, key.content, now)
        server_options(certificate.content, key.content, "1.2")
    except PairError as error:
        at = (*path, certificate_name if error.part == "certificate" else key_name)
        findings.add(findings.position(at), at, f"this file cannot be used: {error}")
