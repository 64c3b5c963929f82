"""Kill a process at random moments while it writes a store, and check the store that remains.

    python benchmarks/kill_store.py [--times 200] [--seed 0]

Each time, a process adds groups to a store, replaces some, and reports each group that is written; after a random time
it is killed by SIGKILL. Then the store must open, every group in it must be complete, and every reported group must
exist in its reported version or a newer one. The next process continues in the same folder. Needs os.fork.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from surgery.store import Group, Variable, class_coordinates, list_groups, read_group, write_group
from surgery.store.lock import LOCK, holder

CLASSES = 32
FOLDER_EVERY = 10
"""Kills before a new folder: stores grow, and the phases of writing a small one are hit more evenly."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.getLogger("surgery.store.lock").setLevel(logging.ERROR)  # it warns of each lock of a killed process
    chance = random.Random(given.seed)
    counts = {"groups reported": 0, "killed while writing": 0, "killed holding the lock": 0}
    for first in range(0, given.times, FOLDER_EVERY):
        with tempfile.TemporaryDirectory() as folder:
            rounds(Path(folder), min(FOLDER_EVERY, given.times - first), chance, counts)
    print(f"{given.times} kills; " + ", ".join(f"{name}: {count}" for name, count in counts.items()))
    print("every store opened and held every group that had been reported")


def rounds(folder: Path, times: int, chance: random.Random, counts: dict[str, int]) -> None:
    """Write, kill and check, `times` times in one folder."""
    path = folder / "results.h5"
    reported: dict[str, int] = {}
    start = time.perf_counter()
    write_group(path, group("first", 0))
    pace = time.perf_counter() - start
    for round_ in range(times):
        news = killed(path, 1000 * (round_ + 1), after=chance.uniform(0, 4 * pace))
        reported |= news
        counts["groups reported"] += len(news)
        counts["killed holding the lock"] += holder(folder) is not None
        counts["killed while writing"] += any(item.name.endswith(".tmp") for item in folder.iterdir())
        check(path, reported)
    write_group(path, group("last", 0))
    assert {item.name for item in folder.iterdir()} <= {path.name, LOCK}, "files of killed processes are removed"


def killed(path: Path, version: int, *, after: float) -> dict[str, int]:
    """Start a process that writes, kill it `after` seconds, and return what it reported: versions by group."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write_on(path, version, writer)
    os.close(writer)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "writing failed before it could be killed"
    with os.fdopen(reader) as stream:
        lines = [line.split() for line in stream if line.endswith("\n")]
    return {name: int(number) for name, number in lines}


def write_on(path: Path, version: int, writer: int) -> None:
    """Write one group after the other until the process is killed: new ones, and every third time an existing one."""
    try:
        while True:
            version += 1
            name = "first" if version % 3 == 0 else f"group{version}"
            write_group(path, group(name, version), replace=True)
            os.write(writer, f"{name} {version}\n".encode())
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(1)


def check(path: Path, reported: dict[str, int]) -> None:
    """Check that every group is complete, and that no reported group is missing or older."""
    found = {item.name: read_group(path, item.name) for item in list_groups(path)}
    for name, item in found.items():
        version = int(item.attributes["version"])
        assert np.array_equal(item["weight"], group(name, version)["weight"]), f"{name} is not complete"
        assert tuple(item["class"]) == labels()
    for name, version in reported.items():
        assert name in found, f"{name} was reported and is missing"
        assert int(found[name].attributes["version"]) >= version, f"{name} is older than reported"


def group(name: str, version: int) -> Group:
    """A group of about 0.4 MB whose numbers follow from its version."""
    weight = np.random.default_rng(version).normal(size=(CLASSES, 3, 32, 32)).astype(np.float32)
    return Group(
        name=name,
        kind="linear",
        variables=(
            Variable(name="weight", data=weight, dimensions=("class", "channel", "row", "column"), long_name="weight"),
        ),
        coordinates=class_coordinates(labels()),
        attributes={"version": version},
        provenance={"note": "x" * version},
    )


def labels() -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(CLASSES))


if __name__ == "__main__":
    sys.exit(main())
