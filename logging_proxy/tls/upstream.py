"""TLS on connections to destinations."""

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
    """A route's TLS settings; `configuration.UpstreamTLS` is one."""

    @property
    def ca_file(self) -> PEMFile | None:
        """The CAs that may have signed the destination's certificate, instead of the system's."""

    @property
    def client_certificate(self) -> PEMFile | None:
        """The certificate by which we identify ourselves."""

    @property
    def client_key(self) -> PEMFile | None:
        """The private key of the client certificate."""

    @property
    def verify(self) -> bool:
        """Whether the destination's certificate is verified at all."""

    @property
    def server_name(self) -> str | None:
        """The name for SNI and verification, instead of the destination's host."""


def client_creator(host: str, settings: UpstreamSettings | None = None) -> IOpenSSLClientConnectionCreator:
    """
    The client side of TLS with `host`: TLS 1.2 or later, HTTP/1.1 only.

    Chain and name are verified during the handshake; a protocol must write nothing
    before `handshakeCompleted`.  An invalid certificate ends the connection
    with a `CertificateRefused`.  `settings` may change the trusted CAs and our own certificate,
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
    Makes the client side of connections to `name`, and verifies the server unless told not to.

    Twisted's own accepts only names of IDNA 2008 (no underscore, no emoji), and skips the check of the
    name if it cannot read those of the certificate.
    """

    def __init__(self, name: str, options: CertificateOptions, verifies: bool) -> None:
        self._name = name
        self._options = options
        self._verifies = verifies

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        if address_of(self._name) is None:
            # SNI is for names only; an address must not be sent (RFC 6066 §3).
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._verifies:
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            connection.set_verify(mode, Verification(self._name))
        return connection
