"""The time of a step of adversarial training: a float32 loop as usually published, and `surgery.train`.

    python benchmarks/train.py [--batch 32] [--repeat 5] [--width 64] [--device cuda] [--epoch]

Prints medians for a PGD-10 step of the CIFAR ResNet-18: attack in evaluation mode, loss in training mode, SGD with
momentum and weight decay. The ways are timed in turn, in one process. The published loop calls `loss.backward()` in the
attack, which also computes the gradients of all weights. With --epoch, whole epochs of 50,000 images in batches of 128
are timed as well, as `surgery.train.fit` trains them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from surgery.attack import pgd, random_start
from surgery.data import Augmentation, Dataset, Split
from surgery.hierarchy import named
from surgery.models import build
from surgery.train import PLAIN, ClusterPenalty, Constant, Engine, Objective, Optimizer, TrainingConfig, fit
from surgery.train.batches import Batch
from surgery.train.processes import ALONE
from surgery.train.step import Stepper

ATTACK = pgd(epsilon="8/255", steps=10, step_size="2/255")
PENALTY = ClusterPenalty(hierarchy=named("cifar10"), weight=0.1, form="norm")
SGD = Optimizer(momentum=0.9, weight_decay=2e-4)
RATE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epoch", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}")
    steps(device, arguments.batch, arguments.width, arguments.repeat)
    if arguments.epoch:
        epochs(device, arguments.width)


def steps(device: torch.device, batch: int, width: int, repeat: int) -> None:
    """Every way in turn, `repeat` times after a warm-up."""
    images, labels = torch.rand(batch, 3, 32, 32, device=device), torch.randint(0, 10, (batch,), device=device)
    model = build("resnet18", width=width).to(device)
    fast = Engine().on(device, steps=0, processes=1)
    ways: dict[str, Callable[[], object]] = {
        "published loop, float32": published(model, images, labels, parameters=True),
        "the same, gradients of the image only": published(model, images, labels, parameters=False),
        "surgery.train, float32 as it is": ours(model, images, labels, PLAIN),
        "float32, channels last, folded": ours(model, images, labels, Engine(precision="float32", compile=False)),
        f"{fast}, folded": ours(model, images, labels, fast),
        "the same with the cluster penalty": ours(model, images, labels, fast, penalty=True),
    }
    if device.type == "cuda":
        compiled = Engine(compile=True).on(device, steps=0, processes=1)
        ways[f"{compiled}, folded"] = ours(model, images, labels, compiled)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            times[name].append(timed(way, device))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first, second, *_ = medians.values()
    print(f"PGD-10 training step, ResNet-18 of width {width}, batches of {batch}")
    print(f"  {'':<40} {'median':>9} {'fastest':>9} {'x published':>12} {'x image only':>13}")
    for name, seconds in medians.items():
        fastest = min(times[name][1:])
        shown = f"{seconds * 1e3:>6.0f} ms {fastest * 1e3:>6.0f} ms"
        print(f"  {name:<40} {shown} {first / seconds:>12.2f} {second / seconds:>13.2f}")
    alone = penalty_alone(device, batch)
    share = alone / medians[f"{fast}, folded"]
    print(f"  the penalty alone, forward and backward: {alone * 1e3:.3f} ms, {share:.3%} of the step without it")


def published(model: nn.Module, images: Tensor, labels: Tensor, *, parameters: bool) -> Callable[[], object]:
    """The usual loop: it switches the network to evaluation mode and back, in float32, with images channels first."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=2e-4)

    def gradient(iterate: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(iterate), labels)
        if not parameters:
            return torch.autograd.grad(loss, iterate)[0]
        loss.backward()
        assert iterate.grad is not None, "the iterate is a leaf"
        return iterate.grad

    def step() -> None:
        model.eval()
        iterate = (images + torch.empty_like(images).uniform_(-ATTACK.epsilon, ATTACK.epsilon)).clamp(0, 1)
        for _ in range(ATTACK.steps):
            iterate = iterate.detach().requires_grad_()
            moved = iterate.detach() + ATTACK.step_size * gradient(iterate).sign()
            iterate = torch.min(torch.max(moved, images - ATTACK.epsilon), images + ATTACK.epsilon).clamp(0, 1)
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(iterate), labels).backward()
        optimizer.step()

    return step


def ours(
    model: nn.Module, images: Tensor, labels: Tensor, engine: Engine, *, penalty: bool = False
) -> Callable[[], object]:
    """A step of `surgery.train` from the random start of the attack to the update; without augmentation."""
    model = copy.deepcopy(model)
    if engine.channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    objective = Objective(kind="pgd", attack=ATTACK, cluster=PENALTY if penalty else None)
    stepper = Stepper(
        model,
        images,
        objective=objective,
        optimizer=SGD,
        engine=engine,
        processes=ALONE,
    )
    generator = torch.Generator(images.device)

    def step() -> None:
        start = random_start(images, ATTACK, generator).contiguous(
            memory_format=torch.channels_last if engine.channels_last else torch.contiguous_format
        )
        stepper.step(Batch(images=images, labels=labels, start=start, whole=len(images)), rate=RATE, perturb=False)

    return step


def penalty_alone(device: torch.device, batch: int) -> float:
    """The median time of the penalty, from logits to their gradient."""
    logits = torch.randn(batch, 10, device=device, requires_grad=True)
    times = [timed(lambda: torch.autograd.grad(PENALTY(logits), logits), device) for _ in range(200)]
    return statistics.median(times)


def epochs(device: torch.device, width: int) -> None:
    """Whole epochs of images like CIFAR-10's, without and with compilation, the first one to warm up."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50_000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images=images, labels=torch.arange(50_000) % 10)
    few = split.subset(slice(0, 0))
    names = named("cifar10").class_names
    data = Dataset(
        name="noise", title="noise", class_names=names, train=split, validation=few, test=few, hierarchy=None
    )
    config = TrainingConfig(
        objective=Objective(kind="pgd", attack=ATTACK, cluster=PENALTY),
        optimizer=SGD,
        schedule=Constant(learning_rate=RATE),
        epochs=3,
        batch_size=128,
        augmentation=Augmentation(padding=4, flip=True),
        evaluate_every=0,
    )
    print("epochs of 50,000 images in batches of 128, with the penalty")
    for compiled in (False, True):
        result = fit(build("resnet18", width=width), data, config, device=device, engine=Engine(compile=compiled))
        seconds = ", ".join(f"{record.seconds:.2f}" for record in result.history)
        print(f"  {'; '.join(result.notes)}: {seconds} s")


def timed(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
