"""Time and results of an attack, compared with torchattacks and foolbox on the same images and settings.

    python benchmarks/attack.py [--model FILE --architecture resnet18] [--data FOLDER] [--images 1000] [--parts]

PGD in Linf: epsilon 8/255, 20 steps of 0.003, uniform start (section 7). Every library attacks the same images in the
same batches in one process. `after`: the share of the images that the network itself, in float32, is right on after
all steps. `robust`: the share that it is also right on without an attack and, where images leave early, on all
iterates. The time of `surgery.evaluate` includes everything: natural accuracy, tracing and folding, verification and
checks. Processor time, over all threads, is the better measure on a machine that others use as well. With --parts, the
contribution of each part of the fast path. The images are those of CIFAR-10 in FOLDER (`surgery.data.load`).

Without --model, a ResNet-18 is first trained adversarially for --training steps, with one-step attacks from random
starts (Wong et al. 2020), so that it withstands some attacks; --width makes it narrower. --halves takes images of which
the network withstands half, as a well trained network does: the share that survives decides how much there is to
compute.

torchattacks and foolbox are compared if they are installed: `pip install torchattacks foolbox` in a separate
environment, or with --no-deps in that of surgery (foolbox then needs eagerpy, GitPython and requests).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from surgery.attack import PLAIN, Attack, Engine, Evaluation, evaluate, perturb, pgd, random_start, search
from surgery.data import Augmentation, Dataset, load
from surgery.models import build, load_model

EPSILON, STEPS, STEP_SIZE = 8 / 255, 20, 0.003
FAST_STEP = 10 / 255
"""The step of the one-step attack in training, 1.25 epsilon (Wong et al. 2020)."""


def main() -> None:
    arguments = parse()
    torch.manual_seed(arguments.seed)
    data = load("cifar10", arguments.data)
    model = network(arguments, data).eval()
    images, labels = chosen(model, data, arguments)
    attack = pgd(epsilon=EPSILON, steps=arguments.steps, step_size=STEP_SIZE)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {data.title}, {len(images)} images")
    print(f"PGD, {arguments.steps} steps of {STEP_SIZE}, epsilon 8/255, batches of {arguments.batch_size}")
    ways = {**peers(model, attack, arguments.batch_size), **own(model, attack, arguments)}
    natural = right(model, images, labels)
    print(f"natural accuracy {share(natural)}")
    print(f"{'':<36}{'after':>8}{'robust':>8}{'seconds':>10}{'faster':>8}{'processor':>11}{'faster':>8}")
    reference: tuple[float, float] | None = None
    for name, way in ways.items():
        if way is None:
            print(f"{name:<36}{'not installed':>26}")
            continue
        after, *times = measured(way, images, labels, arguments.repeat)
        reference = (times[0], times[1]) if reference is None else reference
        shares = f"{'' if 'early' in name else share(after):>8}{share(after & natural):>8}"
        columns = [f"{own:>10.1f}{first / own:>7.2f}x" for own, first in zip(times, reference, strict=True)]
        print(f"{name:<36}{shares}{' '.join(columns)}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint or state dict; by default a network is trained")
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--training", type=int, default=150, help="steps of training without --model")
    parser.add_argument("--save", type=Path, help="file for the state dict of the trained network")
    parser.add_argument("--data", type=Path, help="the folder of CIFAR-10")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--halves", action="store_true", help="take as many images that withstand the attack as images that do not"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=1, help="number of runs, of which the median is printed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", action="store_true", help="measure each part of the fast path")
    return parser.parse_args()


Way = Callable[[Tensor, Tensor], Tensor]
"""Images and labels to a mask `(n,)` of the images that are still right."""


def peers(model: nn.Module, attack: Attack, batch_size: int) -> dict[str, Way | None]:
    return {
        "torchattacks PGD": torchattacks_pgd(model, attack, batch_size) if installed("torchattacks") else None,
        "foolbox LinfPGD": foolbox_pgd(model, attack, batch_size) if installed("foolbox") else None,
    }


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def torchattacks_pgd(model: nn.Module, attack: Attack, batch_size: int) -> Way:
    library = importlib.import_module("torchattacks")
    peer = library.PGD(model, eps=attack.epsilon, alpha=attack.step_size, steps=attack.steps, random_start=True)
    return batched(lambda images, labels: right(model, peer(images, labels), labels), batch_size)


def foolbox_pgd(model: nn.Module, attack: Attack, batch_size: int) -> Way:
    library = importlib.import_module("foolbox")
    wrapped = library.PyTorchModel(model, bounds=(0, 1))
    peer = library.attacks.LinfPGD(abs_stepsize=attack.step_size, steps=attack.steps, random_start=True)

    def way(images: Tensor, labels: Tensor) -> Tensor:
        _, attacked, _ = peer(wrapped, images, labels, epsilons=attack.epsilon)
        return right(model, attacked, labels)

    return batched(way, batch_size)


def own(model: nn.Module, attack: Attack, arguments: argparse.Namespace) -> dict[str, Way]:
    """The default evaluation; with --parts, also with one part of the fast path after another."""

    def way(engine: Engine, *, early_stop: bool) -> Way:
        chosen = pgd(epsilon=attack.epsilon, steps=attack.steps, step_size=attack.step_size, early_stop=early_stop)

        def run(images: Tensor, labels: Tensor) -> Tensor:
            found = evaluate(model, (images, labels), {"pgd": chosen}, batch_size=arguments.batch_size, engine=engine)
            report(found)
            return found["pgd"].per_sample

        return run

    ways = {
        "surgery.evaluate, all steps": way(Engine(), early_stop=False),
        "surgery.evaluate, early stop": way(Engine(), early_stop=True),
    }
    if arguments.parts:
        ways |= {
            "  the model itself, all steps": way(PLAIN, early_stop=False),
            "  + batch norm folded": way(Engine(precision="float32", channels_last=False), early_stop=False),
            "  + channels last": way(Engine(precision="float32"), early_stop=False),
            "  the model itself, early stop": way(PLAIN, early_stop=True),
        }
    return ways


def report(found: Evaluation) -> None:
    for check in found.checks:
        if not check.passed:
            print(check)


def batched(way: Way, batch_size: int) -> Way:
    def run(images: Tensor, labels: Tensor) -> Tensor:
        pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        return torch.cat([way(part, part_labels) for part, part_labels in pairs])

    return run


@torch.no_grad()
def right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return model(images).argmax(1) == labels


def share(which: Tensor) -> str:
    return f"{float(which.double().mean()):.2%}"


def measured(way: Way, images: Tensor, labels: Tensor, repeat: int) -> tuple[Tensor, float, float]:
    """Which images are still right, and the median time by the clock and on the processor."""
    clock, processor, after = [], [], torch.ones_like(labels, dtype=torch.bool)
    for _ in range(repeat):
        start, start_processor = time.perf_counter(), time.process_time()
        after = way(images, labels)
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return after, statistics.median(clock), statistics.median(processor)


def chosen(model: nn.Module, data: Dataset, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """The first test images; with --halves, the first that withstand the attack, and as many that do not."""
    count = arguments.images
    images, labels = data.test.images.float() / 255, data.test.labels
    if not arguments.halves:
        return images[:count], labels[:count]
    images, labels = images[: 5 * count], labels[: 5 * count]
    attack = pgd(epsilon=EPSILON, steps=arguments.steps, step_size=STEP_SIZE)
    robust = right(model, perturb(model, images, labels, attack), labels)
    rows = torch.cat([part.nonzero().squeeze(1)[: count // 2] for part in (robust, ~robust)]).sort().values
    return images[rows], labels[rows]


def network(arguments: argparse.Namespace, data: Dataset) -> nn.Module:
    if arguments.model is not None:
        return load_model(arguments.model, architecture=arguments.architecture, arguments={"width": arguments.width})
    model = trained(build(arguments.architecture, width=arguments.width), data, arguments.training, arguments.seed)
    if arguments.save is not None:
        torch.save(model.state_dict(), arguments.save)
    return model


def trained(model: nn.Module, data: Dataset, steps: int, seed: int) -> nn.Module:
    """Train for a few steps with one-step attacks from random starts and a one-cycle schedule."""
    attack = pgd(epsilon=EPSILON, steps=1, step_size=FAST_STEP)
    augment, generator = Augmentation(padding=4, flip=True), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.15, total_steps=steps)
    model.to(memory_format=torch.channels_last)
    for step in range(steps):
        rows = torch.randint(0, len(data.train), (64,), generator=generator)
        images, labels = augment(data.train.images[rows], generator).float() / 255, data.train.labels[rows]
        model.eval()
        start = random_start(images, attack, generator)
        attacked = search(lambda x: losses(model, x, labels), images, attack, start=start)  # noqa: B023
        model.train()
        optimizer.zero_grad()
        loss = losses(model, attacked, labels).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"training: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    return model.to(memory_format=torch.contiguous_format)


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        return functional.cross_entropy(model(images).float(), labels, reduction="none")


if __name__ == "__main__":
    main()
