"""Outbound proxies as configuration and environment name them, and the mistakes in that."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import (
    Configuration,
    ConfigurationError,
    load_configuration,
    read_configuration,
)
from logging_proxy.outbound.settings import ProxySettings, proxy_for
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.test.test_configuration_errors import LEAKS

ROUTES = "routes: {a: {pattern: /a/, destination: 'https://a.example/'}}\n"


def read_file(path: str) -> bytes:
    if path != "f":
        raise FileNotFoundError(2, "No such file or directory")
    return b"http://filed:1\n"


def read(text: str, **environ: str) -> Configuration:
    return read_configuration(text, "config.yaml", environ, read_file=read_file)


def line(text: str, **environ: str) -> str:
    """The one line that is shown."""
    try:
        read(text, **environ)
    except ConfigurationError as error:
        return str(error).removeprefix("config.yaml:")
    raise AssertionError("there is no mistake")


def way(configuration: Configuration, url: str) -> str:
    """How a destination is reached."""
    return str(proxy_for(parse_destination(url), configuration.proxies))


class FileTests(SynchronousTestCase):
    """`http_client.proxy_url`."""

    def test_every_destination(self) -> None:
        """It is for every destination, this machine included, whatever the environment says."""
        configuration = read(
            "http_client: {proxy_url: 'socks5h://proxy:1080'}", HTTP_PROXY="http://other", NO_PROXY="*"
        )
        for url in ("http://a.example/", "https://a.example/", "http://127.0.0.1:1234/", "http://localhost/"):
            self.assertEqual(way(configuration, url), "socks5h://proxy:1080")

    def test_exceptions(self) -> None:
        """`no_proxy` names what is reached without it."""
        configuration = read("http_client: {proxy_url: 'http://p', no_proxy: 'localhost, 127.0.0.0/8'}")
        self.assertEqual(way(configuration, "http://127.0.0.1:1234/"), "None")
        self.assertEqual(way(configuration, "https://a.example/"), "http://p:80")

    def test_elsewhere(self) -> None:
        """It can stand in a file or a variable of its own."""
        self.assertEqual(way(read("http_client: {proxy_url: {file: f}}"), "http://a/"), "http://filed:1")
        self.assertEqual(
            way(read("http_client: {proxy_url: {env: P}}", P="https://p"), "http://a/"), "https://p:443"
        )

    def test_mistakes(self) -> None:
        """What is no proxy is one line with its place, and without what was written."""
        for url in (
            "proxy",
            "ftp://u:hunter2@proxy",
            "http://u:hunter2@proxy:0",
            "http://hunter2@",
            "socks5://:hunter2@a",
        ):
            shown = line(f"http_client:\n  proxy_url: '{url}'\n")
            self.assertTrue(
                shown.startswith("2:3: http_client.proxy_url: it has ") or "it is no URL" in shown, shown
            )
            self.assertIn("expected an http://, https://, socks5:// or socks5h:// URL", shown)
            self.assertNotIn("hunter2", shown)
        shown = line("http_client: {proxy_url: {env: P}}", P="x://u:hunter2@proxy")
        self.assertNotIn("hunter2", shown)

    def test_leaks(self) -> None:
        """A URL that ended up in the wrong place is not quoted either."""
        for leak in LEAKS:
            text = leak.replace("token", "proxy_url").replace("logging_server", "http_client")
            try:
                read(text.format(s="hunter2-correct-horse"))
            except ConfigurationError as error:
                self.assertNotIn("hunter2", str(error), text)
            else:
                self.fail(text)

    def test_not_shown(self) -> None:
        """No text made of the configuration holds the credentials."""
        configuration = read("http_client: {proxy_url: 'http://alice:hunter2@proxy'}")
        shown = f"{configuration} {configuration!r} {configuration.proxies}"
        self.assertNotIn("hunter2", shown)
        self.assertNotIn("alice", shown)

    def test_ourselves(self) -> None:
        """One that is a listener of ours is a mistake."""
        for url, owner in {
            "http://localhost:5601": "the proxy's",
            "socks5://127.0.0.1:5601": "the proxy's",
            "https://[::1]:8080": "the embedded logging server's",
        }.items():
            self.assertEqual(
                line(f"http_client:\n  proxy_url: '{url}'\n"),
                f"2:3: http_client.proxy_url: this is {owner} own listener: expected another server",
            )
        read("http_client: {proxy_url: 'http://localhost:5602'}")
        read("http_client: {proxy_url: 'http://localhost:8080'}\nlogging: {server_url: 'http://logs'}")

    def test_exposed(self) -> None:
        """Credentials in a file that every user can read earn a warning; a URL without any does not."""
        for url, count in {"http://u:p@proxy": 1, "http://proxy": 0}.items():
            path = Path(self.mktemp())
            path.write_text(f"http_client:\n  proxy_url: {url}\n")
            path.chmod(0o644)
            warnings = load_configuration(str(path), {}).warnings
            self.assertEqual(
                [str(warning).split(": ")[:2] for warning in warnings if warning.key_path != "routes"],
                count * [[f"{path}:2:3", "http_client.proxy_url"]],
            )


class EnvironmentTests(SynchronousTestCase):
    """The environment's proxies."""

    def test_by_scheme(self) -> None:
        """Each scheme has its variable, and ALL_PROXY is for the rest."""
        configuration = read("{}", HTTP_PROXY="plain:1", https_proxy="http://secure:2")
        self.assertEqual(way(configuration, "http://a.example/"), "http://plain:1")
        self.assertEqual(way(configuration, "https://a.example/"), "http://secure:2")
        configuration = read("{}", HTTP_PROXY="plain:1", ALL_PROXY="socks5://all")
        self.assertEqual(way(configuration, "http://a.example/"), "http://plain:1")
        self.assertEqual(way(configuration, "https://a.example/"), "socks5://all:1080")

    def test_exceptions(self) -> None:
        """NO_PROXY and loopback are reached without; `no_proxy` stands in for the former."""
        environ = {"HTTP_PROXY": "p:1", "NO_PROXY": "a.example"}
        configuration = read("{}", **environ)
        for url in ("http://a.example/", "http://127.0.0.1:1234/", "http://localhost/"):
            self.assertEqual(way(configuration, url), "None")
        self.assertEqual(way(configuration, "http://b.example/"), "http://p:1")
        configuration = read("http_client: {no_proxy: b.example}", **environ)
        self.assertEqual(way(configuration, "http://a.example/"), "http://p:1")
        self.assertEqual(way(configuration, "http://b.example/"), "None")
        self.assertEqual(way(configuration, "http://localhost/"), "None")

    def test_off(self) -> None:
        """`proxy_from_environment: false` turns it off, good variables and bad ones."""
        for value in ("http://p:1", "x://y", "http://localhost:5601"):
            configuration = read(
                "http_client: {proxy_from_environment: false}\n" + ROUTES, HTTP_PROXY=value, ALL_PROXY=value
            )
            self.assertEqual(configuration.proxies, ProxySettings())

    def test_ourselves(self) -> None:
        """A variable that is a listener of ours is one line that names the variable."""
        message = (
            "http_client.proxy_from_environment: the environment variable {} is the proxy's own listener"
        )
        for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            shown = line("{}", **{name: "http://u:hunter2@127.0.0.1:5601/"})
            self.assertEqual(shown, f" {message.format(name)}: expected another server")
        shown = line("http_client:\n  proxy_from_environment: true\n", all_proxy="localhost:5601")
        self.assertTrue(shown.startswith(f"2:3: {message.format('all_proxy')}"), shown)
        shown = line("server: {port: 9, host: 0.0.0.0}", HTTP_PROXY="127.0.0.1:9")
        self.assertIn("own listener", shown)

    def test_mistakes(self) -> None:
        """A variable that names no proxy is a mistake where a route would use it, and only there."""
        shown = line(ROUTES, ALL_PROXY="socks://u:hunter2@proxy")
        self.assertTrue(
            shown.startswith(
                " http_client.proxy_from_environment: the environment variable ALL_PROXY "
                "has a scheme that is not supported: expected an http://"
            ),
            shown,
        )
        self.assertNotIn("hunter2", shown)
        read(ROUTES, HTTP_PROXY="x://")
        read(ROUTES, HTTPS_PROXY="x://", NO_PROXY="a.example")
        read(ROUTES.replace("a.example", "localhost:1"), HTTPS_PROXY="x://")
