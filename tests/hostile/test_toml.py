"""Text files that people write, damaged or made to hurt: one located error, in little time and memory."""

import os
import time

import pytest

from surgery.errors import InputError
from surgery.hierarchy import load_hierarchy
from surgery.toml import DEEPEST, LARGEST, parse_toml, read_toml

SECONDS = 20
"""The most processor time for one case: they take fractions of a second, but machines are busy."""

TEXTS = {
    "key of 100,000 parts": ("a" + ".a" * 100_000 + " = 1", "t.toml:1:1: a dotted key has more than 64 parts"),
    "header of 100,000 parts": ("x = 1\n[" + "a." * 100_000 + "a]", "t.toml:2:2: a dotted key has more than 64 parts"),
    "key of quoted parts": ('"a" . ' * 5000 + "a = 1", "t.toml:1:1: a dotted key has more than 64 parts"),
    "key inside an inline table": ("x = { " + "a." * 5000 + "a = 1 }", "t.toml:1:7: a dotted key has more than 64"),
    "nested lists": ("a = " + "[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
    "nested tables": ("a = " + "{a=" * 50_000 + "1" + "}" * 50_000, "nested deeper than 64"),
    "open lists": ("a = " + "[" * 100_000, "nested deeper than 64"),
    "number of 5,000 digits": ("x = 1\na = " + "9" * 5000, "t.toml:2:5: a number has more than 4300 digits"),
    "NUL": ("a = 'x\0y'", "t.toml:1:7: "),
    "many open strings": ('"""' * 100_000 + "." * 100, "t.toml:1:3"),
    "many broken lines": ('"a\n' * 100_000 + "." * 100, "t.toml:1:3: "),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_hostile_text_is_a_short_error(text, message):
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_toml(text, "t.toml")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000, "a long line is shortened"
    assert time.process_time() - start < SECONDS


DOTS = "a." * 1000
SOUND = {
    "text": f'a = "{DOTS}"',
    "literal": f"a = '{DOTS}'",
    "several lines": f'a = """\n{DOTS}\n"""',
    "escaped quote": f'a = "\\"{DOTS}"',
    "comment": f"a = 1  # {DOTS}",
    "longest key": "a" + ".a" * (DEEPEST - 2) + " = 1",
}


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_dots_outside_of_keys_do_not_count(text):
    assert parse_toml(text, "t.toml").data


def made(kind, path):
    """Make the file of a case at `path`."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        path.write_bytes(b"#" * (LARGEST + 1))
    elif kind == "sparse":
        with path.open("wb") as stream:
            stream.truncate(2**40)
    elif kind == "empty":
        path.touch()
    else:
        path.write_bytes(b"a = 1\nb = '\xff'\n")


FILES = {
    "pipe": "expected a file, got a pipe or a device",
    "folder": "expected a file, got a folder",
    "link to nothing": "which does not exist",
    "link to itself": "",
    "link to a device": "expected a file, got a pipe or a device",
    "large": "expected a text file of at most 2 MiB",
    "sparse": "expected a text file of at most 2 MiB",
    "empty": "the file is empty",
    "bytes": "t.toml:2: not a text file: expected UTF-8, got the byte 0xff",
}


@pytest.mark.parametrize("read", [read_toml, load_hierarchy])
@pytest.mark.parametrize(("kind", "message"), FILES.items(), ids=FILES)
def test_files_that_are_no_text_are_errors(tmp_path, read, kind, message):
    made(kind, tmp_path / "t.toml")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "t.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["x" * 300 + ".toml", "a\0b.toml", "/".join(["x" * 200] * 50) + ".toml"])
def test_paths_that_the_system_refuses_are_errors(path):
    for read in (read_toml, load_hierarchy):
        with pytest.raises(InputError):
            read(path)


MEMBERS = ", ".join(f'"c{index}"' for index in range(30_000))
HIERARCHIES = {
    "t.json": {
        "deep": ("[" * 100_000, "lists and objects are nested too deeply"),
        "digits": ('{"superclasses": {"a": [' + "9" * 5000 + "]}}", "a number has more than 4300 digits"),
        "not a number": ('{"superclasses": NaN}', "expected a table 'superclasses'"),
        "no object": ('"x"', "expected a table 'superclasses'"),
        "surrogate": ('{"superclasses": {"a": ["\\ud800"]}}', "no control characters and is UTF-8"),
        "NUL": ('{"superclasses": {"a": ["x\\u0000"]}}', "no control characters and is UTF-8"),
        "30,000 classes and one twice": (f'{{"superclasses": {{"a": [{MEMBERS}, "c1"]}}}}', "class 'c1' is already in"),
    },
    "t.toml": {
        "bell": ('superclasses.a = ["x\\u0007"]', "no control characters and is UTF-8"),
        "30,000 classes and one twice": (f"superclasses.a = [{MEMBERS}]\nclasses = [{MEMBERS}, 'c1']", "listed twice"),
        "30,000 superclasses and one unknown": (
            "[superclasses]\n" + "\n".join(f"g{index} = ['c{index}']" for index in range(30_000)) + "\nx = ['y']",
            "the data have no class 'y'",
        ),
    },
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param(name, *case, id=f"{name} {what}")
        for name, cases in HIERARCHIES.items()
        for what, case in cases.items()
    ],
)
def test_hostile_hierarchies_are_errors(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    classes = [f"c{index}" for index in range(30_000)] if "have no" in message else None
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        load_hierarchy(tmp_path / name, class_names=classes)
    assert message in str(caught.value)
    assert time.process_time() - start < SECONDS
