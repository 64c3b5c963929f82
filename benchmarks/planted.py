"""The paper's claim on data with a known answer: which superclasses does C show after standard and robust training?

    python benchmarks/planted.py [--seeds 5] [--first 0]

For each seed, a small network with batch norm and max pooling is trained on a planted data set in both ways. Its linear
sub-network is extracted, and the correlation matrix C clustered (average linkage, three superclasses). An adjusted Rand
index of 1 means that the superclasses are those of the data. The last column is the time of training alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import torch

import surgery
from surgery.attack import evaluate, pgd
from surgery.data import Dataset, planted
from surgery.hierarchy import adjusted_rand_index, block_contrast
from surgery.models import build
from surgery.train import Objective, OneCycle, Optimizer, TrainingConfig, fit

TRAINING = pgd(epsilon="8/255", steps=5, step_size="2.5/255")
TEST = pgd(epsilon="8/255", steps=20, step_size=0.003)
OBJECTIVES = {"standard": Objective(kind="standard"), "adversarial": Objective(kind="pgd", attack=TRAINING)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of one training run; accuracies are shares of the test images."""

    natural: float
    robust: float
    contrast: float
    rand: float
    seconds: float

    def __str__(self) -> str:
        shares = f"{self.natural:>9.3f} {self.robust:>9.3f}"
        return f"{shares} {self.contrast:>9.2f} {self.rand:>9.2f} {self.seconds:>7.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    print(f"{'seed':>4} {'training':<12} {'natural':>9} {'PGD-20':>9} {'contrast':>9} {'Rand':>9} {'training':>9}")
    rows: dict[str, list[Row]] = {name: [] for name in OBJECTIVES}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        data = planted(seed=seed)
        for name, objective in OBJECTIVES.items():
            row = trained(data, objective, seed)
            rows[name].append(row)
            print(f"{seed:>4} {name:<12} {row}", flush=True)
    for name, found in rows.items():
        means = [statistics.mean(getattr(row, key) for row in found) for key in Row.__dataclass_fields__]
        print(f"mean {name:<12} {Row(**dict(zip(Row.__dataclass_fields__, means, strict=True)))}")


def trained(data: Dataset, objective: Objective, seed: int) -> Row:
    """Train a network, attack it, extract its linear sub-network and cluster its classes."""
    torch.manual_seed(seed)
    model = build("convnet", num_classes=data.num_classes, width=16)
    config = TrainingConfig(
        objective=objective,
        optimizer=Optimizer(momentum=0.9, weight_decay=5e-4),
        schedule=OneCycle(learning_rate=0.05),
        epochs=5,
        batch_size=128,
        evaluate_every=0,
        seed=seed,
    )
    start = time.perf_counter()
    model = fit(model, data, config).model
    seconds = time.perf_counter() - start
    found = evaluate(model, data, {"PGD-20": TEST})
    linear = surgery.linearize(model, torch.zeros(1, *data.input_shape))
    C = surgery.correlate(surgery.extract(linear.module))
    hierarchy = surgery.cluster(C, superclasses=3, class_names=data.class_names)
    assert data.hierarchy is not None, "the planted hierarchy is known"
    return Row(
        natural=found["natural"].accuracy,
        robust=found["PGD-20"].accuracy,
        contrast=block_contrast(C, data.hierarchy.superclass),
        rand=adjusted_rand_index(hierarchy.superclass, data.hierarchy.superclass),
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
