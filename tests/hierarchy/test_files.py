from __future__ import annotations

import json
from pathlib import Path

import pytest

from surgery.errors import InputError
from surgery.hierarchy import from_wordnet, load_hierarchy, named

TOML = """classes = ["cat", "car", "dog"]

[superclasses]
animals = ["cat", "dog"]
vehicles = [
  "car",
]
"""
JSON = {"classes": ["cat", "car", "dog"], "superclasses": {"animals": ["cat", "dog"], "vehicles": ["car"]}}


def write(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = load_hierarchy(write(tmp_path, TOML))
    for indent in (None, 2):
        found = load_hierarchy(str(write(tmp_path, json.dumps(JSON, indent=indent), "own.json")))
        assert (found.class_names, found.superclass, found.names) == (toml.class_names, toml.superclass, toml.names)
    assert toml.class_names == ("cat", "car", "dog")
    assert toml.superclass == (0, 1, 0)
    assert toml.names == ("animals", "vehicles")
    assert toml.method == "file own.toml"


def test_order_of_classes_is_that_of_the_data_or_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    assert load_hierarchy(path, class_names=("car", "cat", "dog")).superclass == (0, 1, 1)
    bare = write(tmp_path, TOML.split("\n", 1)[1])
    assert load_hierarchy(bare).class_names == ("cat", "dog", "car")


def test_names_are_loaded_too_and_held_against_the_classes() -> None:
    assert load_hierarchy("CIFAR-10") == named("cifar10")
    names = named("cifar10").class_names
    assert load_hierarchy("cifar10", class_names=names[::-1]).superclass == (0, 0, *(1,) * 6, 0, 0)
    with pytest.raises(InputError, match=r"no class 'automobile', which the hierarchy 'cifar10' has"):
        load_hierarchy("cifar10", class_names=named("stl10").class_names)
    with pytest.raises(InputError, match="unknown hierarchy 'mnist'"):
        load_hierarchy("mnist")


WRONG = {
    "no toml": ('[superclasses]\na = ["cat"\n', r"own.toml:\d+:\d+: "),
    "no table": ("superclass = 3\n", r"own.toml:1:1: expected a table 'superclasses'"),
    "empty table": ("[superclasses]\n", r"own.toml:1:2: expected a table"),
    "unknown key": ('order = []\n[superclasses]\na = ["cat"]\n', r"own.toml:1:1: unknown key 'order'"),
    "no list": ('[superclasses]\na = "cat"\n', r"own.toml:2:1: superclass 'a' is a list"),
    "empty list": ('[superclasses]\na = ["cat"]\nb = []\n', r"own.toml:3:1: superclass 'b' is a list"),
    "numbers": ("[superclasses]\na = [1, 2]\n", r"own.toml:2:1: superclass 'a' is a list of class names"),
    "in two": ('[superclasses]\na = ["cat"]\nb = ["dog", "cat"]\n', r"own.toml:3:13: class 'cat' is already in .*'a'"),
    "twice": ('[superclasses]\na = ["cat", "cat"]\n', r"own.toml:2:13: class 'cat' is already in superclass 'a'"),
    "twice in order": (
        'classes = ["cat", "cat"]\n[superclasses]\na = ["cat"]\n',
        r"own.toml:1:19: .*listed twice",
    ),
    "order": ('classes = "cat"\n[superclasses]\na = ["cat"]\n', r"own.toml:1:1: classes is a list"),
    "missing": (
        'classes = ["cat", "dog"]\n[superclasses]\na = ["cat"]\n',
        r"own.toml:2:2: class 'dog' .*no superclass",
    ),
    "unknown": (
        'classes = ["cat"]\n[superclasses]\na = [\n  "cat",\n  "catt",\n]\n',
        r"own.toml:5:3: the data have no class 'catt'\n5 \|   \"catt\",\n +\^\n +hint: did you mean 'cat'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_in_a_file_are_pointed_at(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        load_hierarchy(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"superclasses": {"a": ["cat"]', r"own.json:1:\d+: Expecting"),
        ('{"superclasses": {"a": ["cat"],\n "a": ["dog"]}}', r"own.json:2:2: the key 'a' appears twice"),
        ('["cat"]', r"own.json:1:1: expected a table"),
        ('{"superclasses": {"a": ["cat"],\n "b": ["cat"]}}', r"own.json:2:8: class 'cat' is already in superclass 'a'"),
        ('{"superclasses": {"a": ["cat"]},\n "order": []}', r"own.json:2:2: unknown key 'order'"),
        ('{"superclasses": {"a": ["cat"], "b": 3}}', r"own.json:1:33: superclass 'b' is a list"),
        ('{"classes": ["cat", "cat"], "superclasses": {"a": ["cat"]}}', r"own.json:1:21: .*listed twice in classes"),
        ('{"superclasses": {"a\\"}": ["{", "["],\r\n\t"b": [ "[" ]}}', r"own.json:2:9: class '\[' is already in"),
        ("[" * 100_000, r"own.json:1:1: lists and objects are nested too deeply"),
    ],
)
def test_mistakes_in_json_are_pointed_at(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_hierarchy(write(tmp_path, text, "own.json"))


def test_comments_and_equal_words_do_not_mislead_the_caret(tmp_path: Path) -> None:
    path = write(tmp_path, '[superclasses]\na = ["cat"]\nb = [\n  # not "cat"\n  "dog", "cat",\n]\n')
    with pytest.raises(InputError, match=r"own.toml:5:10: class 'cat' is already in superclass 'a'"):
        load_hierarchy(path)
    path = write(tmp_path, '[superclasses]\n"classes = 1" = ["superclasses"]\nb = 3\n[order]\n')
    with pytest.raises(InputError, match=r"own.toml:4:2: unknown key 'order'"):
        load_hierarchy(path)
    path = write(tmp_path, '{"superclasses": {"b": ["a"], "a": ["a"]}}', "own.json")
    with pytest.raises(InputError, match=r"own.json:1:37: class 'a' is already in superclass 'b'"):
        load_hierarchy(path)


def test_a_file_has_to_cover_the_data(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    with pytest.raises(InputError, match=r"own.toml:3:2: class 'bus' of the data is in no superclass"):
        load_hierarchy(path, class_names=("cat", "car", "dog", "bus"))
    with pytest.raises(InputError, match=r"own.toml:4:19: the data have no class 'dog'"):
        load_hierarchy(path, class_names=("cat", "car"))


def test_files_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_hierarchy(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        load_hierarchy(tmp_path / "bytes.toml")
    with pytest.raises(InputError, match="not a text file"):
        from_wordnet(["a"], tmp_path / "bytes.toml", depth=1)


WORDNET = {
    "entity": (),
    "animal": "entity",
    "artifact": "entity",
    "dog": ("canine", "pet"),
    "canine": "animal",
    "pet": "animal",
    "puppy": "dog",
    "cat": "pet",
    "car": "artifact",
    "robot_dog": ("artifact", "pet"),
}
CLASSES = ("cat", "car", "puppy")


def test_wordnet_groups_by_ancestors() -> None:
    found = from_wordnet(CLASSES, WORDNET, ancestors=("artifact", "animal"))
    assert found.superclass == (0, 1, 0)
    assert found.names == ("animal", "artifact")
    named_ones = from_wordnet(
        CLASSES, WORDNET, ancestors={"animal": "animals", "artifact": "things"}, class_names=("Cat", "Car", "Puppy")
    )
    assert named_ones.names == ("animals", "things")
    assert named_ones.class_names == ("Cat", "Car", "Puppy")


def test_wordnet_takes_the_more_special_ancestor() -> None:
    found = from_wordnet(CLASSES, WORDNET, ancestors=("animal", "artifact", "dog"))
    assert found.names == ("animal", "artifact", "dog")
    assert from_wordnet(("dog",), WORDNET, ancestors=("dog",)).names == ("dog",)


@pytest.mark.parametrize(
    ("depth", "names"),
    [(0, ("entity",)), (1, ("animal", "artifact")), (2, ("pet", "car", "canine")), (9, CLASSES)],
)
def test_wordnet_groups_by_depth(depth: int, names: tuple[str, ...]) -> None:
    assert from_wordnet(CLASSES, WORDNET, depth=depth).names == names


def test_wordnet_comes_from_a_file(tmp_path: Path) -> None:
    pairs = [(c, p) for c, several in WORDNET.items() for p in ((several,) if isinstance(several, str) else several)]
    path = write(tmp_path, "\n".join(f"{child} {parent}" for child, parent in pairs) + "\n\n", "is_a.txt")
    assert from_wordnet(CLASSES, path, depth=1) == from_wordnet(CLASSES, WORDNET, depth=1)
    turned = write(tmp_path, "animal cat\nartifact car\n", "turned.txt")
    path = write(tmp_path, "cat animal\ncar is artifact\n", "wrong.txt")
    with pytest.raises(InputError, match=r"wrong.txt:2:1: expected 'child parent', got 3 words"):
        from_wordnet(CLASSES, path, depth=1)
    with pytest.raises(InputError, match="in the wrong order"):
        from_wordnet(("animal", "artifact"), {"cat": "animal", "car": "artifact"}, depth=1)
    with pytest.raises(InputError, match="class 'puppy' is not among the hypernyms"):
        from_wordnet(("puppy",), turned, depth=1)


@pytest.mark.parametrize(
    ("wnids", "options", "message"),
    [
        (CLASSES, {}, "either the ancestors to group by, or a depth"),
        (CLASSES, {"depth": 1, "ancestors": ("animal",)}, "either the ancestors to group by, or a depth"),
        (CLASSES, {"depth": -1}, "got -1"),
        (CLASSES, {"ancestors": ("animal",)}, "class 'car' is under none of the ancestors animal"),
        (
            ("robot_dog",),
            {"ancestors": ("animal", "artifact")},
            "under animal and artifact, and neither is",
        ),
        (("pupy",), {"depth": 1}, r"class 'pupy' is not among(.|\n)*did you mean 'puppy'"),
        (("cat", "cat"), {"depth": 1}, "two class names are 'cat'"),
    ],
)
def test_what_wordnet_cannot_group_is_an_error(wnids, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_wordnet(wnids, WORDNET, **options)


def test_hypernyms_in_a_circle_are_an_error() -> None:
    with pytest.raises(InputError, match="form a circle at 'a'"):
        from_wordnet(("a",), {"a": "b", "b": "a"}, depth=1)
