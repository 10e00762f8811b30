"""Fields of a file that its schema names, and those that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter


def undocumented(data: Any, schema: Any) -> list[str]:
    """Paths of the fields of `data` that `schema` does not name; of mappings by name, such as versions, none."""
    written = TypeAdapter(schema).json_schema()
    return list(_unnamed(data, written, written.get("$defs", {}), ""))


def fields(schema: Any) -> set[str]:
    """Names of a schema's own fields."""
    return set(TypeAdapter(schema).json_schema()["properties"])


def _unnamed(data: Any, schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[str]:
    for choice in [schema, *schema.get("anyOf", ())]:
        choice = definitions[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
        if isinstance(data, dict) and "properties" in choice:
            for name, value in data.items():
                if name not in choice["properties"]:
                    yield f"{path}{name}"
                else:
                    yield from _unnamed(value, choice["properties"][name], definitions, f"{path}{name}.")
        if isinstance(data, list) and "items" in choice:
            for value in data:
                yield from _unnamed(value, choice["items"], definitions, f"{path}*.")
