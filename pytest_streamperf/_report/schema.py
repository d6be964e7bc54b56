"""Whether a document is what our JSON Schema says, with the standard library alone.

It knows the keywords of draft 2020-12 that `schema.json` uses, and no other.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_bytes())

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60

# A float may be an integer to JSON, and no number at all: NaN.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "number": lambda value: type(value) is int or (type(value) is float and isfinite(value)),
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
}

# Each keyword: of which values it says something, what it asks of them, and that in words.
_RULES: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], Any], str]] = {
    "type": (object, lambda value, names: any(_TYPES[name](value) for name in _many(names)), "{}"),
    "const": (object, lambda value, only: value == only, "{}"),
    "enum": (object, lambda value, allowed: value in allowed, "{}"),
    "pattern": (str, lambda value, pattern: re.search(pattern, value), "what matches {}"),
    "minimum": ((int, float), lambda value, least: value >= least, "{} at least"),
    "maximum": ((int, float), lambda value, most: value <= most, "{} at most"),
    "minItems": (list, lambda value, least: len(value) >= least, "{} items at least"),
    "maxItems": (list, lambda value, most: len(value) <= most, "{} items at most"),
}


def _many(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [names]


def fault(value: Any, schema: Any = SCHEMA) -> tuple[str, str] | None:
    """Say where a value is first not as the schema wants it, and what is wrong and allowed there.

    >>> fault([])
    ('', 'is []; it must be object')
    """
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for keyword, wanted in schema.items():
        if keyword in _RULES:
            kind, holds, words = _RULES[keyword]
            if isinstance(value, kind) and not holds(value, wanted):
                allowed = words.format(" or ".join(map(str, _many(wanted))))
                return "", f"is {_short.repr(value)}; it must be {allowed}"
    if isinstance(value, list):
        return _inside((index, each, schema["items"]) for index, each in enumerate(value))
    if isinstance(value, dict):
        return _fault_of_object(value, schema)
    return None


def _fault_of_object(value: dict[str, Any], schema: Any) -> tuple[str, str] | None:
    known, others = schema.get("properties", {}), schema["additionalProperties"]
    for key in schema.get("required", ()):
        if key not in value:
            return "", f"has no {key!r}; it must have one"
    for key in value:
        if others is False and key not in known:
            return "", f"has {_short.repr(key)}; it can have {', '.join(known)}"
    return _inside((key, each, known.get(key, others)) for key, each in value.items())


def _inside(parts: Iterable[tuple[str | int, Any, Any]]) -> tuple[str, str] | None:
    for step, value, schema in parts:
        found = fault(value, schema)
        if found:
            plain = isinstance(step, str) and step.isidentifier() and len(step) <= _short.maxstring
            return (f".{step}" if plain else f"[{_short.repr(step)}]") + found[0], found[1]
    return None
