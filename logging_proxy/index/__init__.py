"""
The index of captures: what can be listed, filtered and searched.

It holds nothing that the files of the log directory do not: it may be deleted
and is rebuilt from them.
"""

from logging_proxy.index.columns import Row
from logging_proxy.index.cursors import BadCursor
from logging_proxy.index.entries import entry_of
from logging_proxy.index.filters import BadFilter, parse_filters
from logging_proxy.index.indexer import Indexer
from logging_proxy.index.rebuild import Progress, rebuild
from logging_proxy.index.sqlite import SqliteIndex
from logging_proxy.index.values import (
    Abandoned,
    Counts,
    Entry,
    Filters,
    Index,
    IndexTrouble,
    Page,
    Texts,
    TooSlow,
    meets,
)

__all__ = [
    "Abandoned",
    "BadCursor",
    "BadFilter",
    "Counts",
    "Entry",
    "Filters",
    "Index",
    "IndexTrouble",
    "Indexer",
    "Page",
    "Progress",
    "Row",
    "SqliteIndex",
    "Texts",
    "TooSlow",
    "entry_of",
    "meets",
    "parse_filters",
    "rebuild",
]
