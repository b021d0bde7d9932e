"""The decision for a request: which route takes it, or what the client is told instead."""

from __future__ import annotations

import contextlib
from random import Random
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.routing.mux import (
    BadTarget,
    Decision,
    MethodNotAllowed,
    Mux,
    NotFound,
    PatternConflict,
    Redirect,
    Serve,
)
from logging_proxy.routing.paths import END, split_segments
from logging_proxy.routing.patterns import Pattern, PatternError, parse
from logging_proxy.routing.relations import Relation, combine, compare_methods, compare_paths, conflict
from logging_proxy.routing.targets import strip_port


def mux_of(*texts: str) -> Mux[str]:
    """Return a mux in which every pattern's value is its text."""
    mux: Mux[str] = Mux()
    for text in texts:
        mux.add(parse(text), text)
    return mux


def outcome(decision: Decision[str]) -> object:
    """Return the short form of a decision: a pattern, a location, an Allow, or a status."""
    match decision:
        case Serve(value=value):
            return value
        case Redirect(location=location) | MethodNotAllowed(allow=location):
            return location
        case NotFound():
            return 404
        case BadTarget():
            return 400


class DecisionTests(SynchronousTestCase):
    """One kind of decision each."""

    def test_serve(self) -> None:
        """The decision names the pattern, its value, and the escaped path that matched."""
        pattern = parse("/é/")
        mux: Mux[int] = Mux()
        mux.add(pattern, 7)
        decision = mux.match(b"POST", "/é/x?y=é".encode(), b"h")
        self.assertEqual(decision, Serve(pattern, 7, b"/%C3%A9/x"))

    def test_redirects(self) -> None:
        """A redirect is a 307 to a clean path that keeps escapes and query."""
        for pattern, target, location in (
            ("/foo/", b"/foo", b"/foo/"),
            ("/foo/", b"/foo?x=1", b"/foo/?x=1"),
            ("/foo/", b"/foo?", b"/foo/"),
            ("/foo/", b"/foo??", b"/foo/??"),
            ("/foo/", b"/%66oo", b"/%66oo/"),
            ("/foo/{$}", b"/foo//", b"/foo/"),
            ("/", b"/a/../b", b"/b"),
            ("/", b"/a//b%2Fc?q=//..", b"/a/b%2Fc?q=//.."),
            ("/", b"/a/b/.", b"/a/b"),
            ("/x", b"//evil.example/y", b"/evil.example/y"),
            ("/", "/é//?é=%zz".encode(), b"/%C3%A9/?%c3%a9=%zz"),
            ("/", "/a%2Fb/é//".encode(), b"/a/b/%C3%A9/"),
            ("/", "/a/%2e%2e/é".encode(), b"/%C3%A9"),
            ("/", b"http://h", b"/"),
            ("/", b"http://h?x", b"/?x"),
        ):
            decision = mux_of(pattern).match(b"PUT", target, b"h")
            self.assertEqual(decision, Redirect(location), (pattern, target))
        self.assertEqual(Redirect.status, 307)

    def test_served_as_sent(self) -> None:
        """Escaped dots and slashes, backslashes and parameters do not redirect."""
        for target in (b"/a/%2e%2e/b", b"/a%2F..%2Fb", b"/a\\b", b"/foo/..;/x", b"/.well-known/x", b"/..."):
            self.assertEqual(outcome(mux_of("/").match(b"GET", target, b"h")), "/", target)

    def test_methods(self) -> None:
        """Allow is sorted, brings HEAD with GET, and counts the path with a slash and both kinds of hosts."""
        mux = mux_of("POST /a", "GET /a/", "PUT h/a", "DELETE other/a")
        self.assertEqual(mux.match(b"PATCH", b"/a", b"h:1"), MethodNotAllowed(b"GET, HEAD, POST, PUT"))
        self.assertEqual(mux.match(b"GET", b"/a", b"h"), Redirect(b"/a/"))
        self.assertEqual(mux.match(b"PUT", b"/a/", b"h"), MethodNotAllowed(b"GET, HEAD"))
        self.assertEqual(mux.match(b"PUT", b"/b", b"h"), NotFound())

    def test_head(self) -> None:
        """GET serves HEAD, unless HEAD has a pattern of its own."""
        mux = mux_of("GET /a", "HEAD /a", "GET /b")
        self.assertEqual(outcome(mux.match(b"HEAD", b"/a", b"h")), "HEAD /a")
        self.assertEqual(outcome(mux.match(b"HEAD", b"/b", b"h")), "GET /b")
        self.assertEqual(outcome(mux_of("HEAD /a").match(b"GET", b"/a", b"h")), b"HEAD")

    def test_hosts(self) -> None:
        """A host's patterns come first, then those without; ports go, case and final dots stay."""
        mux = mux_of("a.example/x", "/x", "/", "[::1]/x", "::1/y", "GET a.example/y")
        for target, host, expected in (
            (b"/x", b"a.example:80", "a.example/x"),
            (b"/x", b"A.example", "/x"),
            (b"/x", b"a.example.", "/x"),
            (b"/z", b"a.example", "/"),
            (b"/x", b"[::1]", "[::1]/x"),
            (b"/x", b"[::1]:80", "/x"),
            (b"/y", b"[::1]:80", "::1/y"),
            (b"/y", b"a.example", "/"),
            (b"http://a.example:1/x", b"other", "a.example/x"),
            (b"http:///x", b"a.example", "a.example/x"),
        ):
            self.assertEqual(outcome(mux.match(b"POST", target, host)), expected, (target, host))

    def test_quirks(self) -> None:
        """Go's ``%2F`` and ``//`` are copied."""
        self.assertEqual(outcome(mux_of("/{$}").match(b"GET", b"/%2F", b"h")), "/{$}")
        self.assertEqual(outcome(mux_of("/foo/{$}").match(b"GET", b"/foo/%2F", b"h")), "/foo/{$}")
        self.assertEqual(outcome(mux_of("/foo/{$}").match(b"GET", b"/foo/%2F%2F", b"h")), 404)
        self.assertEqual(outcome(mux_of("/{x}").match(b"GET", b"/%2F", b"h")), 404)
        self.assertEqual(outcome(mux_of("//").match(b"GET", b"/a/b", b"h")), "//")
        self.assertEqual(outcome(mux_of("//", "/{x}/").match(b"GET", b"/a/b", b"h")), "/{x}/")
        self.assertEqual(outcome(mux_of("/{x}/", "//").match(b"GET", b"/a/b", b"h")), "//")
        self.assertRaises(PatternConflict, mux_of, "//x", "/{y}/x")

    def test_bad_targets(self) -> None:
        """A target that cannot be read is told from one that nobody takes."""
        for target in (b"", b"*", b"foo", b"/%zz", b"/\x00"):
            self.assertIsInstance(mux_of("/").match(b"GET", target, b"h"), BadTarget)
        self.assertIsInstance(mux_of("/").match(b"CONNECT", b"*", b"h"), BadTarget)

    def test_connect(self) -> None:
        """CONNECT is not cleaned, keeps the port, and never names another host in a redirect."""
        mux = mux_of("a.example:80/x", "/a/../b", "/foo/", "CONNECT /c//d/", "POST /{$}")
        for target, host, expected in (
            (b"/x", b"a.example:80", "a.example:80/x"),
            (b"/x", b"a.example", 404),
            (b"/a/../b", b"h", "/a/../b"),
            (b"/foo", b"h", b"/foo/"),
            (b"/c//d", b"h", b"/c/d/"),
            (b"a.example:443", b"h", b"POST"),
            (b"", b"h", b"POST"),
        ):
            self.assertEqual(outcome(mux.match(b"CONNECT", target, host)), expected, (target, host))
        self.assertEqual(mux_of("//evil/").match(b"CONNECT", b"//evil", b"h"), Redirect(b"/evil/"))


class RegistrationTests(SynchronousTestCase):
    """Adding patterns."""

    def test_conflict_names_both(self) -> None:
        """A conflict names the pattern, the earlier one and the reason; the mux stays as it was."""
        mux = mux_of("GET /")
        error = self.assertRaises(PatternConflict, mux.add, parse("/x"), "/x")
        self.assertEqual((error.pattern.text, error.earlier.text), ("/x", "GET /"))
        self.assertEqual(
            str(error),
            'pattern "/x" conflicts with pattern "GET /": '
            "/x matches more methods than GET /, but has a more specific path pattern",
        )
        self.assertEqual(outcome(mux.match(b"POST", b"/x", b"h")), b"GET, HEAD")

    def test_an_overlap_is_explained_by_examples(self) -> None:
        """Where two paths overlap, the message has paths that show it."""
        error = self.assertRaises(PatternConflict, mux_of, "/a/{x}", "/{x}/b")
        self.assertIn(
            "both match paths like /a/b, but neither is more specific: /{x}/b alone matches /x/b, "
            "/a/{x} alone matches /a/x",
            str(error),
        )

    def test_many_routes_are_compared_with_few(self) -> None:
        """Ten thousand routes register with a few comparisons each, not with one for every pair."""
        texts = [f"{method}/route-{number}/{end}" for number in range(2000) for method, end in _SHAPES]
        with mock.patch("logging_proxy.routing.index.conflict", wraps=conflict) as compare:
            mux_of("/", *texts)
        self.assertLess(compare.call_count, 6 * len(texts))

    def test_a_very_long_pattern(self) -> None:
        """A pattern of thousands of segments is no trouble to register, compare and match."""
        long = "/a" * 5000 + "/{x}/"
        mux = mux_of(long, "/b/")
        self.assertRaises(PatternConflict, mux.add, parse(long), "again")
        self.assertEqual(outcome(mux.match(b"GET", b"/a" * 5000 + b"/b/c", b"h")), long)


_SHAPES = (("", ""), ("GET ", "a"), ("POST ", "x/"), ("", "y/{$}"), ("", "y/"))


_SEGMENT = st.sampled_from(["a", "b", "%61", "é", "{w}", "%2F"])
_END = st.sampled_from(["", "", "a", "b", "{$}", "{m...}"])
_METHOD = st.sampled_from(["", "", "GET ", "HEAD ", "POST "])
_RAW = st.sampled_from(["a", "b", "%61", "é", "%C3%A9", "%2F", "", ".", "..", "x", "a%2Fb"])


@st.composite
def pattern_sets(draw: st.DrawFn) -> list[Pattern]:
    """Draw patterns that stand side by side."""
    found: list[Pattern] = []
    mux: Mux[None] = Mux()
    for _ in range(draw(st.integers(0, 6))):
        middle = [part.replace("w", f"w{at}") for at, part in enumerate(draw(st.lists(_SEGMENT, max_size=2)))]
        host = draw(st.sampled_from(["", "", "h"]))
        pattern = parse(f"{draw(_METHOD)}{host}/{'/'.join([*middle, draw(_END)])}")
        try:
            mux.add(pattern, None)
        except PatternConflict:
            continue
        found.append(pattern)
    return found


_TARGETS = st.lists(_RAW, min_size=1, max_size=4).map(lambda parts: ("/" + "/".join(parts)).encode())
_METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"BREW"])
_HOSTS = st.sampled_from([b"h", b"h:80", b"other"])


def takes(pattern: Pattern, method: bytes, host: bytes, path: bytes) -> bool:
    """Tell whether a pattern alone takes a request, segment by segment."""
    if pattern.host not in (b"", host) or pattern.method not in (b"", method):
        if not (pattern.host in (b"", host) and (pattern.method, method) == (b"GET", b"HEAD")):
            return False
    given_segments = split_segments(path)
    for at, segment in enumerate(pattern.segments):
        if at == len(given_segments):
            return False
        if segment.multi:
            return True
        if (
            segment.wild
            and given_segments[at] == END
            or not segment.wild
            and segment.value != given_segments[at]
        ):
            return False
    return len(given_segments) == len(pattern.segments)


def best_of(patterns: list[Pattern], method: bytes, host: bytes, path: bytes) -> Pattern | None:
    """Return the one of the patterns that take a request to which all the others give way."""
    takers = [pattern for pattern in patterns if takes(pattern, method, host, path)]
    takers = [pattern for pattern in takers if pattern.host] or takers
    for pattern in takers:
        relations = [
            combine(compare_methods(pattern, other), compare_paths(pattern, other))
            for other in takers
            if other is not pattern
        ]
        if all(relation is Relation.MORE_SPECIFIC for relation in relations):
            return pattern
    return None


class ReferenceTests(SynchronousTestCase):
    """The tree against a matcher that compares every pattern with every other."""

    @given(pattern_sets(), _METHODS, _TARGETS, _HOSTS)
    @settings(max_examples=300, deadline=None)
    def test_match(self, patterns: list[Pattern], method: bytes, path: bytes, host: bytes) -> None:
        """The tree finds the pattern to which all others that take the request give way."""
        decision = mux_of(*[pattern.text for pattern in patterns]).match(method, path, host)
        if not isinstance(decision, Redirect):
            found = decision.pattern if isinstance(decision, Serve) else None
            self.assertEqual(found, best_of(patterns, method, strip_port(host), path))

    @given(pattern_sets(), _METHODS, _TARGETS, _HOSTS, st.randoms(use_true_random=False))
    @settings(max_examples=200, deadline=None)
    def test_order(
        self, patterns: list[Pattern], method: bytes, target: bytes, host: bytes, random: Random
    ) -> None:
        """The order of registration changes no decision."""
        texts = [pattern.text for pattern in patterns]
        first = outcome(mux_of(*texts).match(method, target, host))
        random.shuffle(texts)
        self.assertEqual(outcome(mux_of(*texts).match(method, target, host)), first)

    @given(pattern_sets(), _METHODS, _TARGETS, _HOSTS)
    @settings(max_examples=200, deadline=None)
    def test_redirects_end(self, patterns: list[Pattern], method: bytes, target: bytes, host: bytes) -> None:
        """A client that follows redirects asks again once or twice, and only ever for a path of ours."""
        mux = mux_of(*[pattern.text for pattern in patterns])
        for _ in range(2):
            decision = mux.match(method, target, host)
            if not isinstance(decision, Redirect):
                return
            target = decision.location
            self.assertTrue(target.startswith(b"/") and not target.startswith(b"//"))
        self.assertNotIsInstance(mux.match(method, target, host), Redirect)

    @given(
        st.lists(st.text(alphabet="GH /{}$x.%2Fé", max_size=8)), st.binary(max_size=12), st.binary(max_size=6)
    )
    @settings(max_examples=200, deadline=None)
    def test_any_bytes(self, texts: list[str], target: bytes, host: bytes) -> None:
        """Whatever the patterns, the target and the host are, there is a decision."""
        mux: Mux[str] = Mux()
        for text in texts:
            with contextlib.suppress(PatternError, PatternConflict):
                mux.add(parse(text), text)
        for method in (b"GET", b"CONNECT"):
            for full in (target, b"/" + target, b"http://" + target):
                self.assertIsNotNone(outcome(mux.match(method, full, host)))
