"""
The description of the API (OpenAPI 3.1) that is served to clients.

`openapi.json` describes what is particular to each address.  The rest is derived here: filters and the
members of an exchange from the table of columns, and problem responses from the statuses that an operation
lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from logging_proxy.index.columns import FIELDS, Field, Filter, row_schema

Json = dict[str, Any]


def openapi() -> Json:
    """The whole description; a new object at each call."""
    text = files("logging_proxy.logserver").joinpath("openapi.json").read_text("utf-8")
    document: Json = json.loads(text)
    problems = document.pop("problems")
    for operation in _operations(document):
        _fill_in(operation, problems)
    schemas = document["components"]["schemas"]
    for name, members in schemas.items():
        if "row" in members:
            schemas[name] = _with_members(row_schema(), members["row"])
    return document


def _operations(document: Json) -> Iterator[Json]:
    for item in [*document["paths"].values(), *document["x-websockets"].values()]:
        yield from (operation for method, operation in item.items() if method != "parameters")


def _fill_in(operation: Json, problems: dict[str, str]) -> None:
    """Adds the problem responses and the filter parameters of an operation."""
    for status in operation.pop("problems", ()):
        operation["responses"].setdefault(status, _problem(problems[status]))
    if operation.pop("filters", False):
        operation["parameters"] += [
            _parameter(each, filter) for each in FIELDS if (filter := each.column.filter) is not None
        ]


def _problem(description: str) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _parameter(field: Field, filter: Filter) -> Json:
    schema: Json = {"type": "string"}
    if filter.classes:
        schema["pattern"] = "^([1-5]([0-9][0-9]|[xX][xX]))?$"
    elif field.type is not str:
        schema = {"type": "boolean" if field.type is bool else "integer"}
    return {
        "name": field.name,
        "in": "query",
        "required": False,
        "description": filter.description,
        "schema": schema,
    }


def _with_members(schema: Json, members: Json) -> Json:
    """A row's schema with additional `members`, which replace the row's members of the same name."""
    schema["properties"] |= members
    schema["required"] += [name for name in members if name not in schema["required"]]
    return schema
