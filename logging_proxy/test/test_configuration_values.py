"""What a configuration without mistakes means."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.configuration import (
    Configuration,
    ConfigurationError,
    HttpClientOptions,
    LoggingOptions,
    LoggingServerOptions,
    Secret,
    ServerOptions,
    read_configuration,
)
from logging_proxy.configuration.document import compose
from logging_proxy.configuration.kinds import Surroundings
from logging_proxy.configuration.listeners import collide, is_loopback, reaches
from logging_proxy.configuration.options import TABLES, Section, defaults_of, keys_of
from logging_proxy.configuration.problems import Findings
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.routing.patterns import parse
from logging_proxy.service.bootstrap import processors, worker_count

SEED = """\
server:
  port: 5601
  host: "localhost"
  not_found: "/404/"

logging:
  console: true
  default: true
  server_url: "http://localhost:8080"

routes:
  lmstudio:
    pattern: "/lmstudio/"
    destination: "http://127.0.0.1:1234/"
    logging: false
"""

SHIPPED = Path(__file__).parent.parent.parent / "config.yaml"


def read(text: str, **environ: str) -> Configuration:
    """The configuration that a text without mistakes says."""
    return read_configuration(text, "config.yaml", environ)


class DefaultsTests(SynchronousTestCase):
    """What is left out has its default."""

    def test_every_default(self) -> None:
        """The defaults are these."""
        self.assertEqual(
            read("{}"),
            Configuration(
                ServerOptions(
                    port=5601,
                    host="localhost",
                    not_found="/404/",
                    forwarded="keep",
                    via=False,
                    half_close="cancel",
                    head_limit=65536,
                    header_fields=200,
                    head_timeout=10,
                    body_timeout=60,
                    keep_alive_timeout=75,
                    shutdown_timeout=30,
                ),
                HttpClientOptions(
                    connect_timeout=10,
                    head_timeout=600,
                    stream_timeout=3600,
                    pool_idle_timeout=15,
                    pool_size=1024,
                    pool_max_age=300,
                ),
                LoggingOptions(
                    console=True,
                    default=True,
                    server_url=None,
                    on_capture_error="pass",
                    spool_dir=None,
                    spool_limit=10 * 1024**3,
                    fsync_interval=0.5,
                    ring_dir="/dev/shm",
                ),
                LoggingServerOptions(host="localhost", port=8080, log_dir="logs", token=None, open_to="user"),
                (),
            ),
        )

    def test_empty_sections(self) -> None:
        """A section whose keys are all commented out is as good as none."""
        text = "server:\nhttp_client:\nlogging:\nlogging_server:\nroutes:\n  # one:\n"
        self.assertEqual(read(text), Configuration())

    def test_defaults_are_of_their_kind(self) -> None:
        """A default, written as the reference shows it, is read as the same value."""
        surroundings = Surroundings({}, lambda path: b"")
        for section in TABLES.values():
            for name, default in defaults_of(section).items():
                kind = keys_of(section)[name].kind
                assert not isinstance(kind, Section)
                node = compose(kind.written(default), Findings("default"))
                assert node is not None
                self.assertEqual(kind.read(node, surroundings), default, name)


class WorkersTests(SynchronousTestCase):
    """How many processes forward."""

    def test_values(self) -> None:
        """A number is taken as it is; `auto` is the number of processors that we may use."""
        for text, count in (("1", 1), ("256", 256), ("auto", processors()), ('"auto"', processors())):
            self.assertEqual(worker_count(read(f"server: {{workers: {text}}}")), count, text)
        self.assertGreaterEqual(processors(), 1)

    def test_mistakes(self) -> None:
        """Anything else is a mistake, in one line that says what is expected."""
        for text in ("0", "257", "2.5", '"2"', "many", "true", "[1]"):
            error = self.assertRaises(ConfigurationError, read, f"server: {{workers: {text}}}")
            self.assertIn("server.workers: expected a whole number from 1 to 256, or auto, not ", str(error))


class RoutesTests(SynchronousTestCase):
    """Routes come with everything resolved."""

    def test_seed(self) -> None:
        """The seed's configuration works as it is."""
        configuration = read(SEED)
        self.assertEqual(configuration.logging.server_url, "http://localhost:8080")
        self.assertFalse(configuration.embedded)
        (route,) = configuration.routes
        self.assertEqual((route.name, route.logging, route.line), ("lmstudio", False, 12))
        self.assertEqual(route.pattern, parse("/lmstudio/"))
        self.assertEqual(route.destination, parse_destination("http://127.0.0.1:1234/"))

    def test_shipped(self) -> None:
        """So does the configuration that is shipped, and it uses the embedded logging server."""
        if not SHIPPED.exists():
            raise SkipTest("the shipped configuration is not part of this installation")
        configuration = read(SHIPPED.read_text("utf-8"))
        self.assertEqual(
            [route.name for route in configuration.routes], ["lmstudio", "openrouter", "openai", "anthropic"]
        )
        self.assertTrue(configuration.embedded)

    def test_logging(self) -> None:
        """A route that does not say is captured if `logging.default` says so."""
        routes = "routes:\n" + "".join(
            f"  r{number}: {{pattern: /{number}, destination: 'http://a/'{logging}}}\n"
            for number, logging in enumerate(("", ", logging: true", ", logging: false"))
        )
        for default, expected in (("true", [True, True, False]), ("false", [False, True, False])):
            configuration = read(f"logging: {{default: {default}}}\n{routes}")
            self.assertEqual([route.logging for route in configuration.routes], expected)

    def test_names(self) -> None:
        """A name is what was written, whatever YAML makes of it."""
        for name in ("on", "010", "null", "1.5", "LM Studio", "modèle", "a.b"):
            (route,) = read(f"routes: {{{name}: {{pattern: /a, destination: 'http://a/'}}}}").routes
            self.assertEqual(route.name, name)


class ValuesTests(SynchronousTestCase):
    """Forms that values may have."""

    def test_sizes(self) -> None:
        """A size is a number of bytes, or has a binary unit."""
        for written, size in {
            "2048": 2048,
            "2048B": 2048,
            "64KiB": 65536,
            "64 KiB": 65536,
            '"1MiB"': 1 << 20,
        }.items():
            self.assertEqual(read(f"server: {{head_limit: {written}}}").server.head_limit, size)
        self.assertEqual(read("logging: {spool_limit: 2TiB}").logging.spool_limit, 2 << 40)

    def test_durations(self) -> None:
        """A duration is a number of seconds, whole or not."""
        for written, seconds in {"1": 1, "0.5": 0.5, ".5": 0.5, "31536000": 31536000, "1.0e+2": 100}.items():
            self.assertEqual(read(f"server: {{head_timeout: {written}}}").server.head_timeout, seconds)

    def test_booleans(self) -> None:
        """The words of YAML 1.1 for true and false are taken."""
        for word in ("true", "True", "TRUE", "yes", "on", "On"):
            self.assertIs(read(f"server: {{via: {word}}}").server.via, True)
        for word in ("false", "no", "off", "OFF"):
            self.assertIs(read(f"logging: {{console: {word}}}").logging.console, False)

    def test_hosts(self) -> None:
        """A host is a name or an address of either family."""
        for host in (
            "localhost",
            "a_b.example.",
            "127.0.0.1",
            "0.0.0.0",
            "'::'",
            "fe80::1%eth0",
            "3com.example",
        ):
            self.assertEqual(read(f"server: {{port: 1, host: {host}}}").server.host, host.strip("'"))

    def test_allowed_hosts(self) -> None:
        """Names, and with `*.` everything below one."""
        given = read("server: {allowed_hosts: [A.example, '*.b.example', my_host.]}").server.allowed_hosts
        self.assertEqual(given, ("A.example", "*.b.example", "my_host."))
        self.assertEqual(read("server: {allowed_hosts: []}").server.allowed_hosts, ())

    def test_names_of_destinations(self) -> None:
        """A destination may have any name that resolvers take: underscores, hyphens, a final dot."""
        for host in (
            "my_service",
            "_dmarc.a-.example",
            "r3---sn-x.example",
            "xn--ls8h.example",
            "localhost.",
            "a" * 63 + ".example",
            ".".join(["a" * 49] * 5) + ".abc.",
        ):
            destination, tls = f"destination: 'https://{host}:1/'", f"tls: {{server_name: {host}}}"
            (route,) = read(f"routes: {{a: {{pattern: /, {destination}, {tls}}}}}").routes
            assert route.tls is not None
            self.assertEqual((route.destination.host, route.tls.server_name), (host, host))
            self.assertEqual(route.destination.authority, f"{host}:1".encode())

    def test_no_not_found(self) -> None:
        """`not_found` may be empty."""
        self.assertEqual(read('server: {not_found: ""}').server.not_found, "")


class TokenTests(SynchronousTestCase):
    """A token stands in the file, in another file or in the environment."""

    def token(self, written: str, content: bytes = b"", **environ: str) -> Secret | None:
        text = f"logging_server: {{host: '::', token: {written}}}"
        configuration = read_configuration(text, "a", environ, read_file=lambda path: content)
        return configuration.logging_server.token

    def test_places(self) -> None:
        """The value is the same wherever it stands; the line end of a file is no part of it."""
        self.assertEqual(self.token("abc"), Secret("abc"))
        self.assertEqual(self.token("{env: TOKEN}", TOKEN="abc"), Secret("abc"))
        self.assertEqual(self.token("{file: secrets/token}", b"abc\r\n"), Secret("abc"))

    def test_not_shown(self) -> None:
        """No text made of the configuration holds the token."""
        configuration = read("logging_server: {token: hunter2}")
        self.assertNotIn("hunter2", f"{configuration} {configuration!r} {configuration.logging_server.token}")


class ListenersTests(SynchronousTestCase):
    """Hosts are told apart without looking a name up."""

    def test_loopback(self) -> None:
        """Loopback is localhost and the addresses set aside for it, nothing else."""
        for host in (
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ):
            self.assertTrue(is_loopback(host), host)
        for host in ("0.0.0.0", "::", "192.0.2.1", "example", "localhost.example", "::ffff:192.0.2.1"):
            self.assertFalse(is_loopback(host), host)

    def test_reaches(self) -> None:
        """A destination reaches a listener on its address, and one on every address by loopback."""
        for destination, listener in (
            ("127.0.0.1", "localhost"),
            ("localhost.", "127.0.0.1"),
            ("::1", "localhost"),
            ("127.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("localhost", "0.0.0.0"),
            ("127.0.0.2", "::"),
            ("Box.example", "box.example"),
            ("192.0.2.1", "192.0.2.1"),
        ):
            self.assertTrue(reaches(destination, listener), (destination, listener))
        for destination, listener in (
            ("127.0.0.2", "127.0.0.1"),
            ("192.0.2.1", "localhost"),
            ("box.example", "0.0.0.0"),
        ):
            self.assertFalse(reaches(destination, listener), (destination, listener))

    def test_collide(self) -> None:
        """Two listeners collide on one address, or when one takes every address."""
        self.assertTrue(collide("localhost", "127.0.0.1"))
        self.assertTrue(collide("192.0.2.1", "0.0.0.0"))
        self.assertFalse(collide("192.0.2.1", "127.0.0.1"))

    def test_apart(self) -> None:
        """Listeners that do not meet, free ports and a logging server elsewhere may share a port's number."""
        for port, text in (
            (9, "server: {port: 9, host: 127.0.0.1}\nlogging_server: {port: 9, host: 127.0.0.2}"),
            (0, "server: {port: 0}\nlogging_server: {port: 0}"),
            (8080, "server: {port: 8080}\nlogging: {server_url: 'http://box.example:8080'}"),
            (
                5601,
                "logging: {server_url: 'http://a/'}\nroutes: {a: {pattern: /, destination: 'http://[::1]:8080'}}",
            ),
        ):
            self.assertEqual(read(text).server.port, port)
