"""
The table of columns: one field of `Row` for each property listed of an exchange.

The SQL table and its INSERT, rows as JSON, filters (in SQL, in memory, as API parameters and as command-line
options), marks, tallies, the API description and the table that `ls` prints are derived from it.

A new column needs one field here and one place that computes it: `entries._row`, or, if it is derived from
the bodies, `understanding.facts`, where it is a field of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OUTCOMES = (
    *("complete", "client_closed", "upstream_closed", "upstream_reset", "upstream_timeout"),
    *("connect_failed", "tls_failed", "protocol_error", "interrupted"),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter on a column: by value, and optionally by class (such as `4xx` for a status)."""

    description: str
    help: str
    """The help text on the command line."""
    metavar: str = "NAME"
    upper: bool = False
    """The column is in upper case, so the requested value is converted to upper case."""
    classes: bool = False
    """A requested number below 10 is a class: 4 matches 400 to 499."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A column of the table of exchanges on the command line."""

    text: str
    place: int
    """The columns stand in the order of their places."""
    rank: int = 0
    """If the table is too wide, the column with the highest rank is dropped first; 0 always stays."""
    right: bool = False
    """Aligned to the right."""
    least: int = 0
    """Minimum width."""


@dataclass(frozen=True, slots=True)
class Column:
    """The properties of a column besides its name, type and default."""

    description: str = ""
    json: str = ""
    """The member in a row's JSON, `object.member` if nested; empty for the column's name."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Additions to the JSON Schema, besides type and description."""
    form: Callable[[Any], Any] | None = None
    """Converts the column's value to its JSON form, whose type `schema` then states."""
    filter: Filter | None = None
    tally: bool = False
    """Whether exchanges are counted by the values of this column."""
    from_bodies: bool = False
    """Whether it is derived from the bodies, and so unknown while an exchange is under way."""
    seldom: bool = False
    """Whether it is usually NULL."""
    heading: Heading | None = None
    """Its column in the table of exchanges on the command line, if it has one."""


def iso_time(microseconds: int) -> str:
    """ISO 8601 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def _milliseconds(microseconds: int) -> float:
    return microseconds / 1000


_BYTES = {"minimum": 0}


class Row(NamedTuple):
    """
    One exchange in a listing.  Times are in microseconds; `started` counts from 1970.

    URLs are redacted.  It is a named tuple because one is created for every exchange, and a frozen dataclass
    is much slower to create.
    """

    id: Annotated[str, Column(schema={"format": "uuid"}, heading=Heading("ID", 20, least=8))]
    started: Annotated[
        int,
        Column(
            json="started_at",
            form=iso_time,
            schema={"type": "string", "format": "date-time"},
            heading=Heading("STARTED", 10),
        ),
    ]
    route: Annotated[
        str | None,
        Column(
            filter=Filter("Name of a route.", "this route"),
            tally=True,
            heading=Heading("ROUTE", 60, rank=1, least=8),
        ),
    ] = None
    pattern: Annotated[str | None, Column()] = None
    method: Annotated[
        str,
        Column(
            filter=Filter("Method.", "this method", "METHOD", upper=True),
            tally=True,
            heading=Heading("METHOD", 30, rank=3),
        ),
    ] = ""
    status: Annotated[
        int | None,
        Column(
            filter=Filter(
                "A status, or a class such as 4xx.",
                "this status, or class of it: 404, 5xx",
                "STATUS",
                classes=True,
            ),
            tally=True,
            heading=Heading("STATUS", 40),
        ),
    ] = None
    outcome: Annotated[
        str,
        Column(
            "How it ended; null while it is under way.",
            schema={"type": ["string", "null"], "enum": [*OUTCOMES, None]},
            filter=Filter("How exchanges ended.", "this outcome: complete, client_closed, ...", "OUTCOME"),
            tally=True,
            heading=Heading("OUTCOME", 50, least=9),
        ),
    ] = ""
    error: Annotated[str | None, Column(seldom=True)] = None
    answered_by: Annotated[str | None, Column(schema={"enum": ["destination", "proxy", None]})] = None
    model: Annotated[
        str | None,
        Column(
            filter=Filter("Name of a model.", "this model"),
            tally=True,
            from_bodies=True,
            heading=Heading("MODEL", 70, rank=1, least=12),
        ),
    ] = None
    session: Annotated[
        str | None, Column(filter=Filter("A session.", "this session", "ID"), from_bodies=True, seldom=True)
    ] = None
    stream: Annotated[bool, Column(from_bodies=True)] = False
    source_url: Annotated[
        str,
        Column(
            "What the client called; secrets are redacted.", heading=Heading("PATH", 110, rank=5, least=12)
        ),
    ] = ""
    destination_url: Annotated[str | None, Column()] = None
    client: Annotated[str | None, Column()] = None
    duration: Annotated[
        int,
        Column(
            json="processing_time_ms",
            form=_milliseconds,
            schema={"type": "number"},
            heading=Heading("TIME", 80, rank=1, right=True, least=7),
        ),
    ] = 0
    head_after: Annotated[
        int | None,
        Column(
            "From the request's head to the response's.",
            json="response_head_ms",
            form=_milliseconds,
            schema={"type": ["number", "null"]},
        ),
    ] = None
    request_bytes: Annotated[
        int,
        Column(
            json="request.bytes",
            schema=_BYTES,
            heading=Heading("SENT", 90, rank=4, right=True, least=7),
        ),
    ] = 0
    response_bytes: Annotated[
        int,
        Column(
            json="response.bytes",
            schema=_BYTES,
            heading=Heading("RECEIVED", 100, rank=2, right=True, least=8),
        ),
    ] = 0
    request_file: Annotated[str | None, Column(json="request.filename")] = None
    response_file: Annotated[str | None, Column(json="response.filename")] = None
    text_cut: Annotated[
        bool,
        Column(
            "Whether only a part of the text of its bodies is searched, the rest being too long.",
            from_bodies=True,
        ),
    ] = False
    run: Annotated[
        str | None,
        Column(
            "The run of `logging-proxy run -- COMMAND` that it belongs to.",
            filter=Filter("Name of a run.", "this run of a command"),
            seldom=True,
        ),
    ] = None

    def document(self) -> dict[str, Any]:
        """The row as a JSON object, with the member names of the metadata."""
        document: dict[str, Any] = {}
        for member in FIELDS:
            value = self[member.at]
            if member.form is not None and value is not None:
                value = member.form(value)
            place = document if not member.object else document.setdefault(member.object, {})
            place[member.member] = value
        document["completed_at"] = iso_time(self.started + self.duration)
        return document


@dataclass(frozen=True, slots=True)
class Field:
    """A field of `Row`, resolved for the derivations."""

    at: int
    name: str
    type: type
    nullable: bool
    column: Column
    object: str
    """The object in a row's JSON that contains `member`; empty for the row itself."""
    member: str
    form: Callable[[Any], Any] | None

    @property
    def definition(self) -> str:
        """The column definition in SQL.  The default serves existing rows when the column is added later."""
        type = "TEXT" if self.type is str else "INTEGER"
        if self.nullable:
            return f"{self.name} {type}"
        return f"{self.name} {type} NOT NULL DEFAULT {repr('') if self.type is str else 0}"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the member."""
        name = {str: "string", int: "integer", bool: "boolean"}[self.type]
        schema: dict[str, Any] = {"type": [name, "null"] if self.nullable else name}
        if "enum" in self.column.schema and "type" not in self.column.schema:
            schema = {}
        schema |= self.column.schema
        if self.column.description:
            schema["description"] = self.column.description
        return schema


def _fields() -> Iterator[Field]:
    hints = get_type_hints(Row, include_extras=True)
    for at, name in enumerate(Row._fields):
        annotation, column = get_args(hints[name])
        types = [each for each in get_args(annotation) or (annotation,) if each is not NoneType]
        nullable = NoneType in get_args(annotation)
        object, _, member = (column.json or name).rpartition(".")
        yield Field(at, name, types[0], nullable, column, object, member, column.form)


FIELDS: Sequence[Field] = tuple(_fields())

FILTERS: Mapping[str, Filter] = {
    each.name: each.column.filter for each in FIELDS if each.column.filter is not None
}
"""The filters, by column name."""

FROM_BODIES = frozenset(each.name for each in FIELDS if each.column.from_bodies)
TALLIED = tuple(each.name for each in FIELDS if each.column.tally)
SELDOM = tuple(each.name for each in FIELDS if each.column.seldom)
NUMBERS = frozenset(each.name for each in FIELDS if each.type is not str)


def row_schema() -> dict[str, Any]:
    """The JSON Schema of `Row.document`, and of a row that is under way."""
    properties: dict[str, Any] = {}
    for each in FIELDS:
        place = properties
        if each.object:
            empty: dict[str, Any] = {"type": "object", "required": [], "properties": {}}
            outer = properties.setdefault(each.object, empty)
            outer["required"].append(each.member)
            place = outer["properties"]
        place[each.member] = each.schema
    properties["completed_at"] = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "Null while it is under way.",
    }
    return {"type": "object", "required": list(properties), "properties": properties}
