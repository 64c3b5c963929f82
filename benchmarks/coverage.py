"""Every classification model of torchvision: traced, linearized, certified; written as a table.

    python benchmarks/coverage.py [-o docs/coverage.md] [NAME ...]

Weights are random; weight matrices that torchvision starts at zero are drawn too, since a network that ignores its
input shows nothing; batch-norm statistics are those of random images. Exit code 1 if a model is not certified affine.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import nn

import surgery
from surgery.graph import computing
from surgery.models import open_model


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; `difference` is that of the traced graph from the model, relative to the largest
    output.
    """

    name: str
    input_shape: tuple[int, ...]
    rung: str
    before: int
    after: int
    edits: dict[str, int]
    verdict: str
    scale: float
    error: float
    difference: float
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models (default: all)")
    parser.add_argument("-o", "--output", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    names = arguments.names or torchvision.models.list_models(module=torchvision.models)
    rows: list[Row] = []
    failed: list[str] = []
    for name in names:
        try:
            row = measure(name)
        except surgery.errors.SurgeryError as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        rows.append(row)
        print(_line(row), flush=True)
        if row.verdict != "affine":
            failed.append(name)
    print(
        f"{len(names) - len(failed)} of {len(names)} certified affine{': not ' + ', '.join(failed) if failed else ''}"
    )
    if arguments.output:
        arguments.output.write_text(_page(rows, len(names)))
    return 1 if failed else 0


def measure(name: str) -> Row:
    """Linearize one model of torchvision with random weights."""
    torch.manual_seed(0)
    opened = open_model(None, architecture=f"torchvision:{name}")
    model, shape = opened.module, opened.input_shape or (3, 224, 224)
    randomize(model)
    images = torch.randn((2, *shape))
    calibrate(model, images)
    start = time.perf_counter()
    result = surgery.linearize(model, images[:1])
    seconds = time.perf_counter() - start
    with torch.no_grad():
        expected, found = model(images), result.before(images)
    row = Row(
        name=name,
        input_shape=shape,
        rung=result.before.rung,
        before=len(computing(result.before)),
        after=len(computing(result.module)),
        edits={rule: count for rule, count in result.plan.counts().items() if count},
        verdict=result.certificate.verdict,
        scale=result.certificate.output_scale or 0.0,
        error=result.certificate.superposition_error or 0.0,
        difference=float((found - expected).abs().max() / expected.abs().max()),
        seconds=seconds,
    )
    del model, result
    gc.collect()
    return row


def randomize(model: nn.Module) -> None:
    """Draw the weight matrices that are all zero; gains and biases keep their start."""
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.trunc_normal_(parameter, std=0.02)


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Set the statistics of every batch norm to those of `images`."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        with torch.no_grad():
            model(images)
    model.eval()


def _line(row: Row) -> str:
    return (
        f"{row.name}: {row.rung}, {row.before} -> {row.after}, {row.verdict}, scale {row.scale:.1e},"
        f" difference {row.difference:.0e}, {row.seconds:.1f} s"
    )


def _page(rows: list[Row], total: int) -> str:
    certified = sum(row.verdict == "affine" for row in rows)
    used = Counter(rule for row in rows for rule in row.edits)
    head = f"""\
# Coverage: torchvision's classification models

Written by `python benchmarks/coverage.py -o docs/coverage.md` on {datetime.date.today().isoformat()},
torch {torch.__version__}, torchvision {torchvision.__version__}, {platform.system()} {platform.machine()},
{torch.get_num_threads()} threads.

{certified} of {total} models are traced, linearized with the ruleset `linearize` and certified affine.
Weights are random, batch-norm statistics are those of random images. *Nodes* are operations before and after.
*Difference* is the largest one between the outputs of the traced graph and the model, relative to the largest output.
*Scale* is the root mean square of the linear sub-network's output, without its constant part, for standard normal
images. *Seconds* are for trace, plan, apply and certificate on a shared machine; they show the
order of magnitude.

| model | input | rung | nodes | edits by rule | certificate | superposition error | scale | difference | seconds |
|---|---|---|---|---|---|---|---|---|---|
"""
    body = "".join(
        f"| {row.name} | {'x'.join(map(str, row.input_shape))} | {row.rung} | {row.before} → {row.after}"
        f" | {', '.join(f'{rule} {count}' for rule, count in row.edits.items())} | {row.verdict} | {row.error:.0e}"
        f" | {row.scale:.1e} | {row.difference:.0e} | {row.seconds:.1f} |\n"
        for row in rows
    )
    rules = ", ".join(f"`{rule}` in {count}" for rule, count in used.most_common())
    return f"{head}{body}\nModels in which each rule fired: {rules}.\n"


if __name__ == "__main__":
    sys.exit(main())
