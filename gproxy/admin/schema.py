"""The few kinds of JSON schema that the API needs: to describe documents by, and to check bodies by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0}

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def number(kind: str, minimum: float, maximum: float) -> Schema:
    """`kind` is integer or number; both ends are included."""
    return {"type": kind, "minimum": minimum, "maximum": maximum}


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def obj(members: dict[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """These members and no others."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required, "additionalProperties": False}


def problem_with(value: Any, schema: Schema, name: str = "the body") -> str | None:
    """What is wrong with a value, in a sentence; None where nothing is."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        return f"{name} must be {_or(kinds)}"
    if value is None:
        return None
    if isinstance(value, dict):
        return _problem_inside(value, schema, name)
    if "enum" in schema and value not in schema["enum"]:
        return f"{name} must be one of {', '.join(schema['enum'])}"
    if "minimum" in schema and not schema["minimum"] <= value <= schema.get("maximum", float("inf")):
        return f"{name} must be from {schema['minimum']} to {schema.get('maximum', 'any')}"
    return None


def _problem_inside(value: dict[str, Any], schema: Schema, name: str) -> str | None:
    members = schema["properties"]
    for member in schema["required"]:
        if member not in value:
            return f"{name} must have the member {member}"
    for member, inner in value.items():
        if member not in members:
            return f"{name} may have the members {', '.join(members) or 'none'}, and not {member[:40]!a}"
        if found := problem_with(inner, members[member], member):
            return found
    if len(value) < schema.get("minProperties", 0):
        return f"{name} must have one of the members {', '.join(members)}"
    return None


def _is(value: Any, kind: str) -> bool:
    """As JSON has it: true is no number, and 2.0 is an integer."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _or(kinds: Sequence[str]) -> str:
    return " or ".join({"null": "null", "string": "a string", "boolean": "true or false", "object": "an object",
                        "array": "a list", "integer": "a whole number", "number": "a number"}[kind]
                       for kind in kinds)  # fmt: skip
