"""Safetensors files, read from their bytes: the entry of surgery in the header, and the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from surgery.errors import ModelFileError, printable

HEADER_KEY = "surgery"
"""The name of surgery's entry in the header, whose text is JSON."""

LARGEST_HEADER = 32 << 20
"""Bytes. Python needs about a second for JSON of this size; the graph of a large network has one of 1 MB."""

_LONGEST_NAME = 1000


def read_entry(path: Path, content: bytes) -> dict[str, Any]:
    """Return the entry of surgery in the header of the file `path`, {} if another program wrote the file.

    Raises ModelFileError for a header that is damaged, too large, or has names of tensors that are too long.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise _damaged(path, f"the header should have {size} bytes, the file has {len(content)}")
    if size > LARGEST_HEADER:
        raise ModelFileError(f"{path}: its header has {size} bytes, expected at most {LARGEST_HEADER}")
    header = _parsed(path, "the header", content[8 : 8 + size])
    long = next((name for name in header if len(name) > _LONGEST_NAME), None)
    if long is not None:
        raise ModelFileError(
            f"{path}: a tensor is called {printable(long, 60)}, expected at most {_LONGEST_NAME} characters"
        )
    metadata = header.get("__metadata__", {})
    text = metadata.get(HEADER_KEY, "{}") if isinstance(metadata, dict) else metadata
    if not isinstance(text, str):
        raise _damaged(path, f"the metadata should be texts, got {printable(metadata)}")
    return _parsed(path, f"the header's entry {HEADER_KEY!r}", text)


def read_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors of the file `path` by name, on the CPU; raises ModelFileError for a damaged file."""
    try:
        return safetensors.torch.load(content)
    # Beyond its own exception: dtypes that torch does not have, shapes that do not fit into 64 bits.
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise _damaged(path, printable(error)) from error


def _parsed(path: Path, what: str, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{what} is not JSON: {printable(error)}") from error
    if not isinstance(value, dict):
        raise _damaged(path, f"{what} should be a table, got {printable(value)}")
    return value


def _damaged(path: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f"{path}: truncated or damaged safetensors file ({what})",
        hint="it may be incomplete: download or save it again",
    )
