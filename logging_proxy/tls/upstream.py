"""TLS towards destinations."""

from __future__ import annotations

from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from logging_proxy.tls.contexts import PROTOCOLS, identity
from logging_proxy.tls.names import address_of, without_final_dot
from logging_proxy.tls.pem import PEMFile, certificates
from logging_proxy.tls.verification import Verification


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
    a protocol must write nothing.  A certificate that will not do ends the connection
    with a `CertificateRefused`.  `settings` may change whom we trust and who we are,
    and turn the verification off.  A final dot of the name is neither sent nor verified.
    """
    name, ours, trusted = host, dict[str, Any](), platformTrust()
    if settings is not None:
        name = settings.server_name or host
        if settings.client_certificate is not None and settings.client_key is not None:
            ours = identity(settings.client_certificate.content, settings.client_key.content)
        if settings.ca_file is not None:
            trusted = trustRootFromCertificates(_authorities(settings.ca_file.content))
    verifies = settings is None or settings.verify
    if verifies:
        ours["trustRoot"] = trusted
    options = CertificateOptions(acceptableProtocols=PROTOCOLS, **ours)
    return _ClientCreator(without_final_dot(name), options, verifies)


def _authorities(content: bytes) -> list[Certificate]:
    return [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in certificates(content)]


@implementer(IOpenSSLClientConnectionCreator)
class _ClientCreator:
    """
    Makes the client's side of connections to `name`, and verifies who answers unless told not to.

    Twisted's own takes a name only as IDNA 2008 has it (no underscore, no emoji), and believes the chain
    alone when it cannot read a certificate's names.
    """

    def __init__(self, name: str, options: CertificateOptions, verifies: bool) -> None:
        self._name = name
        self._options = options
        self._verifies = verifies

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        if address_of(self._name) is None:
            # For servers that have many names; an address is none (RFC 6066 §3).
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._verifies:
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            connection.set_verify(mode, Verification(self._name))
        return connection
