"""TLS towards destinations: whom it trusts, what it shows, and that nothing is said too early."""

from __future__ import annotations

import datetime
import os
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, trustRootFromCertificates
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import UpstreamTLS
from logging_proxy.proxy.failures import verdict
from logging_proxy.test.certificates import AUTHORITY, Identity, identity, self_signed
from logging_proxy.test.tls_pair import Pair
from logging_proxy.tls.contexts import identity as arguments
from logging_proxy.tls.contexts import server_options
from logging_proxy.tls.pem import PEMFile
from logging_proxy.tls.upstream import client_creator
from logging_proxy.tls.verification import CertificateRefused

STRANGERS = trustme.CA()
CA = PEMFile("ca.pem", AUTHORITY)
TRUSTED = UpstreamTLS(ca_file=CA)
NOT_TRUSTED = "the certificate was issued by an authority that is not trusted"
SELF_SIGNED = "the certificate is self-signed"

CODES = (
    (NOT_TRUSTED, "certificate_not_trusted"),
    (SELF_SIGNED, "certificate_self_signed"),
    ("expired on", "certificate_expired"),
    ("not valid before", "certificate_not_yet_valid"),
    (", not for", "certificate_wrong_name"),
)
"""What clients are told, by words of the reason."""


def server(who: Identity) -> CertificateOptions:
    return server_options(who.certificate, who.key, "1.2")


class UpstreamCase(SynchronousTestCase):
    def assertSecure(self, host: str, settings: UpstreamTLS | None, who: Any) -> Pair:
        """Bytes pass both ways, and not in clear."""
        pair = Pair(client_creator(host, settings), server(who) if isinstance(who, Identity) else who)
        self.assertTrue(pair.client.secure, pair.client.lost)
        pair.say(pair.client, b"a request")
        pair.say(pair.server, b"a response")
        self.assertEqual((pair.server.received, pair.client.received), (b"a request", b"a response"))
        self.assertNotIn(b"request", pair.client_wire)
        return pair

    def assertRefused(self, host: str, settings: UpstreamTLS | None, who: Any, text: str) -> None:
        """The client leaves; what it wanted to say is in nobody's hands."""
        creator = client_creator(host, settings)
        pair = Pair(creator, server(who) if isinstance(who, Identity) else who)
        self.assertFalse(pair.client.secure)
        self.assertEqual((pair.server.received, pair.client.received), (b"", b""))
        assert pair.client.lost is not None
        self.assertIsNotNone(pair.client.lost.check(SSL.Error, CertificateRefused), pair.client.lost)
        given = verdict(pair.client.lost)
        self.assertEqual((given.outcome, given.status), ("tls_failed", 502))
        self.assertIn(text, given.error)
        self.assertEqual(given.kind.code, next((code for part, code in CODES if part in text), "tls_failed"))

    def trust(self, authority: bytes) -> None:
        """Let the system trust an authority."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(authority)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = os.path.abspath(path)
        if before is None:
            self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        else:
            self.addCleanup(os.environ.__setitem__, "SSL_CERT_FILE", before)


class VerificationTests(UpstreamCase):
    """Chain and name."""

    def test_own_authority(self) -> None:
        """A certificate of the route's own CA is good for its names and addresses."""
        who = identity("a.example", "127.0.0.1", "::1")
        for host in ("a.example", "127.0.0.1", "::1"):
            self.assertSecure(host, TRUSTED, who)

    def test_system(self) -> None:
        """Without settings of its own a route trusts the system's CAs, and only them."""
        self.assertRefused("a.example", None, identity("a.example"), NOT_TRUSTED)
        self.trust(AUTHORITY)
        self.assertSecure("a.example", None, identity("a.example"))
        self.assertSecure("a.example", UpstreamTLS(), identity("a.example"))

    def test_instead(self) -> None:
        """The route's own CA stands in for the system's."""
        self.trust(STRANGERS.cert_pem.bytes())
        self.assertRefused("a.example", TRUSTED, identity("a.example", authority=STRANGERS), NOT_TRUSTED)

    def test_several(self) -> None:
        """A file may hold several CAs."""
        both = UpstreamTLS(ca_file=PEMFile("both.pem", AUTHORITY + b"# more\n" + STRANGERS.cert_pem.bytes()))
        self.assertSecure("a.example", both, identity("a.example"))
        self.assertSecure("a.example", both, identity("a.example", authority=STRANGERS))

    def test_intermediate(self) -> None:
        """A chain is followed up to the CA."""
        who = identity("a.example", authority=STRANGERS.create_child_ca())
        self.assertSecure("a.example", UpstreamTLS(ca_file=PEMFile("", STRANGERS.cert_pem.bytes())), who)
        self.assertRefused("a.example", TRUSTED, who, NOT_TRUSTED)

    def test_self_signed(self) -> None:
        """A certificate that vouches for itself is trusted when it is what the file holds, and only then."""
        who = self_signed("a.example")
        self.assertSecure("a.example", UpstreamTLS(ca_file=PEMFile("self.pem", who.certificate)), who)
        self.assertRefused("a.example", TRUSTED, who, SELF_SIGNED)
        other = self_signed("a.example")
        self.assertRefused(
            "a.example", UpstreamTLS(ca_file=PEMFile("self.pem", other.certificate)), who, SELF_SIGNED
        )

    def test_wrong_authority(self) -> None:
        """A certificate that somebody else signed is refused."""
        self.assertRefused("a.example", TRUSTED, identity("a.example", authority=STRANGERS), NOT_TRUSTED)

    def test_wrong_name(self) -> None:
        """A good certificate for another name is refused."""
        who = identity("*.b.example", "example", "127.0.0.2")
        for host in ("a.example", "b.example", "c.a.b.example", "127.0.0.1"):
            self.assertRefused(
                host, TRUSTED, who, f"is for *.b.example, example and 127.0.0.2, not for {host}"
            )
        self.assertSecure("a.b.example", TRUSTED, who)

    def test_expired(self) -> None:
        """A certificate of the past is refused."""
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        self.assertRefused(
            "a.example", TRUSTED, identity("a.example", not_after=past), "expired on 2020-01-01"
        )

    def test_not_yet_valid(self) -> None:
        """A certificate of the future is refused."""
        future = datetime.datetime(2120, 1, 31, tzinfo=datetime.UTC)
        who = identity("a.example", not_after=future)
        self.assertRefused("a.example", TRUSTED, who, "is not valid before 2120-01-01")

    def test_old_versions(self) -> None:
        """TLS 1.1 is not spoken, verified or not."""
        who = identity("a.example")
        old = CertificateOptions(
            **arguments(who.certificate, who.key),
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_0,
            lowerMaximumSecurityTo=TLSVersion.TLSv1_1,
            acceptableProtocols=[b"http/1.1"],
        )
        for settings in (TRUSTED, UpstreamTLS(verify=False)):
            self.assertRefused("a.example", settings, old, "TLS: ")


class NotVerifiedTests(UpstreamCase):
    """`verify: false`."""

    def test_anybody(self) -> None:
        """Whoever it is, of whatever name, is spoken to."""
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        for who in (
            identity("a.example", authority=STRANGERS),
            identity("b.example"),
            identity("a.example", not_after=past),
        ):
            self.assertSecure("a.example", UpstreamTLS(verify=False), who)

    def test_name_is_sent(self) -> None:
        """The name is asked for all the same; an address is none (RFC 6066 §3)."""
        for settings in (UpstreamTLS(verify=False), TRUSTED):
            pair = Pair(client_creator("a.example", settings), server(identity("a.example")))
            self.assertEqual(pair.connection.get_servername(), b"a.example")
        pair = Pair(client_creator("127.0.0.1", UpstreamTLS(verify=False)), server(identity("127.0.0.1")))
        self.assertIsNone(pair.connection.get_servername())


class NameTests(UpstreamCase):
    """`server_name`."""

    def test_other_name(self) -> None:
        """The name to verify and to send may be another than the host's."""
        settings = UpstreamTLS(ca_file=CA, server_name="a.example")
        pair = self.assertSecure("127.0.0.1", settings, identity("a.example"))
        self.assertEqual(pair.connection.get_servername(), b"a.example")
        self.assertRefused(
            "b.example", settings, identity("b.example"), "is for b.example, not for a.example"
        )


class ClientCertificateTests(UpstreamCase):
    """A destination that wants to know who we are."""

    def demanding(self) -> CertificateOptions:
        who = identity("a.example")
        return CertificateOptions(
            **arguments(who.certificate, who.key),
            trustRoot=trustRootFromCertificates([Certificate.loadPEM(STRANGERS.cert_pem.bytes())]),
            acceptableProtocols=[b"http/1.1"],
        )

    def ours(self, who: Identity, verify: bool = True) -> UpstreamTLS:
        certificate, key = PEMFile("c.pem", who.certificate), PEMFile("k.pem", who.key)
        return UpstreamTLS(ca_file=CA, client_certificate=certificate, client_key=key, verify=verify)

    def test_shown(self) -> None:
        """The route's certificate is shown, with the chain behind it, verified or not."""
        for authority in (STRANGERS, STRANGERS.create_child_ca()):
            who = identity("proxy.example", authority=authority)
            self.assertSecure("a.example", self.ours(who), self.demanding())
            self.assertSecure("a.example", self.ours(who, verify=False), self.demanding())

    def test_missing_or_wrong(self) -> None:
        """Without it, or with another, the destination ends the connection."""
        for settings in (TRUSTED, self.ours(identity("proxy.example"))):
            pair = Pair(client_creator("a.example", settings), self.demanding())
            assert pair.client.lost is not None
            self.assertEqual(verdict(pair.client.lost).kind.code, "client_certificate_required")
            self.assertFalse(pair.server.secure)


class ProtocolTests(UpstreamCase):
    """What is negotiated."""

    def test_alpn(self) -> None:
        """HTTP/1.1 is all that is offered."""
        for settings in (TRUSTED, UpstreamTLS(verify=False)):
            pair = self.assertSecure("a.example", settings, identity("a.example"))
            self.assertEqual(pair.connection.get_alpn_proto_negotiated(), b"http/1.1")
            self.assertEqual(pair.client_wire.count(b"http/1.1"), 1)
            self.assertNotIn(b"\x02h2", pair.client_wire)
