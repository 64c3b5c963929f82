"""`surgery attack`: natural and robust accuracies, or the attack confusion matrix."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.attack import Attack, Confusion, Evaluation
    from surgery.data import Dataset
    from surgery.models import LoadedModel
    from surgery.store import Group

ATTACK = "Attack"
"""The heading of the help for what is done to the images."""

Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        metavar="pgd|fgsm|cw",
        help="Attack; several make a worst case. Repeatable.  [default: pgd]",
        rich_help_panel=ATTACK,
    ),
]
Epsilon = Annotated[
    str | None,
    typer.Option("--epsilon", metavar="SIZE", help="Largest perturbation, as in 8/255.", rich_help_panel=ATTACK),
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Gradient steps.", rich_help_panel=ATTACK)]
StepSize = Annotated[
    str | None,
    typer.Option("--step-size", metavar="SIZE", help="Size of a step, as in 0.003.", rich_help_panel=ATTACK),
]
Norm = Annotated[
    str | None,
    typer.Option(
        "--norm", metavar="Linf|L2|L1", help="Norm of the perturbation.  [default: Linf]", rich_help_panel=ATTACK
    ),
]
Sparsity = Annotated[
    float | None,
    typer.Option("--sparsity", metavar="SHARE", help="For L1: pixels that a step moves.", rich_help_panel=ATTACK),
]
Loss = Annotated[
    str | None,
    typer.Option(
        "--loss", metavar="NAME", help="Loss that pgd increases: cross-entropy, margin, dlr.", rich_help_panel=ATTACK
    ),
]
Restarts = Annotated[
    int | None, typer.Option("--restarts", metavar="N", help="How often a search starts anew.", rich_help_panel=ATTACK)
]
Targeted = Annotated[
    bool, typer.Option("--targeted", help="Towards every other class in turn.", rich_help_panel=ATTACK)
]
Matrix = Annotated[
    bool,
    typer.Option("--matrix", help="Attack confusion matrix instead of accuracies.", rich_help_panel=options.RESULT),
]
Store = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.h5", help="Store that the group is added to.", rich_help_panel=options.RESULT
    ),
]
GroupName = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="NAME",
        help="Name of the group.  [default: robustness, or confusion]",
        rich_help_panel=options.RESULT,
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace the group if it is there.", rich_help_panel=options.RESULT)
]


def attack(
    data: options.DataName,
    model: options.ModelFile = None,
    root: options.DataRoot = None,
    download: options.Download = False,
    images: options.Images = None,
    attack: Kinds = None,
    epsilon: Epsilon = None,
    steps: Steps = None,
    step_size: StepSize = None,
    norm: Norm = None,
    sparsity: Sparsity = None,
    loss: Loss = None,
    restarts: Restarts = None,
    targeted: Targeted = False,
    matrix: Matrix = False,
    output: Store = None,
    group: GroupName = None,
    replace: Replace = False,
    arch: options.Architecture = None,
    input_shape: options.InputShape = None,
    num_classes: options.Classes = None,
    arg: options.Arguments = None,
    factory: options.Factory = None,
    trust_pickle: options.TrustPickle = False,
    device: options.Device = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Images at a time.")] = 128,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option("--precision", help="Arithmetic of the search.")
    ] = "auto",
    seed: options.Seed = 0,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Measure how robust a model is, with checks.

    Natural and robust accuracies come with 95 % intervals and the outcome for every image; --matrix counts which class
    an attack turns into which. Pixels run from 0 to 1, and so do epsilon and step sizes.

    \b
    surgery attack model.safetensors --data cifar10 --epsilon 8/255 --steps 20 --step-size 0.003
    surgery attack model.pt --arch resnet18 --data cifar10 --attack fgsm --epsilon 8/255 -o run.h5
    surgery attack model.pt --data cifar10 --epsilon 8/255 --steps 20 --step-size 0.003 --matrix -o run.h5
    """
    from surgery.files import check_writable, existing_file
    from surgery_cli.images import chosen_device, open_data
    from surgery_cli.loading import ModelOptions, open_module

    out = Output(as_json=as_json, debug=debug)
    if output is not None:
        check_writable(output)
    if model is not None:
        existing_file(model)
    settings = {
        "epsilon": epsilon,
        "steps": steps,
        "step_size": step_size,
        "norm": norm,
        "sparsity": sparsity,
        "loss": loss,
        "restarts": restarts,
    }
    start = time.perf_counter()
    with out.working("loading torch"):
        from surgery.attack import Engine
    where = chosen_device(device)
    attacks = _attacks(attack or ["pgd"], {key: value for key, value in settings.items() if value is not None})
    if matrix and len(attacks) > 1:
        _refuse_several()
    wanted = ModelOptions(
        path=model,
        architecture=arch,
        input_shape=input_shape,
        classes=num_classes,
        arguments=arg,
        factory=factory,
        trust_pickle=trust_pickle,
        seed=seed,
    )
    with out.working("reading the images"):
        chosen = open_data(data, root, download=download, test_size=images)
    loaded = open_module(wanted, out)
    engine = Engine(precision=precision)
    common: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "device": where, "engine": engine}
    parameters = {
        "model_file": str(model),
        "data": data,
        "images": len(chosen.test),
        "attacks": {name: vars(item) for name, item in attacks.items()},
        "targeted": targeted,
        "seed": seed,
    }
    run = _confuse if matrix else _evaluate
    result, view, facts = run(loaded, chosen, attacks, targeted=targeted, common=common, verbose=verbose, out=out)
    if output is not None:
        from surgery.store import provenance, write_group

        said = provenance(
            parameters=parameters,
            device=where,
            seeds={"attack": seed},
            data_digest=chosen.digest,
            wall_seconds=time.perf_counter() - start,
        )
        written = _group(result, chosen, said, group, seed)
        write_group(output, written, replace=replace)
        facts = {"written": str(output), "group": written.name, **facts}
    out.data(facts)
    out.show(*view)
    if output is not None:
        out.note(f"written: group {facts['group']} of {output}")


def _attacks(kinds: list[str], given: Mapping[str, Any]) -> dict[str, Attack]:
    """The attacks by name; each takes those of the settings that it knows, and every setting has to be taken."""
    import inspect

    from surgery.attack import KINDS, attack_from
    from surgery.errors import InputError

    known = {kind: set(inspect.signature(KINDS[kind]).parameters) if kind in KINDS else set(given) for kind in kinds}
    for key in given:
        if not any(key in keys for keys in known.values()):
            raise InputError(f"--{key.replace('_', '-')} means nothing to {' and '.join(kinds)}")
    return {
        kind: attack_from(
            {"kind": kind, **{key: value for key, value in given.items() if key in known[kind]}},
            where=f"--attack {kind}",
        )
        for kind in kinds
    }


def _refuse_several() -> None:
    from surgery.errors import InputError

    raise InputError("--matrix is of one attack", hint="give one --attack, and run the command for each")


def _evaluate(
    loaded: LoadedModel,
    data: Dataset,
    attacks: Mapping[str, Attack],
    *,
    targeted: bool,
    common: Any,
    verbose: bool,
    out: Output,
) -> tuple[Evaluation, list[Any], dict[str, Any]]:
    from dataclasses import replace

    from surgery.attack import evaluate
    from surgery_cli.images import said_warnings
    from surgery_cli.show.robustness import evaluation_dict, evaluation_view

    attacks = {name: replace(item, targeted=targeted) for name, item in attacks.items()}
    with said_warnings(out), out.progress("attacking") as progress:
        result = evaluate(loaded.module, data, attacks, progress=progress, **common)
    view = list(evaluation_view(result, data.class_names, title=data.title, verbose=verbose))
    return result, view, evaluation_dict(result, data.class_names)


def _confuse(
    loaded: LoadedModel,
    data: Dataset,
    attacks: Mapping[str, Attack],
    *,
    targeted: bool,
    common: Any,
    verbose: bool,
    out: Output,
) -> tuple[Confusion, list[Any], dict[str, Any]]:
    from surgery.attack import confusion_matrix
    from surgery_cli.images import said_warnings
    from surgery_cli.show.robustness import confusion_dict, confusion_view

    [attack] = attacks.values()
    with said_warnings(out), out.progress("attacking") as progress:
        result = confusion_matrix(loaded.module, data, attack, targeted=targeted, progress=progress, **common)
    view = list(confusion_view(result, data, verbose=verbose))
    return result, view, confusion_dict(result, data)


def _group(result: Any, data: Dataset, said: Mapping[str, str], name: str | None, seed: int) -> Group:
    from surgery.attack import Evaluation
    from surgery.store.stages import confusion_group, robustness_group

    common: dict[str, Any] = {"class_names": data.class_names, "data": data.title, "provenance": said}
    if isinstance(result, Evaluation):
        return robustness_group(result, name=name or "robustness", **common)
    return confusion_group(result, hierarchy=data.hierarchy, seed=seed, name=name or "confusion", **common)
