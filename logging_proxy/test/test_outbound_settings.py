"""Which outbound proxy a destination is reached through: URLs, variables, exceptions."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.outbound.addresses import Credentials, ProxyAddress, ProxyURLError, parse_proxy_url
from logging_proxy.outbound.exceptions import parse_no_proxy
from logging_proxy.outbound.forwarding import forwarding_for
from logging_proxy.outbound.settings import (
    ProxySettings,
    no_proxy_text,
    parse_variable,
    proxy_for,
    proxy_variable,
)
from logging_proxy.routing.mapping import parse_destination

BAD_URLS = (
    "",
    "proxy",
    "proxy:3128",
    "://proxy",
    "ftp://proxy",
    "socks4://proxy",
    "socks://proxy",
    "http://",
    "http://:3128",
    "http://proxy:",
    "http://proxy:0",
    "http://proxy:65536",
    "http://proxy:999999",
    "http://proxy:x",
    "http://proxy/path",
    "http://proxy?x",
    "http://proxy#x",
    "http://[::1",
    "http://[1]",
    "http://[fe80::1%25eth0]",
    "http://::1",
    "http://a b",
    "http://a\nb",
    "http://ü",
    "http://u:p%@proxy",
    "http://u:p%0a@proxy",
    "http://u%3ax:p@proxy",
    "socks5://:p@proxy",
    f"socks5://{'u' * 256}:p@proxy",
    f"socks5h://u:{'p' * 256}@proxy",
)


class ProxyURLTests(SynchronousTestCase):
    """URLs of proxies."""

    def test_parts(self) -> None:
        """Scheme, host and port are those of the URL; the port has the scheme's default."""
        for url, expected in {
            "http://proxy.example:3128": ("http", "proxy.example", 3128),
            "HTTP://proxy.example/": ("http", "proxy.example", 80),
            "https://proxy.example": ("https", "proxy.example", 443),
            "socks5://127.0.0.1": ("socks5", "127.0.0.1", 1080),
            "socks5h://[2001:db8::1]:9": ("socks5h", "2001:db8::1", 9),
        }.items():
            proxy = parse_proxy_url(url)
            self.assertEqual((proxy.scheme, proxy.host, proxy.port), expected)
            self.assertIsNone(proxy.credentials)

    def test_credentials(self) -> None:
        """User and password are decoded; a password may hold a colon or be missing."""
        for userinfo, expected in {
            "u:p": (b"u", b"p"),
            "u": (b"u", b""),
            "u:": (b"u", b""),
            "u:p:q": (b"u", b"p:q"),
            "u%40x:p%2Fq%3A": (b"u@x", b"p/q:"),
            "%C3%BC:p@q": (b"\xc3\xbc", b"p@q"),
        }.items():
            credentials = parse_proxy_url(f"http://{userinfo}@proxy").credentials
            assert credentials is not None
            self.assertEqual((credentials.user, credentials.password), expected)

    def test_basic(self) -> None:
        """Credentials become a field value of RFC 7617."""
        self.assertEqual(Credentials(b"u", b"p:q").basic(), b"Basic " + base64.b64encode(b"u:p:q"))

    def test_refused(self) -> None:
        """Everything else is refused."""
        for url in BAD_URLS:
            self.assertRaises(ProxyURLError, parse_proxy_url, url)

    @given(st.sampled_from(BAD_URLS), st.text("hunter2:/@%[]", max_size=12))
    def test_not_quoted(self, url: str, more: str) -> None:
        """No message quotes what was written."""
        secret = "zq8" + more
        try:
            parse_proxy_url(url.replace("//", f"//{secret}", 1) + "\n")
        except ProxyURLError as error:
            self.assertNotIn("zq8", str(error))
        else:
            self.fail("accepted")

    def test_not_shown(self) -> None:
        """No text made of an address shows its credentials."""
        proxy = parse_proxy_url("http://alice:hunter2@[::1]:3128")
        forwarding = forwarding_for(parse_destination("http://a.example/"), proxy)
        shown = f"{proxy} {proxy!r} {proxy.credentials} {forwarding!r} {ProxySettings(proxy, proxy)!r}"
        for secret in ("alice", "hunter2", base64.b64encode(b"alice:hunter2").decode()):
            self.assertNotIn(secret, shown)
        self.assertEqual(str(proxy), "http://[::1]:3128")


class VariableTests(SynchronousTestCase):
    """The environment's variables."""

    def test_order(self) -> None:
        """The scheme's own variable comes before the one for all, lower case before upper."""
        environ: dict[str, str] = {}
        for scheme, own in (
            ("http", ("HTTP_PROXY", "http_proxy")),
            ("https", ("HTTPS_PROXY", "https_proxy")),
        ):
            environ.clear()
            self.assertIsNone(proxy_variable(scheme, environ))
            for name in ("ALL_PROXY", "all_proxy", *own):
                environ[name] = "x"
                self.assertEqual(proxy_variable(scheme, environ), name)

    def test_scheme(self) -> None:
        """A variable is for destinations of its scheme only."""
        self.assertIsNone(proxy_variable("https", {"HTTP_PROXY": "x"}))
        self.assertIsNone(proxy_variable("http", {"HTTPS_PROXY": "x"}))

    def test_empty(self) -> None:
        """An empty variable is as good as none."""
        self.assertEqual(proxy_variable("http", {"http_proxy": "", "HTTP_PROXY": "x"}), "HTTP_PROXY")

    def test_cgi(self) -> None:
        """In a CGI program HTTP_PROXY is a client's header, and does not count."""
        environ = {"HTTP_PROXY": "evil", "REQUEST_METHOD": "GET"}
        self.assertIsNone(proxy_variable("http", environ))
        self.assertEqual(proxy_variable("http", {**environ, "http_proxy": "x"}), "http_proxy")
        self.assertEqual(proxy_variable("https", {**environ, "HTTPS_PROXY": "x"}), "HTTPS_PROXY")

    def test_value(self) -> None:
        """In a variable http:// may be left out, with credentials or without."""
        self.assertEqual(parse_variable("proxy:3128"), ProxyAddress("http", "proxy", 3128))
        self.assertEqual(
            parse_variable(" u:p@proxy "), ProxyAddress("http", "proxy", 80, Credentials(b"u", b"p"))
        )
        self.assertEqual(parse_variable("socks5h://proxy"), ProxyAddress("socks5h", "proxy", 1080))

    def test_no_proxy(self) -> None:
        """NO_PROXY is read in either case."""
        self.assertEqual(no_proxy_text({"NO_PROXY": "a"}), "a")
        self.assertEqual(no_proxy_text({"NO_PROXY": "a", "no_proxy": "b"}), "b")
        self.assertEqual(no_proxy_text({}), "")


# Text of NO_PROXY -> what it covers, what it does not.
NO_PROXY = {
    "": ((), ("a.example:80", "127.0.0.1:80", "localhost:80")),
    "*": (("a.example:80", "192.0.2.1:1", "::1:2"), ()),
    "a.example": (("a.example:80", "A.Example.:443", "b.a.example:80"), ("ba.example:80", "example:80")),
    ".a.example": (("b.a.example:80", "c.b.a.example:1"), ("a.example:80", "ba.example:80")),
    "*.a.example": (("b.a.example:80",), ("a.example:80",)),
    "a.example.": (("a.example:80",), ()),
    "A.EXAMPLE:8080": (("a.example:8080", "b.a.example:8080"), ("a.example:80",)),
    ".a.example:8080": (("b.a.example:8080",), ("b.a.example:80", "a.example:8080")),
    "192.0.2.1": (("192.0.2.1:80", "::ffff:192.0.2.1:80"), ("192.0.2.10:80", "192.0.2.11:80")),
    "192.0.2.1:8080": (("192.0.2.1:8080",), ("192.0.2.1:80",)),
    "10.0.0.0/8": (("10.1.2.3:80",), ("11.0.0.1:80", "10.example:80")),
    "10.1.2.3/8": (("10.9.9.9:80",), ()),
    "2001:db8::/32": (("2001:db8::5:80",), ("2001:db9::5:80",)),
    "::1": (("::1:80",), ("127.0.0.1:80",)),
    "[::1]": (("::1:80",), ()),
    "[::1]:8080": (("::1:8080",), ("::1:80",)),
    "x, a.example ,b.example  c.example": (
        ("a.example:80", "b.example:80", "c.example:80"),
        ("d.example:80",),
    ),
    ",,/8,a/b,*.*,:80,.,[,99.0.0.0/99": ((), ("a.example:80", "10.0.0.1:80")),
    "1": ((), ("192.0.2.1:80", "0.0.0.1:80")),
}


class NoProxyTests(SynchronousTestCase):
    """What goes past the proxies."""

    def covers(self, text: str, place: str, loopback: bool = False) -> bool:
        host, _, port = place.rpartition(":")
        return parse_no_proxy(text, loopback=loopback).covers(host, int(port))

    def test_notation(self) -> None:
        """Domains, suffixes, addresses, networks and ports are read as Go reads them."""
        for text, (covered, others) in NO_PROXY.items():
            for place in covered:
                self.assertTrue(self.covers(text, place), (text, place))
            for place in others:
                self.assertFalse(self.covers(text, place), (text, place))

    def test_loopback(self) -> None:
        """This machine itself is excepted where that is asked for."""
        for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"):
            self.assertTrue(self.covers("", f"{host}:80", loopback=True), host)
            self.assertFalse(self.covers("", f"{host}:80"), host)
        for host in ("a.example", "192.0.2.1", "localhost.example", "notlocalhost"):
            self.assertFalse(self.covers("", f"{host}:80", loopback=True), host)

    @given(st.text(max_size=30), st.text("a.:[]/0123", max_size=12))
    def test_any_text(self, text: str, host: str) -> None:
        """Any text is read, and any host can be asked for."""
        self.assertIs(type(parse_no_proxy(text).covers(host, 80)), bool)


class ProxyForTests(SynchronousTestCase):
    """The decision."""

    PLAIN, SECURE = ProxyAddress("http", "plain", 1), ProxyAddress("http", "secure", 2)

    def test_by_scheme(self) -> None:
        """The destination's scheme chooses the proxy."""
        settings = ProxySettings(self.PLAIN, self.SECURE)
        self.assertIs(proxy_for(parse_destination("http://a.example/"), settings), self.PLAIN)
        self.assertIs(proxy_for(parse_destination("https://a.example/"), settings), self.SECURE)
        self.assertIsNone(proxy_for(parse_destination("http://a.example/"), ProxySettings()))

    def test_exceptions(self) -> None:
        """What is excepted has none, by the port that the scheme stands for."""
        settings = ProxySettings(self.PLAIN, self.SECURE, parse_no_proxy("a.example:443"))
        self.assertIsNone(proxy_for(parse_destination("https://a.example/"), settings))
        self.assertIs(proxy_for(parse_destination("http://a.example/"), settings), self.PLAIN)


class ForwardingTests(SynchronousTestCase):
    """Heads that an HTTP proxy forwards by itself."""

    HEAD = b"POST /v1/x?y HTTP/1.1\r\nHost: a.example:81\r\nA: b\r\n"

    def test_absolute_form(self) -> None:
        """The target becomes absolute, the credentials come last, everything else stays."""
        proxy = parse_proxy_url("http://u:p@proxy")
        forwarding = forwarding_for(parse_destination("http://a.example:81/v1/"), proxy)
        assert forwarding is not None
        self.assertEqual(
            forwarding.head(self.HEAD),
            b"POST http://a.example:81/v1/x?y HTTP/1.1\r\nHost: a.example:81\r\nA: b\r\n"
            b"Proxy-Authorization: Basic dTpw\r\n",
        )

    def test_without_credentials(self) -> None:
        """Without credentials there is no field."""
        forwarding = forwarding_for(parse_destination("http://[::1]:81/"), parse_proxy_url("https://proxy"))
        assert forwarding is not None
        self.assertEqual(forwarding.head(self.HEAD), self.HEAD.replace(b"/v1", b"http://[::1]:81/v1", 1))

    def test_tunnels(self) -> None:
        """Through a tunnel, and without a proxy, heads go as they are."""
        plain, secure = parse_destination("http://a/"), parse_destination("https://a/")
        self.assertIsNone(forwarding_for(plain, None))
        self.assertIsNone(forwarding_for(secure, parse_proxy_url("http://proxy")))
        self.assertIsNone(forwarding_for(plain, parse_proxy_url("socks5://proxy")))
