"""Whether a destination's certificate is acceptable, and if not, why."""

from __future__ import annotations

import enum
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


class Objection(enum.Enum):
    """The kinds of reasons for which a certificate is refused; the values are parts of error codes."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    SELF_SIGNED = "self_signed"
    NOT_TRUSTED = "not_trusted"
    WRONG_NAME = "wrong_name"
    OTHER = "refused"


class CertificateRefused(Exception):
    """A peer's certificate is not acceptable; the text says why, and is safe to print."""

    def __init__(self, text: str, objection: Objection = Objection.OTHER) -> None:
        super().__init__(text)
        self.objection = objection


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
        refusal: CertificateRefused | None = CertificateRefused("the certificate cannot be read")
        try:
            refusal = self._refusal(certificate.to_cryptography(), error, depth, bool(good))
        except ValueError:
            pass  # malformed
        except Exception:
            self._log.failure("while verifying the certificate of {host}", host=self._host)
        if refusal is None:
            return True
        connection.get_app_data().failVerification(Failure(refusal))
        return False

    def _refusal(
        self, certificate: x509.Certificate, error: int, depth: int, good: bool
    ) -> CertificateRefused | None:
        if not good:
            return _what_is_wrong(certificate, error, depth)
        if depth > 0 or names.is_for(certificate, self._host):
            return None
        found = names.described(certificate)
        text = f"is for {found}, not for {self._host}" if found else f"names no host, and so not {self._host}"
        return CertificateRefused(f"the certificate {text}", Objection.WRONG_NAME)


def _what_is_wrong(certificate: x509.Certificate, error: int, depth: int) -> CertificateRefused:
    """OpenSSL's objection to the certificate, `depth` steps above the peer's own."""
    whose = "the certificate" if depth == 0 else "the certificate of its authority"
    if error == _Codes.ERR_CERT_HAS_EXPIRED:
        text = f"{whose} expired on {_moment(certificate.not_valid_after_utc)}"
        return CertificateRefused(text, Objection.EXPIRED)
    if error == _Codes.ERR_CERT_NOT_YET_VALID:
        text = f"{whose} is not valid before {_moment(certificate.not_valid_before_utc)}"
        return CertificateRefused(text, Objection.NOT_YET_VALID)
    if error == _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return CertificateRefused(f"{whose} is self-signed", Objection.SELF_SIGNED)
    if error in _UNKNOWN_AUTHORITY:
        text = f"the certificate was issued by an authority that is not trusted{_issuer(certificate)}"
        return CertificateRefused(text, Objection.NOT_TRUSTED)
    if error == _Codes.ERR_INVALID_PURPOSE:
        return CertificateRefused(f"{whose} is for another purpose than a server's")
    if error == _Codes.ERR_INVALID_CA:
        return CertificateRefused(f"{whose} may not issue certificates")
    return CertificateRefused(f"{whose} is refused: {_name_of(error)}")


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
