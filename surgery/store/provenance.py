"""Provenance: how a result came about, in enough detail to produce it again or to explain a difference."""

from __future__ import annotations

import json
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("model-surgery", "torch", "torchvision", "timm", "numpy", "scipy", "h5py")
"""The packages that the numbers depend on."""


def provenance(
    *,
    recipe: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: str | None = None,
    seeds: Mapping[str, int] | None = None,
    data_digest: str | None = None,
    wall_seconds: float | None = None,
    folder: str | Path = ".",
    packages: Iterable[str] = PACKAGES,
) -> dict[str, str]:
    """Return the provenance of a group as texts; unknown facts are omitted.

    `recipe`: the text of the file. `parameters`: all parameters, with defaults filled in. `folder`: its git commit is
    recorded, and whether the working tree was clean.
    """
    commit = _git(Path(folder), "rev-parse", "--verify", "HEAD")
    changes = _git(Path(folder), "status", "--porcelain") if commit else None
    found = {
        "recipe": recipe,
        "parameters": None if parameters is None else _json(parameters),
        "data_digest": data_digest,
        "seeds": None if seeds is None else _json(seeds),
        "device": device,
        "threads": _threads(),
        "wall_seconds": None if wall_seconds is None else f"{wall_seconds:.3f}",
        "command_line": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": _json({name: version for name in packages if (version := _version(name))}),
        "git_commit": commit,
        "git_clean": None if changes is None else "no" if changes else "yes",
    }
    # Command lines and paths need not be UTF-8, and HDF5 takes no NUL: both are written as escapes.
    encodable = {
        name: text.encode("utf-8", "backslashreplace").decode() for name, text in found.items() if text is not None
    }
    return {name: text.replace("\0", "\\0") for name, text in encodable.items()}


def _threads() -> str | None:
    """The number of threads of torch, which decides the last bits of sums; None if torch has computed nothing."""
    torch = sys.modules.get("torch")
    return None if torch is None else str(torch.get_num_threads())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
