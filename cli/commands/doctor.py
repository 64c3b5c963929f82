"""`surgery doctor`: print the installed versions and check that surgery works."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode

DISTRIBUTION = "model-surgery"
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?(?:>=([\d.]+))?(?:;\s*extra == [\"'](\w+)[\"'])?")
_FOR_DEVELOPERS = ("docs", "test")


def doctor(as_json: options.AsJson = False, debug: options.Debug = False) -> int:
    """Print versions, devices and folders, and check the installation.

    Exits with 1 if a check fails, or if a package that surgery needs is missing or too old.

    \b
    surgery doctor
    surgery doctor --json
    """
    out = Output(as_json=as_json, debug=debug)
    needed = requirements()
    facts: dict[str, Any] = {
        "surgery": version(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _installed(name) for name in needed.get("", {})},
        "too_old": {name: least for names in needed.values() for name, least in names.items() if _too_old(name, least)},
        "extras": {},
    }
    for extra, names in needed.items():
        if extra and extra not in _FOR_DEVELOPERS:
            found = {name: _installed(name) for name in names}
            whole = ", ".join(f"{name} {version}" for name, version in found.items())
            facts["extras"][extra] = None if None in found.values() else whole
    with out.working("loading torch"):
        import torch

        from surgery.graph.memory import free_memory, gigabytes

    devices = ["cpu"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            size = gigabytes(torch.cuda.get_device_properties(index).total_memory)
            devices.append(f"cuda:{index} {torch.cuda.get_device_name(index)} ({size})")
    if torch.backends.mps.is_available():
        devices.append("mps")
    facts |= {
        "devices": devices,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory": f"{gigabytes(free_memory())} free",
        "folders": {
            "data sets": os.environ.get("SURGERY_DATA", "data"),
            "weights of torchvision": torch.hub.get_dir(),
            "weights of timm": os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface")),
        },
    }
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
    whole = None not in facts["packages"].values() and not facts["too_old"]
    return ExitCode.DONE if whole and all(check["works"] for check in checks.values()) else ExitCode.FAILED


def version() -> str:
    """The installed version of surgery, or the source tree's where nothing is installed."""
    found = _installed(DISTRIBUTION)
    if found is not None:
        return found
    import surgery

    return surgery.__version__


def requirements() -> dict[str, dict[str, str]]:
    """The packages that each extra needs, with their least versions; those of surgery itself under an empty name."""
    found: dict[str, dict[str, str]] = {}
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        texts = []
    for text in texts:
        requirement = _REQUIREMENT.match(text)
        if requirement is not None and requirement[1] != DISTRIBUTION:
            found.setdefault(requirement[3] or "", {})[requirement[1]] = requirement[2] or "0"
    return found


def _too_old(name: str, least: str) -> bool:
    found = _installed(name)
    return found is not None and _numbers(found) < _numbers(least)


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version: [2, 14, 1] of 2.14.1+cpu."""
    found = re.match(r"[\d.]+", version)
    return [int(part) for part in found[0].strip(".").split(".")] if found else []


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
