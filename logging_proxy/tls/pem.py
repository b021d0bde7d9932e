"""Certificates and private keys in PEM form, and whether they can be used.  No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key


class PEMError(ValueError):
    """A file without the expected content; the text says why, and quotes nothing of the file."""


class PairError(PEMError):
    """A certificate and a key that cannot be used together; `part` names the one at fault."""

    def __init__(self, part: Literal["certificate", "key"], reason: str) -> None:
        super().__init__(reason)
        self.part = part


@dataclass(frozen=True, slots=True)
class PEMFile:
    """A file's path and content as it was read; the content does not appear in the object's `repr`."""

    path: str
    content: bytes = field(default=b"", repr=False)


def certificates(content: bytes) -> list[x509.Certificate]:
    """The certificates in a file's content, at least one.  Raises `PEMError`."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise PEMError("it holds no certificate in PEM form, or a broken one") from None


def private_key(content: bytes) -> PrivateKeyTypes:
    """The private key in a file's content.  Raises `PEMError`."""
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        raise PEMError("its private key is encrypted: expected one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PEMError("it holds no private key in PEM form that can be used") from None


def check_pair(certificate: bytes, key: bytes, now: float) -> None:
    """
    Raise a `PairError` unless the first certificate belongs to the key and is valid at `now`.

    `now` is in seconds of Unix time.
    """
    leaf = certificates(certificate)[0]
    if leaf.public_key() != private_key(key).public_key():
        raise PairError("key", "it does not belong to the certificate (the file's first, if it has more)")
    moment = datetime.fromtimestamp(now, UTC)
    if moment > leaf.not_valid_after_utc:
        raise PairError("certificate", f"it expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if moment < leaf.not_valid_before_utc:
        raise PairError("certificate", f"it is valid from {leaf.not_valid_before_utc:%Y-%m-%d} on only")
