"""Saved graphs: exact round trips, tied tensors, exports, and files that are not what they seem."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import surgery
from surgery.errors import InputError, ModelFileError
from surgery.files import write_atomically
from surgery.graph import check_export, computing, export_graph


class Network(nn.Module):
    """Convolutions, a tied layer, an index buffer, attention: one of everything that a file has to hold."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(approximate="tanh"))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.register_buffer("order", torch.tensor([3, 1, 2, 0, 4, 5, 6, 7]))

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0][..., self.order]
        return self.second(self.first(x).clamp(min=-float("inf"), max=0.3)).mean(1)


@pytest.fixture(scope="module")
def rewritten():
    torch.manual_seed(0)
    graph = surgery.trace(Network(), torch.zeros(1, 3, 8, 8))
    return surgery.apply(surgery.plan(graph, "linearize")).module


def test_a_round_trip_is_exact(rewritten, tmp_path):
    surgery.save_graph(rewritten, tmp_path / "graph.safetensors")
    loaded = surgery.load_graph(tmp_path / "graph.safetensors")
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(loaded(images), rewritten(images))
    assert loaded.log == rewritten.log
    assert len(loaded.log) > 0
    assert (loaded.input_shape, loaded.rung, loaded.model_name) == ((3, 8, 8), rewritten.rung, "Network")
    for before, after in zip(rewritten.graph.nodes, loaded.graph.nodes, strict=True):
        assert before.name == after.name
        assert {k: v for k, v in before.meta.items() if k != "twins"} == {
            k: v for k, v in after.meta.items() if k != "twins"
        }


def test_saving_twice_writes_the_same_bytes(rewritten, tmp_path):
    surgery.save_graph(rewritten, tmp_path / "a.safetensors")
    surgery.save_graph(surgery.load_graph(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tied_tensors_stay_tied_and_frozen_ones_frozen(tmp_path):
    model = Network()
    model.first.bias.requires_grad_(False)
    graph = surgery.trace(model, torch.zeros(1, 3, 8, 8))
    surgery.save_graph(graph, tmp_path / "graph.safetensors")
    loaded = surgery.load_graph(tmp_path / "graph.safetensors")
    first, second = [node for node in computing(loaded) if node.meta["operation"] == "linear"][-2:]
    assert first.args[1] is second.args[1]
    assert not loaded.first.bias.requires_grad
    assert loaded.first.weight.requires_grad
    assert "order" in dict(loaded.named_buffers())


def test_a_graph_with_unknown_operations_round_trips(tmp_path):
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs()

    graph = surgery.trace(Fourier(), torch.zeros(1, 3, 8, 8))
    assert computing(graph)[0].meta["kind"] == "unknown"
    surgery.save_graph(graph, tmp_path / "graph.safetensors")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(surgery.load_graph(tmp_path / "graph.safetensors")(images), graph(images))


def test_exports_compute_the_same(rewritten, tmp_path):
    images = torch.randn(5, 3, 8, 8)
    expected = rewritten(images).detach()
    export_graph(rewritten, tmp_path / "graph.pt2")
    program = torch.export.load(tmp_path / "graph.pt2")
    torch.testing.assert_close(program.module()(images), expected)


def test_an_onnx_export_computes_the_same(rewritten, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    export_graph(rewritten, tmp_path / "graph.onnx")
    session = runtime.InferenceSession(str(tmp_path / "graph.onnx"))
    images = torch.randn(5, 3, 8, 8)
    [found] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), rewritten(images).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["graph.txt", "graph", "missing/graph.safetensors"])
def test_an_export_that_cannot_be_written_is_refused(rewritten, tmp_path, name):
    with pytest.raises(InputError):
        export_graph(rewritten, tmp_path / name)
    with pytest.raises(InputError):
        check_export(tmp_path / name)


def header_of(path):
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size])


def tampered(rewritten, tmp_path, change):
    """Save, let `change` edit the JSON of the header, and write that."""
    surgery.save_graph(rewritten, tmp_path / "graph.safetensors")
    header = json.loads(header_of(tmp_path / "graph.safetensors")["__metadata__"]["surgery"])
    change(header)
    tensors = {name: tensor.detach().clone() for name, tensor in rewritten.tensors().items()}
    save_file(tensors, tmp_path / "bad.safetensors", metadata={"surgery": json.dumps(header)})
    return tmp_path / "bad.safetensors"


def first_call(header):
    return next(node for node in header["nodes"] if node["operation"] == "conv2d")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: first_call(header).update(operation="aten.from_file.default"),
        lambda header: first_call(header).update(operation="os.system"),
        lambda header: first_call(header).update(name="x); import os; (y"),
        lambda header: first_call(header)["attributes"].update({"groups=1); evil(": 1}),
        lambda header: first_call(header)["attributes"].update(groups={"torch": "load"}),
        lambda header: header["nodes"][1].update(target='x"); evil(); ("'),
        lambda header: header.update(model="a b"),
        lambda header: header.pop("nodes"),
        lambda header: header.update(format="other"),
        lambda header: header["nodes"].reverse(),
    ],
    ids=["file op", "foreign op", "name", "attribute", "value", "target", "model", "missing", "format", "order"],
)
def test_a_tampered_header_is_refused(rewritten, tmp_path, change):
    with pytest.raises(ModelFileError):
        surgery.load_graph(tampered(rewritten, tmp_path, change))


def test_a_newer_format_asks_for_an_upgrade(rewritten, tmp_path):
    path = tampered(rewritten, tmp_path, lambda header: header.update(version=99))
    with pytest.raises(ModelFileError, match="version 99"):
        surgery.load_graph(path)


def test_truncated_files_are_refused(rewritten, tmp_path):
    surgery.save_graph(rewritten, tmp_path / "graph.safetensors")
    content = (tmp_path / "graph.safetensors").read_bytes()
    for size in (1, 7, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            surgery.load_graph(tmp_path / "cut.safetensors")


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "old", None)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
