"""Keys of a configuration that a command line sets: they replace those of the file before it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from logging_proxy.configuration.document import Entry, Node, Scalar
from logging_proxy.configuration.document import Mapping as MappingNode
from logging_proxy.configuration.problems import WHOLE_FILE, ConfigurationError, KeyPath, Problem

Value = str | int | Mapping[str, "Value"]


@dataclass(frozen=True, slots=True)
class Given:
    """A value from the command line, for the key at `path`; `option` names it in messages."""

    option: str
    path: KeyPath
    value: Value


def overlay(root: Node | None, given: tuple[Given, ...]) -> Node | None:
    """The document `root` with the values of `given`; sections that it lacks are added."""
    for each in given:
        root = _with(root, each.path, node_of(each.value))
    return root


def _with(node: Node | None, path: KeyPath, value: Node) -> Node:
    """`node` with `value` at `path`; a node that is no mapping stays, because its mistake is reported."""
    if not path:
        return value
    if isinstance(node, Scalar) and node.type == "null":
        node = None
    if node is None:
        node = MappingNode(WHOLE_FILE, ())
    if not isinstance(node, MappingNode):
        return node
    old = next((entry for entry in node.entries if entry.key == path[0]), None)
    position = WHOLE_FILE if old is None or len(path) == 1 else old.position
    new = Entry(position, path[0], _with(old.value if old else None, path[1:], value))
    if old is None:
        return replace(node, entries=(*node.entries, new))
    return replace(node, entries=tuple(new if entry is old else entry for entry in node.entries))


def node_of(value: Value) -> Node:
    """The node of a value that stands nowhere in a file."""
    if isinstance(value, int):
        return Scalar(WHOLE_FILE, str(value), "int")
    if isinstance(value, str):
        return Scalar(WHOLE_FILE, value, "str")
    entries = (Entry(WHOLE_FILE, key, node_of(member)) for key, member in value.items())
    return MappingNode(WHOLE_FILE, tuple(entries))


def blamed_on_options(error: ConfigurationError, given: tuple[Given, ...]) -> ConfigurationError:
    """The same mistakes, those in values of the command line with their options in place of the file."""
    return ConfigurationError(tuple(_blamed(problem, given) for problem in error.problems))


def _blamed(problem: Problem, given: tuple[Given, ...]) -> Problem:
    if problem.line:
        return problem
    for each in given:
        path = ".".join(each.path)
        if problem.key_path == path or problem.key_path.startswith(f"{path}."):
            return replace(problem, filename=each.option, key_path="")
    return problem
