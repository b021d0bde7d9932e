"""
The kinds of errors that the proxy answers with: one table of codes.

A code is part of the interface: programs may compare it.  docs/operations.md has the same table, from
`markdown_table`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error; `outcome` is that of the exchange in its capture."""

    code: str
    status: int
    outcome: str
    meaning: str


def _kinds(outcome: str, *rows: tuple[str, int, str]) -> list[ErrorKind]:
    return [ErrorKind(code, status, outcome, meaning) for code, status, meaning in rows]


_NOT_FORWARDED = _kinds(
    "complete",
    ("no_route", 404, "no route matches the path"),
    ("method_not_allowed", 405, "routes match the path, but not this method"),
    ("reverse_proxy", 405, "`CONNECT`: the client takes the proxy for a forward proxy"),
    ("wrong_host", 421, "a listener on loopback is asked for a host that is not this machine"),
    ("bad_target", 400, "the request's target cannot be read, or leaves the destination's path"),
    ("upgrade_not_supported", 501, "an upgrade, where the outbound proxy takes whole requests only"),
    ("loop", 508, "the request has passed through this proxy before (`Via`)"),
    ("not_recorded", 503, "captures cannot be written, and `logging.on_capture_error` is `block`"),
)

_NOT_READABLE = _kinds(
    "protocol_error",
    ("bad_request", 400, "the request is malformed"),
    ("request_timeout", 408, "the request's head or body did not come in time"),
    ("uri_too_long", 414, "the request line is too long"),
    ("head_too_large", 431, "the request's head is too long, or has too many fields"),
    ("not_implemented", 501, "the request's transfer coding is not known"),
    ("version_not_supported", 505, "the request is not HTTP/1"),
)

_NOT_CONNECTED = _kinds(
    "connect_failed",
    ("name_not_found", 502, "the destination's name cannot be resolved"),
    ("connection_refused", 502, "nothing listens at the destination's address and port"),
    ("unreachable", 502, "there is no way to the destination's address"),
    ("connect_timeout", 504, "no connection within `http_client.connect_timeout`"),
    ("connect_failed", 502, "no connection, for another reason"),
    ("leads_to_proxy", 508, "the destination is the proxy itself or its logging server"),
    ("outbound_proxy_unreachable", 502, "the outbound proxy cannot be reached"),
    ("outbound_proxy_credentials", 502, "the outbound proxy requires other credentials"),
    ("outbound_proxy_timeout", 504, "the outbound proxy did not connect in time"),
    ("outbound_proxy_failed", 502, "the outbound proxy did not connect to the destination"),
)

_NOT_SECURE = _kinds(
    "tls_failed",
    ("certificate_expired", 502, "the destination's certificate, or that of its authority, has expired"),
    ("certificate_not_yet_valid", 502, "the certificate is not valid yet"),
    ("certificate_self_signed", 502, "the certificate is self-signed"),
    ("certificate_not_trusted", 502, "the certificate was issued by an authority that is not trusted"),
    ("certificate_wrong_name", 502, "the certificate is for other hosts"),
    ("certificate_refused", 502, "the certificate is refused for another reason"),
    ("client_certificate_required", 502, "the destination requires a client certificate, or another one"),
    ("not_tls", 502, "the destination does not speak TLS on this port"),
    ("tls_timeout", 504, "the TLS handshake took longer than `http_client.connect_timeout`"),
    ("tls_failed", 502, "no TLS connection, for another reason"),
)

_NOT_ANSWERED = [
    *_kinds("upstream_closed", ("upstream_closed", 502, "the destination closed without an answer")),
    *_kinds("upstream_reset", ("upstream_reset", 502, "the destination reset the connection")),
    *_kinds("upstream_timeout", ("upstream_timeout", 504, "the destination did not answer in time")),
    *_kinds("protocol_error", ("upstream_malformed", 502, "the destination's answer is malformed")),
    *_kinds(
        "interrupted",
        ("shutting_down", 503, "the proxy is shutting down"),
        ("internal_error", 500, "a fault of the proxy; its log says more"),
    ),
]

KINDS = {
    kind.code: kind
    for kind in (*_NOT_FORWARDED, *_NOT_READABLE, *_NOT_CONNECTED, *_NOT_SECURE, *_NOT_ANSWERED)
}
"""All kinds by their codes."""

_OF_FAULTS = {kind.status: kind for kind in _NOT_READABLE}


def kind_of_fault(status: int) -> ErrorKind:
    """The kind of error of a request that cannot be read, and is answered `status` for that."""
    return _OF_FAULTS.get(status, KINDS["bad_request"])


def markdown_table() -> str:
    """The table as the documentation has it."""
    rows = [
        f"| `{each.code}` | {each.status} | `{each.outcome}` | {each.meaning} |" for each in KINDS.values()
    ]
    return "\n".join(["| `code` | status | outcome | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"
