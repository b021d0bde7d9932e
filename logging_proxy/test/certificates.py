"""Certificates for tests: one authority, and as many identities as are needed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_CA = trustme.CA()

AUTHORITY = _CA.cert_pem.bytes()


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate, its chain behind it, and its key, in PEM form."""

    certificate: bytes
    key: bytes


def identity(
    *names: str, not_after: datetime.datetime | None = None, authority: trustme.CA | None = None
) -> Identity:
    """Somebody with these names, known to `AUTHORITY` or to another one."""
    leaf = (authority or _CA).issue_cert(
        *names, not_before=not_after - datetime.timedelta(days=30) if not_after else None, not_after=not_after
    )
    return Identity(b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


def self_signed(name: str, bits: int = 2048) -> Identity:
    """Somebody whom nobody vouches for."""
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(key, SHA256())
    )
    return Identity(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    )
