"""The configuration on its way from the proxy to the logging server that it starts."""

from __future__ import annotations

import pickle
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import (
    Configuration,
    LoggingServerOptions,
    RetentionOptions,
    Secret,
    UpstreamTLS,
)
from logging_proxy.service.handover import OtherVersion, hand_over, take_over
from logging_proxy.test.proxy_stage import route
from logging_proxy.tls.pem import PEMFile


class HandoverTests(SynchronousTestCase):
    def test_the_same(self) -> None:
        """What a logging server needs arrives as it is, secrets and all."""
        options = LoggingServerOptions(
            port=1, log_dir="somewhere", token=Secret("abcdefgh"), retention=RetentionOptions(max_age=7)
        )
        configuration = Configuration(logging_server=options)
        logging = replace(configuration.logging, spool_dir="elsewhere")
        given = take_over(hand_over(replace(configuration, logging=logging)))
        self.assertEqual((given.logging_server, given.logging), (options, logging))

    def test_routes(self) -> None:
        """The routes arrive, and the keys of their TLS settings do not."""
        key = PEMFile("key.pem", b"-----BEGIN PRIVATE KEY-----")
        secret = replace(route("a", "/a/", "https://up.example/"), tls=UpstreamTLS(client_key=key))
        document = hand_over(Configuration(routes=(secret,)))
        self.assertEqual([each.name for each in take_over(document).routes], ["a"])
        self.assertNotIn(b"PRIVATE KEY", document)

    def test_another_version(self) -> None:
        """A proxy of another version, whose values may be others, is told of; they are not looked at."""
        self.assertRaises(OtherVersion, take_over, pickle.dumps(("0.0", b"no values")))
