"""Whatever a recipe holds, loading it gives a recipe or an error that says where: no other exception, no hang."""

import tomllib
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery.errors import InputError
from surgery.recipe import Recipe, load_recipe
from surgery.toml import parse_toml
from surgery.toml_writer import inline, pair

SETTINGS = settings(
    max_examples=100, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    ["[", "]", "{", "}", "=", ",", ".", '"', "'", '"""', "\n", "\r\n", "\t", "#", "1", "-1", "1e999", "nan", "true",
     "kind", "[[stage]]", "[stage.at]", "[matrix]\nseed = [0, 1]\n", 'include = ["mine.toml"]\n',
     "1979-05-27T07:32:00Z", "\x00", "\u2028", "é"]
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
WORDS = st.sampled_from(
    ["", "at", "at.best", "report", "data", "cifar10", "gap", "8/255", "pgd", "no\0ne", "x.toml", "/dev/zero", "~",
     "a" * 300]
)  # fmt: skip
KEYS = st.sampled_from(["kind", "seed", "attack", "x", "pgd", "train", "0"])


def nested(leaves, keys):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )


NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = nested(st.none() | st.booleans() | NUMBERS | WORDS | TEXTS, KEYS)


def outcome(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    try:
        loaded = load_recipe(path)
    except InputError as error:
        return error
    assert isinstance(loaded, Recipe)
    return loaded


@SETTINGS
@given(data=st.data())
def test_mutated_text(data, chain, tmp_path):
    text = chain
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.sampled_from([0, 0, 1, 3, 20])))
        text = text[:start] + data.draw(PIECES) + text[end:]
    outcome(tmp_path / "mine.toml", text)


def places(data, location=()):
    found = [location] if location else []
    if isinstance(data, dict):
        found += [place for key, value in data.items() for place in places(value, (*location, key))]
    return found


def changed(data, location, value):
    """`data` with another value at `location`, or without it for None."""
    if not location:
        return value
    result = dict(data)
    inner = changed(data[location[0]], location[1:], value)
    if inner is None:
        result.pop(location[0])
    else:
        result[location[0]] = inner
    return result


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


@SETTINGS
@given(data=st.data())
def test_mutated_structure(data, chain, tmp_path):
    recipe = tomllib.loads(chain)
    recipe["matrix"] = {"seed": [0, 1], "stage.at.epochs": [1, 2], "stage.robustness.model": ["at", "atc.last"]}
    for _ in range(data.draw(st.integers(1, 4))):
        location = data.draw(st.sampled_from(places(recipe)))
        value = without_none(data.draw(VALUES))
        location = (*location[:-1], data.draw(st.sampled_from([location[-1], location[-1], "kind", "extra", "x@y"])))
        if value is not None or location in places(recipe):
            recipe = without_none(changed_or_added(recipe, location, value))
    text = "\n".join(pair(key, value) for key, value in recipe.items())
    assert tomllib.loads(text) == recipe
    outcome(tmp_path / "mine.toml", text)


def changed_or_added(recipe, location, value):
    parent = recipe
    for part in location[:-1]:
        parent = parent[part]
    parent.setdefault(location[-1], 0)
    return changed(recipe, location, value)


HOSTILE = {
    "lists": "a = " + "[" * 5000 + "]" * 5000,
    "tables": "a = " + "{a=" * 5000 + "1" + "}" * 5000,
    "dots": "a" + ".a" * 5000 + " = 1",
    "headers": "[a" + ".a" * 5000 + "]",
    "digits": "a = " + "9" * 10000,
    "keys": "\n".join(f"k{i} = {i}" for i in range(3000)),
    "stages": "\n".join(f'[stage.s{i}]\nkind = "extract"\nmodel = "s{i - 1}"' for i in range(300)),
    "combinations": "[matrix]\n" + "\n".join(f'"model.a{i}" = [1, 2, 3]' for i in range(40)),
    "bytes": "\ufeff[recipe]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_an_error_in_time(text, tmp_path):
    assert isinstance(outcome(tmp_path / "mine.toml", text), InputError)


def test_bytes_and_folders_are_errors(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "mine.toml", tmp_path, tmp_path / "none.toml", "x" * 5000, "a\0b", "quickstat"):
        with pytest.raises(InputError):
            load_recipe(path)


def locations(value, location=()):
    yield location, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from locations(inner, (*location, key))


@settings(max_examples=100, deadline=None)
@given(table=st.dictionaries(TEXTS, nested(st.booleans() | st.integers() | TEXTS, TEXTS), max_size=4))
def test_every_value_is_found_where_it_stands(table):
    text = "\n# a comment [x]\n".join(["[t]", *(pair(key, value) for key, value in table.items())])
    document = parse_toml(text, "t")
    for location, value in locations(document.data["t"]):
        if location:
            place = document.position(("t", *location))
            assert place.text[place.column - 1 :].startswith(inline(value))
