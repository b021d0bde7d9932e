"""
Computes the index entry of an exchange: decodes, understands and redacts it.

Every figure of a row is computed in `_row`, from the same values whether the exchange is under way, was just
stored, or is read from its files in a rebuild.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from logging_proxy.captures.exchanges import Exchange
from logging_proxy.captures.stored import Stored
from logging_proxy.index.columns import FIELDS, Row
from logging_proxy.index.contents import ReadBody, content_of
from logging_proxy.index.recorded import Document, Recorded, of_documents, of_exchange
from logging_proxy.index.values import Entry, Texts, is_exchange_id
from logging_proxy.redaction.redact import redact_text, redact_url
from logging_proxy.understanding.conversation import Known, none_known
from logging_proxy.understanding.facts import Understanding, understand

_NOT_KNOWN = Understanding()
_NO_HEADERS: Mapping[str, str] = {}


def entry_of(
    request: Document | None, response: Document | None, read_body: ReadBody, known: Known = none_known
) -> Entry:
    """
    The entry of an exchange, from the metadata of one half or both.

    `known` tells what of a long conversation is indexed.  Raises ValueError, KeyError or TypeError if the
    documents are not valid metadata.
    """
    entry = _entry(of_documents(request, response), read_body, known)
    _check(entry.row)
    return entry


def entry_of_stored(stored: Stored, read_body: ReadBody, known: Known = none_known) -> Entry:
    """The entry of an exchange that was just stored; equal to `entry_of` of its metadata."""
    return _entry(of_exchange(*stored[:5]), read_body, known)


def row_so_far(exchange: Exchange, request_file: str | None, response_file: str | None) -> Row:
    """The row of an exchange that may be under way; what its bodies tell is not known yet."""
    return _row(of_exchange(exchange, request_file, response_file), _NOT_KNOWN)


def _entry(recorded: Recorded, read_body: ReadBody, known: Known) -> Entry:
    request, response = recorded.request, recorded.response
    asked, answered = content_of(request, read_body, known), content_of(response, read_body)
    understood = understand(
        recorded.asked.headers,
        asked.documents[0] if asked.documents else None,
        answered.documents,
        (_NO_HEADERS if response is None else response.headers).get("content-type", ""),
        recorded.asked.called,
    )
    row = _row(recorded, understood, text_cut=asked.cut or answered.cut)
    return Entry(row, Texts(asked.text, answered.text), asked.tail)


def _row(recorded: Recorded, understood: Understanding, text_cut: bool = False) -> Row:
    """The one place that computes the columns; those from bodies are the fields of `Understanding`."""
    id, started, ended, asked, client, run, outcome, error, request, response = recorded
    headed = response is not None and response.status is not None
    return Row(
        id=id,
        started=started,
        route=asked.route,
        pattern=asked.pattern,
        method=asked.method,
        status=response.status if response else None,
        outcome=outcome,
        error=redact_url(error) if error else None,
        answered_by=response.answered_by if response else None,
        source_url=asked.source_url,
        destination_url=asked.destination_url,
        client=client,
        run=run,
        # Halves uploaded one by one carry wall-clock times; the clock may have been set back in between.
        duration=max(0, ended - started),
        head_after=max(0, response.started - started) if response and headed else None,
        request_bytes=request.size if request else 0,
        response_bytes=response.size if response else 0,
        request_file=request.file if request else None,
        response_file=response.file if response else None,
        text_cut=text_cut,
        **_redacted(understood),
    )


def _redacted(understood: Understanding) -> dict[str, Any]:
    """The understanding as redacted values by column name."""
    return {
        name: _redacted_name(value) if isinstance(value, str) else value
        for name, value in zip(understood._fields, understood, strict=True)
    }


_redacted_name = lru_cache(maxsize=256)(redact_text)
"""Cached, because few models and sessions are in use at a time."""


def _check(row: Row) -> None:
    """Check the types of a row that comes from a file: one bad value would make the whole batch fail."""
    for field, value in zip(FIELDS, row, strict=True):
        wanted = str if field.type is str else int
        if value is not None and not isinstance(value, wanted):
            raise TypeError(f"{field.name} is not of type {wanted.__name__}")
    if not is_exchange_id(row.id):
        raise ValueError("not the id of an exchange")
