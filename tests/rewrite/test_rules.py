"""What rules match, what they leave, and what happens to the parameters."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.errors import RewriteError, RuleError
from surgery.graph import computing

EXAMPLE = torch.zeros(1, 3, 8, 8)


def ruleset(tmp_path, body, head='name = "test"'):
    path = tmp_path / "rules.toml"
    path.write_text(f"{head}\n\n{body}\n")
    return surgery.load_rules(path)


def rule(match, rewrite, more=""):
    return f"[[rule]]\nname = \"r\"\nmatch = '{match}'\nrewrite = '{rewrite}'\n{more}"


def operations(graph):
    return [node.meta["operation"] for node in computing(graph)]


def rewritten(model, rules, example=EXAMPLE):
    graph = surgery.trace(model, example)
    return surgery.apply(surgery.plan(graph, rules)).module


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.full((1, 3, 1, 1), 2.0))

    def forward(self, x):
        return self.function(self, x)


def test_a_dropped_operation_passes_its_operand_on(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    graph = rewritten(model, ruleset(tmp_path, rule("relu(x)", "x")))
    images = torch.randn(2, 3, 8, 8)
    assert operations(graph) == ["conv2d", "conv2d"]
    torch.testing.assert_close(graph(images), model[2](model[0](images)))


def test_kinds_stand_for_their_operations(tmp_path):
    model = nn.Sequential(nn.ReLU(), nn.GELU(), nn.Conv2d(3, 3, 1), nn.Tanh())
    assert operations(rewritten(model, ruleset(tmp_path, rule("activation(x)", "x")))) == ["conv2d"]


@pytest.mark.parametrize(
    ("match", "fires"),
    [
        ("max_pool2d(x, kernel_size=3)", True),
        ("max_pool2d(x, kernel_size=(3, 3), stride=2)", True),
        ("max_pool2d(x, kernel_size=k, stride=k)", False),
        ("max_pool2d(x, stride=p, dilation=p)", False),
        ("max_pool2d(x, kernel_size=2)", False),
        ("max_pool2d(x, ceil_mode=false, dilation=d)", True),
        ("max_pool2d(_, padding=_)", True),
        ("pooling(x, kernel_size=3)", True),
    ],
)
def test_attributes_match_by_value_and_capture(tmp_path, match, fires):
    graph = surgery.trace(nn.MaxPool2d(3, 2, 1), EXAMPLE)
    rules = ruleset(tmp_path, rule(match.replace("_,", "x,"), "x", "keeps_shape = false"))
    assert bool(surgery.plan(graph, rules).edits) is fires


def test_negative_dimensions_are_the_same_dimensions(tmp_path):
    graph = surgery.trace(Function(lambda m, x: x.mean(dim=-1)), EXAMPLE)
    assert surgery.plan(graph, ruleset(tmp_path, rule("mean(x, dim=3)", "sum(x, dim=3)"))).edits


@pytest.mark.parametrize("flip", [False, True])
def test_operands_of_commuting_operations_match_either_way(tmp_path, flip):
    graph = surgery.trace(Function(lambda m, x: torch.sigmoid(x) * x if flip else x * torch.sigmoid(x)), EXAMPLE)
    after = surgery.apply(surgery.plan(graph, ruleset(tmp_path, rule("mul(x, sigmoid(x))", "silu(x)")))).module
    assert operations(after) == ["silu"]
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(after(images), F.silu(images))


def test_a_name_used_twice_has_to_be_the_same_node(tmp_path):
    graph = surgery.trace(Function(lambda m, x: (x + 1) * torch.sigmoid(x)), EXAMPLE)
    planned = surgery.plan(graph, ruleset(tmp_path, rule("mul(x, sigmoid(x))", "silu(x)")))
    assert not planned.edits
    assert any("would stand for" in miss.reason or "expected" in miss.reason for miss in planned.near_misses)


def test_subtraction_does_not_commute(tmp_path):
    rules = ruleset(tmp_path, rule("sub(x, relu(_))", "x"))
    assert surgery.plan(surgery.trace(Function(lambda m, x: x - x.relu()), EXAMPLE), rules).edits
    assert not surgery.plan(surgery.trace(Function(lambda m, x: x.relu() - x), EXAMPLE), rules).edits


def test_list_operands_and_literals(tmp_path):
    graph = surgery.trace(Function(lambda m, x: torch.cat([x, x.relu()], 1) + 3), EXAMPLE)
    rules = ruleset(tmp_path, rule("add(cat([a, relu(b)], dim=1), 3)", "cat([b, a], dim=1)"))
    after = surgery.apply(surgery.plan(graph, rules)).module
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(after(images), torch.cat([images, images], 1))


def test_several_outputs_are_replaced_together(tmp_path):
    graph = surgery.trace(Function(lambda m, x: torch.cat([x.sin() * 2, x.cos()], 1)), EXAMPLE)
    rules = ruleset(tmp_path, rule("sin(x), cos(x)", "relu(x), neg(x)", "keeps_shape = true"))
    planned = surgery.plan(graph, rules)
    assert len(planned.edits) == 1
    images = torch.randn(2, 3, 8, 8)
    after = surgery.apply(planned).module
    torch.testing.assert_close(after(images), torch.cat([images.relu() * 2, -images], 1))


def test_shared_modules_change_only_where_they_match(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(self.relu(self.norm(self.conv(x)))))

    model = Twice().eval()
    model.norm.running_mean.uniform_()
    graph = surgery.trace(model, EXAMPLE)
    images = torch.randn(2, 3, 8, 8)
    folded = surgery.apply(surgery.plan(graph, "fold-batch-norm")).module
    torch.testing.assert_close(folded(images), model(images))
    assert len([name for name in folded.tensors() if "folded" in name]) == 2
    assert torch.equal(folded.conv.weight, model.conv.weight), "the other call site keeps the module's weight"
    first = operations(rewritten(model, ruleset(tmp_path, rule("relu(batch_norm(x))", "x"))))
    assert first == ["conv2d", "conv2d", "relu"]


WHERE = [
    ('{ module = "body.*" }', 1),
    ('{ module = "head" }', 1),
    ('{ module = "nothing.*" }', 0),
    ('{ shape = { x = ["_", 4, "..."] } }', 1),
    ('{ shape = { x = ["N", "_", 8, 8] } }', 2),
    ('{ shape = { x = ["_", "_"] } }', 0),
    ('{ shape = { x = "out" } }', 2),
    ('{ attributes = { "out.negative_slope" = 0.25 } }', 1),
    ("{ attributes = { s = 0.5 } }", 1),
    ('{ data = ["x"] }', 2),
    ('{ constant = ["x"] }', 0),
    ('{ parameter = ["x"] }', 0),
]


@pytest.mark.parametrize(("where", "count"), WHERE)
def test_conditions_restrict(tmp_path, where, count):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.25))
            self.head = nn.LeakyReLU(0.5)
            self.mix = nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.head(self.mix(self.body(x)))

    graph = surgery.trace(Two(), EXAMPLE)
    planned = surgery.plan(
        graph, ruleset(tmp_path, rule("out := leaky_relu(x, negative_slope=s)", "x", f"where = {where}"))
    )
    assert len(planned.edits) == count
    assert len(planned.near_misses) == 2 - count
    assert all(miss.reason for miss in planned.near_misses)


@pytest.mark.parametrize(("shared", "count"), [("false", 1), ("true", 2)])
def test_shared_parameters_are_seen(tmp_path, shared, count):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.a(self.b(self.a(x)))

    graph = surgery.trace(Shared(), EXAMPLE)
    planned = surgery.plan(graph, ruleset(tmp_path, rule("conv2d(x)", "x", f"where = {{ shared = {shared} }}")))
    assert len(planned.edits) >= 1
    assert planned.edits[0].module_path == ("b" if shared == "false" else "a")


@pytest.mark.parametrize("where", ['attributes = { "s.groups" = 1 }', 'attributes = { "x.groups" = 1 }'])
def test_an_attribute_of_a_captured_number_is_a_near_miss(tmp_path, where):
    graph = surgery.trace(Function(lambda m, x: x * 0.5), EXAMPLE)
    planned = surgery.plan(graph, ruleset(tmp_path, rule("mul(x, s)", "x", f"where = {{ {where} }}")))
    assert not planned.edits
    assert planned.near_misses[0].reason.startswith(
        ("s is 0.5, which has no attribute", "x is 0.5", "x.groups is None")
    )


def test_a_transform_of_a_captured_number_is_an_error_at_its_node(tmp_path):
    graph = surgery.trace(Function(lambda m, x: x * 0.5), EXAMPLE)
    for rewrite in ("expand(x, size=shape(s))", "fold_batch_norm(m, m)", "uniform_like(m, dim=0)"):
        with pytest.raises(RewriteError, match="cannot write"):
            surgery.plan(graph, ruleset(tmp_path, rule("m := mul(x, s)", rewrite)))


def test_private_asks_that_nothing_else_reads_the_inside(tmp_path):
    rules = ruleset(tmp_path, rule("relu(c := conv2d(x))", "c", "where = { private = true }"))

    class Tapped(nn.Module):
        def __init__(self, tap):
            super().__init__()
            self.conv, self.tap = nn.Conv2d(3, 3, 1), tap

        def forward(self, x):
            y = self.conv(x)
            return y.relu() + y if self.tap else y.relu()

    assert surgery.plan(surgery.trace(Tapped(False), EXAMPLE), rules).edits
    planned = surgery.plan(surgery.trace(Tapped(True), EXAMPLE), rules)
    assert not planned.edits
    assert "also read by" in planned.near_misses[0].reason


def test_constant_subgraphs_are_left_alone(tmp_path):
    graph = surgery.trace(Function(lambda m, x: x * torch.sigmoid(m.scale)), EXAMPLE)
    planned = surgery.plan(graph, ruleset(tmp_path, rule("sigmoid(x)", "x")))
    assert not planned.edits
    assert planned.near_misses[0].reason == "it does not depend on the input"


def test_priorities_decide_who_goes_first(tmp_path):
    def rules(first):
        body = rule("sigmoid(x)", "x", f"priority = {first}").replace('"r"', '"plain"')
        return ruleset(tmp_path, body + "\n" + rule("mul(x, sigmoid(_))", "x", "priority = 5"))

    graph = surgery.trace(Function(lambda m, x: x * torch.sigmoid(x)), EXAMPLE)
    assert [edit.rule for edit in surgery.plan(graph, rules(0)).edits] == ["r"]
    assert [edit.rule for edit in surgery.plan(graph, rules(9)).edits] == ["plain"]


def test_rules_go_on_until_nothing_fires(tmp_path):
    graph = surgery.trace(Function(lambda m, x: x.relu().relu().relu()), EXAMPLE)
    planned = surgery.plan(graph, ruleset(tmp_path, rule("relu(relu(x))", "relu(x)")))
    assert operations(surgery.apply(planned).module) == ["relu"]


@pytest.mark.parametrize(
    "body",
    [
        rule("relu(x)", "gelu(x)") + "\n" + rule("gelu(x)", "relu(x)").replace('"r"', '"back"'),
        rule("relu(x)", "relu(relu(x))"),
    ],
)
def test_rules_that_feed_each_other_are_named(tmp_path, body):
    graph = surgery.trace(nn.ReLU(), EXAMPLE)
    with pytest.raises(RewriteError, match=r"feed each other.*r "):
        surgery.plan(graph, ruleset(tmp_path, body))


def test_a_changed_shape_is_an_error_with_both_shapes(tmp_path):
    graph = surgery.trace(nn.Sequential(nn.MaxPool2d(2)), EXAMPLE)
    with pytest.raises(RewriteError, match=r"\(N, 3, 4, 4\).*\(N, 3, 8, 8\)"):
        surgery.plan(graph, ruleset(tmp_path, rule("max_pool2d(x)", "x")))


def test_a_shape_may_change_where_the_rule_says_so(tmp_path):
    graph = surgery.trace(nn.Sequential(nn.MaxPool2d(2), nn.ReLU()), EXAMPLE)
    after = surgery.apply(
        surgery.plan(graph, ruleset(tmp_path, rule("max_pool2d(x)", "x", "keeps_shape = false")))
    ).module
    assert computing(after)[0].meta["shape"] == ("N", 3, 8, 8)


def test_a_rewrite_that_cannot_run_is_an_error_at_its_node(tmp_path):
    graph = surgery.trace(nn.ReLU(), EXAMPLE)
    with pytest.raises(RewriteError, match="cannot write"):
        surgery.plan(graph, ruleset(tmp_path, rule("relu(x)", "reshape(x, shape=(7, 7))")))


@pytest.mark.parametrize(("expect", "meets"), [(">=1", False), ("0", True), ("<=2", True), ("==1", False)])
def test_expectations_are_held_with_the_nearest_miss(tmp_path, expect, meets):
    graph = surgery.trace(nn.MaxPool2d(2, dilation=2), EXAMPLE)
    body = rule("max_pool2d(x, dilation=1)", "x", f'expect = "{expect}"')
    planned = surgery.plan(graph, ruleset(tmp_path, body))
    if meets:
        assert not surgery.apply(planned).log
    else:
        with pytest.raises(RuleError, match=r"fired 0 times.*dilation=\(2, 2\), not 1"):
            surgery.apply(planned)
        assert not surgery.apply(planned, strict=False).log


def test_new_nodes_carry_their_rule_and_the_log_says_what_happened(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    rewrite = surgery.apply(surgery.plan(surgery.trace(model, EXAMPLE), "max-to-average-pool"))
    pool = computing(rewrite.module)[-1]
    assert (pool.meta["operation"], pool.meta["rule"]) == ("avg_pool2d", "max-pool2d-to-average-pool2d")
    assert pool.meta["module_path"] == "1"
    [edit] = rewrite.log
    assert (edit.removed, edit.added) == ((("_1", "max_pool2d"),), ((pool.name, "avg_pool2d"),))
    assert (edit.at, edit.into, edit.module_path) == ("_1", pool.name, "1")


def test_planning_and_applying_leave_the_graph_as_it_is(tmp_path):
    graph = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), EXAMPLE)
    before = str(graph.graph)
    surgery.apply(surgery.plan(graph, "linearize"))
    surgery.apply(surgery.plan(graph, "fold-batch-norm"))
    assert str(graph.graph) == before
    assert not graph.log


def test_parameters_of_removed_nodes_go_with_them():
    graph = rewritten(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "linearize")
    assert set(graph.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_plan_can_be_saved_edited_and_applied_later(tmp_path, suffix):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    graph = surgery.trace(model, EXAMPLE)
    planned = surgery.plan(graph, "linearize")
    path = tmp_path / f"plan{suffix}"
    surgery.save_plan(planned, path)
    again = surgery.load_plan(path, graph)
    assert [edit.at for edit in again.edits] == [edit.at for edit in planned.edits]
    assert operations(surgery.apply(again).module) == ["conv2d", "conv2d"]
    if suffix == ".toml":
        head, _, *rest = path.read_text().split("[[edit]]")
        path.write_text("[[edit]]".join([head, *rest]))
        assert operations(surgery.apply(surgery.load_plan(path, graph)).module) == ["conv2d", "relu", "conv2d"]
    other = surgery.trace(nn.Sequential(nn.ReLU()), EXAMPLE)
    with pytest.raises(RuleError, match="another graph"):
        surgery.load_plan(path, other)


def test_plans_rewrites_and_rulesets_print_a_screen():
    graph = surgery.trace(nn.Sequential(*[nn.ReLU(), nn.Conv2d(3, 3, 1)] * 20), EXAMPLE)
    planned = surgery.plan(graph, "linearize")
    rewrite = surgery.apply(planned)
    for value in (planned, rewrite, planned.rules, graph):
        assert 20 < len(repr(value)) < 4000
        assert len(repr(value).splitlines()) <= 45
    assert repr(planned) == "Plan of linearize for Sequential: 20 edits (drop-activation 20), 0 near misses"
    assert repr(rewrite).startswith("Rewrite by linearize: 20 edits (drop-activation 20)\nSequential: ")
    assert "drop-activation: activation(x) -> x" in repr(planned.rules)


def test_an_edit_whose_ground_was_taken_away_is_an_error(tmp_path):
    rules = ruleset(tmp_path, rule("relu(x)", "gelu(x)") + "\n" + rule("gelu(x)", "tanh(x)").replace('"r"', '"s"'))
    planned = surgery.plan(surgery.trace(nn.ReLU(), EXAMPLE), rules)
    assert len(planned.edits) == 2
    from dataclasses import replace

    with pytest.raises(RewriteError, match="no such node"):
        surgery.apply(replace(planned, edits=planned.edits[1:]))
