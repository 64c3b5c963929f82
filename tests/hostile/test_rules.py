"""Rulesets that are damaged or made to hurt: located messages, in little time and memory."""

import itertools
import os
import re
import time

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError, RewriteError, RuleError, SurgeryError
from surgery.graph import computing
from surgery.rewrite.loading import MOST_RULES

SECONDS = 20
"""The most processor time for one case: most take less than a tenth of a second, but machines are busy."""


@pytest.fixture(autouse=True)
def bounded():
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def rule(match, rewrite, name="r", more=""):
    return f"[[rule]]\nname = '{name}'\nmatch = '''{match}'''\nrewrite = '''{rewrite}'''\n{more}\n"


def written(tmp_path, *rules, name="rules.toml", head=""):
    path = tmp_path / name
    path.write_text("\n".join([f"name = 'test'\n{head}", *rules]))
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        surgery.load_rules(path)
    assert len(str(caught.value)) < 10_000
    return str(caught.value)


EXPRESSIONS = [
    ("parentheses", "(" * 4000 + "relu(x)" + ")" * 4000, "nested"),
    ("brackets", "cat(" + "[" * 150 + "]" * 150 + ")", "151 calls, names, lists"),
    ("calls", "relu(" * 150 + "x" + ")" * 150, "151 calls, names, lists and constants; at most 100"),
    ("signs", "relu(" + "-" * 9000 + "1)", "nested too deeply|no meaning"),
    ("negations", "relu(" + "not " * 2000 + "x)", "nested too deeply|no meaning"),
    ("attributes of attributes", "relu(x" + ".a" * 4000 + ")", "nested too deeply|no meaning"),
    ("length", "relu(" + "x" * 20_000 + ")", "20,006 characters; at most 10,000"),
    ("operands", "cat([" + "x, " * 2000 + "])", "2,002 calls, names, lists and constants"),
    ("power", "relu(10**10**10**10)", "no meaning"),
    ("shift", "relu(1 << 10**10)", "no meaning"),
    ("comprehension", "relu([x for x in y])", "no meaning"),
    ("lambda", "relu(lambda: x)", "no meaning"),
    ("import", "__import__('os')", "no operation or kind is called '__import__'"),
    ("attribute", "relu(x.__class__)", "no meaning"),
    ("digits", "relu(" + "9" * 5000 + ")", "syntax error|too large"),
    ("number above 64 bits", "relu(x, 99999999999999999999)", "the number is too large"),
    ("negative number", "dropout(x, p=-99999999999999999999)", "the number is too large"),
    ("bytes", "relu(b'x')", "no meaning"),
    ("complex number", "relu(1j)", "no meaning"),
    ("ellipsis", "relu(...)", "no meaning"),
    ("text with escapes", r"add(x, '\d')", None),
    ("null", "relu(\\u0000x)", "syntax error"),
    ("nothing", "", "the expression is empty"),
    ("star", "relu(*x)", "no meaning"),
    ("two stars", "relu(**x)", "no meaning"),
    ("comment", "relu(x # )", "syntax error"),
    ("statement", "relu(x); relu(x)", "syntax error"),
    ("dots", "torch.nn.functional.relu(x)", "operations are written without a module; did you mean 'relu'"),
    ("class", "ReLU(x)", "no operation or kind is called 'ReLU'; did you mean .*'relu'"),
    ("class with underscores", "MaxPool2d(x)", "did you mean 'max_pool2d'"),
    ("class with a number", "BatchNorm2d(x)", "did you mean 'batch_norm'"),
]


@pytest.mark.parametrize(("name", "text", "message"), EXPRESSIONS, ids=[case[0] for case in EXPRESSIONS])
@pytest.mark.parametrize("key", ["match", "rewrite"])
def test_expressions(tmp_path, name, text, message, key):
    quoted = f'"{text}"' if name == "null" else f"'''{text}'''"
    other = "rewrite = 'x'" if key == "match" else "match = 'relu(x)'"
    path = written(tmp_path, f"[[rule]]\nname = 'r'\n{other}\n{key} = {quoted}\n")
    if message is None:
        surgery.load_rules(path)
    else:
        found = refusal(path).replace("no operation or transform", "no operation or kind")
        assert re.search(message, found), found
        assert "rules.toml:" in found


def chain(tmp_path, count):
    for number in range(count):
        include = f"include = ['{number + 1}.toml']" if number + 1 < count else ""
        written(tmp_path, rule("relu(x)", "x", name=f"r{number}"), name=f"{number}.toml", head=include)
    return tmp_path / "0.toml"


def diamonds(tmp_path, count):
    """Each file includes the next one twice: 2^count ways lead to the last one."""
    for number in range(count):
        next_one = f"{number + 1}.toml"
        include = f"include = ['{next_one}', './{next_one}']" if number + 1 < count else ""
        written(tmp_path, rule("relu(x)", "x", name=f"r{number}"), name=f"{number}.toml", head=include)
    return tmp_path / "0.toml"


def test_diamonds_of_includes_are_read_once(tmp_path):
    assert len(surgery.load_rules(diamonds(tmp_path, 15)).rules) == 15


def test_a_long_chain_of_includes(tmp_path):
    assert "a chain of more than 20" in refusal(chain(tmp_path, 400))


def test_a_file_that_includes_itself(tmp_path):
    path = written(tmp_path, head="include = ['rules.toml']")
    assert "include each other" in refusal(path)


def test_very_many_rules(tmp_path):
    rules = [rule("relu(x)", "x", name=f"r{number}") for number in range(20_000)]
    assert f"20,000 rules; at most {MOST_RULES:,}" in refusal(written(tmp_path, *rules))
    for name in ("a.toml", "b.toml"):
        rules = [rule("relu(x)", "x", name=f"{name}{number}") for number in range(MOST_RULES - 100)]
        written(tmp_path, *rules, name=name)
    joined = written(tmp_path, head="include = ['a.toml', 'b.toml']")
    (tmp_path / "b.toml").write_text((tmp_path / "b.toml").read_text().replace("'test'", "'other'", 1))
    assert f"1,800 rules with those that it includes; at most {MOST_RULES:,}" in refusal(joined)


def test_floods_of_mistakes_are_counted(tmp_path):
    rules = [rule("reluu(x)", "y", name=f"r{number}") for number in range(500)]
    found = refusal(written(tmp_path, *rules))
    assert found.count("rules.toml:") == 30
    assert "and 470 more mistakes" in found


def test_shapes_of_countless_dots(tmp_path):
    dots = ", ".join(['"..."'] * 2000)
    where = f"where = {{ shape = {{ x = [{dots}, 5] }} }}"
    path = written(tmp_path, rule("relu(x)", "x", more=where))
    graph = surgery.trace(nn.ReLU(), torch.zeros(1, 3, 4, 4))
    assert not surgery.plan(graph, path).edits


FILES = [
    ("pipe", lambda path: os.mkfifo(path), "a pipe or a device"),
    ("folder", lambda path: path.mkdir(), "got a folder"),
    ("dangling link", lambda path: path.symlink_to("nowhere"), "which does not exist"),
    ("link to itself", lambda path: path.symlink_to(path), "cannot be opened"),
    ("device", lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
    ("empty", lambda path: path.write_bytes(b""), "is empty"),
    ("binary", lambda path: path.write_bytes(bytes(range(256)) * 8), "UTF-8"),
    ("large", lambda path: path.write_bytes(b"#" * 3_000_000), "at most 2 MiB"),
    ("rules that are a number", lambda path: path.write_text("name = 'a'\nrule = 3"), "expected a list, got 3"),
    ("rules that are a text", lambda path: path.write_text("name = 'a'\nrule = 'relu'"), "expected a list, got 'relu'"),
    ("a rule that is a number", lambda path: path.write_text("name = 'a'\nrule = [3]"), "expected a table, got 3"),
    ("a name that is a table", lambda path: path.write_text("[name]\na = 1"), "expected a text, got a table"),
    (
        "a count of many digits",
        lambda path: written(path.parent, rule("relu(x)", "x", more=f"expect = '{'9' * 5000}'")),
        "is written like",
    ),
]


@pytest.mark.parametrize(("name", "make", "message"), FILES, ids=[case[0] for case in FILES])
def test_files(tmp_path, name, make, message):
    make(tmp_path / "rules.toml")
    assert message in refusal(tmp_path / "rules.toml")


def test_all_mistakes_are_told_in_the_order_of_the_file(tmp_path):
    path = written(
        tmp_path,
        rule("ReLU(MaxPool(x))", "y", name="one"),
        rule("relu(x, slope=1, inplace=true)", "softpluss(x, beta=z)", name="two", more="expect = 'often'"),
        rule("relu(x)", "x", name="three", more="where = { data = ['z'], constant = ['w'] }\npriority = 'high'"),
        rule("relu(x)", "x", name="two", more="where = { data = ['z'], constant = ['w'] }"),
    )
    found = refusal(path)
    lines = [int(row.split(":")[1]) for row in found.splitlines() if row.startswith(str(path))]
    assert lines == sorted(lines)
    for message in (
        "'ReLU'", "'MaxPool'", "no attribute 'slope'", "no attribute 'inplace'", "did you mean 'softplus'", "'often'",
        "priority: expected an integer", "a second rule called 'two'", "where uses 'z'", "where uses 'w'",
    ):  # fmt: skip
        assert message in found


class Chain(nn.Module):
    def __init__(self, step, count):
        super().__init__()
        self.step, self.count = step, count

    def forward(self, x):
        for _ in range(self.count):
            x = self.step(x)
        return x


def graph_of(step, count):
    return surgery.trace(Chain(step, count), torch.zeros(1, 3, 4, 4))


OTHERS = itertools.pairwise(["relu", "sin", "cos", "tanh", "relu6", "selu", "silu", "mish", "erf", "exp", "abs"])
ENDLESS = [
    ("doubling", [("relu(x)", "add(relu(x), relu(neg(x)))")], ("grown from",)),
    ("doubling in turns", [(f"{a}(x)", f"add({b}(x), {b}(neg(x)))") for a, b in OTHERS], ("grown from",)),
    ("one more each time", [("relu(x)", "relu(mul(x, 0.5))")], ("fired 51 times in a row on what rules wrote",)),
    ("there and back", [("relu(x)", "gelu(x)"), ("gelu(x)", "relu(x)")], ("the same as the graph at the start",)),
    ("itself", [("relu(x)", "relu(x)")], ("the same as the graph at the start",)),
    ("a cycle", [("relu(x)", "sin(x)"), ("sin(x)", "cos(x)"), ("cos(x)", "relu(x)")], ("is the same as",)),
    ("inserting in turns", [("r := relu(x)", "tanh(r)"), ("t := tanh(x)", "relu(t)")], ("in a row", "grown from")),
]


@pytest.mark.parametrize(("name", "rules", "messages"), ENDLESS, ids=[case[0] for case in ENDLESS])
@pytest.mark.parametrize("count", [2, 8])
def test_endless_rules_are_told_by_growth(tmp_path, name, rules, messages, count):
    path = written(tmp_path, *[rule(*pair, name=f"r{i}") for i, pair in enumerate(rules)])
    with pytest.raises(RewriteError, match="feed each other without end") as caught:
        surgery.plan(graph_of(torch.relu, count), path)
    assert any(part in str(caught.value) for part in messages)


def test_rules_with_much_to_do_are_not_endless(tmp_path):
    halving = written(tmp_path, rule("mul(mul(x, _), _)", "mul(x, 2)"))
    planned = surgery.plan(graph_of(lambda x: x * 3, 200), halving)
    assert len(planned.edits) == 199
    rules = [rule("r := relu(x)", "mul(r, 0.5)", name=f"r{number}") for number in range(60)]
    inserting = surgery.plan(graph_of(torch.relu, 60), written(tmp_path, *rules))
    assert len(inserting.edits) == 3600
    sinking = written(tmp_path, rule("neg(relu(x))", "relu(neg(x))"))
    graph = surgery.trace(nn.Sequential(*[nn.ReLU()] * 60, Chain(torch.neg, 1)), torch.zeros(1, 3, 4, 4))
    assert len(surgery.plan(graph, sinking).edits) == 60


def nested(depth, end):
    return "add(" * depth + end + ", _)" * depth


@pytest.mark.parametrize("depth", [16, 45])
def test_matching_is_not_exponential(tmp_path, depth):
    doubled = graph_of(lambda x: x + x, 60)
    path = written(tmp_path, rule(nested(depth, "relu(x)"), "x"))
    planned = surgery.plan(doubled, path)
    assert not planned.edits
    assert max(miss.depth for miss in planned.near_misses) == depth
    assert len(surgery.plan(doubled, written(tmp_path, rule(nested(depth, "x"), "mul(x, 2)"))).edits) == 60 // depth


def test_a_pattern_that_fits_in_countless_ways(tmp_path):
    class Sums(nn.Module):
        def forward(self, x):
            a, b = x, x * 2
            for _ in range(40):
                a, b = b, a + b
            return b

    path = written(tmp_path, rule(nested(30, "x"), "x", more="where = { module = 'nowhere' }"))
    with pytest.raises(RewriteError, match=r"rule 'r' of 'test' fits at .* in more than 30,000 ways"):
        surgery.plan(surgery.trace(Sums(), torch.zeros(1, 3, 4, 4)), path)


COSTLY = [
    "mul(x, pow(10, 10000000000))",
    "mul(x, pow(10, pow(10, size(x, dim=2))))",
    "mul(x, mul('a', 10000000000))",
    "mul((1, 2), 10000000000)",
    "getitem(tensor_split(x, indices_or_sections=1000000000), index=0)",
    "getitem(unbind(repeat(x, repeats=(1000000, 1, 1, 1))), index=0)",
    "getitem(chunk(x, chunks=1000000000), index=0)",
    "interpolate(x, size=(9000000000000000000, 1))",
    "floor_divide(1, 0)",
    "pow(x, pow(pow(2, 60), 60))",
]


@pytest.mark.parametrize("rewrite", COSTLY)
def test_costly_numbers_are_refused_at_their_node(tmp_path, rewrite):
    with pytest.raises(RewriteError, match=r"rule 'r' cannot write .* at \w+ "):
        surgery.plan(graph_of(torch.relu, 1), written(tmp_path, rule("relu(x)", rewrite)))


def test_several_outputs_at_many_nodes(tmp_path):
    graph = graph_of(torch.relu, 200)
    path = written(tmp_path, rule("relu(a), relu(b), relu(c), relu(d)", "a, b, c, d", more="where = { module = 'x' }"))
    with pytest.raises(SurgeryError, match="in more than 30,000 ways"):
        surgery.plan(graph, path)
    assert len(computing(graph)) == 200


def test_a_ruleset_of_a_wrong_type_is_told(tmp_path):
    with pytest.raises(RuleError, match="expected the name of a ruleset"):
        surgery.load_rules(3)
