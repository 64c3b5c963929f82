"""Archives of torch.save and torch.export, damaged or malicious: one located error, and nothing in them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from surgery.errors import ModelFileError
from surgery.models import open_model
from surgery.models.exported import load_exported

Members = dict[str, bytes]


class Payload:
    """Unpickled, it makes a folder: the harmless stand-in for code in a model file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.makedirs, (str(self.target), 0o777, True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    free = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 8, 8),), dynamic_shapes=free), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def state() -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3, 4), "bias": torch.zeros(3)}, stream)
    return stream.getvalue()


def pickled(target: Path) -> bytes:
    stream = io.BytesIO()
    torch.save((Payload(target),), stream)
    return stream.getvalue()


def packed(content: bytes, change: Callable[[Members], object], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with its members changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        root = old.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
    change(members)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as new:
        for name, member in members.items():
            new.writestr(f"{root}/{name}", member)
    return stream.getvalue()


def document(name: str, edit: Callable[[Any], object]) -> Callable[[Members], object]:
    """A change of the JSON in one member."""

    def change(members: Members) -> None:
        value = json.loads(members[name])
        edit(value)
        members[name] = json.dumps(value).encode()

    return change


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def size(text: str) -> Callable[[Members], object]:
    """Write `text` as the expression of the batch size."""

    def edit(model: Any) -> None:
        model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = {
            "as_expr": {"expr_str": text, "hint": None}
        }

    return document(MODEL, edit)


def target(text: str) -> Callable[[Members], object]:
    return document(MODEL, lambda model: model["graph_module"]["graph"]["nodes"][0].update(target=text))


def numbers(*nodes: tuple[str, int]) -> Callable[[Members], object]:
    """Insert nodes that compute a size: each applies an operator to the result of the one before and a number."""

    def edit(model: Any) -> None:
        made = []
        for index, (operator, number) in enumerate(nodes):
            before = {"as_sym_int": {"as_name": f"n{index - 1}"}} if index else {"as_int": 10}
            second = {"as_int": number} if number else before
            inputs = [{"name": "a", "arg": before, "kind": 1}, {"name": "b", "arg": second, "kind": 1}]
            outputs = [{"as_sym_int": {"as_name": f"n{index}"}}]
            made.append({"target": f"_operator.{operator}", "inputs": inputs, "outputs": outputs, "metadata": {}})
        model["graph_module"]["graph"]["nodes"][:0] = made

    return document(MODEL, edit)


def weight(entry: dict[str, Any]) -> Callable[[Members], object]:
    return document(WEIGHTS, lambda config: next(iter(config["config"].values())).update(entry))


def sizes(*numbers: int) -> dict[str, Any]:
    meta = {"sizes": [{"as_int": n} for n in numbers], "strides": [{"as_int": 0} for _ in numbers]}
    rest = {"dtype": 7, "requires_grad": False, "device": {"type": "cpu", "index": None}, "layout": 7}
    return {"tensor_meta": {**meta, **rest, "storage_offset": {"as_int": 0}}}


EXPORTED: dict[str, tuple[Callable[[Members], object], str]] = {
    "tower of powers": (size("Pow(Integer(10), Pow(Integer(10), Integer(10)))"), "expr_str"),
    "power of a symbol": (size("Pow(Integer(2), Symbol('s0'))"), "expr_str"),
    "infix power": (size("10**10**10"), "expr_str"),
    "shift": (size("LShift(Integer(1), Integer(10000000000))"), "expr_str"),
    "product of powers": (size("*".join(["Pow(Integer(9), Integer(512))"] * 9)), "expr_str"),
    "rounding": (size("RoundDecimal(Integer(5), Integer(-1000000000))"), "expr_str"),
    "digits of a real number": (size("Float(1.5, precision=1000000000)"), "expr_str"),
    "long expression": (size("+".join(["s0"] * 100_000)), "expr_str"),
    "deep expression": (size("-" * 3000 + "1"), "expr_str"),
    "many parentheses": (size("(" * 900 + "1" + ")" * 900), "expr_str"),
    "power in a node": (numbers(("pow", 10), ("pow", 1000)), "_operator.pow of numbers that are too large"),
    "squares in nodes": (numbers(*[("mul", 0)] * 40), "_operator.mul of numbers that are too large"),
    "factorial": (target("math.factorial"), "target"),
    "operator that writes a file": (target("torch.ops.aten.save.default"), "torch.ops.aten.save.default"),
    "operator that reads a file": (target("torch.ops.aten.from_file.default"), "from_file"),
    "operator of the interpreter": (target("torch.ops.aten.warn.default"), "warn"),
    "operator of the global state": (target("torch.ops.aten.manual_seed.default"), "manual_seed"),
    "operator of a library that is not loaded": (target("torch.ops.aten.no_such_operator.default"), "no_such"),
    "long name": (target("torch.ops.aten.relu" + "u" * 600_000), "characters"),
    "name of an entry": (document(MODEL, lambda model: model.update({"k" * 600_000: 1})), "a key 'kkk"),
    "nested JSON": (lambda members: members.update({MODEL: b"[" * 100_000 + b"]" * 100_000}), "RecursionError"),
    "deep JSON": (lambda members: members.update({MODEL: b"[" * 900 + b"]" * 900}), "cannot read"),
    "other JSON": (lambda members: members.update({MODEL: b'"text"'}), "cannot read"),
    "number of many digits": (lambda members: members.update({MODEL: b"9" * 100_000}), "cannot read"),
    "shape without bytes": (weight(sizes(10**6, 10**6)), "a tensor of shape"),
    "negative shape": (weight(sizes(-1, -5)), "a tensor of shape"),
    "weights without a table": (lambda members: members.update({WEIGHTS: b"[]"}), "cannot read"),
    "escape sequence": (lambda members: members.update({"\x1b[31mred": b""}), r"the member \\x1b\[31mred"),
}


@pytest.mark.parametrize("case", EXPORTED)
def test_hostile_exported_program_is_one_located_error(archive: bytes, tmp_path: Path, case: str) -> None:
    change, message = EXPORTED[case]
    path = tmp_path / "net.pt2"
    path.write_bytes(packed(archive, change))
    start = time.monotonic()
    with pytest.raises(ModelFileError, match=message) as caught:
        open_model(path)
    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 2000
    assert str(path) in str(caught.value)


BOMB = {"data/bomb": bytes(50_000_000)}
TORCH: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "compressed": (
        lambda content: packed(content, lambda members: members.update(BOMB), zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "compressed with bzip2": (lambda content: packed(content, lambda _: None, zipfile.ZIP_BZIP2), "compressed"),
    "no members": (lambda content: b"PK\3\4" + content[-22:], "end is missing|not a model file"),
    "record shorter than its tensor": (
        lambda content: packed(content, lambda members: members.update({"data/0": b"12"})),
        "damaged",
    ),
    "deep pickle": (
        lambda content: packed(content, lambda m: m.update({"data.pkl": b"\x80\2" + b"(" * 10**6 + b"."})),
        "damaged",
    ),
    "nested lists": (
        lambda content: packed(content, lambda m: m.update({"data.pkl": b"\x80\2" + b"]" * 9999 + b"a" * 9998 + b"."})),
        "no weights|damaged",
    ),
    "two members of one name": (
        lambda content: twice(content, "archive/data.pkl"),
        "damaged archive: .* members have",
    ),
}  # fmt: skip


def twice(content: bytes, name: str) -> bytes:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(name, b"x")
    return stream.getvalue()


@pytest.mark.parametrize("case", TORCH)
def test_hostile_archive_of_torch_save_is_one_located_error(state: bytes, tmp_path: Path, case: str) -> None:
    change, message = TORCH[case]
    path = tmp_path / "weights.pt"
    path.write_bytes(change(state))
    with pytest.raises(ModelFileError, match=message) as caught:
        open_model(path, architecture="resnet18")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["archive", "state"])
def test_members_that_overlap_are_refused(archive: bytes, state: bytes, tmp_path: Path, kind: str) -> None:
    """The directory names one stored member a thousand times: small as a file, large in memory."""
    content = archive if kind == "archive" else packed(state, lambda members: members.update({"data/9": bytes(10_000)}))
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        largest = max(old.infolist(), key=lambda item: item.file_size)
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as new:
        for index in range(2000):
            copy = zipfile.ZipInfo(f"{largest.filename}{index}")
            copy.header_offset, copy.CRC = largest.header_offset, largest.CRC
            copy.file_size, copy.compress_size = largest.file_size, largest.compress_size
            new.filelist.append(copy)
        new._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "a.pt").write_bytes(stream.getvalue())
    with pytest.raises(ModelFileError, match="damaged archive"):
        open_model(tmp_path / "a.pt", architecture=None if kind == "archive" else "resnet18")


PICKLED = ("data/sample_inputs/model.pt", "data/constants/model.pt", "data/weights/model.pt", "data/weights/weight_0")


def hidden(member: str, target: Path) -> Callable[[Members], object]:
    """Put a pickle into `member`; a weight is read plainly under its own name and unpickled under another one."""

    def change(members: Members) -> None:
        members[member] = pickled(target)
        if member.endswith("weight_0"):
            config = json.loads(members[WEIGHTS])
            first = next(iter(config["config"].values()))
            config["config"]["other"] = {**first, "use_pickle": True, "path_name": "weight_0"}
            members[WEIGHTS] = json.dumps(config).encode()

    return change


@pytest.mark.parametrize("member", PICKLED)
def test_pickle_in_an_exported_program_does_not_run_with_other_threads(
    archive: bytes, tmp_path: Path, member: str
) -> None:
    made = tmp_path / "made"
    evil = packed(archive, hidden(member, made))
    threads = [threading.Thread(target=lambda: load_exported(Path("good"), archive)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        with pytest.raises(ModelFileError):
            load_exported(Path("evil"), evil)
    for thread in threads:
        thread.join()
    assert not made.exists()


def test_file_that_is_replaced_after_it_was_checked_is_not_read(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    (tmp_path / "good").write_bytes(archive)
    (tmp_path / "evil").write_bytes(packed(archive, hidden(PICKLED[0], made)))
    link = tmp_path / "net.pt2"
    link.symlink_to(tmp_path / "good")
    read = Path.open
    opened: list[Path] = []

    def swap(self: Path, *args: Any, **options: Any) -> Any:
        stream = read(self, *args, **options)
        if self == link:
            opened.append(self)
            link.unlink()
            link.symlink_to(tmp_path / "evil")
        return stream

    # The check that the path exists opens it too; only what is opened by the loading itself counts.
    monkeypatch.setattr("surgery.models.files.model_file", Path)
    monkeypatch.setattr(Path, "open", swap)
    open_model(link)
    assert opened == [link]
    assert not made.exists()


def test_environment_does_not_matter(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for member in PICKLED:
        with pytest.raises(ModelFileError):
            load_exported(tmp_path / "a.pt2", packed(archive, hidden(member, tmp_path / "made")))
    assert not (tmp_path / "made").exists()


def test_plain_pickle_of_another_program_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(pickle.dumps(Payload(tmp_path / "made")))
    with pytest.raises(ModelFileError, match="makedirs"):
        open_model(tmp_path / "a.pt2")
    assert not (tmp_path / "made").exists()
