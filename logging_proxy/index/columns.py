"""
The table of columns: one entry for everything that is listed of an exchange.

The SQL table and its INSERT, rows as JSON, filters (in SQL, in memory, as parameters of the API and as
options of the command line), marks, tallies and the API's description follow from the fields of `Row`.
A new figure is one field here, and one place that computes it.
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
    """How exchanges are chosen by a column: by its value, or by its class (`4xx` of a status) as well."""

    description: str
    help: str
    """For the command line."""
    metavar: str = "NAME"
    upper: bool = False
    """Values are in upper case, and what is asked for is made so."""
    classes: bool = False
    """A number below 10 stands for all values with so many hundreds."""


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of a column beside its name, its type and its default."""

    description: str = ""
    json: str = ""
    """Its member of a row's JSON, with a dot for one in an object; the column's name when empty."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """What its JSON Schema has beside type and description."""
    form: Callable[[Any], Any] | None = None
    """From the column's value to that in JSON, which is then a number or a text that the schema describes."""
    filter: Filter | None = None
    tally: bool = False
    """Exchanges are counted by its values."""
    from_bodies: bool = False
    """Only the bodies tell it: it is not known of what is under way."""
    seldom: bool = False
    """Mostly NULL."""


def iso_time(microseconds: int) -> str:
    """ISO 8601 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def _milliseconds(microseconds: int) -> float:
    return microseconds / 1000


_BYTES = {"minimum": 0}


class Row(NamedTuple):
    """
    One exchange as it is listed.  Times are microseconds, `started` since 1970.

    A named tuple, for there is one for every exchange: it is made in a tenth of a frozen dataclass's time.

    URLs come redacted.  The files hold everything else.
    """

    id: Annotated[str, Column(schema={"format": "uuid"})]
    started: Annotated[
        int, Column(json="started_at", form=iso_time, schema={"type": "string", "format": "date-time"})
    ]
    route: Annotated[str | None, Column(filter=Filter("Name of a route.", "this route"), tally=True)] = None
    pattern: Annotated[str | None, Column()] = None
    method: Annotated[
        str,
        Column(filter=Filter("Method.", "this method", "METHOD", upper=True), tally=True),
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
        ),
    ] = None
    outcome: Annotated[
        str,
        Column(
            "How it ended; null while it is under way.",
            schema={"type": ["string", "null"], "enum": [*OUTCOMES, None]},
            filter=Filter("How exchanges ended.", "this outcome: complete, client_closed, ...", "OUTCOME"),
            tally=True,
        ),
    ] = ""
    error: Annotated[str | None, Column(seldom=True)] = None
    answered_by: Annotated[str | None, Column(schema={"enum": ["destination", "proxy", None]})] = None
    model: Annotated[
        str | None,
        Column(filter=Filter("Name of a model.", "this model"), tally=True, from_bodies=True),
    ] = None
    session: Annotated[
        str | None, Column(filter=Filter("A session.", "this session", "ID"), from_bodies=True, seldom=True)
    ] = None
    stream: Annotated[bool, Column(from_bodies=True)] = False
    source_url: Annotated[str, Column("What the client called; secrets are redacted.")] = ""
    destination_url: Annotated[str | None, Column()] = None
    client: Annotated[str | None, Column()] = None
    duration: Annotated[
        int, Column(json="processing_time_ms", form=_milliseconds, schema={"type": "number"})
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
    request_bytes: Annotated[int, Column(json="request.bytes", schema=_BYTES)] = 0
    response_bytes: Annotated[int, Column(json="response.bytes", schema=_BYTES)] = 0
    request_file: Annotated[str | None, Column(json="request.filename")] = None
    response_file: Annotated[str | None, Column(json="response.filename")] = None

    def document(self) -> dict[str, Any]:
        """The row as a JSON object, with the names of the metadata."""
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
    """A field of `Row` with its type, as the derivations need it."""

    at: int
    name: str
    type: type
    nullable: bool
    column: Column
    object: str
    """The object of a row's JSON in which `member` stands; empty for the row itself."""
    member: str
    form: Callable[[Any], Any] | None

    @property
    def definition(self) -> str:
        """The column in SQL.  One that comes later needs a default, for the rows that are there."""
        type = "TEXT" if self.type is str else "INTEGER"
        if self.nullable:
            return f"{self.name} {type}"
        return f"{self.name} {type} NOT NULL DEFAULT {repr('') if self.type is str else 0}"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the member."""
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
"""The filters by the columns that they choose by."""

FROM_BODIES = frozenset(each.name for each in FIELDS if each.column.from_bodies)
TALLIED = tuple(each.name for each in FIELDS if each.column.tally)
SELDOM = tuple(each.name for each in FIELDS if each.column.seldom)
NUMBERS = frozenset(each.name for each in FIELDS if each.type is not str)


def row_schema() -> dict[str, Any]:
    """JSON Schema of what `Row.document` gives, and of a row under way."""
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
