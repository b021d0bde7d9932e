"""TLS in the configuration: files are read and looked at before anything starts."""

from __future__ import annotations

import datetime
import os

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, ConfigurationError, read_configuration
from logging_proxy.test.certificates import AUTHORITY, identity, self_signed

OURS = identity("localhost")
OTHER = identity("localhost")
EXPIRED = identity("localhost", not_after=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC))

FILES = {
    "cert.pem": OURS.certificate,
    "key.pem": OURS.key,
    "other.pem": OTHER.key,
    "expired.pem": EXPIRED.certificate,
    "expired-key.pem": EXPIRED.key,
    "ca.pem": AUTHORITY,
    "text.pem": b"hunter2\n",
    "broken.pem": OURS.certificate.replace(b"A", b"B"),
    "empty.pem": b"",
}

SERVER = "server:\n  tls:\n    certificate: {}\n    key: {}\n"
ROUTE = "routes:\n  a:\n    pattern: /a/\n    destination: https://a.example/\n    tls: {}\n"


def read_file(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, os.strerror(2), path) from None


def read(text: str, now: float | None = None, tls_files: bool = True) -> Configuration:
    if now is None:
        return read_configuration(text, "config.yaml", {}, read_file=read_file, tls_files=tls_files)
    return read_configuration(text, "config.yaml", {}, read_file=read_file, now=lambda: now)


def lines(text: str, now: float | None = None) -> list[str]:
    try:
        read(text, now)
    except ConfigurationError as error:
        return [each.removeprefix("config.yaml:") for each in str(error).split("\n")]
    return []


class ServerTests(SynchronousTestCase):
    """`server.tls`."""

    def test_values(self) -> None:
        """The files' content is part of the configuration, the oldest version is 1.2."""
        tls = read(SERVER.format("cert.pem", "key.pem")).server.tls
        assert tls is not None
        self.assertEqual((tls.certificate.path, tls.certificate.content), ("cert.pem", OURS.certificate))
        self.assertEqual((tls.key.path, tls.key.content), ("key.pem", OURS.key))
        self.assertEqual(tls.minimum_version, "1.2")
        for written in ("1.3", "'1.3'"):
            tls = read(SERVER.format("cert.pem", "key.pem") + f"    minimum_version: {written}\n").server.tls
            assert tls is not None
            self.assertEqual(tls.minimum_version, "1.3")

    def test_not_shown(self) -> None:
        """No text made of the configuration holds a key."""
        configuration = read(SERVER.format("cert.pem", "key.pem"))
        self.assertNotIn("PRIVATE", f"{configuration} {configuration!r}")

    def test_mistakes(self) -> None:
        """What cannot be used is one line with the place of its key."""
        for (certificate, key), line in {
            (
                "absent.pem",
                "key.pem",
            ): "3:5: server.tls.certificate: this file cannot be used: No such file or directory",
            (
                "cert.pem",
                "absent.pem",
            ): "4:5: server.tls.key: this file cannot be used: No such file or directory",
            ("text.pem", "key.pem"): (
                "3:5: server.tls.certificate: this file cannot be used: "
                "it holds no certificate in PEM form, or a broken one"
            ),
            ("broken.pem", "key.pem"): (
                "3:5: server.tls.certificate: this file cannot be used: "
                "it holds no certificate in PEM form, or a broken one"
            ),
            ("cert.pem", "empty.pem"): (
                "4:5: server.tls.key: this file cannot be used: "
                "it holds no private key in PEM form that can be used"
            ),
            ("cert.pem", "other.pem"): (
                "4:5: server.tls.key: this file cannot be used: "
                "it does not belong to the certificate (the file's first, if it has more)"
            ),
            ("expired.pem", "expired-key.pem"): (
                "3:5: server.tls.certificate: this file cannot be used: it expired on 2020-01-02"
            ),
            ("5", "key.pem"): (
                "3:5: server.tls.certificate: expected a path, relative to this file (~ is not expanded), "
                "not 5 (put it in quotes)"
            ),
        }.items():
            self.assertEqual(lines(SERVER.format(certificate, key)), [line])

    def test_validity(self) -> None:
        """A certificate has to be valid now."""
        text = SERVER.format("expired.pem", "expired-key.pem")
        self.assertEqual(lines(text, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).timestamp()), [])
        (line,) = lines(SERVER.format("cert.pem", "key.pem"), 0)
        self.assertIn("server.tls.certificate: this file cannot be used: it is valid from ", line)

    def test_missing(self) -> None:
        """Certificate and key are both needed."""
        self.assertEqual(
            lines("server:\n  tls:\n    key: key.pem\n"),
            ["2:3: server.tls.certificate: missing: expected path of one or more certificates in PEM form"],
        )
        self.assertEqual(len(lines("server: {tls: }")), 2)
        self.assertEqual(
            lines(SERVER.format("cert.pem", "key.pem") + "    keys: x\n"),
            ["5:5: server.tls.keys: unknown key, did you mean 'key'?"],
        )
        self.assertIn(
            "minimum_version: expected 1.2 or 1.3, not 1.1",
            lines(SERVER.format("cert.pem", "key.pem") + "    minimum_version: 1.1\n")[0],
        )

    def test_encrypted(self) -> None:
        """A key with a passphrase is refused, for there is nobody to ask."""
        key = rsa.generate_private_key(65537, 2048)
        FILES["encrypted.pem"] = key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"hunter2")
        )
        (line,) = lines(SERVER.format("cert.pem", "encrypted.pem"))
        self.assertIn("its private key is encrypted: expected one without a passphrase", line)

    def test_weak(self) -> None:
        """What OpenSSL would refuse at the first connection is refused at once."""
        weak = self_signed("localhost", bits=1024)
        FILES["weak.pem"], FILES["weak-key.pem"] = weak.certificate, weak.key
        (line,) = lines(SERVER.format("weak.pem", "weak-key.pem"))
        self.assertIn("3:5: server.tls.certificate: this file cannot be used: OpenSSL refuses it: ", line)
        self.assertIn("too small", line)

    def test_logging_server(self) -> None:
        """The logging server, which has no use for these files, does not look at them."""
        tls = read(SERVER.format("absent.pem", "absent.pem"), tls_files=False).server.tls
        assert tls is not None
        self.assertEqual((tls.key.path, tls.key.content), ("absent.pem", b""))


class RouteTests(SynchronousTestCase):
    """`routes.<name>.tls`."""

    def test_values(self) -> None:
        """Settings that are equal are equal as values, and can be keys."""
        text = ROUTE.format(
            "{ca_file: ca.pem, client_certificate: cert.pem, client_key: key.pem, server_name: b}"
        )
        (one,), (two,) = read(text).routes, read(text).routes
        tls = one.tls
        assert tls is not None and tls.ca_file is not None
        self.assertEqual(tls.ca_file.content, AUTHORITY)
        self.assertEqual((tls.verify, tls.server_name), (True, "b"))
        self.assertEqual({tls: 1}[two.tls], 1)  # type: ignore[index]
        (plain,) = read(text.partition("    tls")[0]).routes
        self.assertIsNone(plain.tls)

    def test_content_tells_apart(self) -> None:
        """Files that changed make other settings, so that a reload makes other connections."""
        text = ROUTE.format("{ca_file: ca.pem}")
        (one,) = read(text).routes
        FILES["ca.pem"], before = AUTHORITY + AUTHORITY, FILES["ca.pem"]
        self.addCleanup(FILES.__setitem__, "ca.pem", before)
        (two,) = read(text).routes
        self.assertNotEqual(one.tls, two.tls)

    def test_mistakes(self) -> None:
        """Files and what belongs together are checked as for the listener."""
        for tls, line in {
            "{ca_file: text.pem}": "5:11: routes.a.tls.ca_file: this file cannot be used: it holds no",
            "{client_certificate: cert.pem}": (
                "5:11: routes.a.tls.client_certificate: expected client_key beside it"
            ),
            "{client_key: key.pem}": "5:11: routes.a.tls.client_key: expected client_certificate beside it",
            "{client_certificate: cert.pem, client_key: other.pem}": (
                "5:41: routes.a.tls.client_key: this file cannot be used: it does not belong to"
            ),
            "{client_certificate: expired.pem, client_key: expired-key.pem}": (
                "5:11: routes.a.tls.client_certificate: this file cannot be used: it expired on 2020-01-02"
            ),
            "{client_certificate: absent.pem, client_key: key.pem}": (
                "5:11: routes.a.tls.client_certificate: this file cannot be used: No such file or directory"
            ),
            "{verfy: false}": "5:11: routes.a.tls.verfy: unknown key, did you mean 'verify'?",
            "{server_name: 'a b'}": "5:11: routes.a.tls.server_name: expected a host name or an IP address",
        }.items():
            (shown,) = lines(ROUTE.format(tls))
            self.assertTrue(shown.startswith(line), shown)

    def test_plain(self) -> None:
        """TLS settings for a destination without TLS are a mistake."""
        self.assertEqual(
            lines(ROUTE.format("{verify: true}").replace("https:", "http:")),
            ["5:5: routes.a.tls: the destination is not reached by TLS: expected an https:// destination"],
        )

    def test_warning(self) -> None:
        """A destination that is not verified earns a warning; one that is does not."""
        (warning,) = read(ROUTE.format("{verify: false}")).warnings
        self.assertEqual(
            str(warning),
            "config.yaml:5:11: routes.a.tls.verify: "
            "certificates are not verified: anyone on the network path can read and change traffic",
        )
        self.assertEqual(read(ROUTE.format("{verify: true}")).warnings, ())
