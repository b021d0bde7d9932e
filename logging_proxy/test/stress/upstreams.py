"""Upstreams over TLS, and pairs of one without it and one with it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from logging_proxy.test import certificates
from logging_proxy.test.stress.peers import Read, Script, Upstream


@asynccontextmanager
async def plain_and_secure(
    folder: Path, script: Script, read: Read | None = None
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """
    Two upstreams that answer alike, over TCP and over TLS, while the context is entered.

    Gives the destinations of routes to them.  `folder` is for the files of the certificates.
    """
    tls = server_tls(folder, certificates.identity("localhost"))
    authority = folder / "authority.pem"
    authority.write_bytes(certificates.AUTHORITY)
    async with Upstream(script, read=read) as plain, Upstream(script, tls, read) as secure:
        yield plain.url, {"destination": secure.url, "tls": {"ca_file": str(authority)}}


def server_tls(folder: Path, identity: certificates.Identity) -> ssl.SSLContext:
    """The TLS context of a server with `identity`, whose files are written to `folder`."""
    path = folder / "identity.pem"
    path.write_bytes(identity.key + identity.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
