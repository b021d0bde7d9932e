"""OpenSSL's settings for listeners and upstreams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion

from logging_proxy.tls.names import listed, shown
from logging_proxy.tls.pem import PairError, certificates, private_key
from logging_proxy.tls.reasons import reasons

PROTOCOLS = [b"http/1.1"]
"""ALPN protocols offered to destinations."""

ACCEPTED = (b"http/1.1", b"http/1.0")
"""ALPN protocols accepted from clients, in order of preference."""

MINIMUM_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}

CIPHERS = AcceptableCiphers.fromOpenSSLCipherString(
    "TLS13-AES-256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES-128-GCM-SHA256:"
    "ECDHE+AESGCM:ECDHE+CHACHA20"
)
"""Forward secrecy and authenticated encryption only, as in Mozilla's "intermediate" of 2025 without DHE."""


def server_options(certificate: bytes, key: bytes, minimum_version: str) -> CertificateOptions:
    """
    The context of a listener, from PEM: its certificate followed by its chain, and its key.

    A client that offers protocols, but none of `ACCEPTED`, is refused (RFC 7301 §3.2).
    Raises a `PairError` for pairs that OpenSSL refuses, for example because the key is too short.
    """
    options = CertificateOptions(
        **identity(certificate, key),
        raiseMinimumTo=MINIMUM_VERSIONS[minimum_version],
        acceptableCiphers=CIPHERS,
    )
    check_context(options)
    options.getContext().set_alpn_select_callback(_choose_protocol)
    return options


def _choose_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """An exception here becomes the alert `no_application_protocol`, and the reason of the failure."""
    for each in ACCEPTED:
        if each in offered:
            return each
    names = listed([shown(each.decode("latin-1")) for each in offered])
    raise SSL.Error([("", "", f"no protocol in common, the client offers {names}")])


def identity(certificate: bytes, key: bytes) -> dict[str, Any]:
    """The arguments of `CertificateOptions` for our own certificate; it hands them to pyOpenSSL unchanged."""
    leaf, *chain = certificates(certificate)
    return {"privateKey": private_key(key), "certificate": leaf, "extraCertChain": chain}


def check_context(options: CertificateOptions) -> None:
    """Let OpenSSL check certificate and key now rather than at the first connection."""
    try:
        options.getContext()
    except SSL.Error as error:
        why = "; ".join(reasons(error)) or "no reason"
        raise PairError("certificate", f"OpenSSL refuses it: {why}") from None
    except (TypeError, ValueError):  # pyOpenSSL, for kinds of keys that TLS does not support
        raise PairError("key", "it is of a kind that cannot be used for TLS") from None
