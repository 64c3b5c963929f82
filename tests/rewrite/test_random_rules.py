"""Random rules of every form on random graphs, several times over: what `apply` returns is always a valid graph."""

import functools

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import fx, nn

import surgery
from surgery.errors import RewriteError

SHAPE = (4, 6, 6)
BATCH = 3
ACTIVATIONS = ("relu", "sigmoid", "tanh", "leaky_relu")


class Program(nn.Module):
    """A network of random steps; each reads one or two earlier values, so that values are shared."""

    def __init__(self, steps, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.steps = steps
        self.conv, self.wide, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        self.eval().double()

    def forward(self, x):
        values = [x]
        for name, first, second in self.steps:
            a, b = values[-1 - first % len(values)], values[-1 - second % len(values)]
            values.append(STEPS[name](self, a, b))
        return torch.cat([values[-1], values[len(values) // 2]], 1), values[-1].mean((2, 3))


STEPS = {
    **{name: lambda m, a, b, name=name: getattr(torch.nn.functional, name)(a) for name in ACTIVATIONS},
    "conv": lambda m, a, b: m.conv(a),
    "norm": lambda m, a, b: m.norm(m.conv(a)),
    "cat": lambda m, a, b: m.wide(torch.cat([a, b], 1)),
    "add": lambda m, a, b: a + b,
    "mul": lambda m, a, b: a * b,
    "scale": lambda m, a, b: a * 0.5,
    "view": lambda m, a, b: a.flatten(2).transpose(1, 2).transpose(1, 2).reshape(a.shape),
    "chunk": lambda m, a, b: torch.cat(a.chunk(2, 1)[::-1], 1),
    "max_pool": lambda m, a, b: torch.nn.functional.max_pool2d(a, 3, 1, 1),
    "avg_pool": lambda m, a, b: torch.nn.functional.avg_pool2d(a, 3, 1, 1),
}

activation = st.sampled_from([*ACTIVATIONS, "activation"])
written = st.sampled_from(["relu", "sigmoid", "tanh", "softsign"])
node = st.sampled_from([*ACTIVATIONS, "add", "mul", "conv2d", "batch_norm", "cat", "max_pool2d", "reshape"])

RULES = st.one_of(
    st.builds(lambda a: (f"{a}(x)", "x"), activation),
    st.builds(lambda a, b: (f"{a}(x)", f"{b}(x)"), activation, written),
    st.builds(lambda a, b: (f"{a}(x)", f"{b}(mul(x, 0.5))"), activation, written),
    st.builds(lambda n: (f"r := {n}(x)", "mul(r, 0.5)"), node),
    st.builds(lambda n, a: (f"r := {n}(x)", f"add(r, {a}(r))"), node, written),
    st.builds(lambda n: (f"r := {n}(x)", "expand(mean(r, dim=1, keepdim=true), size=shape(r))"), node),
    st.builds(lambda n, a: (f"{a}(c := {n}(_))", f"{a}(mul(c, 0.5))"), node, st.sampled_from(ACTIVATIONS)),
    st.builds(lambda a, b: (f"a := {a}(x), b := {b}(y)", "b, a"), activation, activation),
    st.builds(lambda a, b: (f"a := {a}(x), b := {b}(y)", "add(a, b), mul(b, 2)"), activation, activation),
    st.builds(lambda a, b: (f"{a}(x), {b}(x)", "neg(x), x"), activation, activation),
    st.sampled_from(
        [
            ("mul(x, x)", "x"),
            ("r := add(x, y)", "sub(r, x)"),
            ("mul(x, g := activation(_))", "mul(x, add(g, g))"),
            ("leaky_relu(x, negative_slope=s)", "mul(x, s)"),
            (
                "max_pool2d(x, kernel_size=k, stride=s, padding=p)",
                "avg_pool2d(x, kernel_size=k, stride=s, padding=p)",
            ),
            ("add(cat([a, b]), c)", "cat([b, a])"),
            ("f := flatten(x, start_dim=s)", "add(f, flatten(x, start_dim=s))"),
        ]
    ),
)
SAME_FUNCTION = st.sampled_from(
    [
        ("add(x, x)", "mul(x, 2)"),
        ("relu(x)", "clamp(x, min=0)"),
        ("relu(relu(x))", "relu(x)"),
        ("r := relu(x)", "relu(r)"),
        ("r := activation(x)", "sub(add(r, x), x)"),
        ("sigmoid(c := conv2d(_))", "sigmoid(neg(neg(c)))"),
        ("m := mul(x, y)", "div(add(m, mul(x, y)), 2)"),
        ("transpose(transpose(x, dim0=a, dim1=b), dim0=a, dim1=b)", "x"),
        ("a := relu(x), b := sigmoid(x)", "maximum(a, a), b"),
        "fold-batch-norm",
    ]
)


@functools.cache
def loaded(rules, folder):
    """A ruleset of `(match, rewrite)` pairs, or a shipped one."""
    if isinstance(rules, str):
        return surgery.load_rules(rules)
    text = ["name = 'random'"]
    text += [
        f"[[rule]]\nname = 'r{i}'\nmatch = '{match}'\nrewrite = '{rewrite}'" for i, (match, rewrite) in enumerate(rules)
    ]
    path = folder / "rules.toml"
    path.write_text("\n".join(text))
    return surgery.load_rules(path)


def images(seed=0):
    return torch.rand((BATCH, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_claims(graph):
    """The graph is well-formed, and every node has the shape and dtype that it claims; return the outputs."""
    graph.graph.lint()
    interpreter = fx.Interpreter(graph, garbage_collect_values=False)
    with torch.no_grad():
        result = interpreter.run(images())
        assert all(map(torch.equal, graph(images()), result))
    for item, value in interpreter.env.items():
        if isinstance(value, torch.Tensor) and item.op != "output":
            assert tuple(BATCH if size == "N" else size for size in item.meta["shape"]) == tuple(value.shape), item
            assert item.meta["dtype"] == value.dtype
    return result


REFUSALS = ("feed each other", "read its own result", "turns ", "cannot write")


def rewritten(graph, rules):
    """Plan and apply `rules`; None where planning refuses them for a reason that it may have."""
    try:
        planned = surgery.plan(graph, rules)
    except RewriteError as error:
        if not any(reason in error.message for reason in REFUSALS):
            raise
        event("refused")
        return None
    event("rewritten" if planned.edits else "nothing fires")
    return surgery.apply(planned).module


programs = st.builds(
    Program,
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=10),
    st.integers(0, 3),
)
profile = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rules")


@profile
@given(
    program=programs,
    rulesets=st.lists(
        st.lists(RULES | SAME_FUNCTION.filter(lambda r: not isinstance(r, str)), min_size=2, max_size=4),
        min_size=1,
        max_size=3,
    ),
)
def test_random_rules_leave_a_valid_graph(folder, program, rulesets):
    graph = surgery.trace(program, images()[:1])
    for rules in [*rulesets, rulesets[0]]:
        graph = rewritten(graph, loaded(tuple(rules), folder)) or graph
        check_claims(graph)


@profile
@given(program=programs, rulesets=st.lists(SAME_FUNCTION, min_size=3, max_size=5))
def test_rules_for_the_same_function_keep_the_outputs(folder, program, rulesets):
    graph = surgery.trace(program, images()[:1])
    with torch.no_grad():
        expected = program(images())
    for rules in rulesets:
        graph = rewritten(graph, loaded(rules if isinstance(rules, str) else (rules,), folder)) or graph
        for left, right in zip(check_claims(graph), expected, strict=True):
            size = float(right.abs().max())
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9 * size)  # rounding of rewritten sums
