"""Read damaged files of every kind that surgery reads, and report each answer that is not one clear error.

    python benchmarks/fuzz.py [--minutes 10] [--kind store] [--seed 0]

A sound file of each kind is damaged at random: bits, bytes, numbers, lengths, order, nesting. A child process of
limited memory reads it as a user would. It may succeed, or raise an error that surgery defines (exit code 2) and that
names the file. Everything else is reported: another exception, a hang, a crash, too much memory. The files that caused
it are kept in build/fuzz, and their numbers repeat the cases with --seed. Exit code 1 if anything is reported. Needs
Linux.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.errors import SurgeryError

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path("build/fuzz")
SECONDS = 30.0
"""The time that reading one file may take; sound ones take less than one second."""
MEMORY = 4 * 2**30
"""The bytes that a child may allocate beyond those of a sound file."""


def small_network() -> nn.Module:
    """A network whose files have all parts: convolution, normalization with buffers, pooling, linear layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 16, 3)).eval()


EXAMPLE = torch.zeros(1, 3, 8, 8)


def checkpoint(path: Path) -> None:
    from surgery.models import Checkpoint, build, save_checkpoint

    arguments = {"num_classes": 3, "width": 4}
    save_checkpoint(
        path,
        Checkpoint(
            architecture="convnet",
            arguments=arguments,
            input_shape=(3, 8, 8),
            class_names=("cat", "dog", "ship"),
            state=build("convnet", **arguments).state_dict(),
        ),
    )


def pickled(path: Path) -> None:
    from surgery.models import build

    torch.save({"state_dict": build("convnet", num_classes=3, width=4).state_dict(), "epoch": 3}, path)


def saved_graph(path: Path) -> None:
    surgery.save_graph(surgery.linearize(small_network(), EXAMPLE).module, path)


def archive(path: Path) -> None:
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(small_network(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def store(path: Path) -> None:
    from surgery.stages.extract import linear_group
    from surgery.store import provenance, write_group

    map = surgery.extract(surgery.linearize(small_network(), EXAMPLE).module)
    assert map.certificate is not None, "every extraction has a certificate"
    source = provenance(parameters={"seed": 0}, device="cpu", seeds={}, wall_seconds=0.0)
    names = ("cat", "dog", "ship")
    write_group(
        path, linear_group(map, certificate=map.certificate, class_names=names, provenance=source, name="linear")
    )


def plan_file(path: Path) -> None:
    surgery.save_plan(surgery.plan(surgery.trace(small_network(), EXAMPLE), "linearize"), path)


def ruleset(path: Path) -> None:
    path.write_bytes((ROOT / "surgery/rewrite/rulesets/linearize-keep-bn.toml").read_bytes())


def recipe(path: Path) -> None:
    path.write_bytes((ROOT / "recipes/quickstart.toml").read_bytes())


def superclasses(path: Path) -> None:
    groups = 'animal = ["cat", "dog"]\nvehicle = ["ship"]\n'
    path.write_text(f'classes = ["cat", "dog", "ship"]\n\n[superclasses]\n{groups}')


def photo(format: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format=format)

    return make


def training_state(path: Path) -> None:
    train(path.parent / "training")
    os.replace(path.parent / "training" / "resume.safetensors", path)


def train(folder: Path) -> None:
    from surgery.data import load
    from surgery.models import build
    from surgery.train import Checkpoints, Constant, Objective, Optimizer, TrainingConfig, fit

    data = load("planted", train_size=36, test_size=9, validation=0.25)
    network = build("convnet", num_classes=len(data.class_names), width=4)
    config = TrainingConfig(
        objective=Objective(kind="standard"),
        optimizer=Optimizer(momentum=0.9, weight_decay=5e-4),
        schedule=Constant(learning_rate=0.05),
        epochs=1,
        batch_size=9,
    )
    fit(network, data, config, checkpoints=Checkpoints(folder=folder, architecture="convnet"))


def open_model(path: Path) -> None:
    from surgery.models import open_model

    loaded = open_model(path)
    surgery.trace(loaded.module, torch.zeros(1, *(loaded.input_shape or (3, 8, 8))))


def open_state(path: Path) -> None:
    surgery.load_model(path, architecture="convnet", arguments={"num_classes": 3, "width": 4})


def open_store(path: Path) -> None:
    from surgery.store import list_groups, read_group

    for group in list_groups(path):
        read_group(path, group.name)
    tree = surgery.load(path)
    tree.load()
    tree.close()


def open_plan(path: Path) -> None:
    surgery.apply(surgery.load_plan(path, surgery.trace(small_network(), EXAMPLE)))


def open_rules(path: Path) -> None:
    surgery.plan(surgery.trace(small_network(), EXAMPLE), surgery.load_rules(path))


def open_recipe(path: Path) -> None:
    from surgery.recipe import load_recipe

    load_recipe(path)


def open_superclasses(path: Path) -> None:
    from surgery.hierarchy import load_hierarchy

    load_hierarchy(path, class_names=("cat", "dog", "ship"))


def open_images(path: Path) -> None:
    """A data set of two classes with the damaged image in it."""
    from surgery.data import load

    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "test"):
            for name in ("cat", "dog"):
                (Path(folder) / part / name).mkdir(parents=True)
                os.link(path, Path(folder) / part / name / f"one{path.suffix}")
        load("folder", root=folder, image_size=16)


def resume(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.link(path, Path(folder) / "resume.safetensors")
        train(Path(folder))


KINDS: Mapping[str, tuple[str, Callable[[Path], None], Callable[[Path], None]]] = {
    "checkpoint": (".safetensors", checkpoint, open_model),
    "state dict": (".pt", pickled, open_state),
    "graph": (".safetensors", saved_graph, open_model),
    "exported": (".pt2", archive, open_model),
    "store": (".h5", store, open_store),
    "plan": (".json", plan_file, open_plan),
    "ruleset": (".toml", ruleset, open_rules),
    "recipe": (".toml", recipe, open_recipe),
    "superclasses": (".toml", superclasses, open_superclasses),
    "png": (".png", photo("png"), open_images),
    "jpeg": (".jpg", photo("jpeg"), open_images),
    "training state": (".safetensors", training_state, resume),
}
"""For each kind of file: how its names end, how a sound one is made, and how a user has it read."""

TOKENS = (
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"99999999999999999999", b"9223372036854775807", b"2147483648", b'""'),
    *(b"null", b"true", b"[]", b"{}", b"[[", b"]", b'"', b"\\", b"\x00", b"\xff\xfe", b"\x1b[31m", b"../", b"\n", b"#"),
    *(b"(" * 2000, b"[" * 2000, b"a." * 2000, b"A" * 70000, "é\u202e".encode()),
)


def damaged(sound: bytes, chance: random.Random) -> bytes:
    """Apply one to four random changes to the bytes of a file."""
    data = bytearray(sound)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) or 1)
        # Headers decide more than weights do, and most of a file is weights.
        at = chance.choice((at, at % 64, at % 512, at % 4096, -1 - at % 512)) % (len(data) or 1)
        length = min(chance.choice((1, 2, 4, 8, 64, 512)), len(data) - at)
        match chance.randrange(9):
            case 0 | 1 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at : at + length] = chance.randbytes(length)
            case 3:
                data[at : at + length] = chance.choice((b"\x00", b"\xff", b"\x7f")) * length
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                other = chance.randrange(len(data) or 1)
                data[at : at + length] = data[other : other + length]
            case 7:
                data[at : at + chance.choice((0, length))] = chance.choice(TOKENS)
            case 8:
                del data[chance.choice((at, len(data) - length)) :]
    return bytes(data)


def child(kind: str, folder: Path, seed: int) -> None:
    """Read one damaged file after the other, and print the answer to each as a line of JSON."""
    end, _, read = KINDS[kind]
    sound = (folder / f"sound{end}").read_bytes()
    logging.disable()
    warnings.simplefilter("ignore")
    read(folder / f"sound{end}")  # what is imported late is imported before memory is counted
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    path = folder / f"damaged{end}"
    while True:
        path.unlink(missing_ok=True)
        path.write_bytes(damaged(sound, random.Random(seed)))
        print(json.dumps({"seed": seed}), flush=True)
        try:
            read(path)
            answer, detail = "read", ""
        except SurgeryError as error:
            named = path.name in str(error) or "one" + end in str(error) or "resume" in str(error)
            answer, detail = ("refused", "") if named else ("refused without the file's name", str(error)[:200])
        except BaseException as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/surgery/" in frame.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            answer, detail = "internal error", f"{type(error).__name__} in {place}: {str(error)[:120]}"
        print(json.dumps({"seed": seed, "answer": answer, "detail": detail}), flush=True)
        seed += 1


def fuzz(kind: str, folder: Path, seed: int, seconds: float) -> Counter[str]:
    """Let children read damaged files for some seconds; print what is not allowed, and count the answers."""
    end, make, _ = KINDS[kind]
    make(folder / f"sound{end}")
    answers, shown = Counter[str](), set[str]()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        command = [sys.executable, __file__, "--child", str(folder), "--kind", kind, "--seed", str(seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None, "it is a pipe"
        started = False
        while time.monotonic() < deadline:
            if not select.select([process.stdout], [], [], SECONDS if started else 4 * SECONDS)[0]:
                line = {"seed": seed, "answer": "hang", "detail": f"{SECONDS:.0f} s"}
            elif text := process.stdout.readline():
                line = json.loads(text)
            elif not started:
                raise SystemExit(f"{kind}: the sound file cannot be read: run with --child {folder}")
            else:
                line = {"seed": seed, "answer": "crash", "detail": f"exit status {process.wait()}"}
            started = True
            seed = line["seed"]
            if "answer" not in line:
                continue
            answers[line["answer"]] += 1
            key = f"{line['answer']}: {line['detail'].partition(': ')[0]}"
            if line["answer"] not in ("read", "refused") and key not in shown:
                shown.add(key)
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / f"{kind.replace(' ', '-')}-{seed}{end}"
                kept.write_bytes(damaged((folder / f"sound{end}").read_bytes(), random.Random(seed)))
                print(f"  {kind}: {line['answer']}: {line['detail']}\n    {kept}", flush=True)
            if line["answer"] in ("hang", "crash"):
                seed += 1
                break
        process.kill()
        process.wait()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        torch.set_num_threads(1)
        child(given.kind[0], given.child, given.seed)
    kinds, bad = given.kind or list(KINDS), 0
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            answers = fuzz(kind, Path(folder), given.seed, 60 * given.minutes / len(kinds))
        bad += sum(count for answer, count in answers.items() if answer not in ("read", "refused"))
        print(f"{kind}: {', '.join(f'{count:,} {answer}' for answer, count in sorted(answers.items()))}", flush=True)
    sys.exit(f"{bad} cases need work; see {KEPT}" if bad else 0)


if __name__ == "__main__":
    main()
