from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

from surgery.graph import Graph, computing, trace
from surgery.graph.alignment import align
from surgery.graph.difference import Difference, Item, as_dict, diff, difference_svg
from surgery.graph.views.svg import MARK_INKS
from surgery.rewrite import apply, plan

SVG = "{http://www.w3.org/2000/svg}"


class Block(nn.Module):
    def __init__(self, width: int, *, kernel: int = 3, act: type[nn.Module] = nn.ReLU, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(width)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x))) + x


class Chain(nn.Module):
    def __init__(self, *operations: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operations = operations

    def forward(self, x: Tensor) -> Tensor:
        for operation in self.operations:
            x = operation(x)
        return x


class Swapped(nn.Module):
    def __init__(self, operation: Callable[[Tensor, Tensor], Tensor], *, swap: bool) -> None:
        super().__init__()
        self.operation, self.swap = operation, swap

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.sin(), x.cos()
        return self.operation(b, a) if self.swap else self.operation(a, b)


def build(*layers: nn.Module) -> Graph:
    return trace(nn.Sequential(*layers), torch.zeros(1, 4, 8, 8))


def rewritten(graph: Graph, rules: str) -> Graph:
    return apply(plan(graph, rules)).module


def seeded(layers: Callable[[], list[nn.Module]]) -> Graph:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(*layers())


BASE = seeded(lambda: [Block(4), nn.MaxPool2d(2), Block(4)])
LINEAR = rewritten(BASE, "linearize")
FORGETFUL = LINEAR.derive(LINEAR.graph, LINEAR.tensors(), ())
WIDER = seeded(lambda: [Block(4, kernel=5), nn.MaxPool2d(2), Block(4, bias=True)])
OTHER = seeded(lambda: [Block(4, act=nn.GELU), Block(4), nn.AvgPool2d(2), Block(4), nn.Flatten()])

PAIRS = {
    "same": (BASE, BASE),
    "rewritten": (BASE, LINEAR),
    "rewritten twice": (
        rewritten(BASE, "relu-to-softplus"),
        rewritten(rewritten(BASE, "relu-to-softplus"), "linearize"),
    ),
    "rewritten apart": (LINEAR, rewritten(BASE, "relu-to-softplus")),
    "without its log": (BASE, FORGETFUL),
    "other attributes": (BASE, WIDER),
    "unrelated": (LINEAR, OTHER),
    "other order": (build(Chain(torch.sin, torch.cos)), build(Chain(torch.cos, torch.sin))),
}


def operations(items: tuple[Item, ...]) -> Counter[str]:
    return Counter(item.operation for item in items)


@pytest.mark.parametrize("name", PAIRS)
def test_graph_does_not_differ_from_its_copy(name: str) -> None:
    for graph in PAIRS[name]:
        found = diff(graph, copy.deepcopy(graph))
        assert found.empty
        assert found.same == len(computing(graph))


def test_numbers_that_are_none_do_not_differ_from_themselves() -> None:
    graph = copy.deepcopy(BASE)
    with torch.no_grad():
        graph.tensors()["0.conv.weight"].fill_(math.nan)
    assert diff(graph, copy.deepcopy(graph)).empty
    assert diff(BASE, graph).tensors_changed == ("0.conv.weight",)


@pytest.mark.parametrize("name", PAIRS)
def test_difference_the_other_way_is_the_mirror_image(name: str) -> None:
    forth, back = diff(*PAIRS[name]), diff(*reversed(PAIRS[name]))
    assert (forth.removed, forth.added) == (back.added, back.removed)
    assert (forth.tensors_removed, forth.tensors_added) == (back.tensors_added, back.tensors_removed)
    assert (forth.same, forth.tensors_changed) == (back.same, back.tensors_changed)
    assert forth.counts == {operation: (a, b) for operation, (b, a) in back.counts.items()}
    assert forth.by_rule == {rule: (a, b) for rule, (b, a) in back.by_rule.items()}
    assert [item.name for item in forth.changed] == [item.name for item in back.changed]


def test_change_the_other_way_is_told_the_other_way() -> None:
    assert [item.detail for item in diff(WIDER, BASE).changed] == [
        "kernel_size 5 -> 3, padding 2 -> 1, weight (4, 4, 5, 5) -> (4, 4, 3, 3)",
        "bias (4,) -> absent",
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_every_operation_is_the_same_or_changed_or_gone_or_new(name: str) -> None:
    before, after = PAIRS[name]
    found = diff(before, after)
    kept = found.same + len(found.changed)
    assert kept + len(found.removed) == len(computing(before))
    assert kept + len(found.added) == len(computing(after))
    went, came = operations(found.removed), operations(found.added)
    assert all(old - went[word] + came[word] == new for word, (old, new) in found.counts.items())


@pytest.mark.parametrize("name", PAIRS)
def test_alignment_keeps_both_orders(name: str) -> None:
    before, after = PAIRS[name]
    pairs = align(before, after)
    assert [pair.before for pair in pairs if pair.before] == [n for n in before.graph.nodes if n.op != "get_attr"]
    assert [pair.after for pair in pairs if pair.after] == [n for n in after.graph.nodes if n.op != "get_attr"]


def test_every_edit_is_attributed_to_its_rule() -> None:
    found = diff(BASE, LINEAR)
    assert {item.module_path: item.rule for item in found.removed} == {
        "0.norm": "drop-batch-norm",
        "0.act": "drop-activation",
        "1": "max-pool2d-to-average-pool2d",
        "2.norm": "drop-batch-norm",
        "2.act": "drop-activation",
    }
    [added] = found.added
    assert (added.operation, added.module_path) == ("avg_pool2d", "1")
    assert found.by_rule == {
        "drop-batch-norm": (2, 0),
        "drop-activation": (2, 0),
        "max-pool2d-to-average-pool2d": (1, 1),
    }


def test_what_came_and_went_between_is_not_told() -> None:
    twice = rewritten(rewritten(BASE, "relu-to-softplus"), "linearize")
    found = diff(BASE, twice)
    assert {item.rule for item in found.removed if item.operation == "relu"} == {"relu-to-softplus"}
    assert "softplus" not in found.counts
    assert operations(found.added) == {"avg_pool2d": 1}


def test_alignment_finds_what_the_log_says() -> None:
    told, found = diff(BASE, LINEAR), diff(BASE, FORGETFUL)
    assert FORGETFUL.log == ()
    assert [item.name for item in found.removed] == [item.name for item in told.removed]
    assert [item.name for item in found.added] == [item.name for item in told.added]
    assert found.same == told.same


def test_log_that_does_not_tell_the_whole_story_is_not_believed() -> None:
    forged = LINEAR.derive(copy.copy(BASE).graph, BASE.tensors(), LINEAR.log)
    assert diff(BASE, forged).empty


def test_neighbour_of_a_removed_node_is_the_same() -> None:
    assert diff(BASE, LINEAR).changed == ()
    assert diff(BASE, FORGETFUL).changed == ()


def test_changed_attributes_and_operands_are_told() -> None:
    changed = {item.module_path: item.detail for item in diff(BASE, WIDER).changed}
    assert changed == {
        "0.conv": "kernel_size 3 -> 5, padding 1 -> 2, weight (4, 4, 3, 3) -> (4, 4, 5, 5)",
        "2.conv": "bias absent -> (4,)",
    }


def test_exchanged_operands_are_a_change_where_they_matter() -> None:
    def exchanged(operation: Callable[[Tensor, Tensor], Tensor]) -> Difference:
        return diff(*(build(Swapped(operation, swap=swap)) for swap in (False, True)))

    [item] = exchanged(torch.sub).changed
    assert item.operation == "sub"
    assert item.detail == "reads _0 -> _0_1, reads _0_1 -> _0"
    assert exchanged(torch.add).empty


def test_other_operation_in_the_same_place_is_another_node() -> None:
    found = diff(build(Block(4)), build(Block(4, act=nn.GELU)))
    assert operations(found.removed) == {"relu": 1}
    assert operations(found.added) == {"gelu": 1}
    assert found.changed == ()


def test_blocks_that_only_one_graph_has_are_found_in_their_place() -> None:
    found = diff(build(nn.Sequential(Block(4), Block(4))), build(nn.Sequential(Block(4), Block(4), Block(4))))
    assert {item.module_path for item in found.added} == {"0.2", "0.2.conv", "0.2.norm", "0.2.act"}
    assert found.removed == ()


def test_tensors_are_compared_by_name() -> None:
    found = diff(BASE, WIDER)
    assert found.tensors_added == ("2.conv.bias",)
    assert found.tensors_removed == ()
    assert "0.conv.weight" in found.tensors_changed
    assert "0.norm.weight" not in found.tensors_changed
    assert len(diff(BASE, LINEAR).tensors_removed) == 8


def test_input_size_alone_is_no_difference() -> None:
    block = Block(4)
    small, large = (trace(block, torch.zeros(1, 4, size, size)) for size in (8, 16))
    assert diff(small, large).empty


def test_difference_survives_json() -> None:
    found = diff(BASE, LINEAR)
    read = json.loads(json.dumps(as_dict(found)))
    assert [Item(**item) for item in read["removed"]] == list(found.removed)
    assert read["counts"]["relu"] == {"before": 2, "after": 0}
    assert read["by_rule"]["max-pool2d-to-average-pool2d"] == {"removed": 1, "added": 1}
    assert set(read) == {field.name for field in dataclasses.fields(Difference)}


@pytest.mark.parametrize("name", PAIRS)
def test_picture_of_a_difference_shows_each_node_once_with_its_mark(name: str) -> None:
    found = diff(*PAIRS[name])
    root = ElementTree.fromstring(difference_svg(*PAIRS[name]))
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    labels = [group.findtext(f"{SVG}text", "") for group in groups]
    assert len(labels) == found.same + len(found.changed) + len(found.removed) + len(found.added) + 2
    marked = Counter(label[0] for label in labels)
    symbols = {"\N{MINUS SIGN}": found.removed, "+": found.added, "~": found.changed}
    assert {symbol: marked[symbol] for symbol in symbols} == {symbol: len(items) for symbol, items in symbols.items()}


def test_picture_has_the_lines_that_went() -> None:
    paths = ElementTree.fromstring(difference_svg(BASE, LINEAR)).iter(f"{SVG}path")
    went = [path for path in paths if path.get("stroke") == MARK_INKS["removed"].stroke]
    kept_that_removed_ones_read = ["0.conv", "0", "2.conv"]
    assert len(went) == len(diff(BASE, LINEAR).removed) + len(kept_that_removed_ones_read)


def test_picture_names_rules_and_changes() -> None:
    assert ">by drop-batch-norm<" in difference_svg(BASE, LINEAR)
    assert ">bias absent -&gt; (4,)<" in difference_svg(BASE, WIDER)


def test_picture_tells_apart_nodes_of_one_name() -> None:
    svg = difference_svg(build(Block(4)), build(Block(4, act=nn.GELU)))
    assert "<title>_0_act (before)\n" in svg
    assert "<title>_0_act\n" in svg
