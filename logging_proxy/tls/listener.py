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
from logging_proxy.tls.newcomers import Newcomers, Reception
from logging_proxy.tls.pem import PEMError, PEMFile, check_pair


class ListenerSettings(Protocol):
    """What the configuration says; `configuration.ServerTLS` is one."""

    @property
    def certificate(self) -> PEMFile:
        """Our certificate, and behind it the chain up to a CA that clients know."""

    @property
    def key(self) -> PEMFile:
        """What belongs to it."""

    @property
    def minimum_version(self) -> str:
        """1.2 or 1.3."""


@implementer(IOpenSSLServerConnectionCreator)
class ListenerTLS:
    """
    The server's side of TLS, which can be given other files while it runs.

    ::

        tls = ListenerTLS(configuration.server.tls)
        reactor.adoptStreamPort(fd, family, tls.wrap(site, site, reactor))
        ...
        tls.use(reloaded.server.tls)      # or tls.reload(read_file, time.time())

    Connections that stand keep what they were made with.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        """Raises `PEMError` for settings that the configuration's checks have not seen."""
        self._settings = settings
        self._options = _options(settings.certificate.content, settings.key.content, settings)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._options.serverConnectionForTLS(tlsProtocol)
        return connection

    def wrap(self, factory: IProtocolFactory, reception: Reception, clock: IReactorTime) -> Newcomers:
        """
        What listens instead of `factory`, whose protocols then get TLS transports.

        `reception` says what becomes of who does not shake hands.
        """
        return Newcomers(self, factory, reception, clock)

    def use(self, settings: ListenerSettings) -> None:
        """
        Use other settings for new connections.

        Raises `PEMError`, and then everything stays as it was.
        """
        self._options = _options(settings.certificate.content, settings.key.content, settings)
        self._settings = settings

    def reload(self, read_file: Callable[[str], bytes], now: float) -> None:
        """
        Read the files again, and use what they hold for new connections.

        Raises `PEMError`, whose text names the file, and then everything stays as it was.
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
