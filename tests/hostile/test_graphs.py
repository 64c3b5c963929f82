"""Saved graphs with wrong entries: one located error before memory is used, and only checked words are looked up."""

from __future__ import annotations

import copy
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import surgery
from surgery.errors import ModelFileError
from surgery.graph import Graph
from surgery.graph.builder import UnsupportedError
from surgery.graph.schema import check_call, kind_of
from surgery.graph.vocabulary import OPERATIONS
from surgery.models import open_model

Header = dict[str, Any]


class Network(nn.Module):
    """Calls with attributes of many kinds: numbers, sizes, texts, dtypes, indices, sizes that grow with the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2))
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.interpolate(self.stem(x), scale_factor=2, mode="bilinear")
        x = nn.functional.pad(x, (1, 1, 0, 0)).to(torch.float32)[:, :, 1:, None]
        x = x.reshape(x.size(0), 8, -1).transpose(1, 2).softmax(-1)
        x = torch.cat([part.clamp(min=-1.0, max=1.0) for part in self.norm(x).chunk(2, dim=1)], dim=1)
        return self.linear(torch.einsum("nik,nik->nk", x, x) + x.mean(1, keepdim=False)).roll(1, 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Header, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    graph = surgery.trace(Network(), torch.zeros(1, 3, 8, 8))
    path = tmp_path_factory.mktemp("graph") / "graph.safetensors"
    surgery.save_graph(graph, path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["surgery"])
    return header, {name: tensor.detach().clone() for name, tensor in graph.tensors().items()}


def loaded(saved: tuple[Header, dict[str, torch.Tensor]], path: Path, change: Callable[[Header], object]) -> Graph:
    header = copy.deepcopy(saved[0])
    change(header)
    save_file(saved[1], path, metadata={"surgery": json.dumps(header)})
    return surgery.load_graph(path)


def call(header: Header, operation: str) -> Header:
    return next(node for node in header["nodes"] if node["operation"] == operation)


def attribute(operation: str, key: str, value: Any) -> Callable[[Header], object]:
    return lambda header: call(header, operation)["attributes"].update({key: value})


def node(operation: str, **entries: Any) -> Callable[[Header], object]:
    return lambda header: call(header, operation).update(entries)


def inserted(operation: str, operands: list[Any], **attributes: Any) -> Callable[[Header], object]:
    entry = {"name": "added", "operation": operation, "operands": operands, "attributes": attributes}
    return lambda header: header["nodes"].insert(1, entry)


INPUT = {"node": "x"}
CASES: dict[str, tuple[Callable[[Header], object], str]] = {
    "text for a number": (attribute("batch_norm", "eps", "x"), "batch_norm: eps should be a number, got 'x'"),
    "number for a flag": (attribute("batch_norm", "training", 1), "training should be true or false"),
    "list for a number": (attribute("conv2d", "groups", [1, 1]), "groups should be a whole number of at least 1"),
    "negative stride": (attribute("conv2d", "stride", [-1, 1]), "stride should be whole numbers of at least 1"),
    "stride of many digits": (attribute("conv2d", "stride", 10**40), "stride should be"),
    "zero groups": (attribute("conv2d", "groups", 0), "groups should be"),
    "padding of gigabytes": (attribute("conv2d", "padding", [10**6, 10**6]), "takes about"),
    "padding by an unknown word": (attribute("conv2d", "padding", "sam"), "conv2d"),
    "size of terabytes": (attribute("interpolate", "scale_factor", 1e6), "interpolate|takes about"),
    "no size": (attribute("interpolate", "scale_factor", None), "interpolate"),
    "unknown mode": (attribute("interpolate", "mode", "cubist"), "interpolate"),
    "mode of another type": (attribute("interpolate", "mode", 3), "mode should be a text"),
    "index as text": (attribute("getitem", "index", "x"), "index should be an index"),
    "index as a table": (attribute("getitem", "index", {"node": "absent"}), "absent"),
    "index out of range": (attribute("getitem", "index", {"tuple": [9, 9, 9, 9, 9]}), "getitem"),
    "dtype as text": (attribute("to", "dtype", "float32"), "dtype should be a dtype"),
    "function for a dtype": (attribute("to", "dtype", {"torch": "load"}), "unknown value"),
    "dtype that cannot be computed": (attribute("softmax", "dtype", {"torch": "int64"}), "cannot be made"),
    "dimension out of range": (attribute("softmax", "dim", 7), "cannot be computed: Dimension out of range"),
    "unknown attribute": (attribute("softmax", "evil", 7), "no attribute 'evil'"),
    "missing attribute": (lambda header: call(header, "softmax")["attributes"].pop("dim"), "needs the attribute 'dim'"),
    "equation": (attribute("einsum", "equation", "nik,nik->" + "z" * 10**6), "equation should be a text"),
    "chunks": (attribute("chunk", "chunks", 10**20), "chunks should be"),
    "attributes as a list": (node("softmax", attributes=[1]), "cannot be made"),
    "operands as a number": (node("softmax", operands=3), "cannot be made"),
    "text as an operand": (node("softmax", operands=["x" * 10**6]), "softmax of 'xxx"),
    "too many operands": (node("softmax", operands=[INPUT] * 9), "operands"),
    "no operands": (node("softmax", operands=[]), "operands"),
    "power of numbers": (inserted("pow", [10, 10**10]), "pow of"),
    "power of powers": (inserted("pow", [2**60, 60]), "pow of"),
    "number of many digits": (inserted("add", [10**30, 1]), "add of"),
    "repeated list": (inserted("mul", [[1], 10**10]), "mul of"),
    "zeros of terabytes": (inserted("zeros", [], size={"tuple": [10**6, 10**6]}), "takes about"),
    "repeated image": (inserted("repeat", [INPUT], repeats={"tuple": [1, 1, 30000, 30000]}), "takes about"),
    "millions of results": (
        lambda header: header["nodes"].__setitem__(
            slice(1, 1),
            [
                {"name": "a", "operation": "zeros", "attributes": {"size": {"tuple": [10**7]}}},
                {"name": "b", "operation": "unbind", "operands": [{"node": "a"}]},
            ],
        ),
        "unbind into up to 10000000 tensors",
    ),
    "operator that writes a file": (inserted("aten.save.default", [INPUT, "made"]), "unknown operation"),
    "operator that reads a file": (inserted("aten.from_file.default", ["/etc/passwd"]), "unknown operation"),
    "operator of another namespace": (inserted("prims.add.default", [INPUT, INPUT]), "unknown operation"),
    "operation of 600 kB": (inserted("x" * 600_000, []), "unknown operation"),
    "name of 600 kB": (node("softmax", name="x" * 600_000), "is not a name"),
    "keyword as a name": (node("softmax", name="class"), "is not a name"),
    "number as a name": (node("softmax", name=3), "is not a name"),
    "escape sequence": (node("softmax", name="\x1b[31m"), r"\\x1b\[31m"),
    "absent node": (node("softmax", operands=[{"node": "absent"}]), "absent"),
    "absent tensor": (lambda header: header["nodes"][1].update(target="absent"), "absent"),
    "line as text": (node("softmax", line="x"), "a position in the source"),
    "file as a number": (node("softmax", file=3), "a position in the source"),
    "deep value": (attribute("getitem", "index", json.loads("[" * 400 + "]" * 400)), "getitem"),
    "two outputs": (lambda header: header["nodes"].append(header["nodes"][-1]), "one output"),
    "no output": (lambda header: header["nodes"].pop(), "one output"),
    "no input": (lambda header: header["nodes"].pop(0), "cannot be made|one input"),
    "two inputs": (lambda header: header["nodes"].insert(1, {**header["nodes"][0], "name": "y"}), "one input"),
    "shape of gigabytes": (lambda header: header.update(input_shape=[3, 100_000, 100_000]), "takes about|cannot be"),
    "shape of many digits": (lambda header: header.update(input_shape=[3, 10**30, 8]), "input_shape should be"),
    "shape as text": (lambda header: header.update(input_shape="3x8x8"), "input_shape should be"),
    "parameters as a list": (lambda header: header.update(parameters=[]), "parameters should be"),
    "parameter of whole numbers": (lambda header: header["parameters"].update(x=3), "parameters should be"),
    "tied to nothing": (lambda header: header["aliases"].update(x="absent"), "absent"),
    "nodes as text": (lambda header: header.update(nodes="x"), "nodes should be a list"),
    "nodes as texts": (lambda header: header.update(nodes=["x"]), "nodes should be a list"),
    "log as a table": (lambda header: header.update(log={}), "log should be"),
    "edit without entries": (lambda header: header.update(log=[{}]), "no entry 'removed'"),
    "certificate as text": (lambda header: header.update(finding="x"), "not a saved graph"),
    "certificate of another file": (lambda header: header.update(version="1"), "version 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_graph_is_one_located_error(
    saved: tuple[Header, dict[str, torch.Tensor]], tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, message = CASES[case]
    start = time.monotonic()
    with pytest.raises(ModelFileError, match=message) as caught:
        loaded(saved, tmp_path / "graph.safetensors", change)
    assert time.monotonic() - start < 5
    assert str(tmp_path / "graph.safetensors") in caught.value.message
    assert len(str(caught.value)) < 1500
    with pytest.raises(ModelFileError, match=message):
        open_model(tmp_path / "graph.safetensors")
    assert not (tmp_path / "made").exists()


NASTY: tuple[Any, ...] = (None, -1, 0, 7, 10**12, "x", [], [1] * 7, [None], {"float": "nan"}, {"float": "inf"}, True)


def test_every_change_of_an_attribute_is_refused_or_computes(
    saved: tuple[Header, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    places = [(index, key) for index, node in enumerate(saved[0]["nodes"]) for key in node.get("attributes", {})]
    assert len(places) > 40
    refused = 0
    for number, (index, key) in enumerate(places):
        # All values at all places take a minute; every place meets a third of the values.
        for value in NASTY[number % 3 :: 3]:

            def change(header: Header, index: int = index, key: str = key, value: Any = value) -> None:
                header["nodes"][index]["attributes"][key] = value

            try:
                graph = loaded(saved, tmp_path / "a", change)
            except ModelFileError:
                refused += 1
            else:
                graph(torch.zeros(1, 3, 8, 8))
    assert refused > 80


def test_every_attribute_has_a_kind_that_accepts_its_default() -> None:
    for operation in OPERATIONS.values():
        for key in operation.attributes:
            assert kind_of(key).words
        given = {key: value for key, value in operation.attributes.items() if value is not ...}
        check_call(operation, [], given)


@pytest.mark.parametrize("value", [object(), {}, "x" * 2000, 10**40, [object()], ["x"], lambda: None])
def test_no_attribute_accepts_what_no_file_has(value: Any) -> None:
    for operation in OPERATIONS.values():
        for key in operation.attributes:
            with pytest.raises(UnsupportedError, match=f"{operation.name}: {key} should be"):
                check_call(operation, [], {key: value})


def test_end_of_a_slice_without_one_is_accepted() -> None:
    check_call(OPERATIONS["slice"], [], {"dim": 1, "start": 1, "end": 2**63 - 1, "step": 1})
