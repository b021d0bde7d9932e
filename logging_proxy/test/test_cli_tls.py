"""The command's own TLS: a logging server's certificate must be for its name."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.connection import open_socket
from logging_proxy.test.certificates import Identity, Issuer

ISSUER = Issuer()


class OpenSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = self.file("ca.pem", ISSUER.pem)
        if before is None:
            self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        else:
            self.addCleanup(os.environ.__setitem__, "SSL_CERT_FILE", before)

    def file(self, name: str, content: bytes) -> str:
        path = os.path.abspath(os.path.join(self.folder, name))
        with open(path, "wb") as file:
            file.write(content)
        return path

    def connect(self, host: str, who: Identity) -> None:
        """Shake hands with a server that has this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("cert.pem", who.certificate), self.file("key.pem", who.key))
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        theirs.settimeout(60)

        def serve() -> None:
            with contextlib.suppress(OSError), context.wrap_socket(theirs, server_side=True) as served:
                served.recv(1)

        serving = threading.Thread(target=serve)
        serving.start()
        self.addCleanup(serving.join)
        self.patch(socket, "create_connection", lambda address, timeout: ours)
        try:
            open_socket(host, 443, True).close()
        finally:
            ours.close()

    def test_name(self) -> None:
        """A name of the certificate will do, with a final dot, too."""
        who = ISSUER.issue([x509.DNSName("a.example")])
        self.connect("a.example", who)
        self.connect("a.example.", who)

    def test_no_name(self) -> None:
        """Neither another one, nor a common name."""
        for who in (ISSUER.issue([x509.DNSName("b.example")]), ISSUER.issue(None, "a.example")):
            self.assertRaises(ssl.SSLCertVerificationError, self.connect, "a.example", who)
