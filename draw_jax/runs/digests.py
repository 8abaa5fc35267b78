"""Digests of JSON objects, so that a flipped bit in one is never taken for a number."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIELD = "digest"


def of_json(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, 16 hexadecimal digits, whatever its layout in a file."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def signed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an object with its digest, as the last field."""
    return {**fields, FIELD: of_json(fields)}


def verified(fields: Mapping[str, Any]) -> tuple[dict[str, Any], bool | None]:
    """Returns an object without its digest, and whether it is what was signed; None: unsigned."""
    rest = {name: value for name, value in fields.items() if name != FIELD}
    return rest, (of_json(rest) == fields[FIELD] if FIELD in fields else None)
