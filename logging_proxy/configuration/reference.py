"""Renders the table of keys as the reference in docs/configuration.md."""

from __future__ import annotations

from logging_proxy.configuration.options import (
    TABLES,
    Section,
    defaults_of,
    is_required,
    keys_of,
    summary_of,
)

_TABLE_HEAD = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n"


def reference_markdown() -> str:
    """The reference in Markdown: a heading, a sentence and a table of keys for every section."""
    return "\n".join(_section(name, section) for name, section in TABLES.items())


def _section(name: str, section: type) -> str:
    rows = (_row(section, key) for key in keys_of(section))
    head = f"## `{name}`\n\n{summary_of(section)}\n\n{_TABLE_HEAD}"
    return head + "".join(rows)


def _row(section: type, name: str) -> str:
    key = keys_of(section)[name]
    cells = (f"`{name}`", key.kind.expected(), _default(section, name), key.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(section: type, name: str) -> str:
    if is_required(section, name):
        return "required"
    key = keys_of(section)[name]
    if name not in defaults_of(section) or isinstance(key.kind, Section):
        return key.absent
    return f"`{key.kind.written(defaults_of(section)[name])}`"
