"""Patterns: what is read, what is refused, and which may stand side by side."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.routing.patterns import Pattern, PatternError, Segment, parse, uses_wildcards
from logging_proxy.routing.relations import (
    Relation,
    combine,
    common_path,
    compare_paths,
    conflict,
    describe_conflict,
)

SEGMENTS = st.sampled_from(["a", "b", "%61", "{x}", "{y}", "", "é", "%2F", ".."])
ENDS = st.sampled_from(["", "a", "b", "{$}", "{m...}"])
METHODS = st.sampled_from(["", "GET ", "HEAD ", "POST ", "CONNECT "])
HOSTS = st.sampled_from(["", "h", "H"])


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Draw a valid pattern, mostly over few segments so that pairs of them meet."""
    middle = draw(st.lists(SEGMENTS, max_size=3))
    parts = [f"{{n{number}}}" if part[:1] == "{" else part for number, part in enumerate(middle)]
    text = draw(METHODS) + draw(HOSTS) + "/" + "/".join([*parts, draw(ENDS)])
    try:
        return parse(text)
    except PatternError:
        return parse("/" + draw(ENDS))


class ParseTests(SynchronousTestCase):
    """Reading a pattern."""

    def test_odd_patterns_that_go_registers(self) -> None:
        """What Go takes without a word, we take, even if nothing can match it."""
        for text in (
            "/a/../b",
            "//",
            "//x",
            " /x",
            "http://a.example/x",
            "a.example:80/x",
            "get /x",
            "GET /a b",
            "GET \t /x",
            "CONNECT //",
            "/%x",
            "/a%2fb",
            "/\x00",
            "/\ud800",
            "[::1]/",
        ):
            self.assertEqual(parse(text).text, text)

    def test_parts(self) -> None:
        """A method ends at the first blank, a host at the first slash; each segment is decoded on its own."""
        self.assertEqual(parse(" /x"), Pattern(" /x", b"", b"", (Segment(b"x"),)))
        self.assertEqual(parse("GET a:80/").host, b"a:80")
        self.assertEqual(parse("GET a:80/").method, b"GET")
        segments = ("é".encode(), b"a/b", b"a b", b"%x", b"+")
        self.assertEqual(parse("/é/a%2fb/a%20b/%x/+").segments, tuple(Segment(value) for value in segments))
        self.assertEqual(parse("/%C3%A9").segments, parse("/é").segments)

    def test_refused(self) -> None:
        """What Go refuses is refused, with the place and the reason."""
        for text, reason in {
            "": "at offset 0: invalid pattern: it is empty",
            "GET": "at offset 0: host/path missing /",
            "GET x": "at offset 4: host/path missing /",
            "A=B /": 'at offset 0: invalid method "A=B"',
            "/a b": 'at offset 0: invalid method "/a"',
            "é /": 'at offset 0: invalid method "é"',
            "/a/{x}/b/{x...}": 'at offset 9: duplicate wildcard name "x"',
            "/é/{": "at offset 4: bad wildcard segment",
            "/{1}": 'at offset 1: bad wildcard name "1"',
            "/{x y}": "invalid method",
            "GET /{x y}": 'at offset 5: bad wildcard name "x y"',
            "/{$...}": 'at offset 1: bad wildcard name "$"',
            "/{...}": "at offset 1: empty wildcard",
            "a{/b": "at offset 1: host contains '{'",
            "GET //": "at offset 4: an unclean path",
            "GET h/a/../b": "at offset 5: an unclean path",
        }.items():
            error = self.assertRaises(PatternError, parse, text)
            self.assertIn(reason, str(error), text)

    def test_a_refusal_is_one_line(self) -> None:
        """Whatever the pattern holds, the message fits in a line and shows it."""
        error = self.assertRaises(PatternError, parse, "/{a\nb\x1b\u2028}")
        self.assertIn("/{a\\nb\\x1b\\u2028}", str(error))
        self.assertTrue(str(error).isprintable())

    @given(st.text(alphabet="GET aé/{}$.%2Fx\t\x00", max_size=12))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Any text is read or refused; nothing else happens."""
        try:
            pattern = parse(text)
        except PatternError as error:
            self.assertTrue(str(error).isprintable())
        else:
            self.assertTrue(pattern.segments)

    def test_uses_wildcards(self) -> None:
        """Wildcards are told from a final slash and from ``{$}``."""
        used = ["/{x}", "/{x...}", "/a/{x}/", "GET h/{é}/{$}"]
        self.assertEqual([text for text in used if not uses_wildcards(parse(text))], [])
        unused = ["/", "/a/", "/{$}", "/a/{$}", "/%7Bx%7D", "//"]
        self.assertEqual([text for text in unused if uses_wildcards(parse(text))], [])

    def test_is_subtree(self) -> None:
        """Only a pattern that ends in a slash is a subtree."""
        self.assertEqual([parse(text).is_subtree for text in ("/", "/a/", "h/a/")], [True] * 3)
        self.assertEqual(
            [parse(text).is_subtree for text in ("/a", "/a/{$}", "/{x...}", "/%2F")], [False] * 4
        )


class RelationTests(SynchronousTestCase):
    """Comparing patterns."""

    def test_conflicts(self) -> None:
        """Patterns that nothing tells apart, or that each win in one way, conflict."""
        for first, second, expected in (
            ("/a", "/%61", True),
            ("/%2F", "/{$}", True),
            ("GET /", "/x", True),
            ("GET a.example/", "/x", False),
            ("a.example/", "A.example/", False),
            ("/", "GET /x", False),
            ("/a", "/a/", False),
            ("/a", "GET /a", False),
            ("GET /a", "HEAD /", True),
            ("//", "/{x}/", False),
        ):
            self.assertEqual(conflict(parse(first), parse(second)), expected, (first, second))

    @given(patterns(), patterns())
    @settings(max_examples=200, deadline=None)
    def test_symmetric(self, p1: Pattern, p2: Pattern) -> None:
        """Conflicts are mutual, relations are inverse, and every conflict can be explained."""
        self.assertEqual(conflict(p1, p2), conflict(p2, p1))
        inverse = {
            Relation.MORE_GENERAL: Relation.MORE_SPECIFIC,
            Relation.MORE_SPECIFIC: Relation.MORE_GENERAL,
        }
        relation = compare_paths(p1, p2)
        self.assertIs(compare_paths(p2, p1), inverse.get(relation, relation))
        if conflict(p1, p2):
            self.assertTrue(describe_conflict(p1, p2).isprintable())

    @given(patterns(), patterns())
    @settings(max_examples=200, deadline=None)
    def test_itself(self, p1: Pattern, p2: Pattern) -> None:
        """A pattern conflicts with itself, and patterns that overlap share an example."""
        self.assertTrue(conflict(p1, p1))
        if compare_paths(p1, p2) is Relation.OVERLAPS:
            self.assertTrue(common_path(p1, p2).startswith(b"/"))

    @given(*[st.sampled_from(Relation)] * 3)
    @settings(max_examples=200, deadline=None)
    def test_combine(self, a: Relation, b: Relation, c: Relation) -> None:
        """Relations combine in any order and grouping."""
        self.assertIs(combine(a, b), combine(b, a))
        self.assertIs(combine(combine(a, b), c), combine(a, combine(b, c)))
