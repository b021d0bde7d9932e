"""OpenSSL's settings for both sides.  HTTP/1.1 is all that is ever negotiated."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion

from logging_proxy.tls.pem import PairError, certificates, private_key

PROTOCOLS = [b"http/1.1"]

MINIMUM_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}

CIPHERS = AcceptableCiphers.fromOpenSSLCipherString(
    "TLS13-AES-256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES-128-GCM-SHA256:"
    "ECDHE+AESGCM:ECDHE+CHACHA20"
)
"""Forward secrecy and authenticated encryption only, as in Mozilla's "intermediate" of 2025 without DHE."""


def server_options(certificate: bytes, key: bytes, minimum_version: str) -> CertificateOptions:
    """
    A listener's side, from the PEM of its certificate (with its chain behind it) and its key.

    Raises a `PairError` for what OpenSSL refuses, such as a key that is too short.
    """
    options = CertificateOptions(
        **identity(certificate, key),
        raiseMinimumTo=MINIMUM_VERSIONS[minimum_version],
        acceptableProtocols=PROTOCOLS,
        acceptableCiphers=CIPHERS,
    )
    check_context(options)
    return options


def identity(certificate: bytes, key: bytes) -> dict[str, Any]:
    """The arguments of `CertificateOptions` that say who we are; it hands them to pyOpenSSL as they are."""
    leaf, *chain = certificates(certificate)
    return {"privateKey": private_key(key), "certificate": leaf, "extraCertChain": chain}


def check_context(options: CertificateOptions) -> None:
    """Have OpenSSL look at certificate and key now, not at the first connection."""
    try:
        options.getContext()
    except SSL.Error as error:
        reasons = [str(entry[-1]) for entry in (error.args[0] if error.args else [])]
        raise PairError("certificate", f"OpenSSL refuses it: {'; '.join(reasons) or 'no reason'}") from None
    except (TypeError, ValueError):  # pyOpenSSL's, for kinds of key that TLS has no use for
        raise PairError("key", "it is of a kind that cannot be used for TLS") from None
