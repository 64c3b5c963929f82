"""The surgery checkpoint: a safetensors file whose header says, as JSON, which network the weights belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
from torch import Tensor

from surgery.errors import InputError, ModelFileError, printable
from surgery.files import write_atomically
from surgery.graph import safetensors_file
from surgery.graph.safetensors_file import HEADER_KEY
from surgery.models.recognize import Kind, model_file, read_model_file
from surgery.models.sources import Shape

FORMAT = "surgery-checkpoint"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network as values: the name and arguments for `build`, the input (C, H, W), the class names, the weights.

    `extra` is for the writer of the checkpoint (epoch, scores, seed): anything that JSON can hold.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_shape: Shape | None = None
    class_names: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Tensor]


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`; a reader sees either the old file or the new one.

    Raises InputError when something in it cannot be stored or the folder cannot be written to.
    """
    path = Path(path)
    names, shape = checkpoint.class_names, checkpoint.input_shape
    entries = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": checkpoint.architecture,
        "arguments": dict(checkpoint.arguments),
        "input_shape": None if shape is None else list(shape),
        "class_names": None if names is None else list(names),
        "extra": dict(checkpoint.extra),
    }
    try:
        header = json.dumps(entries, allow_nan=False)  # NaN is not JSON: other readers would refuse the file
        content = safetensors.torch.save(_unshared(checkpoint.state), metadata={HEADER_KEY: header})
    except (TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: the checkpoint cannot be stored: {error}") from error
    write_atomically(path, content)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a surgery checkpoint; raises ModelFileError for other files and for newer versions of the format."""
    path = model_file(path)
    kind, content = read_model_file(path)
    header = safetensors_file.read_entry(path, content) if kind is Kind.SAFETENSORS else {}
    if header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a surgery checkpoint", hint="surgery.load_model reads other model files")
    return checkpoint_from(path, header, safetensors_file.read_tensors(path, content))


def read_header(path: Path) -> dict[str, Any]:
    """Return the entry of surgery in the header of a safetensors file, {} if another program wrote the file."""
    return safetensors_file.read_entry(path, model_file(path).read_bytes())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    return safetensors_file.read_tensors(path, model_file(path).read_bytes())


def checkpoint_from(path: str | Path, entries: Mapping[str, Any], state: Mapping[str, Tensor]) -> Checkpoint:
    """Make a checkpoint of the entries of a header or a pickled dict; raises ModelFileError for a wrong one."""
    version = entries.get("version", VERSION)
    if type(version) is not int or version > VERSION:
        raise ModelFileError(
            f"{path}: a surgery checkpoint of version {printable(version)}; this surgery reads up to version {VERSION}",
            hint="update surgery, or save the checkpoint again with this version",
        )
    shape, names = entries.get("input_shape"), entries.get("class_names")
    arguments, extra = entries.get("arguments") or {}, entries.get("extra") or {}
    if not isinstance(entries.get("architecture"), str):
        _malformed(path, "architecture", "a name", entries.get("architecture"))
    if not isinstance(arguments, Mapping):
        _malformed(path, "arguments", "a table", arguments)
    if not isinstance(extra, Mapping):
        _malformed(path, "extra", "a table", extra)
    if shape is not None and not _is_shape(shape):
        _malformed(path, "input_shape", "[channels, height, width]", shape)
    if names is not None and not (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        _malformed(path, "class_names", "a list of names", names)
    return Checkpoint(
        architecture=entries["architecture"],
        arguments=dict(arguments),
        input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
        class_names=None if names is None else tuple(names),
        extra=dict(extra),
        state=dict(state),
    )


def _unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, which safetensors refuses; the module that loads them shares them again."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return result


def _is_shape(value: object) -> bool:
    numbers = value if isinstance(value, (list, tuple)) else ()
    return len(numbers) == 3 and all(type(number) is int and number > 0 for number in numbers)


def _malformed(path: str | Path, entry: str, expected: str, found: object) -> NoReturn:
    raise ModelFileError(f"{path}: damaged checkpoint: {entry} should be {expected}, got {printable(repr(found))}")
