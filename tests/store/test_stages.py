"""The groups of all stages, under names as runs give them: every reader of HDF5 and netCDF shows the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from surgery.attack import Check, Confusion, Evaluation, Outcome, pgd
from surgery.attack.outcomes import worst_of
from surgery.hierarchy import Hierarchy, cluster
from surgery.linear import AffineCertificate, LinearMap, correlate
from surgery.linear.features import ClassMeans
from surgery.stages.attack import robustness_group
from surgery.stages.cluster import hierarchy_group
from surgery.stages.confusion import confusion_group
from surgery.stages.extract import linear_group
from surgery.stages.features import features_group
from surgery.stages.linearize import graph_group
from surgery.stages.report import summary_group
from surgery.stages.train import training_group
from surgery.store import Group, Variable, open_tree, read_group, write_groups
from surgery.store.exporting import group_dict, write_csv, write_npz
from surgery.train import EpochRecord, Notice, Trained

CLASSES = ("plane", "cat", "dög", "犬 🐕")
KNOWN = Hierarchy.of_groups({"machines": ["plane"], "animals": CLASSES[1:]}, class_names=CLASSES, method="by hand")
PROVENANCE = {"recipe": "[recipe]\nname = 'größe'\n", "parameters": '{"epsilon": 0.03}', "empty": ""}
GENERATOR = torch.Generator().manual_seed(0)
CERTIFICATE = AffineCertificate(
    verdict="affine",
    reason="static",
    offenders=(),
    scales={"conv1": 1.5, "fc": 2.0},
    superposition_error=0.0,
    tolerance=1e-6,
)


def trained(parts: Mapping[str, float]) -> Trained:
    history = tuple(
        EpochRecord(
            epoch=epoch,
            loss=1.0 / epoch,
            parts=parts,
            train_natural=None,
            train_robust=0.5,
            natural=0.75 if epoch == 2 else None,
            robust=None,
            learning_rate=0.1,
            seconds=2.5,
        )
        for epoch in (1, 2, 3)
    )
    return Trained(
        model=torch.nn.Linear(2, 2),
        best={},
        best_epoch=2,
        selected_on="validation",
        history=history,
        notices=(Notice(epoch=2, kind="robust-overfitting", text="it falls"),),
        notes=("cpu: float32",),
    )


def outcome(predictions: list[int], *, attacked: bool) -> Outcome:
    labels = torch.arange(len(predictions)) % len(CLASSES)
    return Outcome(
        attack=pgd(epsilon="8/255", steps=2, step_size=0.01) if attacked else None,
        labels=labels,
        predictions=torch.tensor(predictions),
        distances=torch.full((len(labels),), 0.03, dtype=torch.float64) if attacked else None,
        num_classes=len(CLASSES),
        seconds=1.0,
    )


def evaluation(checks: tuple[Check, ...]) -> Evaluation:
    outcomes = {
        "natural": outcome([0, 1, 2, 3, 0, 1], attacked=False),
        "pgd": outcome([0, 2, 2, 3, 1, 0], attacked=True),
    }
    return Evaluation(outcomes=outcomes, worst_case=worst_of(outcomes), checks=checks, notes=(), seed=3)


def confusion(images: list[int]) -> Confusion:
    counts = torch.diag(torch.tensor(images))
    counts[1, 2] = 1
    attack = pgd(epsilon="8/255", steps=2, step_size=0.01)
    return Confusion(
        attack=attack,
        targeted=False,
        counts=counts,
        images_per_class=torch.tensor(images),
        seconds=0.1,
        notes=("searched",),
    )


def hierarchy_groups() -> Iterator[Group]:
    map = LinearMap(
        weight=torch.randn(len(CLASSES), 3, 2, 2, generator=GENERATOR),
        bias=torch.zeros(len(CLASSES)),
        output_shape=(len(CLASSES),),
        class_names=None,
        provenance={"model": "ResNet", "node": "output"},
    )
    yield linear_group(map, certificate=CERTIFICATE, class_names=CLASSES, provenance=PROVENANCE, name="linear@seed-0")
    C = correlate(map).double()
    found = cluster(C, superclasses=2, class_names=CLASSES)
    for name, reference in (("scored", KNOWN), ("found", None)):
        scores = None if reference is None else found.scores(C, reference, permutations=20)
        yield hierarchy_group(
            found, scores=scores, reference=reference, centered=False, provenance=PROVENANCE, name=name
        )


def all_groups() -> list[Group]:
    common = {"provenance": PROVENANCE}
    of_data = {**common, "class_names": CLASSES, "data": "CIFAR-10"}
    features = ClassMeans.empty(len(CLASSES)).add(torch.randn(8, 5, generator=GENERATOR), torch.arange(8) % 4)
    check = Check(name="more steps: pgd", passed=False, detail="7 of 8")
    return [
        training_group(trained({"loss": 1.0}), data="CIFAR-10", parameters=7, name="at@seed-0", **common),
        training_group(trained({}), data="CIFAR-10", parameters=7, name="no_parts", **common),
        graph_group(CERTIFICATE, rules=["linearize"], edits={"drop-relu": 2}, name="graph", **common),
        graph_group(
            AffineCertificate(
                verdict="nonlinear",
                reason="relu",
                offenders=(),
                scales={},
                superposition_error=None,
                tolerance=1e-6,
            ),
            rules=["fold-batch-norm"],
            edits={},
            name="nothing_fired",
            **common,
        ),
        *hierarchy_groups(),
        robustness_group(evaluation((check,)), name="robustness@model-at.best", **of_data),
        robustness_group(evaluation(()), name="robustness@model-std+seed-1", **of_data),
        confusion_group(confusion([3, 3, 3, 3]), hierarchy=KNOWN, seed=0, name="confusion@epsilon-0.03", **of_data),
        confusion_group(confusion([3, 3, 0, 3]), hierarchy=None, seed=0, name="a_class_is_missing", **of_data),
        features_group(features, variant="paper", node="flatten", class_names=CLASSES, name="features", **common),
        summary_group(["Accuracy", "  größer: 93.1 %"], ["figures/at@seed-0-history.png"], name="report", **common),
        summary_group([], [], name="nothing_to_say", **common),
    ]


GROUPS = all_groups()
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_groups(tmp_path_factory.mktemp("run"), GROUPS)


def same(found: object, variable: Variable) -> None:
    np.testing.assert_array_equal(np.asarray(found).astype(variable.data.dtype), variable.data)


@each_group
def test_what_is_read_is_what_was_written(store: Path, group: Group) -> None:
    found = read_group(store.parent, group.name)
    assert found.attributes == group.attributes
    assert found.provenance == group.provenance
    assert [item.name for item in found.variables] == [item.name for item in group.variables]
    assert [item.name for item in found.coordinates] == [item.name for item in group.coordinates]
    for item in group.variables:
        same(found[item.name], item)


@each_group
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_it(store: Path, group: Group, engine: str) -> None:
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(store, group=group.name, engine=engine, decode_cf=False) as found:
        assert set(found.data_vars) == {item.name for item in group.variables}
        assert set(found.coords) == {item.name for item in group.coordinates}
        for item in group.variables:
            assert found[item.name].dims == item.dimensions
            same(found[item.name].to_numpy(), item)
        assert found.attrs["kind"] == group.kind
    with xarray.open_dataset(store, group=group.name, engine=engine) as found:
        assert set(found.data_vars) == {item.name for item in group.variables}, "decoding drops and refuses nothing"
    with xarray.open_dataset(store, group=f"{group.name}/provenance", engine=engine) as notes:
        assert notes["parameters"].item() == PROVENANCE["parameters"]


def test_netcdf4_reads_all(store: Path) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(store) as found:
        assert list(found.groups) == [group.name for group in GROUPS]
        for group in GROUPS:
            inner = found.groups[group.name]
            inner.set_auto_mask(False)
            for item in group.variables:
                assert inner.variables[item.name].dimensions == item.dimensions
                same(inner.variables[item.name][...], item)


def test_h5py_reads_all(store: Path) -> None:
    with h5py.File(store) as found:
        for group in GROUPS:
            for item in group.variables:
                data = found[group.name][item.name]
                same(data.asstr()[...] if h5py.check_string_dtype(data.dtype) else data[...], item)
                assert [axis[0].name.rsplit("/", 1)[-1] for axis in data.dims] == list(item.dimensions)


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed (Debian: hdf5-tools)")
def test_h5dump_reads_all(store: Path) -> None:
    done = subprocess.run(["h5dump", str(store)], capture_output=True, text=True, check=True, errors="replace")
    assert "error" not in done.stderr
    for group in GROUPS:
        assert f'GROUP "{group.name}"' in done.stdout


def test_the_tree_has_all_and_selects_by_name(store: Path) -> None:
    pytest.importorskip("xarray")
    tree = open_tree(store.parent)
    assert list(tree.children) == [group.name for group in GROUPS]
    found = tree["robustness@model-at.best"]
    assert float(found.accuracy.sel(attack="natural")) == 1.0
    assert float(found.interval.sel(attack="pgd", bound="low")) < 0.5
    assert float(tree["confusion@epsilon-0.03"].confusion.sel({"class": "cat", "class_other": "dög"})) == 1 / 3
    assert int(tree["at@seed-0"].loss.argmin("epoch")) == 2


def test_all_can_be_exported(store: Path, tmp_path: Path) -> None:
    groups = [read_group(store, group.name) for group in GROUPS]
    names = write_csv(tmp_path / "tables", groups)
    assert "robustness@model-at.best.accuracy.csv" in names
    write_npz(tmp_path / "all.npz", groups)
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["confusion@epsilon-0.03/count"].shape == (4, 4)
    assert all(group_dict(group)["kind"] == group.kind for group in groups)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("no_parts", {"part", "loss_part"}),
        ("nothing_fired", {"rule", "edits", "node", "scale"}),
        ("robustness@model-std+seed-1", {"check", "check_passed", "check_detail"}),
        ("a_class_is_missing", {"superclass", "block"}),
        ("found", {"reference_superclass"}),
        ("nothing_to_say", {"verdict", "figure"}),
    ],
)
def test_what_there_is_none_of_is_left_out(name: str, absent: set[str]) -> None:
    [group] = [group for group in GROUPS if group.name == name]
    assert not absent & {item.name for item in (*group.variables, *group.coordinates)}


def test_a_history_has_nan_where_nothing_was_measured() -> None:
    group = GROUPS[0]
    np.testing.assert_array_equal(group["natural"], [np.nan, 0.75, np.nan])
    np.testing.assert_array_equal(group["train_natural"], [np.nan] * 3)
    assert next(item.units for item in group.variables if item.name == "seconds") == "s"
    assert group.attributes["notices"] == "epoch 2: it falls"


def test_accuracies_stand_by_attack_with_the_worst_case_last() -> None:
    [group] = [group for group in GROUPS if group.name == "robustness@model-at.best"]
    assert group["attack"].tolist() == ["natural", "pgd", "worst_case"]
    np.testing.assert_allclose(group["accuracy"], [1.0, 0.5, 0.5])
    assert (group["interval"][:, 0] <= group["accuracy"]).all()
    assert group["correct"].sum(1).tolist() == [6, 3, 3]
    assert np.isnan(group["distance"][[0, 2]]).all()


def test_blocks_of_m_are_means_without_the_diagonal() -> None:
    [group] = [group for group in GROUPS if group.name == "confusion@epsilon-0.03"]
    np.testing.assert_allclose(group["block"], [[np.nan, 0.0], [0.0, 1 / 18]])
    assert group.attributes["block_contrast"] == pytest.approx(1 / 18)
    [missing] = [group for group in GROUPS if group.name == "a_class_is_missing"]
    assert np.isnan(missing["confusion"][2]).all()


def test_superclasses_are_those_of_the_hierarchy() -> None:
    make: Callable[..., Group] = hierarchy_group
    alone = Hierarchy(class_names=("a",), superclass=(0,), merges=(), method="average")
    group = make(alone, scores=None, reference=None, centered=True, provenance={})
    assert [item.name for item in group.variables] == ["superclass", "block_matrix"]
    assert group.attributes["correlation"] == "correlation_centered"
