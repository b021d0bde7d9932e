"""TLS on the proxy's listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from logging_proxy.tls.contexts import server_options
from logging_proxy.tls.handshakes import HandshakeFactory, HandshakePolicy
from logging_proxy.tls.pem import PEMError, PEMFile, check_pair


class ListenerSettings(Protocol):
    """The listener's TLS settings; `configuration.ServerTLS` is one."""

    @property
    def certificate(self) -> PEMFile:
        """Our certificate, followed by the chain up to a CA that clients know."""

    @property
    def key(self) -> PEMFile:
        """The certificate's private key."""

    @property
    def minimum_version(self) -> str:
        """1.2 or 1.3."""


@implementer(IOpenSSLServerConnectionCreator)
class ListenerTLS:
    """
    The server side of TLS, whose certificate can be replaced while it runs.

    ::

        tls = ListenerTLS(configuration.server.tls)
        reactor.adoptStreamPort(fd, family, tls.wrap(site, site, reactor))
        ...
        tls.use(reloaded.server.tls)      # or tls.reload(read_file, time.time())

    Existing connections keep their certificate.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        """Raises `PEMError` for settings that the configuration has not checked."""
        self._settings = settings
        self._options = _options(settings.certificate.content, settings.key.content, settings)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._options.serverConnectionForTLS(tlsProtocol)
        return connection

    def wrap(
        self, factory: IProtocolFactory, policy: HandshakePolicy, clock: IReactorTime
    ) -> HandshakeFactory:
        """
        A factory to listen with instead of `factory`, whose protocols then get TLS transports.

        `policy` decides about connections that do not complete the handshake.
        """
        return HandshakeFactory(self, factory, policy, clock)

    def use(self, settings: ListenerSettings) -> None:
        """
        Use other settings for new connections.

        Raises `PEMError`; the settings then stay unchanged.
        """
        self._options = _options(settings.certificate.content, settings.key.content, settings)
        self._settings = settings

    def reload(self, read_file: Callable[[str], bytes], now: float) -> None:
        """
        Read the files again, and use their content for new connections.

        Raises `PEMError`, whose text names the file; the settings then stay unchanged.
        """
        settings = self._settings
        certificate, key = (_read(file.path, read_file) for file in (settings.certificate, settings.key))
        try:
            check_pair(certificate, key, now)
        except PEMError as error:
            raise PEMError(f"{settings.certificate.path} and {settings.key.path}: {error}") from None
        self._options = _options(certificate, key, settings)


def _options(certificate: bytes, key: bytes, settings: ListenerSettings) -> CertificateOptions:
    return server_options(certificate, key, settings.minimum_version)


def _read(path: str, read_file: Callable[[str], bytes]) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise PEMError(f"{path}: cannot be read: {error.strerror}") from None
