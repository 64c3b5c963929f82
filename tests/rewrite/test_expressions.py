"""Rule files: every mistake is found when the file is loaded, and pointed at."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery
from surgery.errors import InputError, RuleError, SurgeryError
from surgery.rewrite import shipped_rulesets
from surgery.rewrite.checking import parse_match, parse_rewrite
from surgery.rewrite.expression import ExpressionError, names_bound

GOOD = """name = "mine"

[[rule]]
name = "one"
match = "relu(x)"
rewrite = "x"
"""


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return surgery.load_rules(path)


MISTAKES = [
    ('match = "relu(x"', 'rewrite = "x"', 5, 10, "syntax error"),
    ('match = "reluu(x)"', 'rewrite = "x"', 5, 10, "did you mean 'relu'"),
    ('match = "relu(x, slope=1)"', 'rewrite = "x"', 5, 10, "no attribute 'slope'"),
    ('match = "add(x, leeky_relu(y))"', 'rewrite = "x"', 5, 17, "did you mean 'leaky_relu'"),
    ('match = "relu(x, y)"', 'rewrite = "x"', 5, 10, "1 operands"),
    ('match = "x"', 'rewrite = "x"', 5, 10, "match everything"),
    ('match = "relu(X)"', 'rewrite = "x"', 5, 15, "lower case"),
    ('match = "relu(x + 1)"', 'rewrite = "x"', 5, 15, "no meaning"),
    ('match = "relu(x)"', 'rewrite = "y"', 6, 12, "'y' is not captured by match"),
    ('match = "relu(x)"', 'rewrite = "_"', 6, 12, "name it in match"),
    ('match = "relu(x)"', 'rewrite = "activation(x)"', 6, 12, "is a kind"),
    ('match = "relu(x)"', 'rewrite = "avg_pool2d(x)"', 6, 12, "needs the attribute 'kernel_size'"),
    ('match = "relu(x)"', 'rewrite = "add(x)"', 6, 12, "takes the operands input, other"),
    ('match = "relu(x)"', 'rewrite = "softpluss(x)"', 6, 12, "did you mean 'softplus'"),
    ('match = "relu(x), tanh(x)"', 'rewrite = "x"', 6, 12, "2 outputs, rewrite 1"),
    ('match = "x := relu(x)"', 'rewrite = "x"', 5, 10, "given twice"),
    ('match = "add(g:=relu(x), g:=relu(y))"', 'rewrite = "x"', 5, 26, "given twice"),
    ('match = "r := relu(x)"', 'rewrite = "r"', 6, 12, "would change nothing"),
    ('match = "relu(x)"', 'rewrite = "x"\nexpect = "often"', 7, 10, "expect is written like"),
    ('match = "relu(x)"', 'rewrite = "x"\nwhere = { shape = { z = [1] } }', 7, 9, "'z', which match does not capture"),
    ('match = "relu(x)"', 'rewrite = "x"\nwhere = { modul = "a" }', 7, 11, "did you mean 'module'"),
    ('match = "relu(x)"', 'rewrite = "x"\npriority = "high"', 7, 12, "integer"),
    ('match = "relu(x)"', 'rewrit = "x"', 6, 1, "did you mean 'rewrite'"),
    ('match = "relu(x)"', "rewrite = x", 6, 11, ""),
]


@pytest.mark.parametrize(("match", "rewrite", "line", "column", "message"), MISTAKES)
def test_a_mistake_is_pointed_at(tmp_path, match, rewrite, line, column, message):
    text = f'name = "mine"\n\n[[rule]]\nname = "one"\n{match}\n{rewrite}\n'
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert f"mine.toml:{line}:{column}: " in str(caught.value)
    assert message in str(caught.value)
    pointed = [row for row in str(caught.value).splitlines() if row.strip() == "^"]
    assert pointed
    assert pointed[0].index("^") == len(f"{line} | ") + column - 1


def test_all_mistakes_of_a_schema_come_at_once(tmp_path):
    with pytest.raises(RuleError) as caught:
        load(tmp_path, GOOD + 'prio = 1\nexpekt = ">=1"\n')
    assert str(caught.value).count("mine.toml:") == 2


def test_a_second_rule_of_a_name_is_refused(tmp_path):
    with pytest.raises(RuleError, match="a second rule called 'one'"):
        load(tmp_path, GOOD + GOOD.split("\n\n")[1])


def test_rulesets_include_each_other_once(tmp_path):
    load(tmp_path, GOOD)
    outer = tmp_path / "outer.toml"
    outer.write_text('name = "outer"\ninclude = ["mine.toml", "linear-attention", "linear-attention"]\n')
    names = [rule.name for rule in surgery.load_rules(outer).rules]
    assert names[0] == "one"
    assert len(names) == len(set(names)) > 3


def test_an_include_cycle_is_shown(tmp_path):
    (tmp_path / "a.toml").write_text('name = "a"\ninclude = ["b.toml"]\n')
    (tmp_path / "b.toml").write_text('name = "b"\ninclude = ["a.toml"]\n')
    with pytest.raises(RuleError, match=r"a\.toml includes .*b\.toml includes .*a\.toml"):
        surgery.load_rules(tmp_path / "a.toml")


def test_an_unknown_ruleset_suggests_a_shipped_one():
    with pytest.raises(RuleError, match="did you mean 'linearize'"):
        surgery.load_rules("linearise")


def test_an_unknown_include_is_pointed_at(tmp_path):
    with pytest.raises(RuleError, match=r"mine\.toml:2:\d+"):
        load(tmp_path, 'name = "mine"\ninclude = ["linearise"]\n')


@pytest.mark.parametrize("name", shipped_rulesets())
def test_every_shipped_ruleset_loads_and_says_what_it_is_for(name):
    rules = surgery.load_rules(name)
    assert rules.name == name
    assert rules.about
    assert rules.rules


def test_the_promises_are_those_of_the_documentation():
    promises = {name: surgery.load_rules(name).promise for name in shipped_rulesets()}
    assert promises == {
        "linearize": "affine",
        "linearize-keep-bn": "affine",
        "linear-attention": "affine",
        "fold-batch-norm": "same function",
        "relu-to-softplus": None,
        "max-to-average-pool": None,
    }


def test_several_rulesets_join_in_order():
    joined = surgery.load_rules(["max-to-average-pool", "relu-to-softplus"])
    assert joined.rules[-1].name == "relu-to-softplus"
    assert joined.promise is None


def test_captures_labels_and_attributes_are_bound():
    patterns = parse_match("bn := batch_norm(c := conv2d(x, w), training=t)")
    assert names_bound(patterns) == {"bn", "c", "x", "w", "t"}


expressions = st.text(alphabet="abcrelu_(),:=[]{}0123456789.+-*\"' \n\\#", max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=expressions)
def test_no_text_breaks_the_parser(text):
    for parse in (parse_match, lambda t: parse_rewrite(t, frozenset({"x"}), frozenset({"shape"}))):
        column = 0
        try:
            parse(text)
        except ExpressionError as error:
            column = error.column
        assert 0 <= column <= len(text) + 1


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 400), junk=st.text(alphabet="[]=\"'\n #ab{}.,", max_size=8))
def test_no_mutation_of_a_rule_file_breaks_the_loader(tmp_path_factory, cut, junk):
    text = GOOD + 'where = { module = "a.*", shape = { x = ["_", 3] } }\nexpect = ">=1"\n'
    position = cut % len(text)
    path = tmp_path_factory.mktemp("rules") / "mine.toml"
    path.write_text(text[:position] + junk + text[position + len(junk) // 2 :])
    message = "loaded"
    try:
        surgery.load_rules(path)
    except SurgeryError as error:
        message = str(error)
    assert message
