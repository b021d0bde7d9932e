"""Searches texts that are in no index, with the index's own tokenizer and expressions, and so its answers."""

from __future__ import annotations

import sqlite3
from types import TracebackType

from logging_proxy.index.records import storable
from logging_proxy.index.values import Filters, Texts
from logging_proxy.index.words import EVERY, TOKENIZER, match_expression, words_of


class UnindexedSearch:
    """
    A search over the texts of single exchanges.  A context manager: it holds a database in memory.

    A search without any word matches nothing, a blank one everything, as in the index.
    """

    def __init__(self, q: str) -> None:
        self._expression = match_expression(Filters(q=storable(q)))
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute(
            f"CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, tokenize='{TOKENIZER}')"
        )

    def __enter__(self) -> UnindexedSearch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def matches(self, request: str, response: str = "") -> bool:
        """Whether the index would find an exchange with these texts."""
        if self._expression is None:
            return True
        text = words_of(Texts(storable(request), storable(response)), EVERY)
        execute = self._connection.execute
        execute("INSERT INTO words (rowid, text) VALUES (1, ?)", (text,))
        found = execute("SELECT rowid FROM words WHERE words MATCH ?", (self._expression,)).fetchone()
        execute("INSERT INTO words (words) VALUES ('delete-all')")
        return found is not None
