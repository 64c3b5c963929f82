"""What a preview takes from earlier runs on this machine: times of stages, and the digest of data of a user."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from surgery.data import Dataset
from surgery.models.registry import user_reference
from surgery.recipe import PreviewedStage, Recipe
from surgery.stages import RunFolder, Stage
from surgery.stages.network import NetworkTable, make_network
from surgery.store import StoreError, read_provenances
from surgery.toml import TomlError, parse_toml

LONGEST = 8 * 2**20
"""The last bytes of a journal that are read: thousands of stages."""

SECONDS = 1.0
"""How long a measurement runs, at least, after one step that warms up."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long a stage may take, in seconds, and what the estimate is based on, in words."""

    seconds: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a stage took in an earlier run; `passes`: images forward and back, None in a journal without them."""

    stage: str
    kind: str
    seconds: float
    passes: int | None
    date: str


def timings(folder: RunFolder, *, device: str) -> tuple[Timing, ...]:
    """The stages that ran in `folder` on this machine and `device` without an interruption, in order of time."""
    found, started, here = list[Timing](), dict[str, Any](), False
    for entry in _entries(folder):
        event, stage = entry.get("event"), str(entry.get("stage"))
        if event == "run":
            here = entry.get("device") == device and entry.get("machine", platform.node()) == platform.node()
            started = {}
        elif event == "start":
            # A second start with the same key resumes: its seconds are only those of the rest.
            resumes = stage in started and started[stage].get("key") == entry.get("key")
            started[stage] = {} if resumes else entry
        elif event == "done" and here and started.get(stage) and _is_amount(entry.get("seconds")):
            kind, passes, date = started[stage].get("kind"), started[stage].get("passes"), str(entry.get("time"))[:10]
            done = {"stage": stage, "kind": str(kind), "seconds": float(entry["seconds"]), "date": date}
            found.append(Timing(passes=int(passes) if _is_amount(passes) else None, **done))
    return tuple(found)


def forecast(preview: Sequence[PreviewedStage], earlier: Sequence[Timing]) -> dict[str, Estimate]:
    """Estimates for the stages that will run, by their names, from the most similar `earlier` stage of the same kind.

    A stage with a similar one of another size takes a proportional time: as many images go forward and back per second.
    """
    found = {}
    for stage in (stage for stage in preview if stage.state == "will run"):
        base = stage.name.partition("@")[0]
        # The newest of the same name comes first, then of the same stage in the file, then of the same kind.
        similar = sorted(
            (timing for timing in reversed(earlier) if timing.kind == stage.kind),
            key=lambda timing: (timing.stage != stage.name, timing.stage.partition("@")[0] != base),
        )
        for timing in similar:
            basis = f"{timing.date}: {timing.seconds:.3g} s"
            if not stage.passes and not timing.passes:
                found[stage.name] = Estimate(seconds=timing.seconds, basis=f"{basis} for stage {timing.stage}")
            elif stage.passes and timing.passes:
                seconds = timing.seconds * stage.passes / timing.passes
                basis = f"{basis} for {timing.passes:,} images in stage {timing.stage}"
                found[stage.name] = Estimate(seconds=seconds, basis=basis)
            if stage.name in found:
                break
    return found


def measured(
    recipe: Recipe, preview: Sequence[PreviewedStage], data: Dataset, *, device: torch.device
) -> dict[str, Estimate]:
    """Estimates for the stages that will run and show images to a network, from a short measurement of the network.

    Each network is built and runs forward and back for about a second. Networks that are user code, and those of model
    files that describe themselves, are left out.
    """
    found, rates = {}, dict[str, float]()
    for stage in preview:
        table = _network_of(recipe, recipe.stage(stage.name))
        if stage.state != "will run" or not stage.passes or table is None or user_reference(table.architecture):
            continue
        key = table.model_dump_json()
        if key not in rates:
            rates[key] = _images_per_second(table, data, device)
        basis = f"measured now: {rates[key]:,.0f} images a second on {device}"
        found[stage.name] = Estimate(seconds=stage.passes / rates[key], basis=basis)
    return found


def remembered_digest(recipe: Recipe, folder: RunFolder) -> str | None:
    """The digest of the data that the last stage in `folder` used, if its recipe has the same table [data].

    For data that are user code, which only a run imports; whether the code changed is not compared here. None if there
    is no such stage.
    """
    now = _data_table(recipe.document.data)
    try:
        provenances = read_provenances(folder.store) if folder.store.exists() else {}
    except StoreError:
        return None
    for provenance in sorted(provenances.values(), key=lambda facts: facts.get("finished", ""), reverse=True):
        try:
            before = _data_table(parse_toml(provenance.get("recipe", ""), "recipe").data)
        except TomlError:
            continue
        if before == now:
            return provenance.get("data_digest")
    return None


def _data_table(document: Mapping[str, Any]) -> dict[str, Any]:
    # Where the files are does not matter, and known superclasses have keys of their own.
    table = document.get("data")
    table = table if isinstance(table, Mapping) else {}
    return {key: value for key, value in table.items() if key not in ("root", "download", "hierarchy")}


def _is_amount(value: Any) -> bool:
    """Whether a value of a journal, which anything may have written, is a number of seconds or images."""
    return isinstance(value, (int, float)) and 0 <= value < 2**53


def _entries(folder: RunFolder) -> Iterator[dict[str, Any]]:
    path = folder.path / "journal.jsonl"
    if not path.is_file():  # a pipe would block
        return
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LONGEST))
            lines = stream.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # a line that a crash cut off, or that is no line of a journal
            continue
        if isinstance(entry, dict):
            yield entry


def _network_of(recipe: Recipe, stage: Stage) -> NetworkTable | None:
    """The network of a train stage, of the train stage that a stage refers to, or of its model file."""
    source = stage.inputs.get("model")
    return getattr((stage if source is None else recipe.stage(source.stage)).parameters, "network", None)


def _images_per_second(table: NetworkTable, data: Dataset, device: torch.device) -> float:
    network = make_network(table, data, seed=0).to(device)
    source = torch.Generator().manual_seed(0)
    images = torch.rand((min(128, len(data.train)), *data.input_shape), generator=source).to(device)

    def step() -> float:
        """One step with a gradient of weights and images; returns the time when it is complete."""
        loss = network(images.requires_grad_()).square().mean()
        loss.backward()
        if device.type == "cuda":  # which returns from a call before the work is done
            torch.cuda.synchronize(device)
        return time.perf_counter()

    with torch.inference_mode(False), torch.enable_grad():
        start = step()
        count, now = 0, start
        while now - start < SECONDS:
            count, now = count + 1, step()
    return count * len(images) / (now - start)
