"""Kill a run of the quickstart at random moments, run the same command again, and compare what comes out.

    python benchmarks/kill_run.py [--times 50] [--seed 0] [--workers 2]

First the recipe, scaled down, is run undisturbed. Then each time `surgery run` is started in a folder of its own and
gets SIGKILL: one time in eight while it starts, else at a moment that is drawn from all that the undisturbed run took,
stage by stage. The same command then has to end well, repeat no stage that was finished, and leave a store that is
equal to the undisturbed one, bit by bit but for times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from surgery.run import differences

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "quickstart.toml"
SMALLER = (
    "data.train_size=270",
    "data.test_size=54",
    "model.arguments={ width = 8 }",
    *(f"stage.{name}.epochs=2" for name in ("std", "at", "atc")),
    *(f"stage.{name}.batch_size=16" for name in ("robustness", "confusion", "targeted")),
    "stage.targeted.images=18",
    'stage.report.stages=["at", "at_hierarchy", "robustness"]',
)
"""Seconds instead of minutes, with several chunks in every attack and a few figures."""

STARTING = 1 / 8
"""The share of the kills that come before the first stage."""

LOOK = 0.005
"""Seconds between two looks at the journal."""


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run that nobody stopped: its folder, the seconds that it took to start, and those of each stage."""

    folder: Path
    starting: float
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """`after` seconds from the start of a stage, or of the process where `stage` is None."""

    stage: str | None
    after: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one kill led to: where it hit, and what is wrong afterwards."""

    number: int
    where: str
    wrong: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="runs at a time")
    parser.add_argument("--keep", type=Path, help="a new folder to run in, which stays")
    given = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="surgery-kill-") as temporary:
        home = given.keep or Path(temporary)
        home.mkdir(parents=True, exist_ok=home == Path(temporary))
        undisturbed = run_undisturbed(home / "undisturbed", given.workers)
        print(
            f"undisturbed: {undisturbed.starting:.1f} s to start, {sum(undisturbed.seconds.values()):.1f} s of stages"
        )
        with ThreadPoolExecutor(given.workers) as pool:
            tries = pool.map(lambda number: one(home, number, undisturbed, given), range(1, given.times + 1))
            found = [told(item, given.times) for item in tries]
    where = Counter(item.where for item in found)
    print(
        f"{len(found)} kills in {time.perf_counter() - begun:.0f} s: {', '.join(f'{n} {w}' for w, n in where.items())}"
    )
    wrong = sum(bool(item.wrong) for item in found)
    print(f"{len(found) - wrong} of {len(found)} stores are equal to the undisturbed one")
    sys.exit(1 if wrong else 0)


def told(found: Found, times: int) -> Found:
    print(f"{found.number:3d} of {times}: killed {found.where}: {'; '.join(found.wrong) or 'the same'}", flush=True)
    return found


def run_undisturbed(folder: Path, workers: int) -> Undisturbed:
    """Run, and see how long everything takes."""
    begun = time.time()
    process = start(folder, workers)
    while process.poll() is None and not events(folder):
        time.sleep(LOOK)
    starting = time.time() - begun
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"the undisturbed run failed:\n{output}")
    seconds = {entry["stage"]: max(entry["seconds"], LOOK) for entry in events(folder) if entry["event"] == "done"}
    return Undisturbed(folder=folder, starting=starting, seconds=seconds)


def one(home: Path, number: int, undisturbed: Undisturbed, given: argparse.Namespace) -> Found:
    """Kill one run, go on with it, and compare; another moment where the run was faster than the kill."""
    chance = random.Random(f"{given.seed}-{number}")
    folder = home / f"{number}"
    while not killed(folder, drawn(undisturbed, chance), given.workers):
        shutil.rmtree(folder, ignore_errors=True)
    before = events(folder)
    process = start(folder, given.workers)
    output, _ = process.communicate()
    if process.returncode:
        return Found(number=number, where=hit(before), wrong=(f"the same command failed: {output[-2000:]}",))
    wrong = (*repeated(before, events(folder)[len(before) :]), *differences(folder, undisturbed.folder))
    return Found(number=number, where=hit(before), wrong=wrong)


def drawn(undisturbed: Undisturbed, chance: random.Random) -> Moment:
    """A moment of the undisturbed run, all of them alike."""
    if chance.random() < STARTING:
        return Moment(stage=None, after=chance.uniform(0, undisturbed.starting))
    [stage] = chance.choices([*undisturbed.seconds], [*undisturbed.seconds.values()])
    return Moment(stage=stage, after=chance.uniform(0, undisturbed.seconds[stage]))


def killed(folder: Path, moment: Moment, workers: int) -> bool:
    """Start a run and kill it at `moment`; False where it was done by then."""
    process = start(folder, workers)
    while moment.stage is not None and process.poll() is None:
        if any(entry["event"] == "start" and entry["stage"] == moment.stage for entry in events(folder)):
            break
        time.sleep(LOOK)
    time.sleep(moment.after)
    process.kill()
    process.communicate()
    return process.returncode == -9


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    """The command. Bits depend on the number of threads, which therefore is always the same."""
    sets = [word for value in SMALLER for word in ("--set", value)]
    command = [sys.executable, "-m", "surgery_cli", "run", str(RECIPE), "--output", str(folder), "--quiet", *sets]
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )


def events(folder: Path) -> list[dict]:
    """The journal; a line that is not complete is not there yet."""
    journal = folder / "journal.jsonl"
    if not journal.exists():
        return []
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def hit(before: Sequence[dict]) -> str:
    """Where a kill hit, by what the journal says last."""
    if not before:
        return "while it started"
    last = before[-1]
    return f"in {last['kind']}" if last["event"] == "start" else "between stages"


def repeated(before: Sequence[dict], after: Sequence[dict]) -> list[str]:
    """Stages that were finished before the kill and run again after it."""
    done = {entry["stage"] for entry in before if entry["event"] == "done"}
    again = [entry["stage"] for entry in after if entry["event"] == "start" and entry["stage"] in done]
    return [f"{stage} was run again" for stage in again]


if __name__ == "__main__":
    main()
