"""How long the surgery takes: each stage on densenet201, and the command on ResNet-18 beyond its imports.

    python benchmarks/speed.py [--repeat 5]

Medians over repeats, with minimum and maximum. The stages run in one process, the command in separate processes that
alternate with processes that only import torch and torchvision.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

import surgery
from surgery.linear import offenders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {torch.get_num_threads()} threads")
    stages(repeat)
    command(repeat)


def stages(repeat: int) -> None:
    """Trace, plan, apply and static certificate of densenet201."""
    model = torchvision.models.densenet201(weights=None).eval()
    example = torch.zeros(1, 3, 224, 224)
    times: dict[str, list[float]] = {name: [] for name in ("trace", "plan", "apply", "static certificate", "together")}
    for _ in range(repeat):
        graph, trace = _timed(lambda: surgery.trace(model, example))
        planned, plan = _timed(lambda graph=graph: surgery.plan(graph, "linearize"))
        rewrite, apply = _timed(lambda planned=planned: surgery.apply(planned))
        found, static = _timed(lambda rewrite=rewrite: offenders(rewrite.module))
        assert not found, "densenet201 has to come out affine"
        for name, seconds in zip(times, (trace, plan, apply, static, trace + plan + apply + static), strict=True):
            times[name].append(seconds)
    for name, values in times.items():
        print(f"densenet201, {name}: {_spread(values)}")


def command(repeat: int) -> None:
    """`surgery linearize` on a state dict of ResNet-18, compared with a process that only imports torch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.pt"
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
        program = [
            str(Path(sys.executable).parent / "surgery"),
            "linearize",
            str(path),
            "--arch",
            "torchvision:resnet18",
        ]
        imports = [sys.executable, "-c", "import torch, torchvision"]
        pairs = [(_process(imports), _process(program)) for _ in range(repeat + 1)][1:]
    print(f"import torch, torchvision: {_spread([first for first, _ in pairs])}")
    print(f"surgery linearize, resnet18: {_spread([second for _, second in pairs])}")
    print(f"beyond the imports: {_spread([second - first for first, second in pairs])}")


def _process(arguments: list[str]) -> float:
    return _timed(lambda: subprocess.run(arguments, check=True, capture_output=True))[1]


def _timed(work: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
