"""Certificates of many shapes: which of them are for a host, and what is said of the others."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import UpstreamTLS
from logging_proxy.proxy.failures import verdict
from logging_proxy.test.certificates import Identity, Issuer, alternative, self_signed
from logging_proxy.test.tls_pair import Pair
from logging_proxy.tls.contexts import server_options
from logging_proxy.tls.names import address_of
from logging_proxy.tls.pem import PEMFile
from logging_proxy.tls.upstream import client_creator
from logging_proxy.tls.verification import CertificateRefused, Verification

ISSUER, STRANGER = Issuer(), Issuer("Nobody\r\n\x1b[31m")
TRUSTED = UpstreamTLS(ca_file=PEMFile("ca.pem", ISSUER.pem))
HOST, ADDRESS = "api.b.example", "127.0.0.1"
OTHER = x509.DNSName("other.example")

MAIL, DNS, URI, IP = 1, 2, 6, 7
"""Tags of a GeneralName (RFC 5280 §4.2.1.6)."""


def names(*given: str) -> list[x509.GeneralName]:
    return [x509.DNSName(each) for each in given]


def address(given: str) -> x509.IPAddress:
    return x509.IPAddress(ip_address(given))


NO_HOST = f"the certificate names no host, and so not {HOST}"

WRONG_FOR_HOST: dict[str, tuple[Identity, str]] = {
    "none": (ISSUER.issue(None), NO_HOST),
    "none, but the name as common name": (ISSUER.issue(None, HOST), NO_HOST),
    "the name as common name beside others": (ISSUER.issue([OTHER], HOST), f"other.example, not for {HOST}"),
    "empty": (ISSUER.issue(alternative()), NO_HOST),
    "e-mail": (ISSUER.issue([x509.RFC822Name(f"x@{HOST}")]), NO_HOST),
    "URI": (ISSUER.issue([x509.UniformResourceIdentifier(f"https://{HOST}/")]), NO_HOST),
    "URI with two colons": (ISSUER.issue([x509.UniformResourceIdentifier(f"https://{HOST}:1/")]), NO_HOST),
    "another": (ISSUER.issue([OTHER]), f"the certificate is for other.example, not for {HOST}"),
    "*": (ISSUER.issue(names("*")), f"is for *, not for {HOST}"),
    "*.example": (ISSUER.issue(names("*.example")), "is for *.example, not"),
    "a wildcard below": (ISSUER.issue(names(f"*.{HOST}")), f"is for *.{HOST}, not"),
    "a wildcard in the middle": (ISSUER.issue(names("api.*.example")), "is for api.*.example, not"),
    "a part of a label": (
        ISSUER.issue(names("a*.b.example", "*i.b.example", "ap*i.b.example")),
        "a*.b.example",
    ),
    "two wildcards": (ISSUER.issue(names("*.*.example", "**.b.example")), "*.*.example"),
    "empty labels": (ISSUER.issue(names(".b.example", "api..b.example", "")), ".b.example"),
    "a final dot": (ISSUER.issue(names(f"{HOST}.", "*.b.example.")), f"is for {HOST}. and *.b.example., not"),
    "an address as a name": (ISSUER.issue(names("10.1.2.3")), "is for 10.1.2.3, not"),
    "a bad one among others": (
        ISSUER.issue([OTHER, *names("a.*.test")]),
        "is for other.example and a.*.test",
    ),
    "a NUL": (
        ISSUER.issue(alternative((DNS, f"{HOST}\0.evil.example".encode()))),
        "\\x00.evil.example', not",
    ),
    "a line of the log": (ISSUER.issue(alternative((DNS, b"a\r\n2026 b"))), "is for 'a\\r\\n2026 b', not"),
    "not ASCII": (ISSUER.issue(alternative((DNS, "bücher.example".encode()))), "'b\\xfccher.example'"),
    "expired": (ISSUER.issue(names(HOST), begins=-3, ends=-1), "the certificate expired on 20"),
    "not yet valid": (ISSUER.issue(names(HOST), begins=1, ends=2), "the certificate is not valid before 20"),
    "for clients": (
        ISSUER.issue(names(HOST), purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
        "the certificate is for another purpose than a server's",
    ),
    "self-signed": (self_signed(HOST), "the certificate is self-signed"),
    "of a stranger": (
        STRANGER.issue(names(HOST)),
        "was issued by an authority that is not trusted: 'Nobody\\r\\n\\x1b[31m'",
    ),
}

UNREADABLE: dict[str, Identity] = {
    "no text": ISSUER.issue(alternative((DNS, HOST.encode()), (DNS, b"\xff\xfe"))),
    "an address of three bytes": ISSUER.issue(alternative((DNS, HOST.encode()), (IP, b"abc"))),
    "of a kind that nobody has": ISSUER.issue(alternative((DNS, HOST.encode()), (3, b""))),
    "no list": ISSUER.issue(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x04\x00")),
}
"""OpenSSL finds another word for some of them."""

WRONG_FOR_ADDRESS: dict[str, Identity] = {
    "another address": ISSUER.issue([address("127.0.0.2"), address("::1")]),
    "the address as a name": ISSUER.issue(names(ADDRESS)),
    "a name that resolves to it": ISSUER.issue(names("localhost")),
    "the address as common name": ISSUER.issue(None, ADDRESS),
    "the address in IPv6": ISSUER.issue([address("::ffff:127.0.0.1")]),
}

RIGHT: dict[str, tuple[str, Identity]] = {
    "the name": (HOST, ISSUER.issue(names(HOST))),
    "in other letters": (HOST.upper(), ISSUER.issue(names("Api.B.example"))),
    "among bad ones": (HOST, ISSUER.issue(names("*", "a.*.test", "10.1.2.3", "", HOST))),
    "beside a name that is not ASCII": (
        HOST,
        ISSUER.issue(alternative((DNS, "bücher".encode()), (DNS, HOST.encode()), (URI, b"spiffe://a:b:c"))),
    ),
    "a wildcard": (HOST, ISSUER.issue(names("*.b.example"))),
    "an underscore": ("my_service", ISSUER.issue(names("my_service"))),
    "an underscore below a wildcard": ("my_bucket.s3.example", ISSUER.issue(names("*.s3.example"))),
    "hyphens in third and fourth place": ("r3---sn-x.b.example", ISSUER.issue(names("*.b.example"))),
    "punycode": ("xn--bcher-kva.example", ISSUER.issue(names("xn--bcher-kva.example"))),
    "punycode of an emoji": ("xn--ls8h.b.example", ISSUER.issue(names("*.b.example"))),
    "a final dot": (f"{HOST}.", ISSUER.issue(names(HOST))),
    "an address": (ADDRESS, ISSUER.issue([address(ADDRESS)])),
    "an address of IPv6": ("::1", ISSUER.issue([OTHER, address("::1")])),
}


class ShapesTests(SynchronousTestCase):
    def pair(self, host: str, who: Identity) -> Pair:
        server: Any = server_options(who.certificate, who.key, "1.2")
        return Pair(client_creator(host, TRUSTED), server)

    def assertRefused(self, host: str, who: Identity, text: str = "") -> None:
        pair = self.pair(host, who)
        self.assertFalse(pair.client.secure)
        self.assertEqual(pair.server.received, b"")
        assert pair.client.lost is not None
        found = verdict(pair.client.lost)
        self.assertEqual((found.outcome, found.status), ("tls_failed", 502))
        self.assertIsNotNone(pair.client.lost.check(CertificateRefused))
        self.assertIn(text, found.error)
        self.assertTrue(found.error.isascii() and found.error.isprintable(), found.error)
        self.assertEqual(found.message("https://up"), f"no TLS connection with https://up: {found.error}")

    def test_wrong_for_a_name(self) -> None:
        """Each is refused in the handshake, and the reason says what is wrong with it."""
        for shape, (who, text) in WRONG_FOR_HOST.items():
            with self.subTest(shape):
                self.assertRefused(HOST, who, text)

    def test_unreadable(self) -> None:
        """What cannot be read is trusted by nobody, whatever else stands there."""
        for shape, who in UNREADABLE.items():
            with self.subTest(shape):
                self.assertRefused(HOST, who, "the certificate ")

    def test_wrong_for_an_address(self) -> None:
        """Only an address that stands there as one is good for an address."""
        for shape, who in WRONG_FOR_ADDRESS.items():
            with self.subTest(shape):
                self.assertRefused(
                    ADDRESS, who, f", and so not {ADDRESS}" if "common" in shape else "not for"
                )

    def test_right(self) -> None:
        """Names that people use are verified as they stand, and bad ones beside them do no harm."""
        for shape, (host, who) in RIGHT.items():
            with self.subTest(shape):
                pair = self.pair(host, who)
                self.assertTrue(pair.client.secure, pair.client.lost)

    def test_letters(self) -> None:
        """A letter that becomes ASCII in lower case, as the Kelvin sign does, is not that letter."""
        who = ISSUER.issue(alternative((DNS, "\u212a.example".encode())))
        self.assertRefused("k.example", who, "is for '\\u212a.example', not for k.example")

    def test_older_versions_of_tls(self) -> None:
        """TLS 1.2 sends certificates in clear; they are judged alike."""
        for who, good in ((ISSUER.issue(names(HOST)), True), (ISSUER.issue(None), False)):
            server = server_options(who.certificate, who.key, "1.2")
            server.getContext().set_options(SSL.OP_NO_TLSv1_3)
            pair = Pair(client_creator(HOST, TRUSTED), server)
            self.assertIs(pair.client.secure, good)

    def test_many_long_names(self) -> None:
        """Of many names a few are told, and of a long one its beginning."""
        long = "a" * 60 + "." + "b" * 60
        self.assertRefused(
            HOST, ISSUER.issue(names(*[f"{n}.example" for n in range(200)])), "3.example and others,"
        )
        self.assertRefused(HOST, ISSUER.issue(names(long)), f"'{long[:100]}...', not for")

    def test_whatever_is_raised(self) -> None:
        """A verification that fails in a way that nobody foresaw is a refusal, and is logged."""
        self.patch(Verification, "_refusal", lambda *arguments: 1 // 0)
        self.assertRefused(HOST, ISSUER.issue(names(HOST)), "the certificate cannot be read")
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class ServerNameTests(SynchronousTestCase):
    """The name that a server is asked for."""

    def asked(self, host: str, name: str, settings: UpstreamTLS = TRUSTED) -> bytes | None:
        """What is asked of a server whose certificate is for `name`."""
        entry = x509.DNSName(name) if address_of(name) is None else address(name)
        who = ISSUER.issue([entry])
        server: Any = server_options(who.certificate, who.key, "1.2")
        pair = Pair(client_creator(host, settings), server)
        self.assertTrue(pair.client.secure, pair.client.lost)
        asked: bytes | None = pair.connection.get_servername()
        return asked

    def test_as_it_stands(self) -> None:
        """It is the host's, without a final dot, whatever IDNA thinks of it; an address is none."""
        for settings in (TRUSTED, UpstreamTLS(verify=False)):
            for name in ("my_service", "xn--ls8h.example", "r3---sn.example"):
                for host in (name, f"{name}."):
                    self.assertEqual(self.asked(host, name, settings), name.encode())
            for host in ("127.0.0.1", "::1"):
                self.assertIsNone(self.asked(host, host, settings))

    def test_another(self) -> None:
        """`server_name` stands in for the host, without its final dot as well."""
        settings = UpstreamTLS(ca_file=TRUSTED.ca_file, server_name=f"{HOST}.")
        self.assertEqual(self.asked("127.0.0.1", HOST, settings), HOST.encode())
