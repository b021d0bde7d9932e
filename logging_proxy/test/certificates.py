"""Certificates for tests: one authority, and as many identities as are needed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

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


def alternative(*entries: tuple[int, bytes]) -> x509.UnrecognizedExtension:
    """A subjectAltName of these entries, context tag and content, however wrong they are."""
    content = b"".join(bytes([0x80 | tag, len(data)]) + data for tag, data in entries)
    assert len(content) < 128
    return x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.17"), bytes([0x30, len(content)]) + content
    )


class Issuer:
    """An authority that signs whatever it is asked for."""

    def __init__(self, name: str = "An Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        unsigned = self._begin(self._name, self._key, -1, 30)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = unsigned.add_extension(basic, critical=True).sign(self._key, SHA256())
        self.pem = certificate.public_bytes(Encoding.PEM)

    def _begin(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: float, ends: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=ends))
        )

    def issue(
        self,
        names: Sequence[x509.GeneralName] | x509.ExtensionType | None,
        common_name: str = "somebody",
        begins: float = -1,
        ends: float = 1,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Identity:
        """Somebody with these alternative names, or with none; `begins` and `ends` in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        builder = self._begin(subject, key, begins, ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names is not None:
            extension = names if isinstance(names, x509.ExtensionType) else x509.SubjectAlternativeName(names)
            builder = builder.add_extension(extension, critical=False)
        return Identity(
            builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        )
