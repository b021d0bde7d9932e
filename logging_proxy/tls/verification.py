"""Whether a destination's certificate is acceptable, and if not, why."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.logger import Logger
from twisted.python.failure import Failure

from logging_proxy.tls import names

_Codes = SSL.X509VerificationCodes

_UNKNOWN_AUTHORITY = frozenset(
    {
        _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        _Codes.ERR_CERT_UNTRUSTED,
    }
)


class CertificateRefused(Exception):
    """A peer's certificate is not acceptable; the text says why, and is safe to print."""


class Verification:
    """
    OpenSSL's verification callback of one connection: decides about each certificate of the chain.

    OpenSSL checks the chain; whether the peer's own certificate is valid for `host` is checked here, in
    the same handshake.  A refused peer has received nothing, and the connection attempt fails with a
    `CertificateRefused`.
    """

    _log = Logger()

    def __init__(self, host: str) -> None:
        self._host = host

    def __call__(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, good: int
    ) -> bool:
        refusal: str | None = "the certificate cannot be read"
        try:
            refusal = self._refusal(certificate.to_cryptography(), error, depth, bool(good))
        except ValueError:
            pass  # malformed
        except Exception:
            self._log.failure("while verifying the certificate of {host}", host=self._host)
        if refusal is None:
            return True
        connection.get_app_data().failVerification(Failure(CertificateRefused(refusal)))
        return False

    def _refusal(self, certificate: x509.Certificate, error: int, depth: int, good: bool) -> str | None:
        if not good:
            return _what_is_wrong(certificate, error, depth)
        if depth > 0 or names.is_for(certificate, self._host):
            return None
        found = names.described(certificate)
        if not found:
            return f"the certificate names no host, and so not {self._host}"
        return f"the certificate is for {found}, not for {self._host}"


def _what_is_wrong(certificate: x509.Certificate, error: int, depth: int) -> str:
    """OpenSSL's objection to the certificate, `depth` steps above the peer's own."""
    whose = "the certificate" if depth == 0 else "the certificate of its authority"
    if error == _Codes.ERR_CERT_HAS_EXPIRED:
        return f"{whose} expired on {_moment(certificate.not_valid_after_utc)}"
    if error == _Codes.ERR_CERT_NOT_YET_VALID:
        return f"{whose} is not valid before {_moment(certificate.not_valid_before_utc)}"
    if error == _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return f"{whose} is self-signed"
    if error in _UNKNOWN_AUTHORITY:
        return f"the certificate was issued by an authority that is not trusted{_issuer(certificate)}"
    if error == _Codes.ERR_INVALID_PURPOSE:
        return f"{whose} is for another purpose than a server's"
    if error == _Codes.ERR_INVALID_CA:
        return f"{whose} may not issue certificates"
    return f"{whose} is refused: {_name_of(error)}"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _issuer(certificate: x509.Certificate) -> str:
    """The issuer's common name, if it has one."""
    try:
        found = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return f": {names.shown(str(found[0].value))}" if found else ""
    except ValueError:
        return ""


def _name_of(error: int) -> str:
    """OpenSSL's name of a verification error."""
    for name, code in vars(_Codes).items():
        if name.startswith("ERR_") and code == error:
            return name.removeprefix("ERR_").lower().replace("_", " ")
    return f"verification error {error}"
