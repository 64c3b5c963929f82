from __future__ import annotations

import networkx
import pytest
import torch
from torch import Tensor, nn

from surgery.graph import Graph, computing, to_networkx, trace
from surgery.graph.nodes import tensor_names
from surgery.graph.views.text import lines
from surgery.rewrite import apply, plan


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.conv(x))) * self.scale
        return torch.cat([x + x, x], 1).reshape(x.shape[0], -1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trace(Net(), torch.zeros(1, 3, 8, 8))


def test_network_knows_the_model(graph: Graph) -> None:
    expected = {"model": "Net", "rung": "symbolic", "input_shape": (3, 8, 8), "edits": 0}
    assert to_networkx(graph).graph == expected


def test_nodes_are_input_operations_and_output_in_order(graph: Graph) -> None:
    network = to_networkx(graph)
    assert list(network) == ["x", *(node.name for node in computing(graph)), "output"]
    assert networkx.is_directed_acyclic_graph(network)


def test_node_says_what_it_is_and_where_it_comes_from(graph: Graph) -> None:
    conv = dict(to_networkx(graph).nodes["conv"])
    assert conv.pop("line") is not None
    assert conv == {
        "operation": "conv2d",
        "kind": "convolution",
        "shape": ("N", 4, 4, 4),
        "dtype": torch.float32,
        "module_path": "conv",
        "file": __file__,
        "rule": None,
        "attributes": {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1},
        "parameters": ("conv.weight", "conv.bias"),
    }


def test_edge_says_which_argument_is_read(graph: Graph) -> None:
    network = to_networkx(graph)
    assert [data["argument"] for _, _, data in network.in_edges("reshape", data=True)] == [0, "shape"]
    assert [data["argument"] for _, _, data in network.in_edges("conv", data=True)] == [0]


def test_value_read_twice_has_two_edges(graph: Graph) -> None:
    network = to_networkx(graph)
    assert sorted(data["argument"] for data in network.get_edge_data("mul", "add").values()) == [0, 1]
    assert sorted(source for source, _ in network.in_edges("cat")) == ["add", "mul"]


def test_attribute_that_holds_a_node_is_an_edge_and_no_attribute(graph: Graph) -> None:
    reshape = to_networkx(graph).nodes["reshape"]
    assert reshape["attributes"] == {}
    assert to_networkx(graph).nodes["cat"]["attributes"] == {"dim": 1}


def test_parameters_are_nodes_on_request(graph: Graph) -> None:
    plain, full = to_networkx(graph), to_networkx(graph, parameters=True)
    added = set(full) - set(plain)
    assert added == {node.name for node in graph.graph.nodes if node.op == "get_attr"}
    assert {full.nodes[name]["operation"] for name in added} == {"parameter"}
    assert full.edges["conv_weight", "conv", 0]["argument"] == 1
    assert len(added) == 2 + 4 + 1


def test_network_of_a_rewritten_graph_names_the_rule(graph: Graph) -> None:
    rewritten = apply(plan(graph, "linearize")).module
    network = to_networkx(rewritten)
    assert network.graph["edits"] == 2
    assert {data["rule"] for _, data in network.nodes(data=True)} == {None, "max-pool2d-to-average-pool2d"}
    assert "norm" not in network


def test_parameters_of_a_node_are_counted(graph: Graph) -> None:
    nodes = {node.name: node for node in computing(graph)}
    assert tensor_names(nodes["mul"]) == ("scale",)
    counts = {line.name: (line.parameters, line.buffers) for line in lines(graph)}
    assert counts[nodes["norm"].name] == (2 * 4, 2 * 4), "weight and bias are learned, mean and variance are buffers"
    assert counts[nodes["conv"].name] == (4 * 3 * 9 + 4, 0)
    assert counts[nodes["add"].name] == (0, 0)
