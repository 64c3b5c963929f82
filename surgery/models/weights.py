"""State dicts: found inside the entries of a file, compared with a network, loaded if every name and shape fits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import ModelFileError, printable

State = Mapping[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "state", "model", "net", "network", "weights")
_PREFIXES = ("module.", "model.", "net.", "network.")
_COMPILED = "_orig_mod."  # torch.compile puts it before the names of every compiled module, at any depth
_UNCOUNTED = "num_batches_tracked"  # torch before 1.0 did not write it
_SHOWN = 8
_COMPARED = 2000  # names that a missing one is compared with: all of a network's, but not those of a flood
_DEEPEST = 20
_LONGEST_NAME = 1000
_EXPANDED = 1 << 26  # bytes that a tensor may have beyond its storage: an expanded buffer is saved like that


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The differences of a state dict from a network: names, and shapes as (the network's, the file's)."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)


def entry_called(path: Path, content: Any, key: str) -> Any:
    """Return the entry `key` of a file's content, or the nested one that `outer.inner` names; raises ModelFileError."""
    for part in [key] if isinstance(content, Mapping) and key in content else key.split("."):
        if not isinstance(content, Mapping) or part not in content:
            held = ", ".join(printable(repr(name), 60) for name in content) if isinstance(content, Mapping) else "none"
            raise ModelFileError(f"{path}: no entry {key!r}; it has the entries {printable(held, 400)}")
        content = content[part]
    return content


def find_state(path: Path, content: Any) -> tuple[dict[str, Tensor], str]:
    """Return the state dict inside `content`, below entries such as `state_dict`; raises ModelFileError.

    The second value is a note that names the entry if the file has weights in other entries too, such as an average.
    """
    note = ""
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping) or not content:
            raise _nothing_inside(path, content)
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping) and content[name]), None)
        others = [printable(repr(name), 60) for name in content if name != wrapper and _has_weights(content[name])]
        if wrapper is None:
            return _state_of(path, content, others), note
        if others:
            note = f", entry {wrapper!r} (others with weights: {', '.join(others[:_SHOWN])})"
        content = content[wrapper]
    raise ModelFileError(f"{path}: no weights inside: its entries are nested more than {_DEEPEST} deep")


def _state_of(path: Path, content: Mapping[Any, Any], entries: list[str]) -> dict[str, Tensor]:
    """The `content` itself as a state dict, if it holds plain tensors only; the hint of an error names `entries`."""
    strange = {key: value for key, value in content.items() if type(value) not in (Tensor, nn.Parameter)}
    other = [f"{printable(key, 60)} ({type(value).__name__})" for key, value in strange.items()]
    if other:
        searched = f"weights are searched for in the entries {', '.join(_WRAPPERS)}"
        raise ModelFileError(
            f"{path}: not a state dict: these entries are not tensors: {_enumerate(other)}",
            hint=f"choose an entry with weights, as in `key={entries[0]}`" if entries else searched,
        )
    for key, tensor in content.items():
        if len(str(key)) > _LONGEST_NAME:
            raise ModelFileError(
                f"{path}: a tensor is called {printable(key, 60)}, expected at most {_LONGEST_NAME} characters"
            )
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        # Strides of zero can show one number as terabytes.
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() + _EXPANDED:
            shape = printable(tuple(tensor.shape), 60)
            raise ModelFileError(
                f"{path}: {printable(key)}: expected the values of a tensor of shape {shape}, got none"
            )
    return {str(key): value for key, value in content.items()}


def _has_weights(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    tables = (value, *(value[name] for name in _WRAPPERS if isinstance(value.get(name), Mapping)))
    return any(isinstance(item, Tensor) for table in tables for item in table.values())


def _nothing_inside(path: Path, content: Any) -> ModelFileError:
    shape = f" of shape {tuple(content.shape)}" if isinstance(content, Tensor) else ""
    what = "an empty one" if isinstance(content, Mapping) else f"an object of type {type(content).__name__}{shape}"
    return ModelFileError(
        f"{path}: no weights inside: expected a state dict, got {what}",
        hint="torch.save(model.state_dict(), file) writes one",
    )


def match_names(state: State, expected: Iterable[str]) -> State:
    """Remove the prefixes that wrappers put before every name, if more names are then in `expected`."""
    expected = set(expected)
    candidates = [state, {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}]
    # Wrappers nest: the prefixes of DataParallel and of the user's own wrapper are removed one after the other.
    while names := list(candidates[-1]):
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in names)), None)
        if prefix is None:
            break
        candidates.append({name.removeprefix(prefix): tensor for name, tensor in candidates[-1].items()})
    return max(candidates, key=lambda candidate: len(expected & candidate.keys()))


def compare(module: nn.Module, state: State) -> Misfit:
    """Return the differences of `state` from `module`."""
    expected: dict[str, Tensor] = module.state_dict()
    return Misfit(
        missing=tuple(name for name in expected if name not in state and not name.endswith(_UNCOUNTED)),
        unexpected=tuple(name for name in state if name not in expected),
        shapes={
            name: (tuple(tensor.shape), tuple(state[name].shape))
            for name, tensor in expected.items()
            if name in state and tensor.shape != state[name].shape
        },
    )


def classes_in_file(misfit: Misfit) -> int | None:
    """Return the file's number of classes if nothing else differs: one size for another, in the first dimension."""
    if misfit.missing or misfit.unexpected or not misfit.shapes:
        return None
    pairs = {(ours[:1], theirs[:1]) for ours, theirs in misfit.shapes.values()}
    only_first = all(ours[1:] == theirs[1:] and ours for ours, theirs in misfit.shapes.values())
    return next(iter(pairs))[1][0] if only_first and len(pairs) == 1 else None


def load_weights(path: Path, module: nn.Module, state: State, name: str) -> None:
    """Copy `state` into `module`, called `name` in errors; raises ModelFileError unless all of it fits."""
    try:
        # A plain dict has no `_metadata`. Without its version, batch norms accept a missing counter.
        module.load_state_dict(dict(state), strict=True)
    # torch decides, not `compare`: modules may accept older names of their entries.
    except RuntimeError as error:
        raise ModelFileError(_report(path, compare(module, state), name) or f"{path}: {error}") from error


def require_finite(path: str | Path, state: State) -> None:
    """Raise ModelFileError for NaN and infinite values, except in attention masks of zeros and minus infinities."""
    bad = {name: count for name, tensor in state.items() if (count := _not_finite(tensor))}
    if bad:
        listed = [f"{name} ({count} of {state[name].numel()})" for name, count in bad.items()]
        raise ModelFileError(
            f"{path}: NaN or infinite values in {len(bad)} of {len(state)} tensors: {_enumerate(listed)}",
            hint="its training diverged, or the file is damaged: use an earlier checkpoint",
        )


def describe_state(state: State) -> str:
    """The number of tensors and the first few with their shapes."""
    first = [f"{printable(name, 60)} {tuple(tensor.shape)}" for name, tensor in list(state.items())[:4]]
    return f"{len(state)} tensors, {', '.join(first)}{', ...' if len(state) > len(first) else ''}"


def _not_finite(tensor: Tensor) -> int:
    if not isinstance(tensor, Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    finite = torch.isfinite(tensor)
    if bool(finite.all()) or bool(((tensor == 0) | (tensor == -torch.inf)).all()):
        return 0
    return int((~finite).sum())


def _report(path: Path, misfit: Misfit, name: str) -> str:
    if not misfit:
        return ""
    lines = [f"{path}: the weights do not fit {name}"]
    if misfit.missing:
        # Only for those that are shown: comparing all names with all others takes seconds for a large network.
        near = {
            key: difflib.get_close_matches(key, misfit.unexpected[:_COMPARED], n=1, cutoff=0.6)
            for key in misfit.missing[:_SHOWN]
        }
        pairs = [f"{key} (is it {found[0]}?)" if found else key for key, found in near.items()]
        lines.append(f"missing, {len(misfit.missing)}: {_enumerate(pairs, len(misfit.missing))}")
    if misfit.unexpected:
        lines.append(f"unexpected, {len(misfit.unexpected)}: {_enumerate(misfit.unexpected)}")
    if misfit.shapes:
        shapes = [f"{key} should be {ours}, is {theirs}" for key, (ours, theirs) in misfit.shapes.items()]
        lines.append(f"other shapes, {len(shapes)}: {_enumerate(shapes)}")
    return "\n  ".join(lines)


def _enumerate(items: Iterable[str], total: int | None = None) -> str:
    items = list(items)
    total = len(items) if total is None else total
    return ", ".join(map(printable, items[:_SHOWN])) + (f" and {total - _SHOWN} more" if total > _SHOWN else "")
