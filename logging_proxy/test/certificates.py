"""Certificates for tests: one authority, and as many identities as are needed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import trustme

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
