"""Finds a registered pattern that a new one conflicts with, without comparing all of them.

The patterns of each host form a tree by path segment. A walk down the tree along a new pattern visits exactly
the patterns whose paths have a request in common with it: for a literal that is one branch, a wildcard and
the subtrees above, so registration stays near-linear in the number of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from logging_proxy.routing.paths import END
from logging_proxy.routing.patterns import Pattern, Segment
from logging_proxy.routing.relations import conflict

_ByMethod = dict[bytes, Pattern]


class _Node:
    """A position in the tree: patterns that end here, subtrees that start here, and child nodes."""

    __slots__ = ("children", "ends", "subtrees", "wild")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node] = {}
        self.wild: _Node | None = None
        self.ends: _ByMethod = {}
        self.subtrees: _ByMethod = {}

    def branches(self) -> Iterator[_Node]:
        yield from self.children.values()
        if self.wild is not None:
            yield self.wild


class ConflictIndex:
    """The patterns registered so far, none of which conflicts with another."""

    def __init__(self) -> None:
        self._hosts: dict[bytes, _Node] = {}

    def find_conflict(self, pattern: Pattern) -> Pattern | None:
        """Return a registered pattern that conflicts with this one, or None."""
        root = self._hosts.get(pattern.host)
        if root is None:
            return None
        for rivals in _meet(root, pattern.segments):
            for rival in _related(rivals, pattern.method):
                if conflict(pattern, rival):
                    return rival
        return None

    def add(self, pattern: Pattern) -> None:
        """Register a pattern for which `find_conflict` found nothing."""
        node = self._hosts.setdefault(pattern.host, _Node())
        for segment in pattern.segments:
            if segment.multi:
                node.subtrees[pattern.method] = pattern
                return
            if segment.wild:
                node.wild = node.wild or _Node()
                node = node.wild
            else:
                node = node.children.setdefault(segment.value, _Node())
        node.ends[pattern.method] = pattern


def _meet(root: _Node, segments: tuple[Segment, ...]) -> Iterator[_ByMethod]:
    """Yield the patterns below `root` that can match a path that `segments` match."""
    waiting = [(root, 0)]
    while waiting:
        node, at = waiting.pop()
        if at == len(segments):
            yield node.ends
            continue
        yield node.subtrees
        segment = segments[at]
        if segment.multi:
            yield from _everything_below(node)
        else:
            waiting.extend((branch, at + 1) for branch in _beside(node, segment))


def _beside(node: _Node, segment: Segment) -> Iterator[_Node]:
    """Yield the children that have matches in common with one segment, which is not a multi."""
    if segment.wild:
        yield from (child for value, child in node.children.items() if value != END)
    elif segment.value in node.children:
        yield node.children[segment.value]
    if node.wild is not None and (segment.wild or segment.value != END):
        yield node.wild


def _everything_below(top: _Node) -> Iterator[_ByMethod]:
    waiting = list(top.branches())
    while waiting:
        node = waiting.pop()
        yield node.ends
        yield node.subtrees
        waiting.extend(node.branches())


def _related(rivals: _ByMethod, method: bytes) -> Iterable[Pattern]:
    """Return the patterns at a node whose methods are not disjoint from `method`."""
    if not method:
        return rivals.values()
    methods = (b"GET", b"HEAD", b"") if method in (b"GET", b"HEAD") else (method, b"")
    return [rivals[name] for name in methods if name in rivals]
