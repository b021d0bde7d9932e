"""Request targets in all their forms, and hosts without their port."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.routing.targets import RequestTarget, TargetError, split_target, strip_port


class SplitTargetTests(SynchronousTestCase):
    """Splitting a request target."""

    def test_forms(self) -> None:
        """Origin-form and absolute-form are split into the same parts."""
        for target, parts in {
            b"/": (b"", b"/", None),
            b"/a?": (b"", b"/a", b""),
            b"/a?b?c#d": (b"", b"/a", b"b?c#d"),
            b"//a.example/x": (b"", b"//a.example/x", None),
            b"/%2F%e9;x": (b"", b"/%2F%e9;x", None),
            b"http://a.example/x?y": (b"a.example", b"/x", b"y"),
            b"HTTP://u:p@a.example:80/x": (b"a.example:80", b"/x", None),
            b"http://a.example": (b"a.example", b"", None),
            b"http://a.example?x": (b"a.example", b"", b"x"),
            b"http://[::1]:80/": (b"[::1]:80", b"/", None),
            b"http://%C3%A9/": ("é".encode(), b"/", None),
            b"http:///x": (b"", b"/x", None),
            b"foo:bar?x": (b"", b"", b"x"),
        }.items():
            self.assertEqual(split_target(target), RequestTarget(*parts), target)

    def test_authority_form(self) -> None:
        """With CONNECT, and only with CONNECT, a host and port is a target."""
        target = split_target(b"a.example:443", connect=True)
        self.assertEqual(target, RequestTarget(b"a.example:443", b"", None))
        self.assertEqual(split_target(b"/x", connect=True), RequestTarget(b"", b"/x", None))
        self.assertRaises(TargetError, split_target, b"1.2.3.4:443")

    def test_refused(self) -> None:
        """What is in none of the forms is refused."""
        for target in (
            b"",
            b"*",
            b"a",
            b"a/b",
            b"?x",
            b":x",
            b"1a://b/",
            b"/%",
            b"/%4",
            b"/%zz",
            b"/\x00",
            b"/a\x7f",
            b"/x?\n",
            b"http://a b/",
            b"http://a:b/",
            b"http://a:1:2/",
            b"http://%41/",
            b"http://u{@a/",
            b"http://u%zz@a/",
            b"http://[::1/",
            b"http://[::1]x/",
            b"http://[a]/",
            b"http://[1.2.3.4]/",
            b"http://x[::1]/",
            b"http://[::1%25]/",
            b"http://[::1%25%zz]/",
        ):
            self.assertRaises(TargetError, split_target, target)

    @given(st.binary(max_size=12), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_any_bytes(self, target: bytes, connect: bool) -> None:
        """Any bytes are split or refused, and a path starts with a slash if there is one."""
        for full in (target, b"/" + target, b"http://" + target, b"http://[" + target):
            try:
                parts = split_target(full, connect)
            except TargetError:
                continue
            self.assertIn(parts.path[:1], (b"", b"/"))


class StripPortTests(SynchronousTestCase):
    """Taking the port off a Host."""

    def test_hosts(self) -> None:
        """The port goes, whatever it is; a Host that cannot be split stays."""
        for host, stripped in {
            b"": b"",
            b"a.example": b"a.example",
            b"A.Example.": b"A.Example.",
            b"a.example:8080": b"a.example",
            b"a.example:bad": b"a.example",
            b"a.example:": b"a.example",
            b":80": b"",
            b"[::1]": b"[::1]",
            b"[::1]:80": b"::1",
            b"::1": b"::1",
            b"[::1": b"[::1",
            b"[a]:1:2": b"[a]:1:2",
            b"a[b:1": b"a[b:1",
            b"[[a]]:1": b"[[a]]:1",
            b"[x]y:1": b"[x]y:1",
        }.items():
            self.assertEqual(strip_port(host), stripped, host)
