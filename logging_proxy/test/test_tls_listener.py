"""TLS on the listener: what it accepts, and how it gets other certificates while it runs."""

from __future__ import annotations

import time
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import ServerTLS
from logging_proxy.test.certificates import AUTHORITY, Identity, identity
from logging_proxy.test.tls_pair import Pair
from logging_proxy.tls.listener import ListenerTLS
from logging_proxy.tls.pem import PEMError, PEMFile

ONE, TWO = identity("one.example"), identity("two.example")


def settings(who: Identity, minimum: Any = "1.2") -> ServerTLS:
    return ServerTLS(PEMFile("cert.pem", who.certificate), PEMFile("key.pem", who.key), minimum)


def client(name: str, protocols: tuple[bytes, ...] = (), **versions: Any) -> Any:
    return optionsForClientTLS(
        name,
        trustRoot=trustRootFromCertificates([Certificate.loadPEM(AUTHORITY)]),
        acceptableProtocols=list(protocols),
        extraCertificateOptions=versions,
    )


class ListenerCase(SynchronousTestCase):
    def assertServes(self, tls: ListenerTLS, name: str, **versions: Any) -> Pair:
        pair = Pair(client(name, **versions), tls)
        self.assertTrue(pair.client.secure and pair.server.secure, pair.client.lost)
        self.assertPasses(pair)
        return pair

    def assertPasses(self, pair: Pair) -> None:
        """Bytes pass both ways."""
        before = len(pair.client.received), len(pair.server.received)
        pair.say(pair.client, b"ask")
        pair.say(pair.server, b"answer")
        self.assertEqual(pair.server.received[before[1] :], b"ask")
        self.assertEqual(pair.client.received[before[0] :], b"answer")


class HandshakeTests(ListenerCase):
    """What is negotiated."""

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        tls = ListenerTLS(settings(ONE))
        for version, name in ((TLSVersion.TLSv1_2, "TLSv1.2"), (TLSVersion.TLSv1_3, "TLSv1.3")):
            pair = self.assertServes(
                tls, "one.example", insecurelyLowerMinimumTo=version, lowerMaximumSecurityTo=version
            )
            self.assertEqual(pair.connection.get_protocol_version_name(), name)
        self.assertOlderRefused(tls, TLSVersion.TLSv1_1)

    def test_minimum(self) -> None:
        """With 1.3 as minimum 1.2 is refused."""
        tls = ListenerTLS(settings(ONE, "1.3"))
        self.assertServes(tls, "one.example")
        self.assertOlderRefused(tls, TLSVersion.TLSv1_2)

    def assertOlderRefused(self, tls: ListenerTLS, newest: Any) -> None:
        pair = Pair(
            client("one.example", insecurelyLowerMinimumTo=TLSVersion.TLSv1_0, lowerMaximumSecurityTo=newest),
            tls,
        )
        self.assertFalse(pair.client.secure or pair.server.secure)
        assert pair.client.lost is not None
        self.assertIsNotNone(pair.client.lost.check(SSL.Error))

    def test_alpn(self) -> None:
        """HTTP/1.1 is chosen, else HTTP/1.0; a client that offers nothing is served as well."""
        tls = ListenerTLS(settings(ONE))
        for offered, chosen in (
            ((b"h2", b"http/1.1"), b"http/1.1"),
            ((b"http/1.0", b"http/1.1"), b"http/1.1"),
            ((b"h2", b"http/1.0"), b"http/1.0"),
            ((), b""),
        ):
            pair = Pair(client("one.example", offered), tls)
            self.assertTrue(pair.client.secure)
            self.assertEqual(pair.connection.get_alpn_proto_negotiated(), chosen)

    def test_no_protocol_in_common(self) -> None:
        """A client that offers others only is refused with the alert that says so (RFC 7301 §3.2)."""
        tls = ListenerTLS(settings(ONE))
        pair = Pair(client("one.example", (b"h2", b"spdy/3")), tls)
        self.assertFalse(pair.client.secure or pair.server.secure)
        assert pair.client.lost is not None
        self.assertIn("alert no application protocol", str(pair.client.lost.value))
        self.assertEqual(pair.server_wire[:1] + pair.server_wire[5:], b"\x15\x02\x78")

    def test_ciphers(self) -> None:
        """Forward secrecy and authenticated encryption are required."""
        tls = ListenerTLS(settings(ONE))
        for cipher, good in {
            "ECDHE-ECDSA-AES128-GCM-SHA256": True,
            "ECDHE-ECDSA-CHACHA20-POLY1305": True,
            "ECDHE-ECDSA-AES128-SHA256": False,
            "ECDHE-ECDSA-AES256-SHA": False,
        }.items():
            context = CertificateOptions(lowerMaximumSecurityTo=TLSVersion.TLSv1_2)
            context.getContext().set_cipher_list(cipher.encode())
            self.assertIs(Pair(context, tls).client.secure, good, cipher)

    def test_chain(self) -> None:
        """The chain is sent behind the certificate."""
        root = trustme.CA()
        who = identity("one.example", authority=root.create_child_ca())
        options = optionsForClientTLS(
            "one.example", trustRoot=trustRootFromCertificates([Certificate.loadPEM(root.cert_pem.bytes())])
        )
        self.assertTrue(Pair(options, ListenerTLS(settings(who))).client.secure)


class ReloadTests(ListenerCase):
    """Other certificates for new connections."""

    def setUp(self) -> None:
        self.tls = ListenerTLS(settings(ONE))
        self.files = {"cert.pem": ONE.certificate, "key.pem": ONE.key}

    def read_file(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    def reload(self, now: float | None = None) -> None:
        self.tls.reload(self.read_file, time.time() if now is None else now)

    def test_same(self) -> None:
        """Reading the same files again changes nothing."""
        self.reload()
        self.assertServes(self.tls, "one.example")

    def test_other(self) -> None:
        """New connections get the new certificate; those that stand go on."""
        running = self.assertServes(self.tls, "one.example")
        self.files |= {"cert.pem": TWO.certificate, "key.pem": TWO.key}
        self.reload()
        self.assertServes(self.tls, "two.example")
        self.assertFalse(Pair(client("one.example"), self.tls).client.secure)
        self.assertPasses(running)

    def test_bad(self) -> None:
        """Files that cannot be used are named, and the old certificate stays."""
        good = dict(self.files)
        for bad, text in (
            ({"cert.pem": b""}, "cert.pem and key.pem: it holds no certificate"),
            ({"key.pem": TWO.key}, "cert.pem and key.pem: it does not belong to the certificate"),
            ({"key.pem": b"hunter2"}, "cert.pem and key.pem: it holds no private key"),
        ):
            self.files = {**good, **bad}
            error = self.assertRaises(PEMError, self.reload)
            self.assertIn(text, str(error))
            self.assertServes(self.tls, "one.example")
        del self.files["cert.pem"]
        error = self.assertRaises(PEMError, self.reload)
        self.assertEqual(str(error), "cert.pem: cannot be read: No such file or directory")
        self.files = good
        error = self.assertRaises(PEMError, self.reload, 0)
        self.assertIn("it is valid from", str(error))
        self.assertServes(self.tls, "one.example")

    def test_use(self) -> None:
        """A configuration that was read anew can bring everything, the oldest version included."""
        running = self.assertServes(self.tls, "one.example")
        self.tls.use(settings(TWO, "1.3"))
        self.assertServes(self.tls, "two.example")
        pair = Pair(client("two.example", lowerMaximumSecurityTo=TLSVersion.TLSv1_2), self.tls)
        self.assertFalse(pair.client.secure)
        self.assertPasses(running)
        self.assertRaises(PEMError, self.tls.use, settings(Identity(b"", b"")))
        self.assertServes(self.tls, "two.example")
