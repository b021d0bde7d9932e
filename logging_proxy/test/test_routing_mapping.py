"""What the destination is asked for: bytes as they were sent, and never outside of its path."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.routing.mapping import (
    Destination,
    DestinationError,
    EscapesDestination,
    destination_url,
    parse_destination,
    upstream_target,
)
from logging_proxy.routing.mux import Mux, Serve
from logging_proxy.routing.patterns import parse


def ask(pattern: str, destination: str, target: bytes) -> bytes:
    """Return the upstream's target for one request."""
    return upstream_target(parse(pattern), parse_destination(destination), target)


class DestinationTests(SynchronousTestCase):
    """Reading a route's destination."""

    def test_parts(self) -> None:
        """A URL becomes what to connect to, what to say in Host, and where the path begins."""
        for url, expected in {
            "http://127.0.0.1:1234/": ("http", "127.0.0.1", 1234, b"127.0.0.1:1234", b"/", b""),
            "https://openrouter.ai/api/v1/": (
                "https",
                "openrouter.ai",
                443,
                b"openrouter.ai",
                b"/api/v1/",
                b"",
            ),
            "HTTPS://Host.Example": ("https", "Host.Example", 443, b"Host.Example", b"/", b""),
            "http://h:80/a": ("http", "h", 80, b"h", b"/a", b""),
            "https://h:80/a": ("https", "h", 80, b"h:80", b"/a", b""),
            "http://[::1]/": ("http", "::1", 80, b"[::1]", b"/", b""),
            "http://[::1]:5601/x?k=v": ("http", "::1", 5601, b"[::1]:5601", b"/x", b"k=v"),
            "http://h?k=v": ("http", "h", 80, b"h", b"/", b"k=v"),
            "http://h/a%2Fb/": ("http", "h", 80, b"h", b"/a%2Fb/", b""),
        }.items():
            self.assertEqual(parse_destination(url), Destination(*expected), url)

    def test_refused(self) -> None:
        """What is no usable URL is refused with a reason that names the fault."""
        for url, reason in {
            "": "must start with",
            "localhost:1234": "must start with",
            "/x": "must start with",
            "ftp://h/": "must start with",
            "http:h/": "must start with",
            "http://": "host is missing",
            "http:///x": "host is missing",
            "http://:80/": "host is missing",
            "http://h:/": "an empty port",
            "http://h:0/": "no port number",
            "http://h:65536/": "no port number",
            "http://h:000080/": "no port number",
            "http://h:80a/": "no port number",
            "http://::1/": "[brackets]",
            "http://[::1/": "[brackets]",
            "http://[h]/": "no IPv6 address",
            "http://[fe80::1%25eth0]/": "zone",
            "http://[fe80::1%eth0]/": "zone",
            "http://user:secret@h/": "user or password",
            "http://h/#part": "fragment",
            "http://h/#": "fragment",
            "http://h/a b": "printable",
            "http://h/é": "printable",
            "http://h/\n": "printable",
            "http://h/%zz": "two hexadecimal digits",
            "http://h/{x}": "{ may not stand",
            "http://h/?a=\\": "\\ may not stand",
            "http://h%41/": "no host name",
            "http://./": "empty label",
            "http://a../": "empty label",
            "http://.a/": "empty label",
            f"http://{'a' * 64}/": "a label of more than 63 characters",
            f"http://{'a.' * 126}ab./": "more than 253 characters",
        }.items():
            error = self.assertRaises(DestinationError, parse_destination, url)
            self.assertIn(reason, str(error), url)

    def test_a_secret_is_not_repeated(self) -> None:
        """The refusal of a URL with a password does not show the password."""
        error = self.assertRaises(DestinationError, parse_destination, "http://user:secret@h/")
        self.assertNotIn("secret", str(error))

    @given(st.text(alphabet="htps:/[]@.%?#1a~{} é\n", max_size=16))
    @settings(max_examples=500, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Any text is read or refused; nothing else happens, and a refusal is one line."""
        try:
            destination = parse_destination("http://" + text)
        except DestinationError as error:
            self.assertNotIn("\n", str(error))
        else:
            self.assertTrue(destination.path.startswith(b"/"))
            self.assertTrue(destination.host)

    def test_url(self) -> None:
        """The URL that people are shown is the scheme, the authority and the target."""
        destination = parse_destination("http://[::1]:1234/api")
        self.assertEqual(destination_url(destination, b"/api/x?y"), b"http://[::1]:1234/api/x?y")


class TargetTests(SynchronousTestCase):
    """What is asked for."""

    def test_subtree_is_cut_off(self) -> None:
        """A pattern that ends in a slash is cut off, and the rest joined to the destination by one slash."""
        for pattern, destination, target, expected in (
            ("/lmstudio/", "http://h/", b"/lmstudio/v1/chat/completions", b"/v1/chat/completions"),
            ("/api/v1/", "https://openrouter.ai/api/v1/", b"/api/v1/models", b"/api/v1/models"),
            ("/x/", "http://h/api", b"/x/v1", b"/api/v1"),
            ("/x/", "http://h/api/", b"/x/v1", b"/api/v1"),
            ("/x/", "http://h", b"/x/v1", b"/v1"),
            ("/x/", "http://h", b"/x/", b"/"),
            ("/x/", "http://h/api", b"/x/", b"/api/"),
            ("/", "http://h/api", b"/a/b/", b"/api/a/b/"),
            ("/", "http://h/", b"/", b"/"),
            ("GET a.example/x/y/", "http://h/z", b"/x/y/w", b"/z/w"),
        ):
            self.assertEqual(ask(pattern, destination, target), expected, (pattern, destination, target))

    def test_other_patterns_go_to_the_destination_as_it_is(self) -> None:
        """A pattern without a final slash asks for the destination's own path, whatever was matched."""
        for pattern, target in (("/x", b"/x"), ("/x/{$}", b"/x/"), ("/x/{$}", b"/x/%2F"), ("/x", b"/%78")):
            self.assertEqual(ask(pattern, "http://h/api", target), b"/api")
            self.assertEqual(ask(pattern, "http://h/api/", target + b"?q"), b"/api/?q")

    def test_cut_by_segments(self) -> None:
        """The cut counts segments, so that an escaped spelling of the pattern is cut off as well."""
        self.assertEqual(ask("/lmstudio/", "http://h/", b"/%6cmstudio/v1"), b"/v1")
        self.assertEqual(ask("/a%2Fb/", "http://h/", b"/a%2fb/v1"), b"/v1")
        self.assertEqual(ask("/é/", "http://h/", b"/%C3%A9/v1"), b"/v1")
        self.assertEqual(ask("/é/", "http://h/", "/é/v1".encode()), b"/v1")

    def test_the_rest_is_kept_byte_for_byte(self) -> None:
        """Nothing in the rest is decoded, encoded, folded or cleaned: the faults of the seed."""
        for rest in (
            b"a%2Fb",
            b"%252F",
            b"%25zz",
            b"a%2f%2Fb",
            b"%7euser",
            b"a;p=1/b;q",
            b"..;/x",
            b"+%20",
            b"%00",
            b"%c3%a9",
            b"a/%2e/b",
            b"a/%2e%2e/b",
            b"%252e%252e/x",
            b"...",
            b".%2ea",
            b"x#frag",
            b"%2Fx",
        ):
            self.assertEqual(ask("/x/", "http://h/api/", b"/x/" + rest), b"/api/" + rest)

    def test_the_query_is_kept_byte_for_byte(self) -> None:
        """The query is the client's, even where it is empty or odd."""
        for query in (b"?", b"?x=%zz", b"?q=//../..", b"??", b"?a?b", b"?\xc3\xa9", b"?a=b#c"):
            self.assertEqual(ask("/x/", "http://h/", b"/x/y" + query), b"/y" + query)

    def test_query_of_the_destination(self) -> None:
        """The destination's own query comes first."""
        self.assertEqual(ask("/x", "http://h/a?k=v", b"/x"), b"/a?k=v")
        self.assertEqual(ask("/x", "http://h/a?k=v", b"/x?"), b"/a?k=v")
        self.assertEqual(ask("/x", "http://h/a?k=v", b"/x?y=z&"), b"/a?k=v&y=z&")

    def test_absolute_form(self) -> None:
        """Of a target in absolute-form the path and query count; the host only chose the route."""
        self.assertEqual(
            ask("/x/", "http://h/api", b"http://other.example:1/x/y%2F?q=/x/"), b"/api/y%2F?q=/x/"
        )
        self.assertEqual(ask("/x/", "http://h/api", b"HTTP://u:p@other/x/?"), b"/api/?")

    def test_raw_bytes(self) -> None:
        """Beside a raw byte that no path may hold, an escaped slash counts for the cut as for the match."""
        target = "/a%2Fb/é|".encode()
        mux: Mux[None] = Mux()
        mux.add(parse("/a/b/"), None)
        self.assertIsInstance(mux.match(b"GET", target, b"h"), Serve)
        self.assertEqual(ask("/a/b/", "http://h/z/", target), "/z/é|".encode())

    def test_a_path_that_the_pattern_cannot_match(self) -> None:
        """A path shorter than the pattern is a mistake of the caller."""
        self.assertRaises(ValueError, ask, "/a/b/", "http://h/", b"/a")


class EscapeTests(SynchronousTestCase):
    """A rest that an upstream could resolve to outside of the destination's path."""

    def test_refused(self) -> None:
        """Dots, slashes and backslashes count in every spelling, and a later descent does not help."""
        for rest in (
            b"..",
            b"../x",
            b"%2e%2e",
            b"%2e%2e/%2e%2e/admin",
            b".%2e/x",
            b"%2E./x",
            b"..%2fx",
            b"..%2Fx",
            b"..%5cx",
            b"..\\x",
            b"a/%2e%2e/%2e%2e/x",
            b"a/..%2f..%2fapi/x",
            b"a//%2e%2e/%2e%2e/x",
            b"./%2e%2e",
            b"%2e/%2e%2e/x",
            b"%2f%2e%2e",
            b"\\..\\x",
        ):
            self.assertRaises(EscapesDestination, ask, "/x/", "http://h/api/", b"/x/" + rest)

    def test_every_reading_counts(self) -> None:
        """An upstream for which an escaped slash or a backslash is no separator is asked for no less."""
        for rest in (
            b"a%2Fb/%2e%2e/%2e%2e/x",
            b"a%5Cb/%2e%2e/%2e%2e/x",
            b"a\\b/%2e%2e/%2e%2e/x",
            b"a%5cb\\%2e%2e\\%2e%2e\\x",
            b"a%2Fb\\..\\..\\x",
        ):
            self.assertRaises(EscapesDestination, ask, "/x/", "http://h/api/", b"/x/" + rest)

    def test_passed_on(self) -> None:
        """What stays inside, and dots that are no dot segments, pass."""
        for rest in (
            b"a/%2e%2e",
            b"a/b/..%2f..",
            b"a/%2e%2e/b/%2e%2e/c",
            b"...",
            b"..a/b",
            b"a..",
            b"%2e%2e%2e",
            b"%252e%252e/x",
            b"..;/x",
            b"?../../x",
        ):
            self.assertEqual(ask("/x/", "http://h/api/", b"/x/" + rest), b"/api/" + rest)

    def test_other_patterns_cannot_escape(self) -> None:
        """Where nothing of the client's path is passed on, nothing is refused."""
        self.assertEqual(ask("/%2e%2e", "http://h/api/", b"/%2e%2e"), b"/api/")

    @given(
        st.lists(
            st.sampled_from([b"..", b".", b"%2e", b"%2E", b"/", b"%2f", b"\\", b"%5C", b"a", b"%25", b"?"])
        )
    )
    @settings(max_examples=500, deadline=None)
    def test_what_passes_stays_inside(self, parts: list[bytes]) -> None:
        """Whatever passes, an upstream that decodes once and resolves as it likes stays inside."""
        target = b"/x/" + b"".join(parts)
        try:
            sent = ask("/x/", "http://h/api/", target)
        except EscapesDestination:
            return
        self.assertEqual(sent, b"/api/" + target[3:])
        path = sent.partition(b"?")[0]
        for separator in (b"\\", b"%5C", b"%2f", b"%2F"):
            for upstream in (path, path.replace(separator, b"/")):
                pieces = [unquote_to_bytes(piece) for piece in upstream.split(b"/")]
                self.assertEqual(resolve(pieces)[:1], [b"api"], sent)
        everything = unquote_to_bytes(path).replace(b"\\", b"/")
        self.assertEqual(resolve(everything.split(b"/"))[:1], [b"api"], sent)


def resolve(pieces: list[bytes]) -> list[bytes]:
    """Resolve dot segments as an upstream might that also merges slashes."""
    kept: list[bytes] = []
    for piece in pieces:
        if piece == b"..":
            kept = kept[:-1]
        elif piece not in (b"", b"."):
            kept.append(piece)
    return kept
