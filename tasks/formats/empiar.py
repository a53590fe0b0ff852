"""Descriptions of EMPIAR entries, checked against the schema that comes with EMPIAR's own depositor program."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jsonschema import Draft7Validator

_PACKAGE, _SCHEMA = "empiar_depositor", "empiar_deposition.schema.json"


def empiar_complaints(description: dict[str, Any]) -> list[str]:
    """What the schema has against a description, in words."""
    found = _validator().iter_errors(description)
    return [f"{'.'.join(str(part) for part in error.absolute_path) or 'entry'}: {error.message}" for error in found]


def empiar_schema_source() -> str:
    """Whose schema it is."""
    return f"{_SCHEMA} of empiar-depositor {version('empiar-depositor')}"


@lru_cache(maxsize=1)
def _validator() -> Draft7Validator:
    """The schema names its parts by fragments of paths, which its own references never use."""
    schema = json.loads((files(_PACKAGE) / _SCHEMA).read_text(encoding="utf-8"))
    return Draft7Validator(_without_names(schema))


def _without_names(part: Any) -> Any:
    if isinstance(part, dict):
        return {k: _without_names(v) for k, v in part.items() if not (k == "$id" and isinstance(v, str))}
    return [_without_names(one) for one in part] if isinstance(part, list) else part
