"""Validate a report against `schema.json`, with the standard library alone.

`violation` takes a JSON value and returns the first place that breaks the schema, and the problem.
It supports only those keywords of JSON Schema, draft 2020-12, that `schema.json` uses. The base
install has no JSON Schema library; tests compare the results with the `jsonschema` package.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_bytes())

# Not measured: 60 characters of a value keep an error short, even for a value of a megabyte
# (tests/report/test_document.py, test_an_error_is_short).
_short_repr = reprlib.Repr()
_short_repr.maxstring = _short_repr.maxother = 60

# JSON Schema counts 2.0 as an integer, and NaN is no JSON number. A bool is no number either.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "number": lambda value: type(value) is int or (type(value) is float and isfinite(value)),
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
}

# For each keyword: the Python types that it applies to, its condition, and the condition in words.
# The condition takes the value and the value of the keyword.
_RULES: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], Any], str]] = {
    "type": (
        object,
        lambda value, names: any(_TYPES[name](value) for name in _as_list(names)),
        "{}",
    ),
    "const": (object, lambda value, only: value == only, "{}"),
    "enum": (object, lambda value, allowed: value in allowed, "{}"),
    "pattern": (str, lambda value, pattern: re.search(pattern, value), "text that matches {}"),
    "minimum": ((int, float), lambda value, least: value >= least, "at least {}"),
    "maximum": ((int, float), lambda value, most: value <= most, "at most {}"),
    "minItems": (list, lambda value, least: len(value) >= least, "at least {} items long"),
    "maxItems": (list, lambda value, most: len(value) <= most, "at most {} items long"),
}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def violation(value: Any, schema: Any = SCHEMA) -> tuple[str, str] | None:
    """Return the place and the problem of the first violation of the schema, or None.

    The place is a path from the value, such as ".checks[0].number". The problem is text that states
    the value there, shortened, and the allowed values.

    >>> violation([])
    ('', 'is []; it must be object')
    """
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for keyword, operand in schema.items():
        if keyword in _RULES:
            types, holds, words = _RULES[keyword]
            if isinstance(value, types) and not holds(value, operand):
                allowed = words.format(" or ".join(map(str, _as_list(operand))))
                return "", f"is {_short_repr.repr(value)}; it must be {allowed}"
    if isinstance(value, list):
        return _nested_violation((index, item, schema["items"]) for index, item in enumerate(value))
    if isinstance(value, dict):
        return _object_violation(value, schema)
    return None


def _object_violation(value: dict[str, Any], schema: Any) -> tuple[str, str] | None:
    properties, additional = schema.get("properties", {}), schema["additionalProperties"]
    for key in schema.get("required", ()):
        if key not in value:
            return "", f"has no {key!r}; it must have one"
    for key in value:
        if additional is False and key not in properties:
            return "", f"has {_short_repr.repr(key)}; it can have {', '.join(properties)}"
    return _nested_violation(
        (key, member, properties.get(key, additional)) for key, member in value.items()
    )


def _nested_violation(parts: Iterable[tuple[str | int, Any, Any]]) -> tuple[str, str] | None:
    """Return the first violation in the parts of a list or an object, or None.

    Each part is an index or a key, the value there, and the schema of that value.
    """
    for step, value, schema in parts:
        inner = violation(value, schema)
        if inner:
            is_plain = (
                isinstance(step, str) and step.isidentifier() and len(step) <= _short_repr.maxstring
            )
            return (f".{step}" if is_plain else f"[{_short_repr.repr(step)}]") + inner[0], inner[1]
    return None
