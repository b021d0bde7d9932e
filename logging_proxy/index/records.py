"""Converts entries to the values stored in SQLite, and back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

from logging_proxy.index.columns import FIELDS, NUMBERS, SELDOM, Row
from logging_proxy.index.values import Entry, Filters, Texts, is_exchange_id
from logging_proxy.index.words import indexed_text

_NAMES = Row._fields
COLUMNS = ", ".join(f"e.{name}" for name in _NAMES).replace("e.id", "e.id", 1)

_MARKS = ["nullif(?, 0)" if name in SELDOM else "?" for name in _NAMES]
INSERT = f"INSERT INTO exchanges AS e (key, {', '.join(_NAMES)}) VALUES (?, {', '.join(_MARKS)})"

MAX_INTEGER = (1 << 63) - 1
KEY_RANGE = 1 << 40
"""Maximum distance of a key from its start time, in microseconds.  Nearly always they are equal."""

LEVEL = 1
"""The fastest level of zlib."""

COMPRESSED_FROM = 1024
"""Minimum bytes to compress; for a shorter text, setting up a compressor costs more than it saves."""

_PLAIN = b"\x00"
"""The prefix of an uncompressed text.  No zlib stream starts with it (RFC 1950 §2.2)."""


_new = tuple.__new__
"""Creates a named tuple without a call of its Python-level constructor."""


class Prepared(NamedTuple):
    """An entry converted for the tables, without its key."""

    id: bytes
    row: Row
    text: str
    request: bytearray
    response: bytearray
    tail: int

    def columns(self, key: int) -> tuple[Any, ...]:
        """
        The values for `INSERT`.

        They avoid bytes, None and bool, for which the driver first searches for an adapter.
        """
        values: list[Any] = [*self.row]
        values[0] = bytearray(self.id)
        for at in _SELDOM_AT:
            if values[at] is None:
                values[at] = 0
        for at in _BOOLS_AT:
            values[at] = int(values[at])
        return (key, *values)


_SELDOM_AT = [each.at for each in FIELDS if each.column.seldom]
_BOOLS_AT = [each.at for each in FIELDS if each.type is bool]


def prepare(entries: Iterable[Entry]) -> list[Prepared]:
    """
    The last entry of each exchange, converted and sorted by start time.

    FTS5 flushes its hash table whenever a rowid is lower than the previous one, hence the order.
    """
    given = list(entries)
    last = {entry.row.id: entry for entry in given}
    if len(last) < len(given):
        last = _last_of_each(given)
    return sorted(map(_prepare, last.values()), key=_order)


def _last_of_each(entries: list[Entry]) -> dict[str, Entry]:
    last: dict[str, Entry] = {}
    for entry in entries:
        before = last.get(entry.row.id)
        if before is not None and not goes_on(before.row.request_file, before.row.response_file, entry.row):
            entry = entry._replace(row=entry.row._replace(id=id_apart(entry.row)))
        last[entry.row.id] = entry
    return last


def goes_on(request_file: str | None, response_file: str | None, row: Row) -> bool:
    """
    Whether `row` is the exchange with these files, in a replay or completed by its other half.

    An exchange with other files only claims the same id, as exchanges from other programs may.
    """
    return request_file in (None, row.request_file) and response_file in (None, row.response_file)


def id_apart(row: Row) -> str:
    """
    A substitute id for an exchange whose id is taken, derived from its files and so reproducible.

    The first eight digits stay, because the file names contain them.
    """
    digest = blake2b(f"{row.id}\n{row.request_file}\n{row.response_file}".encode(), digest_size=12)
    return unpack_id(bytes.fromhex(row.id[:8]) + digest.digest())


def apart(prepared: Prepared) -> Prepared:
    """`prepared` with the substitute id of `id_apart`."""
    row = prepared.row._replace(id=id_apart(prepared.row))
    return prepared._replace(id=bytes.fromhex(row.id.replace("-", "")), row=row)


def _order(prepared: Prepared) -> tuple[int, bytes]:
    return prepared.row.started, prepared.id


def _prepare(entry: Entry) -> Prepared:
    row, texts, tail = entry
    id = pack_id(row.id)
    if id is None:
        raise ValueError("not the id of an exchange")
    if not _is_storable(row):
        row = Row(*map(storable, row))
    request, response = texts
    if not (request.isascii() and response.isascii() and "\x00" not in request and "\x00" not in response):
        request, response = storable(request), storable(response)
        texts = Texts(request, response)
    return _new(Prepared, (id, row, indexed_text(row, texts), pack_text(request), pack_text(response), tail))


_TEXTS = itemgetter(*(at for at, name in enumerate(_NAMES) if name not in NUMBERS))
_INTEGERS = itemgetter(*(at for at, name in enumerate(_NAMES) if name in NUMBERS))
_STORED = struct.Struct(f"{len(NUMBERS)}q")
"""Checks that all integers of a row fit into SQLite's 64 bits; cheaper than comparing each."""


def _is_storable(row: Row) -> bool:
    """Whether SQLite can store all values of a row unchanged, with a fast path for plain rows."""
    text = "".join(filter(None, _TEXTS(row)))
    if not text.isascii() or "\x00" in text:
        return False
    try:
        _STORED.pack(*[number or 0 for number in _INTEGERS(row)])
    except struct.error:  # A number is too large.
        return False
    return True


def key_candidates(id: bytes, started: int) -> Iterator[int]:
    """
    Candidate keys for an exchange: its start time, then later values derived from its id.

    The range grows, so that few attempts suffice even for many exchanges in one microsecond.
    """
    number = int.from_bytes(id, "big")
    yield started
    for bits in range(4, 40):
        yield started + 1 + (number >> bits) % (1 << bits)
    while True:
        number += 0x9E3779B97F4A7C15
        yield started + 1 + number % (KEY_RANGE - 1)


# --- values ------------------------------------------------------------------------


def pack_id(id: str) -> bytes | None:
    """The 16 bytes of a UUID in canonical form; None for any other text."""
    return bytes.fromhex(id.replace("-", "")) if is_exchange_id(id) else None


def unpack_id(id: bytes) -> str:
    text = id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def row_of(columns: tuple[Any, ...]) -> Row:
    """The row of a query result with the columns `COLUMNS`."""
    values = [*columns]
    values[0] = unpack_id(values[0])
    for at in _BOOLS_AT:
        values[at] = bool(values[at])
    return Row(*values)


def pack_text(text: str) -> bytearray:
    if not text:
        return bytearray()
    encoded = text.encode("utf-8")
    return bytearray(_PLAIN + encoded if len(encoded) < COMPRESSED_FROM else zlib.compress(encoded, LEVEL))


def unpack_texts(request: bytes | None, response: bytes | None) -> Texts:
    return Texts(_unpack_text(request), _unpack_text(response))


def _unpack_text(packed: bytes | None) -> str:
    if not packed:
        return ""
    return (packed[1:] if packed.startswith(_PLAIN) else zlib.decompress(packed)).decode("utf-8")


def storable_filters(filters: Filters) -> Filters:
    """`filters` converted like stored rows, so that both still compare equal."""
    where = {name: storable(value) for name, value in filters.where.items()}
    since, until, q = map(storable, (filters.since, filters.until, filters.q))
    return Filters(since=since, until=until, id=filters.id, q=q, **where)


def storable(value: Any) -> Any:
    """`value` as SQLite can store it: no lone surrogates, no NUL, no integer beyond signed 64 bits."""
    if isinstance(value, str):
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")
        return value.replace("\x00", " ") if "\x00" in value else value
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-MAX_INTEGER, min(value, MAX_INTEGER))
    return value
