"""A graph and its file carry the certificate, and lose it with any change of nodes or weights."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import surgery
from surgery.graph import Graph, computing, load_graph, save_graph
from surgery.linear import certificate_of, certify, extract
from surgery.linear import probe as probes

EXAMPLE = torch.zeros(1, 3, 8, 8)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that were probed, in order."""
    found: list[Graph] = []

    def probe(graph: Graph, **options: object) -> probes.Probe:
        found.append(graph)
        return probes.probe(graph, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("surgery.linear.certificate.probe", probe)
    return found


class Branches(nn.Module):
    """Sizes of all residues modulo eight bytes, a tied weight, a buffer, and two nodes that can be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.first, self.second = nn.Linear(320, 7), nn.Linear(320, 7, bias=False)
        self.head = nn.Linear(7, 3)
        self.second.weight = self.first.weight
        self.register_buffer("offset", torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().flatten(1)
        return self.head(self.first(x) - self.second(2 * x)) + self.offset


@pytest.fixture
def linear() -> surgery.Linearized:
    torch.manual_seed(0)
    return surgery.linearize(Branches(), EXAMPLE, rules="linearize-keep-bn")


def test_a_linearized_graph_is_not_measured_again(linear: surgery.Linearized, measured: list[Graph]) -> None:
    whole = extract(linear)
    assert torch.equal(extract(linear.module).weight, whole.weight)
    assert whole.certificate == certificate_of(linear.module) == linear.certificate
    assert not measured
    assert certify(linear.module) == linear.certificate
    assert len(measured) == 1, "certify always measures"


def _forward(graph: Graph) -> None:
    graph(torch.rand(2, 3, 8, 8)).sum().backward()
    graph.zero_grad()


HARMLESS: dict[str, Callable[[Graph], object]] = {
    "forward and backward": _forward,
    "gradients off": lambda graph: graph.requires_grad_(False),
    "evaluation mode": lambda graph: graph.eval(),
    "moved to where it is": lambda graph: graph.to("cpu", torch.float32),
    "recompiled": lambda graph: graph.recompile(),
    "a copy changed": lambda graph: copy.deepcopy(graph).get_parameter("head.bias").data.add_(1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_nothing_keeps_the_certificate(
    linear: surgery.Linearized, measured: list[Graph], name: str
) -> None:
    HARMLESS[name](linear.module)
    assert certificate_of(linear.module) == linear.certificate
    assert not measured


def _weight(graph: Graph) -> Tensor:
    return graph.get_parameter("first.weight")


def _in_place(graph: Graph) -> None:
    with torch.no_grad():
        _weight(graph).mul_(2)


def _step(graph: Graph) -> None:
    graph(torch.rand(2, 3, 8, 8)).sum().backward()
    torch.optim.SGD(graph.parameters(), lr=0.1).step()


def _exchange(graph: Graph) -> None:
    """y - x instead of x - y."""
    node = next(node for node in computing(graph) if node.meta["operation"] == "sub")
    node.args = node.args[::-1]


def _attribute(graph: Graph) -> None:
    """Another attribute of a call, with the operands as they are."""
    node = next(node for node in computing(graph) if node.meta["operation"] == "conv2d")
    node.kwargs = {**node.kwargs, "padding": (2, 2), "dilation": (2, 2)}


def _function(graph: Graph) -> None:
    """Another function under the same name, which the laws do not see."""
    next(node for node in computing(graph) if node.meta["operation"] == "sub").target = torch.add


def _rows(graph: Graph) -> None:
    weight = _weight(graph).data
    weight.copy_(weight.flip(0))


CHANGES: dict[str, Callable[[Graph], object]] = {
    "in-place operation": _in_place,
    "optimizer step": _step,
    "load_state_dict": lambda graph: graph.load_state_dict({k: v + 1 for k, v in graph.state_dict().items()}),
    "another format": lambda graph: graph.double(),
    "half precision": lambda graph: graph.bfloat16(),
    "write through .data": lambda graph: _weight(graph).data.mul_(2),
    "one number through .data": lambda graph: _weight(graph).data.view(-1)[1234].add_(1e-6),
    "last number through .data": lambda graph: graph.get_parameter("head.bias").data[2].add_(1),
    "signs through .data": lambda graph: _weight(graph).data.neg_(),
    "rows exchanged through .data": _rows,
    "write through NumPy": lambda graph: graph.get_parameter("conv.bias").detach().numpy().__setitem__(0, 5.0),
    "another tensor in .data": lambda graph: setattr(_weight(graph), "data", _weight(graph).data * 2),
    "another parameter": lambda graph: setattr(
        graph.get_submodule("first"), "weight", nn.Parameter(_weight(graph) + 1)
    ),
    "buffer": lambda graph: graph.get_buffer("norm.running_var").mul_(4),
    "operands exchanged": _exchange,
    "attribute of a call": _attribute,
    "function of a call": _function,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_nodes_or_weights_asks_for_a_new_certificate(
    linear: surgery.Linearized, measured: list[Graph], name: str
) -> None:
    CHANGES[name](linear.module)
    after = certificate_of(linear.module)
    assert measured == [linear.module]
    assert after.affine
    assert certificate_of(linear.module) == after
    assert len(measured) == 1, "the new one is carried"


def test_a_node_that_is_not_affine_is_seen_without_probes(linear: surgery.Linearized, measured: list[Graph]) -> None:
    softened = surgery.apply(surgery.plan(surgery.trace(Branches(), EXAMPLE), "relu-to-softplus")).module
    node = next(node for node in computing(softened) if node.meta["operation"] == "softplus")
    at = next(node for node in computing(linear.module) if node.meta["operation"] == "flatten")
    at.target, at.meta = node.target, {**node.meta}
    assert certificate_of(linear.module).verdict == "nonlinear"
    assert not measured


COPIES: dict[str, Callable[[Graph], Graph]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_measured_for_itself(linear: surgery.Linearized, measured: list[Graph], name: str) -> None:
    other = COPIES[name](linear.module)
    assert certificate_of(other) == linear.certificate
    assert measured == [other]


def test_a_pickled_graph_carries_nothing(linear: surgery.Linearized) -> None:
    assert b"superposition" not in pickle.dumps(linear.module)


def test_a_certificate_with_other_probes_is_not_carried(linear: surgery.Linearized, measured: list[Graph]) -> None:
    other = certify(linear.module, generator=torch.Generator().manual_seed(5))
    assert other != linear.certificate
    assert certificate_of(linear.module) == linear.certificate
    assert len(measured) == 1


def test_a_certificate_that_was_changed_by_its_reader_is_not_the_carried_one(linear: surgery.Linearized) -> None:
    before = dict(linear.certificate.scales)
    linear.certificate.scales["head"] = 1e40  # pyright: ignore[reportIndexIssue]  # a Mapping, but a dict underneath
    certificate_of(linear.module).scales["head"] = 1e40  # pyright: ignore[reportIndexIssue]
    assert certificate_of(linear.module).scales == before


def test_carrying_does_not_keep_a_graph_alive() -> None:
    graph = surgery.linearize(Branches(), EXAMPLE).module
    seen = weakref.ref(graph)
    del graph
    gc.collect()
    assert seen() is None


def test_threads_share_a_graph(linear: surgery.Linearized, measured: list[Graph]) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(certificate_of(linear.module) == linear.certificate))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert not measured


@pytest.fixture
def file(linear: surgery.Linearized, tmp_path: Path) -> Path:
    save_graph(linear.module, tmp_path / "linear.safetensors")
    return tmp_path / "linear.safetensors"


def test_a_file_carries_the_certificate_bit_by_bit(
    linear: surgery.Linearized, file: Path, measured: list[Graph], tmp_path: Path
) -> None:
    loaded = load_graph(file)
    assert certificate_of(loaded) == linear.certificate
    assert not measured
    save_graph(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_a_graph_without_certificate_or_with_an_old_one_is_saved_without(
    linear: surgery.Linearized, measured: list[Graph], tmp_path: Path
) -> None:
    save_graph(linear.before, tmp_path / "before.safetensors")
    _weight(linear.module).data.mul_(2)
    save_graph(linear.module, tmp_path / "changed.safetensors")
    for path in tmp_path.iterdir():
        assert "finding" not in _parts(path)[0]


def _parts(path: Path) -> tuple[dict, dict[str, Tensor]]:
    with safe_open(str(path), framework="pt") as reader:
        header = json.loads(reader.metadata()["surgery"])
        return header, {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118  # no iterator


def _node(header: dict, operation: str) -> dict:
    return next(node for node in header["nodes"] if node["operation"] == operation)


def _second_input(header: dict) -> None:
    _node(header, "sub")["operands"].reverse()


FORGERIES: dict[str, Callable[[dict, dict[str, Tensor]], object]] = {
    "weights": lambda header, tensors: tensors["first.weight"].mul_(2),
    "a weight's name": lambda header, tensors: tensors.update(
        {"norm.running_mean": tensors["norm.bias"], "norm.bias": tensors["norm.running_mean"] + 1}
    ),
    "nodes": lambda header, tensors: _second_input(header),
    "scales": lambda header, tensors: header["finding"]["content"]["scales"].update(head=1e-3),
    "digest": lambda header, tensors: header["finding"].update(digest="0" * 64),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_file_that_was_changed_is_measured(file: Path, measured: list[Graph], name: str) -> None:
    header, tensors = _parts(file)
    FORGERIES[name](header, tensors)
    save_file(tensors, file, metadata={"surgery": json.dumps(header)})
    loaded = load_graph(file)
    certificate = certificate_of(loaded)
    assert measured == [loaded]
    assert certificate == certify(loaded)


CONTENTS: dict[str, object] = {
    "of other nodes": {"scales": {"head": 1.0}, "superposition_error": 0.0},
    "infinite": {"scales": None, "superposition_error": float("inf")},
    "beyond the tolerance": {"scales": None, "superposition_error": 0.5},
    "no object": [1, 2],
    "text": {"scales": "all", "superposition_error": "0"},
    "empty": {},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_finding_that_cannot_be_this_graphs_is_measured_in_spite_of_its_digest(
    linear: surgery.Linearized, measured: list[Graph], tmp_path: Path, name: str
) -> None:
    from surgery.graph.digests import remember

    content = CONTENTS[name]
    if isinstance(content, dict) and content.get("scales", ...) is None:
        content = {**content, "scales": dict(linear.certificate.scales)}
    remember(linear.module, content)  # pyright: ignore[reportArgumentType]  # as a file can hold anything
    save_graph(linear.module, tmp_path / "forged.safetensors")
    loaded = load_graph(tmp_path / "forged.safetensors")
    assert certificate_of(loaded) == linear.certificate
    assert measured == [loaded]


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
