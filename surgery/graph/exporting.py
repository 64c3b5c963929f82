"""Graphs in other people's formats: `.pt2` for torch.export, `.onnx` for ONNX runtimes; `.safetensors` is our own."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery.graph.graph import Graph
from surgery.graph.saving import save_graph
from surgery.torch_state import torch_state


@torch_state(gradients=True)
def export_graph(graph: Graph, path: str | Path) -> None:
    """Write `graph` in the format that the file's extension names; any batch size is allowed.

    Raises InputError for an unknown extension, a missing extra, or a graph that the format cannot express.
    """
    check_export(path)
    WRITERS[Path(path).suffix](graph, Path(path))


def check_export(path: str | Path) -> None:
    """Raise InputError, before any work, where `path` cannot be written or names no format."""
    path = Path(path)
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: unknown format {path.suffix!r}", hint=f"known are {', '.join(WRITERS)}")
    check_writable(path)
    if path.suffix == ".onnx":
        try:
            import onnx  # noqa: F401  # an extra
            import onnxscript  # noqa: F401
        except ImportError:
            raise InputError("writing ONNX needs an extra", hint="pip install 'model-surgery[onnx]'") from None


def _write_pt2(graph: Graph, path: Path) -> None:
    _through_a_file(path, lambda file: torch.export.save(_exported(graph), file))


def _write_onnx(graph: Graph, path: Path) -> None:
    def write(file: str) -> None:
        program = torch.onnx.export(_exported(graph), dynamo=True, verbose=False)
        assert program is not None, "the exporter returns a program unless it is given a file"
        program.save(file)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of deprecations in its own code
        _through_a_file(path, write)


def _exported(graph: Graph) -> torch.export.ExportedProgram:
    tensors = graph.tensors().values()
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    source = next(node for node in graph.graph.nodes if node.op == "placeholder")
    example = torch.zeros((2, *graph.input_shape), dtype=source.meta["dtype"], device=device)
    batch = torch.export.Dim.DYNAMIC
    try:
        return torch.export.export(graph, (example,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:
        raise InputError(f"torch.export cannot express this graph: {str(error).splitlines()[0]}") from error


def _through_a_file(path: Path, write: Callable[[str], None]) -> None:
    """Let `write` fill a temporary file of the right extension, then put its content in place at once."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"graph{path.suffix}"
        write(str(temporary))
        write_atomically(path, temporary.read_bytes())


WRITERS: Mapping[str, Callable[[Graph, Path], None]] = {
    ".safetensors": save_graph,
    ".pt2": _write_pt2,
    ".onnx": _write_onnx,
}
"""The function that writes each format, by extension."""
