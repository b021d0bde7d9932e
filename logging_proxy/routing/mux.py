"""Which route a request takes: the behaviour of Go 1.27.3's ``http.ServeMux``.

The patterns form a tree (host, method, then segment by segment), so that a look-up costs the same with
ten routes as with ten thousand. The result for a request is a value, a `Decision`; responding is the caller's
task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from logging_proxy.routing.index import ConflictIndex
from logging_proxy.routing.paths import END, clean_path, escape_path, split_segments
from logging_proxy.routing.patterns import Pattern
from logging_proxy.routing.relations import describe_conflict
from logging_proxy.routing.targets import TargetError, split_target, strip_port

T = TypeVar("T")

# An ordinary path is escaped and clean and has no escapes, so it need not be decoded, encoded or resolved.
_ORDINARY = re.compile(rb"(?:/(?![/.])[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]]*)+")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class PatternConflict(ValueError):
    """A pattern that conflicts with an earlier one; the text names both."""

    def __init__(self, pattern: Pattern, earlier: Pattern, reason: str) -> None:
        super().__init__(f'pattern "{pattern}" conflicts with pattern "{earlier}": {reason}')
        self.pattern = pattern
        self.earlier = earlier


@dataclass(frozen=True, slots=True)
class Serve(Generic[T]):
    """A route matches. `path` is the escaped path that it matched, not the bytes that were sent."""

    pattern: Pattern
    value: T
    path: bytes


@dataclass(frozen=True, slots=True)
class Redirect:
    """The client is redirected to `location`, a path with the query as it was sent; the method stays."""

    status: ClassVar[int] = 307
    location: bytes


@dataclass(frozen=True, slots=True)
class NotFound:
    """No route matches the path."""


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """Routes match the path, but not this method; `allow` is the value of the Allow field."""

    allow: bytes


@dataclass(frozen=True, slots=True)
class BadTarget:
    """The request target cannot be parsed: 400."""

    reason: str


Decision = Serve[T] | Redirect | NotFound | MethodNotAllowed | BadTarget


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A registered pattern and its value."""

    pattern: Pattern
    value: T
    multi: bool


class _Node(Generic[T]):
    __slots__ = ("children", "leaf", "multi", "wild")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[T]] = {}
        self.wild: _Node[T] | None = None
        self.leaf: Entry[T] | None = None
        self.multi: Entry[T] | None = None


_Methods = dict[bytes, _Node[T]]


class Mux(Generic[T]):
    """The registered patterns, each with a value, and the decision for every request."""

    def __init__(self) -> None:
        self._any_host: _Methods[T] = {}
        self._hosts: dict[bytes, _Methods[T]] = {}
        self._index = ConflictIndex()

    def add(self, pattern: Pattern, value: T) -> None:
        """Register a pattern; `PatternConflict`, and no change, if it conflicts with an earlier one."""
        earlier = self._index.find_conflict(pattern)
        if earlier is not None:
            raise PatternConflict(pattern, earlier, describe_conflict(pattern, earlier))
        methods = self._hosts.setdefault(pattern.host, {}) if pattern.host else self._any_host
        _insert(methods.setdefault(pattern.method, _Node()), Entry(pattern, value, pattern.multi))
        self._index.add(pattern)

    def match(self, method: bytes, target: bytes, host: bytes) -> Decision[T]:
        """Decide about a request, given its target and its Host as they were sent.

        The target may be in any form; asterisk-form is a `BadTarget`, as ``OPTIONS *`` concerns no route.
        """
        path, _, query = target.partition(b"?")
        if _ORDINARY.fullmatch(path) and method != b"CONNECT":
            segments = path[1:].split(b"/")
            if not segments[-1]:
                segments[-1] = END
            return self._decide(method, host, path, segments, query)
        try:
            parts = split_target(target, method == b"CONNECT")
        except TargetError as error:
            return BadTarget(str(error))
        path, query = escape_path(parts.path), parts.query or b""
        if method == b"CONNECT":
            return self._decide_connect(parts.authority, host, path, query)
        cleaned = clean_path(path)
        moved = cleaned != path
        return self._decide(method, parts.authority or host, cleaned, split_segments(cleaned), query, moved)

    def _decide(
        self,
        method: bytes,
        host: bytes,
        path: bytes,
        segments: list[bytes],
        query: bytes,
        moved: bool = False,
    ) -> Decision[T]:
        host = strip_port(host) if self._hosts else b""
        entry = self._look_up(method, host, segments)
        if self._slash_helps(entry, method, host, path, segments):
            return _redirect(path + b"/", query)
        if moved:
            return _redirect(path, query)
        if entry is not None:
            return Serve(entry.pattern, entry.value, path)
        return self._refuse(host, path, segments)

    def _decide_connect(self, authority: bytes, host: bytes, path: bytes, query: bytes) -> Decision[T]:
        """CONNECT: no cleaning, ports are kept, and neither redirect nor 405 considers the Host field."""
        segments = split_segments(path)
        entry = self._look_up(b"CONNECT", authority, segments)
        if path and self._slash_helps(entry, b"CONNECT", authority, path, segments):
            # The one difference from Go, which does not clean "//host/path" and so redirects to another host.
            return _redirect(clean_path(path + b"/"), query)
        entry = self._look_up(b"CONNECT", authority or host, segments)
        if entry is not None:
            return Serve(entry.pattern, entry.value, path)
        return self._refuse(authority, path, segments)

    def _slash_helps(
        self, entry: Entry[T] | None, method: bytes, host: bytes, path: bytes, segments: list[bytes]
    ) -> bool:
        """Tell whether `path`, which `entry` matches, is to be redirected to the path with a slash."""
        if path.endswith(b"/") or (entry is not None and not entry.multi):
            return False
        slashed = self._look_up(method, host, [*segments, END])
        return slashed is not None and len(slashed.pattern.segments) == len(segments) + 1

    def _refuse(self, host: bytes, path: bytes, segments: list[bytes]) -> Decision[T]:
        allowed = self._allowed(host, segments)
        if not path.endswith(b"/"):
            allowed |= self._allowed(host, [*segments, END])
        return MethodNotAllowed(b", ".join(sorted(allowed))) if allowed else NotFound()

    def _look_up(self, method: bytes, host: bytes, segments: list[bytes]) -> Entry[T] | None:
        if host and host in self._hosts:
            entry = _look_up_method(self._hosts[host], method, segments)
            if entry is not None:
                return entry
        return _look_up_method(self._any_host, method, segments)

    def _allowed(self, host: bytes, segments: list[bytes]) -> set[bytes]:
        allowed: set[bytes] = set()
        for methods in (self._hosts.get(host, {}), self._any_host):
            allowed.update(name for name, root in methods.items() if name and _find(root, segments))
        return allowed | {b"HEAD"} if b"GET" in allowed else allowed


def _redirect(path: bytes, query: bytes) -> Redirect:
    if not query:
        return Redirect(path)
    # Go escapes non-ASCII bytes in a Location, in lower case.
    return Redirect(path + b"?" + _NOT_ASCII.sub(lambda byte: b"%%%02x" % ord(byte[0]), query))


def _insert(node: _Node[T], entry: Entry[T]) -> None:
    for segment in entry.pattern.segments:
        if segment.multi:
            # A later "/{x}/" replaces "//", as in Go.
            node.multi = entry
            return
        if segment.wild or not segment.value:
            # In Go 1.27.3 an empty literal and a wildcard share a node of the tree: "//" matches "/a/b".
            node.wild = node.wild or _Node()
            node = node.wild
        else:
            child = node.children.get(segment.value)
            if child is None:
                child = node.children[segment.value] = _Node()
            node = child
    if node.leaf is not None:
        reason = "an empty segment and a wildcard share their place"
        raise PatternConflict(entry.pattern, node.leaf.pattern, reason)
    node.leaf = entry


def _look_up_method(methods: _Methods[T], method: bytes, segments: list[bytes]) -> Entry[T] | None:
    names = (b"HEAD", b"GET", b"") if method == b"HEAD" else (method, b"")
    for name in names:
        root = methods.get(name)
        if root is not None:
            entry = _find(root, segments)
            if entry is not None:
                return entry
    return None


def _find(node: _Node[T], segments: list[bytes]) -> Entry[T] | None:
    """Return the most specific entry: along the literals, else the deepest subtree on the way."""
    best: Entry[T] | None = None
    for at, segment in enumerate(segments):
        if node.wild is not None:
            return _find_branching(node, segments, at) or best
        best = node.multi or best
        child = node.children.get(segment)
        if child is None:
            return best
        node = child
    return node.leaf or best


def _find_branching(top: _Node[T], segments: list[bytes], start: int) -> Entry[T] | None:
    """Like `_find`, for trees with wildcards: at each node literals first, then wildcards, then subtrees."""
    waiting: list[tuple[_Node[T], int] | Entry[T]] = [(top, start)]
    while waiting:
        step = waiting.pop()
        if isinstance(step, Entry):
            return step
        node, at = step
        if at == len(segments):
            if node.leaf is not None:
                return node.leaf
            continue
        if node.multi is not None:
            waiting.append(node.multi)
        if node.wild is not None and segments[at] != END:
            waiting.append((node.wild, at + 1))
        if (child := node.children.get(segments[at])) is not None:
            waiting.append((child, at + 1))
    return None
