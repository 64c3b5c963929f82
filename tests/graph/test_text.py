from __future__ import annotations

import json
import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from surgery.graph import Graph, computing, to_networkx, trace
from surgery.graph.views.records import describe
from surgery.graph.views.text import Line, ModuleTree, lines, module_tree, number_text, summary
from surgery.rewrite import apply, plan


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 5, stride=2)))
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.blocks(self.pool(self.stem(x))), 1)) * 2


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trace(Net(), torch.zeros(1, 3, 12, 12))


def line_of(graph: Graph, name: str) -> Line:
    return next(line for line in lines(graph) if line.name == name)


def traced(*layers: nn.Module, shape: tuple[int, ...] = (1, 4, 8, 8)) -> Graph:
    return trace(nn.Sequential(*layers), torch.zeros(shape))


def test_first_line_says_what_the_graph_is(graph: Graph) -> None:
    assert summary(graph).splitlines()[0] == (
        "Net: (N, 3, 12, 12) -> (N, 5), 15 operations, 10 parameter tensors with 781 numbers, traced symbolic"
    )
    assert sum(tensor.numel() for tensor in Net().parameters()) == 781
    assert str(graph) == summary(graph)


def test_first_line_counts_edits_and_rules(graph: Graph) -> None:
    rewritten = apply(plan(graph, "linearize")).module
    assert summary(rewritten).splitlines()[0].endswith(", traced symbolic, 5 edits by 2 rules")


def test_small_graph_is_shown_whole(graph: Graph) -> None:
    text = summary(graph)
    assert "folded" not in text
    assert len(text.splitlines()) == 1 + len(computing(graph)) + len(["blocks", "blocks.0", "blocks.1"])
    assert "  stem.0.0: conv2d" in text


def test_large_graph_is_folded_and_says_how_much() -> None:
    graph = traced(*[nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.GELU(), nn.SiLU())) for _ in range(30)])
    rows = summary(graph).splitlines()
    assert len(rows) == 32
    assert all(row.endswith("4 operations") for row in rows[1:-1])
    assert rows[-1] == "  (120 of 120 operations folded; graph.text() has all)"


def test_the_whole_text_has_every_operation() -> None:
    graph = traced(*[nn.Sequential(nn.ReLU(), nn.Tanh()) for _ in range(60)])
    rows = graph.text().splitlines()
    assert rows[0] == str(graph).splitlines()[0]
    assert sum("relu" in row or "tanh" in row for row in rows) == 120


def test_long_names_are_cut_to_a_screen() -> None:
    name = "a" * 3000
    layers = nn.Sequential(OrderedDict({name: nn.ReLU(), "b": nn.ReLU()}))
    assert max(map(len, str(traced(layers, nn.ReLU())).splitlines())) < 200


def test_graph_without_modules_is_cut_in_the_middle() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(50):
                x = torch.tanh(torch.sin(x))
            return x

    rows = summary(trace(Flat(), torch.zeros(1, 3))).splitlines()
    assert len(rows) <= 40
    [cut] = [row for row in rows if "more lines" in row]
    assert len(rows) - 2 + int(cut.split()[1]) == 100


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(4, 4, 1), "kernel_size=1"),
        (nn.Conv2d(4, 4, (3, 5), padding=(1, 2)), "kernel_size=(3, 5), padding=(1, 2)"),
        (nn.Conv2d(4, 8, 3, stride=2, groups=4, bias=False), "kernel_size=3, stride=2, groups=4"),
        (nn.MaxPool2d(2), "kernel_size=2"),
        (nn.MaxPool2d(3, stride=2), "kernel_size=3, stride=2"),
        (nn.BatchNorm2d(4, eps=0.001), "eps=0.001"),
        (nn.BatchNorm2d(4), ""),
        (nn.AdaptiveAvgPool2d((1, 1)), "output_size=1"),
        (nn.Hardtanh(-1.0, 6.0), "max_val=6"),
    ],
    ids=str,
)
def test_attributes_are_what_differs_from_the_defaults(layer: nn.Module, expected: str) -> None:
    assert lines(traced(layer))[1].attributes == expected


def test_plain_operands_are_told_with_the_attributes(graph: Graph) -> None:
    assert line_of(graph, "mul").attributes == "other=2"


def test_line_tells_shape_parameters_and_reads(graph: Graph) -> None:
    line = line_of(graph, "blocks_1_conv2")
    assert (line.operation, line.kind, line.shape, line.dtype) == ("conv2d", "convolution", "(N, 4, 2, 2)", "float32")
    assert line.parameter_names == ("blocks.1.conv2.weight", "blocks.1.conv2.bias")
    assert line.parameters == 4 * 4 * 3 + 4
    assert line.reads == ("blocks_1_relu",)
    assert line.file == __file__
    assert line.line is not None


def test_lines_are_the_input_the_operations_and_the_output(graph: Graph) -> None:
    names = [line.operation for line in lines(graph)]
    assert names[0] == "input"
    assert names[-1] == "output"
    assert len(names) == len(computing(graph)) + 2
    assert lines(graph)[-1].shape == "(N, 5)"


def test_line_names_the_rule_that_made_it(graph: Graph) -> None:
    rewritten = apply(plan(graph, "max-to-average-pool")).module
    assert [line.rule for line in lines(rewritten) if line.rule] == ["max-pool2d-to-average-pool2d"]


def test_tree_keeps_every_operation_once(graph: Graph) -> None:
    walked = [line.name for line in module_tree(graph).walk()]
    assert sorted(walked) == sorted(node.name for node in computing(graph))


def test_module_with_one_operation_is_a_line_and_others_are_trees(graph: Graph) -> None:
    tree = module_tree(graph)
    assert [line.module_path for line in tree.operations] == ["stem.0.0", "pool", "", "fc", ""]
    [blocks] = tree.children
    assert (blocks.path, blocks.name) == ("blocks", "blocks")
    assert [child.path for child in blocks.children] == ["blocks.0", "blocks.1"]


def test_tree_is_in_order_of_execution_where_a_module_is_called_twice(graph: Graph) -> None:
    block = module_tree(graph).children[0].children[0]
    assert not block.children
    assert [line.operation for line in block.operations] == ["conv2d", "relu", "conv2d", "add", "relu"]
    content = module_tree(graph).content
    assert [type(item) for item in content] == [Line, Line, ModuleTree, Line, Line, Line]


def test_module_with_several_operations_in_a_row_is_a_tree() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.sin(x))

    tree = module_tree(traced(Twice(), nn.ReLU()))
    assert [child.path for child in tree.children] == ["0"]
    assert [line.module_path for line in tree.operations] == ["1"]


def test_description_is_plain_json(graph: Graph) -> None:
    rewritten = apply(plan(graph, "linearize")).module
    read = json.loads(json.dumps(describe(rewritten), allow_nan=False))
    assert (read["model"], read["rung"], read["input_shape"]) == ("Net", "symbolic", [3, 12, 12])
    assert read["operations"]["conv2d"] == 5
    assert len(read["log"]) == len(rewritten.log)
    assert len(read["nodes"]) == len(rewritten.graph.nodes)


def test_infinite_numbers_and_dtypes_are_text_in_json() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(-math.inf, 1.0).to(torch.float64)[:, 1:, ..., 0]

    nodes = json.loads(json.dumps(describe(trace(Odd(), torch.zeros(1, 3, 4))), allow_nan=False))["nodes"]
    attributes = {node["operation"]: node["attributes"] for node in nodes}
    assert attributes["clamp"] == {"min": "-inf", "max": 1.0}
    assert attributes["to"]["dtype"] == "float64"
    assert attributes["getitem"]["index"] == [":", "1:", "...", 0]


def test_records_hold_the_edges_of_the_graph(graph: Graph) -> None:
    edges = {(source, node["name"]) for node in describe(graph)["nodes"] for source in node["reads"]}
    assert edges == set(to_networkx(graph, parameters=True).edges())


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (11_689_512, "11.7 M"), (2_500_000_000, "2.5 G")]
)
def test_numbers_are_told_with_three_digits(count: int, text: str) -> None:
    assert number_text(count) == text
