"""Looking: `inspect`, `diff`, `rules` and `doctor`, as people see them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx
import pytest
from typer.testing import CliRunner, Result

from surgery_cli.console import plain
from surgery_cli.main import app
from surgery_cli.show.pieces import sparkline, table

SMALL = ["--arch", "resnet18", "--arg", "width=4", "--num-classes", "4"]


def surgery(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "linear.safetensors"
    surgery("linearize", *SMALL, "-o", path)
    return path


def test_tree_shows_modules_with_shapes_and_operations() -> None:
    lines = surgery("inspect", *SMALL).stdout.splitlines()
    conv = next(line for line in lines if "conv1  conv2d" in line)
    assert "(N, 4, 32, 32)" in conv
    assert "kernel_size=3" in conv
    assert "108 parameters" in conv


def test_tree_folds_what_repeats_and_unfolds_it_on_request() -> None:
    words = ["inspect", "--arch", "resnet34", "--arg", "width=4"]
    folded, unfolded = surgery(*words).stdout, surgery(*words, "-v").stdout
    assert "2 to 5  the same as 1" in folded
    assert "the same as" not in unfolded
    assert unfolded.count("conv2d") > folded.count("conv2d")


def test_depth_ends_the_tree() -> None:
    lines = surgery("inspect", *SMALL, "--depth", 1).stdout.splitlines()
    assert len(lines) < 16
    assert any("layer4  " in line and "to (N, 32, 4, 4)" in line for line in lines)


def test_nothing_is_cut_where_there_is_no_terminal(linear: Path) -> None:
    result = surgery("inspect", linear, "--format", "table", "-v")
    assert "…" not in result.stdout
    assert not any(line != line.rstrip() for line in result.stdout.splitlines())
    assert "surgery/models/resnet.py:" in result.stdout


def test_tree_names_the_rule_that_made_a_node(tmp_path: Path) -> None:
    out = tmp_path / "soft.safetensors"
    surgery("apply", *SMALL, "--rules", "relu-to-softplus", "-o", out)
    assert "by relu-to-softplus" in surgery("inspect", out).stdout


@pytest.mark.parametrize("name", ["graph.svg", "graph.graphml", "graph.json", "graph.dot", "graph.txt"])
def test_extension_says_the_format(linear: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    result = surgery("inspect", linear, "-o", path)
    assert result.stdout == ""
    text = path.read_text()
    if path.suffix == ".svg":
        assert ET.fromstring(text).tag.endswith("svg")
    elif path.suffix == ".graphml":
        assert "conv1" in networkx.parse_graphml(text)
    elif path.suffix == ".json":
        assert json.loads(text)["input_shape"] == [3, 32, 32]
    else:
        assert "conv2d" in text


def test_diff_says_what_went_and_by_which_rule(linear: Path) -> None:
    before = linear.with_name("before.safetensors")
    surgery("apply", *SMALL, "--rules", "max-to-average-pool", "-o", before)
    text = surgery("diff", before, linear).stdout
    assert "batch_norm" in text
    assert "drop-activation" in text
    assert "-20" in text


def test_diff_of_equal_graphs(linear: Path) -> None:
    assert "the same" in surgery("diff", linear, linear).stdout


def test_diff_applies_model_options_where_they_fit(linear: Path, tmp_path: Path) -> None:
    import torch

    from surgery.models import build

    torch.save(build("resnet18", width=4, num_classes=4).state_dict(), tmp_path / "model.pt")
    assert "batch_norm" in surgery("diff", tmp_path / "model.pt", linear, *SMALL).stdout


def test_diff_draws(linear: Path, tmp_path: Path) -> None:
    surgery("diff", linear, linear, "-o", tmp_path / "difference.svg")
    assert ET.parse(tmp_path / "difference.svg").getroot().tag.endswith("svg")


def test_rules_are_listed_and_shown() -> None:
    listed = surgery("rules").stdout
    assert "linearize-keep-bn" in listed
    assert "same function" in listed
    shown = surgery("rules", "linearize").stdout
    assert "batch_norm(x)  ->  x" in shown
    assert 'where data = ["q"]' in shown


def test_rules_of_the_user_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[rule]]\nname = "one"\nmatch = "relu(x)"\nrewrite = "x"\nexpect = ">=1"\n')
    assert "expect >=1" in surgery("rules", path).stdout
    path.write_text(path.read_text().replace("relu(x)", "rellu(x)"))
    assert "mine.toml:4:10" in surgery("rules", path, code=2).stderr


def test_doctor_is_well() -> None:
    result = surgery("doctor")
    assert "a small network is linearized" in result.stdout
    assert "fails" not in result.stdout


def test_colors_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in surgery("certify", *SMALL, code=1).output
    monkeypatch.setenv("NO_COLOR", "1")
    colored = CliRunner().invoke(app, ["certify", "nowhere.pt"], color=True)
    assert "\x1b" not in colored.stderr


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([1e-3, 1e-2, 1e-1, 1.0], "▁▃▆█"), ([2.0, 2.0], "▁▁"), ([1.0, 0.0, float("inf"), 10.0], "▁!!█"), ([], "")],
)
def test_sparkline_is_logarithmic(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_column_of_nothing_takes_no_room_from_the_others() -> None:
    assert plain(table([("all", "38", "38", "")], right=(1, 2, 3), head=("", "before", "after", ""))).split() == [
        *("before", "after"),
        *("all", "38", "38"),
    ]


def test_long_sparkline_keeps_its_width() -> None:
    assert len(sparkline([float(value) for value in range(1, 500)], width=48)) == 48


def test_vocabulary_lists_every_operation_and_kind() -> None:
    from surgery.graph import KINDS, OPERATIONS

    shown = CliRunner().invoke(app, ["rules", "--vocabulary"])
    assert shown.exit_code == 0
    assert all(f"{name}(" in shown.stdout for name in OPERATIONS)
    data = json.loads(CliRunner().invoke(app, ["rules", "--vocabulary", "--json"]).stdout)
    assert data["kinds"].keys() == KINDS.keys()
    assert data["operations"]["conv2d"]["operands"] == ["input", "weight", "bias"]
