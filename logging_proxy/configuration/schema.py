"""
The JSON Schema of the configuration, for editors.

``python -m logging_proxy.configuration.schema`` prints the content of `schema.json`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from logging_proxy.configuration.kinds import JSONSchema
from logging_proxy.configuration.options import (
    SECTIONS,
    RouteOptions,
    Section,
    defaults_of,
    is_required,
    keys_of,
    summary_of,
)
from logging_proxy.configuration.reading import MAX_ROUTE_NAME


def configuration_schema() -> JSONSchema:
    """A schema (draft 2020-12) that accepts every valid configuration."""
    sections = {name: {**_section(section), "type": ["object", "null"]} for name, section in SECTIONS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Logging Proxy",
        "type": "object",
        "additionalProperties": False,
        "properties": {**sections, "routes": _routes()},
    }


def schema_text() -> str:
    """The content of `schema.json`."""
    return json.dumps(configuration_schema(), indent=2) + "\n"


def _section(section: type) -> JSONSchema:
    schema: JSONSchema = {
        "description": summary_of(section),
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _key(section, name) for name in keys_of(section)},
    }
    required = [name for name in keys_of(section) if is_required(section, name)]
    return {**schema, "required": required} if required else schema


def _key(section: type, name: str) -> JSONSchema:
    key = keys_of(section)[name]
    if isinstance(key.kind, Section):
        return {**_nested(key.kind.type), "description": key.description}
    described: dict[str, Any] = {"description": key.description, **key.kind.schema()}
    defaults = defaults_of(section)
    return {**described, "default": defaults[name]} if name in defaults else described


def _nested(section: type) -> JSONSchema:
    """The schema of a section, which may be null if none of its keys is required."""
    schema = _section(section)
    return schema if "required" in schema else {**schema, "type": ["object", "null"]}


def _routes() -> JSONSchema:
    return {
        "description": "The routes, by name.",
        "type": ["object", "null"],
        "propertyNames": {
            "minLength": 1,
            "maxLength": MAX_ROUTE_NAME,
            "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$",
        },
        "additionalProperties": _section(RouteOptions),
    }


if __name__ == "__main__":
    sys.stdout.write(schema_text())
