"""The relation of two patterns, and whether they may be registered together.

Path segments and methods are compared pairwise, and the results are combined: equivalence
changes nothing, one disjoint pair decides, and more general in one pair but more specific in another is an
overlap.
"""

from __future__ import annotations

from enum import Enum

from logging_proxy.routing.paths import END
from logging_proxy.routing.patterns import Pattern, Segment, printable


class Relation(Enum):
    """The relation of a first pattern to a second one."""

    EQUIVALENT = "equivalent"
    MORE_GENERAL = "moreGeneral"
    MORE_SPECIFIC = "moreSpecific"
    OVERLAPS = "overlaps"
    DISJOINT = "disjoint"


# Bits: the first pattern matches requests of its own (1), the second does (2). Relations combine by "or".
_OWN = {Relation.EQUIVALENT: 0, Relation.MORE_GENERAL: 1, Relation.MORE_SPECIFIC: 2, Relation.OVERLAPS: 3}
_RELATION = {own: relation for relation, own in _OWN.items()}


def combine(first: Relation, second: Relation) -> Relation:
    """Return the relation of the whole, given those of two parts."""
    if Relation.DISJOINT in (first, second):
        return Relation.DISJOINT
    return _RELATION[_OWN[first] | _OWN[second]]


def compare_methods(p1: Pattern, p2: Pattern) -> Relation:
    """Compare the methods: no method matches all, GET matches HEAD too, any other only itself."""
    if p1.method == p2.method:
        return Relation.EQUIVALENT
    if not p1.method or (p1.method, p2.method) == (b"GET", b"HEAD"):
        return Relation.MORE_GENERAL
    if not p2.method or (p1.method, p2.method) == (b"HEAD", b"GET"):
        return Relation.MORE_SPECIFIC
    return Relation.DISJOINT


def compare_paths(p1: Pattern, p2: Pattern) -> Relation:
    """Compare the paths, regardless of methods and hosts."""
    relation = Relation.EQUIVALENT
    for s1, s2 in zip(p1.segments, p2.segments, strict=False):
        relation = combine(relation, _compare_segments(s1, s2))
        if relation is Relation.DISJOINT:
            return relation
    longer = len(p1.segments) - len(p2.segments)
    if longer == 0:
        return relation
    if longer < 0:
        return combine(relation, Relation.MORE_GENERAL if p1.multi else Relation.DISJOINT)
    return combine(relation, Relation.MORE_SPECIFIC if p2.multi else Relation.DISJOINT)


def conflict(p1: Pattern, p2: Pattern) -> bool:
    """Tell whether some request matches both patterns, and neither is more specific."""
    if p1.host != p2.host:
        return False
    relation = combine(compare_methods(p1, p2), compare_paths(p1, p2))
    return relation in (Relation.EQUIVALENT, Relation.OVERLAPS)


def describe_conflict(p1: Pattern, p2: Pattern) -> str:
    """Return one line that says why two patterns conflict."""
    methods, paths = compare_methods(p1, p2), compare_paths(p1, p2)
    if combine(methods, paths) is Relation.EQUIVALENT:
        return f"{p1} matches the same requests as {p2}"
    if paths is Relation.OVERLAPS:
        shared, own1, own2 = (_show(path) for path in _examples(p1, p2))
        return (
            f"both match paths like {shared}, but neither is more specific: "
            f"{p1} alone matches {own1}, {p2} alone matches {own2}"
        )
    if methods is Relation.MORE_GENERAL:
        return f"{p1} matches more methods than {p2}, but has a more specific path pattern"
    return f"{p1} matches fewer methods than {p2}, but has a more general path pattern"


def common_path(p1: Pattern, p2: Pattern) -> bytes:
    """Return a path that both match; there must be one."""
    pairs = zip(p1.segments, p2.segments, strict=False)
    shared = [s2 if s1.wild else s1 for s1, s2 in pairs]
    done = len(shared)
    longer = p1.segments[done:] or p2.segments[done:]
    return _write((*shared, *longer))


def difference_path(p1: Pattern, p2: Pattern) -> bytes:
    """Return a path that `p1` matches and `p2` does not, given that the two paths overlap."""
    path: list[Segment] = []
    for s1, s2 in zip(p1.segments, p2.segments, strict=False):
        if s1.multi:
            # If the other pattern ends in {$}, any segment distinguishes them; otherwise the bare slash does.
            ends_here = not s2.multi and s2.value == END
            path.append(Segment(s1.value or b"x") if ends_here else Segment(END))
            return _write(path)
        same_by_chance = s1.wild and not s2.wild and s1.value == s2.value
        path.append(Segment(s2.value + b"x") if same_by_chance else s1)
    return _write((*path, *p1.segments[len(path) :]))


def _examples(p1: Pattern, p2: Pattern) -> tuple[bytes, bytes, bytes]:
    return common_path(p1, p2), difference_path(p1, p2), difference_path(p2, p1)


def _compare_segments(s1: Segment, s2: Segment) -> Relation:
    if s1.multi or s2.multi:
        return _by_rank(s1.multi, s2.multi)
    if s1.wild != s2.wild and END in (s1.value, s2.value):
        return Relation.DISJOINT
    if s1.wild or s2.wild:
        return _by_rank(s1.wild, s2.wild)
    return Relation.EQUIVALENT if s1.value == s2.value else Relation.DISJOINT


def _by_rank(first: bool, second: bool) -> Relation:
    if first and second:
        return Relation.EQUIVALENT
    return Relation.MORE_GENERAL if first else Relation.MORE_SPECIFIC


def _write(segments: tuple[Segment, ...] | list[Segment]) -> bytes:
    """Return a path that the segments match, with wildcards replaced by their names."""
    return b"".join(
        b"/" if segment.multi or segment.value == END else b"/" + segment.value for segment in segments
    )


def _show(path: bytes) -> str:
    return printable(path.decode("utf-8", "replace"))
