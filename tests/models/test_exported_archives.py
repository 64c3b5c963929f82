from __future__ import annotations

import io
import json
import logging
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from surgery.errors import InputError, ModelFileError
from surgery.models import open_model
from surgery.models.exported import load_exported


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.linear = nn.Linear(4, 5)
        self.scale = torch.tensor([2.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.interpolate(self.conv(x).relu(), scale_factor=2)
        return self.linear(y.mean((2, 3)) * self.scale)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Net]:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    net = Net().eval()
    # Free sizes put expressions and guards into the archive, which a fixed size would not.
    free = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 16, 16),), dynamic_shapes=free), path)
    return path, net


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


def pickled(target: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Payload(target),), buffer)
    return buffer.getvalue()


def rewritten(source: Path, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Copy an archive with its members changed, stored as torch stores them: uncompressed."""
    with zipfile.ZipFile(source) as old:
        root = old.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, content in members.items():
            new.writestr(f"{root}/{name}", content)
    return path


def edited(source: Path, path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    def change(members: dict[str, bytes]) -> None:
        model = json.loads(members["models/model.json"])
        edit(model)
        members["models/model.json"] = json.dumps(model).encode()

    return rewritten(source, path, change)


def test_archive_computes_what_the_module_computes(archive: tuple[Path, Net]) -> None:
    path, net = archive
    images = torch.rand(3, 3, 20, 24)
    assert torch.equal(load_exported(path, path.read_bytes()).module()(images), net(images))


def test_plain_copy_of_the_archive_is_still_read(archive: tuple[Path, Net], tmp_path: Path) -> None:
    copy = rewritten(archive[0], tmp_path / "copy", lambda members: None)
    assert torch.equal(load_exported(copy, copy.read_bytes()).state_dict["linear.weight"], archive[1].linear.weight)


def test_archive_opens_as_a_graph(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    images = torch.rand(2, 3, 8, 8)
    torch.export.save(
        torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},)), tmp_path / "a.pt2"
    )
    (tmp_path / "a.pt2").rename(tmp_path / "a.bin")
    opened = open_model(tmp_path / "a.bin")
    torch.testing.assert_close(opened.module(images), net(images))
    assert opened.input_shape == (3, 8, 8)
    assert opened.source == "exported program (torch.export)"
    with pytest.raises(InputError, match="omit resnet18"):
        open_model(tmp_path / "a.bin", architecture="resnet18")


@pytest.mark.parametrize("member", ["data/sample_inputs/model.pt", "data/constants/model.pt", "data/weights/model.pt"])
def test_pickle_in_the_archive_is_not_run(archive: tuple[Path, Net], tmp_path: Path, member: str) -> None:
    target = tmp_path / "made"
    path = rewritten(archive[0], tmp_path / "evil.pt2", lambda members: members.update({member: pickled(target)}))
    with pytest.raises(ModelFileError, match="torch cannot read"):
        open_model(path)
    assert not target.exists()
    level = logging.getLogger("torch").level
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    with suppress(Exception):  # what it does on the way is the point
        torch.export.load(io.BytesIO(path.read_bytes()))
    logging.getLogger("torch").setLevel(level)
    assert target.exists(), "torch's own reader runs it"


def test_pickled_constant_object_is_refused_before_torch_sees_it(archive: tuple[Path, Net], tmp_path: Path) -> None:
    target = tmp_path / "made"

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["data/constants/model_constants_config.json"])
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        config["config"]["hidden"] = entry
        members["data/constants/model_constants_config.json"] = json.dumps(config).encode()
        members["data/constants/opaque_obj_0"] = pickled(target)

    path = rewritten(archive[0], tmp_path / "evil.pt2", change)
    with pytest.raises(ModelFileError, match="data/constants/opaque_obj_0"):
        open_model(path)
    assert not target.exists()


def node_target(model: dict[str, Any], text: str) -> None:
    model["graph_module"]["graph"]["nodes"][0]["target"] = text


def expression(model: dict[str, Any], text: str) -> None:
    sizes = model["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": text, "hint": None}}


def hidden_expression(model: dict[str, Any], text: str) -> None:
    """A tensor called as the entry that holds stack traces is called."""
    values = model["graph_module"]["graph"]["tensor_values"]
    values["metadata"] = {**values["x"], "sizes": [{"as_expr": {"expr_str": text, "hint": None}}]}


def input_name(model: dict[str, Any], text: str) -> None:
    model["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = text


def guard(model: dict[str, Any], text: str) -> None:
    model["guards_code"].append(text)


def structure(model: dict[str, Any], text: str) -> None:
    model["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text


def argument(model: dict[str, Any], text: str) -> None:
    model["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_string": text}


IMPORT = "__import__('os').mkdir('made')"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (node_target, "torch.serialization.os.system"),
        (node_target, "torch.ops.load_library"),
        (node_target, "torch.ops.aten.from_file.default"),
        (node_target, "torch.ops.image.write_file.default"),
        (node_target, "torch.ops.aten.__class__"),
        (node_target, "_operator.methodcaller"),
        (expression, IMPORT),
        (hidden_expression, IMPORT),
        (expression, "Symbol(__import__)"),
        (expression, "lambdify(x, 1)"),
        (expression, "Max('1+1')"),
        (input_name, f"x={IMPORT}"),
        (guard, f"{IMPORT} is None"),
        (guard, "L['x'].size()[0] == 1) or print("),
        (structure, '[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]'),
        (structure, '[1, {"type": "builtins.tuple", "context": "{\\"__enum__\\": 1}", "children_spec": []}]'),
        (structure, "not json"),
        (argument, "../../etc/passwd"),
    ],
)
def test_strings_that_torch_would_evaluate_or_look_up_are_refused(
    archive: tuple[Path, Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[..., None], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = edited(archive[0], tmp_path / "evil.pt2", lambda model: edit(model, text))
    with pytest.raises(ModelFileError, match="more than plain operators and tensors"):
        open_model(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("member", ["data/aotinductor/model/model.so", "serialized_exported_program.json"])
def test_members_that_torch_would_run_are_refused(archive: tuple[Path, Net], tmp_path: Path, member: str) -> None:
    path = rewritten(archive[0], tmp_path / "evil.pt2", lambda members: members.update({member: b"\x7fELF"}))
    with pytest.raises(ModelFileError, match=member.rpartition("/")[2]):
        open_model(path)


def test_old_form_beside_the_new_is_refused(archive: tuple[Path, Net], tmp_path: Path) -> None:
    path = rewritten(archive[0], tmp_path / "evil.pt2", lambda members: None)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("version", "8.20")
        members.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ModelFileError, match=r"serialized_exported_program|not in a subdirectory"):
        open_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.pop("models/model.json"),
        lambda members: members.pop("data/weights/weight_0"),
        lambda members: members.update({"models/model.json": b"{"}),
        lambda members: members.update({"models/model.json": b"[]"}),
        lambda members: members.update({"archive_version": b"99"}),
        lambda members: members.update({"data/weights/weight_0": b"123"}),
    ],
)
def test_damaged_archive_is_one_clear_error(
    archive: tuple[Path, Net],
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = rewritten(archive[0], tmp_path / "a.pt2", lambda members: (change(members), None)[1])
    with pytest.raises(ModelFileError, match="torch cannot read"):
        open_model(path)
    assert "Traceback" not in capfd.readouterr().err, "torch logs the cause; the error already says it"


@pytest.mark.parametrize("kept", [40, 0.5, -30])
def test_truncated_archive_is_one_clear_error(archive: tuple[Path, Net], tmp_path: Path, kept: float) -> None:
    content = archive[0].read_bytes()
    (tmp_path / "a.pt2").write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    # A little cut off its end, the archive inside the archive is what a zip reader finds.
    with pytest.raises(ModelFileError, match=r"its end is missing|damaged"):
        open_model(tmp_path / "a.pt2")


def test_environment_is_left_as_it_was(archive: tuple[Path, Net], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    load_exported(archive[0], archive[0].read_bytes())
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
