"""Rules that insert nodes around what they matched, and keep it."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import RewriteError, RuleError
from surgery.graph import computing

EXAMPLE = torch.zeros(1, 3, 8, 8)


def ruleset(tmp_path, *rules, folder="."):
    """Rules called r0, r1, ... from pairs `(match, rewrite)` or triples with more lines."""
    texts = [
        f"[[rule]]\nname = \"r{i}\"\nmatch = '{match}'\nrewrite = '{rewrite}'\n{''.join(more)}"
        for i, (match, rewrite, *more) in enumerate(rules)
    ]
    path = tmp_path / folder / "rules.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(['name = "test"', *texts, ""]))
    return surgery.load_rules(path)


def operations(graph):
    return [node.meta["operation"] for node in computing(graph)]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def check(function, rules, expected, fires=None):
    """Apply `rules` to `function`; the result is a valid graph that computes `expected`."""
    graph = surgery.trace(Function(function), EXAMPLE)
    planned = surgery.plan(graph, rules)
    module = surgery.apply(planned).module
    module.graph.lint()
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(module(images), expected(images))
    if fires is not None:
        assert len(planned.edits) == fires
    return module


def test_nodes_are_inserted_behind_a_matched_node(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)"))
    graph = check(lambda x: x.relu() + 1, rules, lambda x: x.relu() * 0.5 + 1, fires=1)
    assert operations(graph) == ["relu", "mul", "add"]


def test_every_reader_reads_what_was_inserted(tmp_path):
    def twice(x):
        y = x.relu()
        return torch.cat([y + 1, y * y], 1)

    def scaled(x):
        y = x.relu() * 0.5
        return torch.cat([y + 1, y * y], 1)

    check(twice, ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)")), scaled, fires=1)


def test_a_rewrite_may_use_the_matched_node_several_times(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(sigmoid(r), add(r, x))"))
    check(lambda x: x.relu().neg(), rules, lambda x: -(x.relu().sigmoid() * (x.relu() + x)), fires=1)


def test_an_inner_node_may_be_captured_and_kept(tmp_path):
    rules = ruleset(tmp_path, ("relu(s := sin(x))", "relu(mul(s, 0.5))"))
    check(lambda x: x.sin().relu() + x.sin(), rules, lambda x: (x.sin() * 0.5).relu() + x.sin(), fires=1)


def test_nodes_are_inserted_before_a_matched_node(tmp_path):
    def tapped(x):
        y = x.sin()
        return y.relu() + y

    rules = ruleset(tmp_path, ("relu(s := sin(_))", "relu(add(s, 1))"))
    check(tapped, rules, lambda x: (x.sin() + 1).relu() + x.sin(), fires=1)


def test_an_inserting_rule_does_not_fire_at_what_it_inserts(tmp_path):
    rules = ruleset(tmp_path, ("m := mul(x, y)", "mul(m, 0.5)"))
    check(lambda x: (x * 2).sin() * 3, rules, lambda x: (x * 2 * 0.5).sin() * 3 * 0.5, fires=2)


def test_two_inserting_rules_fire_once_each_at_a_node(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)"), ("r := relu(x)", "add(r, 1)"))
    check(lambda x: x.relu().sin(), rules, lambda x: ((x.relu() + 1) * 0.5).sin(), fires=2)


def test_an_inserting_rule_fires_at_what_another_rule_writes(tmp_path):
    rules = ruleset(tmp_path, ("tanh(x)", "relu(x)"), ("r := relu(x)", "mul(r, 0.5)"))
    check(lambda x: x.tanh() + x.relu(), rules, lambda x: x.relu(), fires=3)


def test_inserting_rules_that_feed_each_other_are_named(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "tanh(r)"), ("t := tanh(x)", "relu(t)"))
    with pytest.raises(RewriteError, match="feed each other"):
        surgery.plan(surgery.trace(nn.ReLU(), EXAMPLE), rules)


def test_applying_again_inserts_again(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)"))
    graph = surgery.apply(surgery.plan(surgery.trace(nn.ReLU(), EXAMPLE), rules)).module
    again = surgery.apply(surgery.plan(graph, rules)).module
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(again(images), images.relu() * 0.25)


def test_several_outputs_may_be_kept_and_exchanged(tmp_path):
    kept = ruleset(tmp_path, ("a := sin(x), b := cos(x)", "add(a, b), b"))
    check(
        lambda x: torch.cat([x.sin() * 2, x.cos()], 1), kept, lambda x: torch.cat([(x.sin() + x.cos()) * 2, x.cos()], 1)
    )
    swapped = ruleset(tmp_path, ("a := sin(x), b := cos(x)", "b, a"))
    check(lambda x: torch.cat([x.sin() * 2, x.cos()], 1), swapped, lambda x: torch.cat([x.cos() * 2, x.sin()], 1))


def test_outputs_may_stand_in_any_order(tmp_path):
    rules = ruleset(tmp_path, ("a := sin(x), b := cos(x)", "mul(a, 2), mul(b, 3)"))
    check(lambda x: x.cos().neg() + x.sin(), rules, lambda x: -3 * x.cos() + 2 * x.sin(), fires=1)


def test_outputs_computed_from_each_other_are_refused(tmp_path):
    rules = ruleset(tmp_path, ("a := sin(x), b := cos(y)", "add(a, b), b"))
    with pytest.raises(RewriteError, match="read its own result"):
        surgery.plan(surgery.trace(Function(lambda x: x.sin().neg().cos()), EXAMPLE), rules)


def test_a_rule_that_changes_nothing_is_refused(tmp_path):
    with pytest.raises(RuleError, match="would change nothing"):
        ruleset(tmp_path, ("r := relu(x)", "r"))


def test_an_inserting_rule_has_no_near_miss_where_it_fired(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)", 'where = { module = "0" }'))
    graph = surgery.trace(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU()), EXAMPLE)
    planned = surgery.plan(graph, rules)
    [edit], [miss] = planned.edits, planned.near_misses
    assert (edit.module_path, edit.removed) == ("0", ())
    assert (miss.module_path, miss.reason) == ("2", "module '2' is not '0'")


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_saved_plan_of_insertions_is_applied(tmp_path, suffix):
    rules = ruleset(tmp_path, ("r := relu(x)", "mul(r, 0.5)"), ("m := mul(x, _)", "add(m, 1)"), folder="with a space")
    graph = surgery.trace(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU()), EXAMPLE)
    planned = surgery.plan(graph, rules)
    path = tmp_path / f"plan{suffix}"
    surgery.save_plan(planned, path)
    again = surgery.load_plan(path, graph)
    images = torch.randn(2, 3, 8, 8)
    expected = surgery.apply(planned).module(images)
    torch.testing.assert_close(surgery.apply(again).module(images), expected)
    first = replace(again, edits=tuple(edit for edit in again.edits if edit.module_path == "0"))
    tensors = graph.tensors()
    scaled = nn.functional.conv2d(images.relu() * 0.5 + 1, tensors["1.weight"], tensors["1.bias"])
    torch.testing.assert_close(surgery.apply(first).module(images), scaled.relu())


def test_shapes_may_change_behind_a_kept_node(tmp_path):
    rules = ruleset(tmp_path, ("r := relu(x)", "flatten(r, start_dim=1)", "keeps_shape = false"))
    graph = surgery.trace(nn.Sequential(nn.ReLU(), nn.Tanh()), EXAMPLE)
    module = surgery.apply(surgery.plan(graph, rules)).module
    assert [node.meta["shape"] for node in computing(module)] == [("N", 3, 8, 8), ("N", 192), ("N", 192)]
    conv = surgery.trace(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), EXAMPLE)
    with pytest.raises(RewriteError, match="a later node cannot work on the new one"):
        surgery.plan(conv, rules)


def test_a_value_of_several_tensors_is_only_replaced_by_the_same_tensors(tmp_path):
    rules = ruleset(tmp_path, ("chunk(x, dim=d)", "split(x, split_size_or_sections=(2, 6), dim=d)"))
    graph = surgery.trace(Function(lambda x: torch.add(*x.chunk(2, -1))), EXAMPLE)
    with pytest.raises(RewriteError, match="turns"):
        surgery.plan(graph, rules)


def test_orders_of_inserting_and_replacing_rules_agree(tmp_path):
    pairs = [("r := relu(x)", "mul(r, 2)"), ("sigmoid(x)", "tanh(x)"), ("t := tanh(x)", "add(t, 1)")]
    graph = surgery.trace(Function(lambda x: x.relu().sigmoid()), EXAMPLE)
    images = torch.randn(2, 3, 8, 8)
    for order in itertools.permutations(pairs):
        module = surgery.apply(surgery.plan(graph, ruleset(tmp_path, *order))).module
        torch.testing.assert_close(module(images), (images.relu() * 2).tanh() + 1)
