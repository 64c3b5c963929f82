"""`surgery doctor`: print the installed versions and check that surgery works."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode

PACKAGES = ("torch", "torchvision", "numpy", "networkx", "safetensors", "pydantic", "typer", "rich")
EXTRAS = {"analysis": ("xarray", "h5netcdf"), "timm": ("timm",), "onnx": ("onnx", "onnxscript")}
"""The packages behind each extra of the distribution."""


def doctor(as_json: options.AsJson = False, debug: options.Debug = False) -> int:
    """Print versions and devices, and check the installation.

    Exits with 1 if a check fails.

    \b
    surgery doctor
    surgery doctor --json
    """
    out = Output(as_json=as_json, debug=debug)
    facts: dict[str, Any] = {
        "surgery": version(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "extras": {},
    }
    for extra, names in EXTRAS.items():
        versions = {name: _installed(name) for name in names}
        complete = None not in versions.values()
        facts["extras"][extra] = ", ".join(f"{name} {found}" for name, found in versions.items()) if complete else None
    with out.working("loading torch"):
        import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    facts |= {"devices": devices, "threads": torch.get_num_threads(), "cores": os.cpu_count()}
    checks: dict[str, dict[str, Any]] = {}
    with out.working("checking"):
        for name, check in CHECKS.items():
            start = time.perf_counter()
            try:
                works, found = True, check()
            except Exception as error:  # any error is the result of this check: the other checks still run
                works, found = False, f"{type(error).__name__}: {error}"
            checks[name] = {"works": works, "found": found, "seconds": time.perf_counter() - start}
    from surgery_cli.show.health import health_view

    out.data({**facts, "checks": checks})
    out.show(*health_view(facts, checks))
    return ExitCode.DONE if all(check["works"] for check in checks.values()) else ExitCode.FAILED


def version() -> str:
    """The installed version of surgery, or the source tree's where nothing is installed."""
    found = _installed("model-surgery")
    if found is not None:
        return found
    import surgery

    return surgery.__version__


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _linearizes() -> str:
    import torch
    from torch import nn

    from surgery.linear import linearize

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    result = linearize(model, torch.zeros(1, 3, 8, 8))
    if not result.certificate.affine:
        raise AssertionError(result.certificate.reason)
    return f"{len(result.log)} edits, certified affine"


def _saves() -> str:
    import tempfile
    from pathlib import Path

    import torch
    from torch import nn

    from surgery.graph import load_graph, save_graph, trace

    graph = trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2))
    images = torch.ones(2, 3, 2, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.safetensors"
        save_graph(graph, path)
        same = torch.equal(load_graph(path)(images), graph(images))
    if not same:
        raise AssertionError("a saved graph gives other outputs after loading")
    return "bit for bit"


def _knows_its_rules() -> str:
    from surgery.rewrite import load_rules, shipped_rulesets

    rulesets = [load_rules(name) for name in shipped_rulesets()]
    return f"{sum(len(ruleset.rules) for ruleset in rulesets)} rules in {len(rulesets)} rulesets"


CHECKS: dict[str, Callable[[], str]] = {
    "rules load": _knows_its_rules,
    "a small network is linearized": _linearizes,
    "a graph is saved and loaded": _saves,
}
"""The checks, by the statement that each one verifies."""
