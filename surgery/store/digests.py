"""Digests of groups: everything that a reader sees of a group decides its digest, so that no damage stays unnoticed.

HDF5 protects numbers with checksums, but texts not at all: one changed byte renames a class.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from surgery.store.naming import Scalar
from surgery.store.values import Coordinate, Variable

DIGEST = "digest"
"""The attribute of groups, variables and coordinates that holds their digest."""


def array_digest(item: Variable | Coordinate) -> str:
    """The digest of a variable or coordinate.

    SHA-256 of its description as JSON, followed by its numbers in C order, or by its texts as JSON.
    """
    # In the same form whether the array comes from a stage or from a file: text has another width there.
    data = np.ascontiguousarray(item.data if isinstance(item, Variable) else item.values)
    words = data.dtype.kind == "U"
    described: dict[str, Any] = {
        "name": item.name,
        "dtype": "text" if words else data.dtype.str,
        "shape": list(item.data.shape if isinstance(item, Variable) else data.shape),
        "long_name": item.long_name,
        "units": "1" if words else item.units,
    }
    if isinstance(item, Variable):
        described |= {"dimensions": item.dimensions, "flag_meanings": item.flag_meanings, "comment": item.comment}
    found = hashlib.sha256(_canonical(described))
    found.update(_canonical(data.tolist()) if words else data.data)
    return f"sha256:{found.hexdigest()}"


def group_digest(
    *,
    name: str,
    kind: str,
    written: str,
    attributes: Mapping[str, Scalar],
    provenance: Mapping[str, str],
    arrays: Mapping[str, str],
) -> str:
    """The digest of a group; `arrays`: the digests of its variables and coordinates.

    It needs no array, so the texts of a group are checked without reading its numbers.
    """
    described = {
        "name": name,
        "kind": kind,
        "written": written,
        "attributes": dict(attributes),
        "provenance": dict(provenance),
        "arrays": dict(arrays),
    }
    return f"sha256:{hashlib.sha256(_canonical(described)).hexdigest()}"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
