"""TLS towards destinations."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from logging_proxy.tls.contexts import PROTOCOLS, identity
from logging_proxy.tls.pem import PEMFile, certificates


class UpstreamSettings(Protocol):
    """What a route may say of TLS; `configuration.UpstreamTLS` is one."""

    @property
    def ca_file(self) -> PEMFile | None:
        """Who is trusted to sign the destination's certificate, instead of the system's CAs."""

    @property
    def client_certificate(self) -> PEMFile | None:
        """What we show of ourselves."""

    @property
    def client_key(self) -> PEMFile | None:
        """What belongs to the client certificate."""

    @property
    def verify(self) -> bool:
        """Whether the certificate has to be good for the name at all."""

    @property
    def server_name(self) -> str | None:
        """The name to ask and to verify for, instead of the destination's host."""


def client_creator(host: str, settings: UpstreamSettings | None = None) -> IOpenSSLClientConnectionCreator:
    """
    The client's side of TLS with `host`: TLS 1.2 at least, HTTP/1.1 alone.

    Chain and name are verified during the handshake; until `handshakeCompleted`
    a protocol must write nothing.  `settings` may change whom we trust and who we
    are, and turn the verification off.
    """
    if settings is None:
        return optionsForClientTLS(host, acceptableProtocols=PROTOCOLS)
    name = settings.server_name or host
    ours: dict[str, Any] = {}
    if settings.client_certificate is not None and settings.client_key is not None:
        ours = identity(settings.client_certificate.content, settings.client_key.content)
    if not settings.verify:
        return _Unverified(name, CertificateOptions(acceptableProtocols=PROTOCOLS, **ours))
    trusted = None
    if settings.ca_file is not None:
        trusted = trustRootFromCertificates(_authorities(settings.ca_file.content))
    return optionsForClientTLS(
        name, trustRoot=trusted, acceptableProtocols=PROTOCOLS, extraCertificateOptions=ours
    )


def _authorities(content: bytes) -> list[Certificate]:
    return [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in certificates(content)]


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Takes any certificate.  The name is still sent, for servers that have many (RFC 6066 §3)."""

    def __init__(self, name: str, options: CertificateOptions) -> None:
        self._name = None if _is_address(name) else name.encode("ascii")
        self._options = options

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
