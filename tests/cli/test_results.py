"""`surgery results`: what people and programs see of a store."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from surgery.store import Coordinate, Group, Variable, class_coordinates, write_group
from surgery_cli.main import app
from surgery_cli.show.matrix import Order, Surface, matrix_view, palette_color, scale_of

NAMES = ("plane", "cat", "dög", "ship")
MATRIX = np.array([[1, -0.5, -0.5, 0.5], [-0.5, 1, 0.75, -0.5], [-0.5, 0.75, 1, -0.5], [0.5, -0.5, -0.5, 1]])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with W and a hierarchy."""
    pair = ("class", "class_other")
    weight = np.arange(4 * 3 * 2 * 2, dtype=np.float32).reshape(4, 3, 2, 2)
    linear = Group(
        name="linear",
        kind="linear",
        coordinates=class_coordinates(NAMES),
        variables=(
            Variable(name="weight", data=weight, dimensions=("class", "channel", "row", "column"), long_name="W"),
            Variable(name="correlation", data=MATRIX, dimensions=pair, long_name="correlations of the columns of W"),
        ),
        attributes={"model": "resnet18"},
        provenance={"recipe": "one\ntwo"},
    )
    superclass = Variable(name="superclass", data=np.array(["thing", "animal", "animal", "thing"]),
                          dimensions=("class",), long_name="superclass")  # fmt: skip
    hierarchy = Group(
        name="hierarchy", kind="hierarchy", coordinates=class_coordinates(NAMES)[:1], variables=(superclass,)
    )
    folder = tmp_path / "first"
    folder.mkdir()
    write_group(folder, linear)
    write_group(folder, hierarchy)
    return folder


def surgery(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["results", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout


def data(*words: object, code: int = 0) -> Any:
    return json.loads(surgery(*words, "--json", code=code))


def test_ls(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = surgery("ls", run)
    assert "linear" in text
    assert "weight 4x3x2x2, correlation 4x4" in text
    monkeypatch.chdir(run)
    assert surgery("ls") == surgery("ls", "results.h5") == text
    [first, second] = data("ls")["groups"]
    assert (first["name"], second["kind"]) == ("linear", "hierarchy")
    assert first["variables"]["weight"] == {"dimensions": ["class", "channel", "row", "column"], "shape": [4, 3, 2, 2]}


def test_show_puts_classes_of_a_superclass_together(run: Path) -> None:
    text = surgery("show", run, "linear")
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(NAMES)]
    table = [row for row in rows if len(row) == 5]
    assert [row[0] for row in table] == ["plane", "ship", "cat", "dög"]
    assert [float(entry) for entry in table[2][1:]] == [-0.5, -0.5, 1, 0.75]
    assert "superclasses of group 'hierarchy'" in text
    assert "one ... (2 lines)" in text
    assert "resnet18" in text


def test_show_of_one_variable(run: Path) -> None:
    assert "cat    animal" in surgery("show", run, "--variable", "superclass")
    found = data("show", run, "linear", "--variable", "weight")
    assert np.array_equal(np.array(found["values"]), np.arange(48).reshape(4, 3, 2, 2))
    assert data("show", run)["groups"][0]["variables"]["correlation"]["values"] == MATRIX.tolist()


def test_compare(run: Path, tmp_path: Path) -> None:
    assert "The results are the same." in surgery("compare", run, run)
    other = tmp_path / "second"
    other.mkdir()
    changed = Variable(name="correlation", data=MATRIX + 0.25, dimensions=("class", "class_other"), long_name="C")
    write_group(other, Group(name="linear", kind="linear", coordinates=class_coordinates(NAMES), variables=(changed,)))
    text = surgery("compare", run, other, code=1)
    assert "The results differ." in text
    assert re.search(r"linear/correlation +0\.25", text)
    assert "hierarchy" in text
    found = data("compare", run, other, code=1)
    assert (found["same"], found["only_first"], found["only_second"]) == (False, ["hierarchy"], [])
    assert found["largest"] == {"linear/correlation": 0.25}


@pytest.fixture
def attacked(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders with the accuracies of two networks on the same images."""
    folders = tmp_path / "one", tmp_path / "two"
    for number, folder in enumerate(folders):
        folder.mkdir()
        correct = np.ones((2, 100), dtype=bool)
        correct[1, : 40 + 30 * number] = False
        by_class = np.array([[1, 1, 1, np.nan], [0.25, 0.5, 0.125, np.nan]])
        group = Group(
            name="robustness@model-at",
            kind="attack",
            coordinates=(
                Coordinate(name="attack", values=("natural", "pgd"), long_name="attack"),
                class_coordinates(NAMES)[0],
            ),
            variables=(
                Variable(name="accuracy", data=correct.mean(1), dimensions=("attack",), long_name="accuracy"),
                Variable(name="class_accuracy", data=by_class, dimensions=("attack", "class"), long_name="by class"),
                Variable(name="label", data=np.zeros(100, dtype=int), dimensions=("image",), long_name="label"),
                Variable(name="correct", data=correct, dimensions=("attack", "image"), long_name="correct"),
            ),
            provenance={"parameters": json.dumps({"attacks": {"pgd": {"steps": 10 + number}}})},
        )
        write_group(folder, group)
    return folders


def test_show_has_accuracies_class_by_class(attacked: tuple[Path, Path]) -> None:
    lines = surgery("show", attacked[0], "robustness@model-at").splitlines()
    assert any(re.search(r"accuracy +attack +2 +natural 1, pgd 0\.6 ", line) for line in lines)
    start = next(number for number, line in enumerate(lines) if "robustness@model-at/class_accuracy" in line)
    assert [line.split() for line in lines[start + 1 : start + 6]] == [
        ["natural", "pgd"],
        ["plane", "1", "0.25"],
        ["cat", "1", "0.5"],
        ["dög", "1", "0.125"],
        ["ship", "nan", "nan"],
    ]


def test_compare_tests_accuracies_on_the_same_images(attacked: tuple[Path, Path]) -> None:
    text = surgery("compare", *attacked, code=1)
    assert re.search(r"robustness@model-at: attacks\.pgd\.steps +10 +11", text)
    row = r"robustness@model-at +pgd +100 +60\.0% +30\.0% +-30\.0  -38\.\d to -20\.\d +30 +0 +< 0\.0001"
    assert re.search(row, text), text
    found = data("compare", *attacked, code=1)
    assert [(item["attack"], item["difference"]) for item in found["accuracies"]] == [("natural", 0), ("pgd", -0.3)]
    assert found["accuracies"][1]["p_value"] < 1e-6
    assert [(item["name"], item["first"], item["second"]) for item in found["parameters"]] == [
        ("attacks.pgd.steps", "10", "11")
    ]


def test_check_names_damaged_groups_and_removes_them_on_request(run: Path) -> None:
    assert "Nothing is damaged." in surgery("check", run)
    store = run / "results.h5"
    store.write_bytes(store.read_bytes().replace(b"resnet18", b"resnet81"))
    text = surgery("check", run, code=1)
    assert re.search(r"linear +damaged +.*results\.h5: linear: damaged: its content does not have the digest", text)
    assert re.search(r"hierarchy +intact", text)
    assert "--remove-damaged" in text
    assert "linear: damaged" in CliRunner().invoke(app, ["results", "ls", str(run)]).stderr
    found = data("check", run, "--remove-damaged", code=1)
    assert [(item["name"], item["state"]) for item in found["groups"]] == [
        ("linear", "damaged"),
        ("hierarchy", "intact"),
    ]
    assert found["removed"] == ["linear"]
    assert [item["name"] for item in data("ls", run)["groups"]] == ["hierarchy"]
    assert "Nothing is damaged." in surgery("check", run)


def test_export(run: Path, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(surgery("export", run, "linear", "--variable", "correlation", "--csv"))))
    assert rows[0][1:] == list(NAMES)
    assert surgery("export", run, "--csv", "-o", tmp_path / "tables") == ""
    names = {"linear.weight.csv", "linear.correlation.csv", "hierarchy.superclass.csv"}
    assert {item.name for item in (tmp_path / "tables").iterdir()} == names
    surgery("export", run, "linear", "--npz", "-o", tmp_path / "linear.npz")
    with np.load(tmp_path / "linear.npz") as found:
        assert np.array_equal(found["linear/correlation"], MATRIX)
        assert found["linear/class"].tolist() == list(NAMES)
    surgery("export", run, "--json", "-o", tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text()) == json.loads(surgery("export", run, "--json"))
    one = data("export", run, "--variable", "superclass")["groups"]
    assert [(item["name"], list(item["variables"]), list(item["coordinates"])) for item in one] == [
        ("hierarchy", ["superclass"], ["class"])
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls", "nowhere.h5"], "no such file"),
        (["show", "first", "linaer"], "did you mean 'linear'"),
        (["show", "first", "--variable", "wieght"], "known are: correlation, superclass, weight"),
        (["show", "first", "linear", "--variable", "superclass"], "known are: correlation, weight"),
        (["compare", "first"], "Missing argument 'B'"),
        (["export", "first"], "--csv, --json, --npz; got none"),
        (["export", "first", "--csv", "--npz"], "got --csv and --npz"),
        (["export", "first", "--npz"], "expected -o"),
        (["export", "first", "--csv"], "expected -o"),
        (["export", "first", "--csv", "-o", "first"], "expected a new folder"),
        (["export", "first", "--npz", "-o", "no/where.npz"], "does not exist"),
        (["lst"], "lst"),
    ],
)
def test_bad_input(run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    monkeypatch.chdir(run.parent)
    result = CliRunner().invoke(app, ["results", *words])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    error = json.loads(CliRunner().invoke(app, ["results", *words, "--json"]).stdout or "{}")
    assert "error" in error or words == ["export", "first"]


def test_errors_of_export_are_json_too(run: Path) -> None:
    assert data("export", run, "nothing", code=2)["error"]["type"] == "StoreError"


@pytest.mark.parametrize("command", ["", "ls", "show", "compare", "check", "export"])
def test_examples_are_real(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    run.rename(runs / "first")
    (runs / "second").symlink_to(runs / "first")
    for name in ("W.h5", "A.h5", "B.h5"):
        (tmp_path / name).symlink_to(runs / "first" / "results.h5")
    (tmp_path / "results.h5").symlink_to(tmp_path / "W.h5")
    monkeypatch.chdir(tmp_path)
    text = surgery(*([command] if command else []), "--help")
    examples = re.findall(r"^ +surgery (results .*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        result = CliRunner().invoke(app, shlex.split(example))
        assert result.exit_code == 0, (example, result.output)


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from surgery_cli.main import main
sys.argv = ["surgery", "results", "show", "--help"]
try:
    main()
finally:
    print("HEAVY", *sorted({"torch", "numpy", "h5py", "xarray", "rich"} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY"


# Blocks


def drawn(matrix: np.ndarray, names: tuple[str, ...], *, width: int = 80, order: Order | None = None) -> list[str]:
    """The lines of a matrix on a terminal with colors."""
    target = Console(force_terminal=True, color_system="truecolor", width=width, legacy_windows=False)
    with target.capture() as captured:
        for item in matrix_view(matrix, names, Surface(colors=True, width=width, order=order, everything=False)):
            target.print(item)
    return captured.get().splitlines()


def colors(line: str) -> list[tuple[int, ...]]:
    """The background of each entry of a line."""
    found = re.findall(r"48;2;(\d+);(\d+);(\d+)m( +)", line)
    return [tuple(map(int, item[:3])) for item in found for _ in range(len(item[3]) // 2)]


def test_blocks_are_blue_above_zero_and_orange_below() -> None:
    lines = drawn(MATRIX, NAMES)
    row = colors(next(line for line in lines if "cat" in line))
    assert row[1] == (8, 48, 107)
    assert row[0] == row[3]
    assert row[0][0] > row[0][2], "orange"
    assert row[2][2] > row[2][0], "blue"
    assert "-1 " in lines[-1]
    assert scale_of(np.array([[0.0, 5.0]])).low == 0


def test_blocks_stand_apart_by_superclass() -> None:
    order = Order(group="hierarchy", classes=NAMES, superclasses=("thing", "animal", "animal", "thing"))
    lines = drawn(MATRIX, NAMES, order=order)
    names = [name for line in lines for name in NAMES if name in line]
    assert names == ["plane", "ship", "cat", "dög"]
    assert any(not line.strip() for line in lines[2:5]), "a gap between the superclasses"


def test_many_classes_are_drawn_as_means() -> None:
    matrix = np.kron(np.eye(2), np.ones((100, 100)))
    lines = drawn(matrix, tuple(f"class {number}" for number in range(200)), width=60)
    assert "mean over" in lines[1]
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 60 for line in lines)
    lines = lines[1:]
    assert colors(lines[1])[0] == (8, 48, 107)
    assert colors(lines[1])[-1] == (247, 247, 245)


def test_entries_that_are_no_numbers_are_marked() -> None:
    matrix = np.array([[np.nan, 1], [np.inf, 0]])
    assert sum(line.count("??") for line in drawn(matrix, ("a", "b"))) == 2


def test_wide_and_long_names_keep_the_blocks_in_line() -> None:
    lines = drawn(np.eye(3), ("犬 🐕", "plane", "a name that is far too long to stand next to a row"))
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines[1:4]]
    assert {cell_len(line) for line in bare} == {2 + 2 + 20 + 1 + 2 * 3}
    assert bare[2].startswith("  2 a name that is far …")


def test_columns_have_the_numbers_of_their_rows() -> None:
    order = Order(group="hierarchy", classes=NAMES, superclasses=("thing", "animal", "animal", "thing"))
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn(MATRIX, NAMES, order=order)]
    assert [line.split()[:2] for line in bare if line.split()[-1:] and line.split()[-1] in NAMES] == [
        ["0", "plane"], ["3", "ship"], ["1", "cat"], ["2", "dög"],
    ]  # fmt: skip
    assert bare[-3].split() == ["0", "3", "1", "2"]
    many = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn(np.eye(120), tuple(map(str, range(120))), width=400)]
    assert many[-3].split() == [str(number) for number in range(0, 120, 2)]


def test_an_order_applies_to_its_classes_in_any_order() -> None:
    order = Order(group="cifar10", classes=NAMES, superclasses=("thing", "animal", "animal", "thing"), known=True)
    lines = drawn(MATRIX, NAMES[::-1], order=order)
    assert "classes by the known superclasses (cifar10)" in lines[0]
    assert [name for line in lines for name in NAMES if name in line] == ["ship", "plane", "dög", "cat"]
    assert "classes in label order" in drawn(MATRIX, ("a", "b", "c", "d"), order=order)[0]


def test_terminals_and_figures_have_the_same_colors() -> None:
    from matplotlib.colors import to_hex

    from surgery.report.style import DIVERGING

    scale = scale_of(np.array([[-1.0, 1.0]]))
    for value in np.linspace(-1, 1, 41):
        expected = tuple(bytes.fromhex(to_hex(DIVERGING((value + 1) / 2))[1:]))
        assert (
            np.abs(np.subtract(scale.color(float(value)), expected)).max() <= 2
        )  # the colors of figures are in a table


def test_a_palette_of_256_colors_keeps_signs_apart() -> None:
    scale = scale_of(np.array([[-1.0, 1.0]]))
    codes = {value: palette_color(scale.color(value)) for value in (-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0)}
    assert len(set(codes.values())) == 7
    assert codes[0.0] == 231, "white"
    for value, code in codes.items():
        red, blue = (code - 16) // 36, (code - 16) % 6
        assert np.sign(blue - red) == np.sign(value)


def _stage(kind: str, **inputs: str) -> dict[str, str]:
    return {"stage": json.dumps({"kind": kind, "inputs": inputs})}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("std_linear", "superclasses of group 'std_hierarchy'"),
        ("atc_linear", "superclasses of group 'atc_hierarchy'"),
        ("atc_hierarchy", "superclasses of group 'atc_hierarchy'"),
        ("other_linear", "the known superclasses (named pets)"),
    ],
)
def test_classes_are_ordered_by_the_superclasses_of_their_own_network(tmp_path: Path, shown: str, said: str) -> None:
    """The C of every network was ordered by the first hierarchy of the store, that of the standard network."""
    pair = ("class", "class_other")
    for network, numbers in {"std": [0, 1, 0, 1], "atc": [0, 1, 1, 0], "other": None}.items():
        C = Variable(name="correlation", data=MATRIX, dimensions=pair, long_name="C")
        group = Group(
            name=f"{network}_linear", kind="linear", coordinates=class_coordinates(NAMES), variables=(C,),
            provenance=_stage("extract", **{f"{network}.best": "key"}),
        )  # fmt: skip
        write_group(tmp_path, group)
        if numbers is not None:
            found, known = (
                Variable(name=name, data=np.array(numbers, dtype=np.int32), dimensions=("class",), long_name=name)
                for name in ("superclass", "reference_superclass")
            )
            blocks = Variable(name="block_matrix", data=MATRIX, dimensions=pair, long_name="C_op")
            group = Group(
                name=f"{network}_hierarchy", kind="hierarchy", coordinates=class_coordinates(NAMES),
                variables=(found, known, blocks), attributes={"reference": "named pets"},
                provenance=_stage("cluster", **{f"{network}_linear": "key"}),
            )  # fmt: skip
            write_group(tmp_path, group)
    assert said in surgery("show", tmp_path, shown)
