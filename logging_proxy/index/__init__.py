"""
The index of captures, for listing, filtering and full-text search.

It is derived data: deleting it is safe, because it is rebuilt from the files of the log directory.
"""

from logging_proxy.index.columns import Row
from logging_proxy.index.cursors import BadCursor
from logging_proxy.index.entries import entry_of
from logging_proxy.index.filters import BadFilter, check_route, parse_filters
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
    "check_route",
    "entry_of",
    "meets",
    "parse_filters",
    "rebuild",
]
