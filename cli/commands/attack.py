"""The command `surgery attack`: natural and robust accuracies, or the attack confusion matrix."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from surgery_cli import options
from surgery_cli.console import Output

ATTACK = "Attack"
"""The heading of the help for the options of the attack."""

Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        metavar="pgd|fgsm|cw|NAME",
        help="Attack, or a function of your own as package.module:name. Several give a worst case. Repeatable.  "
        "[default: pgd]",
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
    typer.Option(
        "--sparsity", metavar="SHARE", help="For L1: share of the pixels that a step moves.", rich_help_panel=ATTACK
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        "--loss", metavar="NAME", help="Loss that pgd increases: cross-entropy, margin, dlr.", rich_help_panel=ATTACK
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option("--restarts", metavar="N", help="Number of random starts of a search.", rich_help_panel=ATTACK),
]
Targeted = Annotated[
    bool, typer.Option("--targeted", help="Attack toward every other class in turn.", rich_help_panel=ATTACK)
]
AttackArguments = Annotated[
    list[str] | None,
    typer.Option(
        "--attack-arg",
        metavar="KEY=VALUE",
        help="Another argument of the attack, as in start=zero. Repeatable.",
        rich_help_panel=ATTACK,
    ),
]
Matrix = Annotated[
    bool,
    typer.Option("--matrix", help="Attack confusion matrix instead of accuracies.", rich_help_panel=options.RESULT),
]
Store = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.h5", help="Store to add the group to.", rich_help_panel=options.RESULT
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
    bool, typer.Option("--replace", help="Replace the group if it exists.", rich_help_panel=options.RESULT)
]


SaveImages = Annotated[
    Path | None,
    typer.Option(
        "--save-images",
        metavar="FOLDER",
        help="Write the attacked images: ATTACK.safetensors, and ATTACK.png as a preview.",
        rich_help_panel=options.RESULT,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        metavar="cifar10|imagenet|MEAN;STD",
        help="Normalization that the model was trained with, as in '0.5,0.5,0.5;0.25,0.25,0.25'.  "
        "[default: none: the model takes pixels in [0, 1]]",
        rich_help_panel=options.MODEL,
    ),
]


def attack(
    data: options.DataName,
    model: options.ModelOptions,
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
    attack_arg: AttackArguments = None,
    matrix: Matrix = False,
    output: Store = None,
    group: GroupName = None,
    replace: Replace = False,
    save_images: SaveImages = None,
    normalize: Normalize = None,
    device: options.Device = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Images in a batch.")] = 128,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option("--precision", help="Precision of the attack's search.")
    ] = "auto",
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Measure the robustness of a model, and check the result.

    The result is the natural and the robust accuracy with 95 % intervals, and the outcome of every image. With --matrix
    it is the share of images of each class that the attack turns into each other class. Pixels are in [0, 1]; epsilon
    and step sizes are in the same unit.

    \b
    surgery attack model.safetensors --data cifar10 --epsilon 8/255 --steps 20 --step-size 0.003
    surgery attack model.pt --arch resnet18 --data cifar10 --attack fgsm --epsilon 8/255 -o run.h5
    surgery attack model.pt --data cifar10 --epsilon 8/255 --steps 20 --step-size 0.003 --matrix -o run.h5
    surgery attack model.pt --data photos --normalize imagenet --attack fgsm --epsilon 2/255 --save-images attacked
    surgery attack model.pt --data cifar10 --attack mypackage.attacks:mine --epsilon 8/255 --attack-arg queries=500
    """
    from surgery.errors import InputError
    from surgery.files import check_writable, existing_file
    from surgery_cli.attacking import attack_arguments, attacks_of
    from surgery_cli.images import AttackedImages, chosen_device, open_data, said_warnings
    from surgery_cli.loading import open_module

    out = Output(as_json=as_json, debug=debug)
    if output is not None:
        check_writable(output)
    if model.path is not None:
        existing_file(model.path)
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
        from surgery.attack import Confusion, Engine, Evaluation, confusion_matrix, evaluate, settings_of
        from surgery.models.normalization import normalized, read_normalization
        from surgery_cli.show.robustness import confusion_dict, confusion_view, evaluation_dict, evaluation_view
    where = chosen_device(device)
    attacks = attacks_of(
        attack or ["pgd"],
        {key: value for key, value in settings.items() if value is not None},
        attack_arguments(attack_arg or ()),
        targeted=targeted and not matrix,
    )
    if matrix and len(attacks) > 1:
        raise InputError("--matrix takes one attack", hint="give one --attack, and run the command for each")
    if matrix and save_images is not None:
        raise InputError("--save-images and --matrix exclude each other", hint="run the command for each")
    saved = None if save_images is None else AttackedImages(save_images)
    with out.working("reading the images"):
        chosen = open_data(data, root, download=download, test_size=images)
    loaded = open_module(model, out)
    network, normalization = loaded.module, None
    if normalize is not None:
        normalization = read_normalization(normalize, chosen.input_shape[0])
        network = normalized(network, normalization)
    if loaded.class_names is not None and tuple(loaded.class_names) != chosen.class_names:
        names = [", ".join(names[:3]) for names in (loaded.class_names, chosen.class_names)]
        out.warn(f"the model has the classes {names[0]}, ..., the data {names[1]}, ...: they are matched by number")
    common: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": model.seed,
        "device": where,
        "engine": Engine(precision=precision),
    }
    with said_warnings(out), out.progress("attacking") as progress:
        result: Confusion | Evaluation
        if matrix:
            [single] = attacks.values()
            result = confusion_matrix(network, chosen, single, targeted=targeted, progress=progress, **common)
        else:
            keep = None if saved is None else saved.keep
            result = evaluate(network, chosen, attacks, progress=progress, keep=keep, **common)
    if isinstance(result, Evaluation):
        for notice in result.notices:
            out.warn(notice)
        facts = evaluation_dict(result, chosen.class_names)
        view = evaluation_view(result, chosen.class_names, title=chosen.title, verbose=verbose)
    else:
        facts, view = confusion_dict(result, chosen), confusion_view(result, chosen, verbose=verbose)
    facts = {
        "model": {
            "file": None if model.path is None else str(model.path),
            "source": loaded.source,
            "architecture": model.architecture,
            "normalize": None if normalization is None else normalization.as_argument(),
        },
        "data": {"name": data, "title": chosen.title, "images": len(chosen.test)},
        "seed": model.seed,
        "device": where,
        "precision": precision,
        **facts,
    }
    if output is not None:
        from surgery.graph import weight_digest
        from surgery.stages.attack import robustness_group
        from surgery.stages.confusion import confusion_group
        from surgery.store import provenance, write_group

        parameters = {
            "model_file": None if model.path is None else str(model.path),
            "architecture": model.architecture,
            "factory": model.factory,
            "arguments": model.arguments,
            "weight_digest": weight_digest(loaded.module),
            "data": data,
            "images": len(chosen.test),
            "attacks": {name: settings_of(item) for name, item in attacks.items()},
            "targeted": targeted,
            "seed": model.seed,
            "normalize": facts["model"]["normalize"],
        }
        said = provenance(
            parameters={name: value for name, value in parameters.items() if value is not None},
            device=where,
            seeds={"attack": model.seed} if model.path is not None else {"attack": model.seed, "weights": model.seed},
            data_digest=chosen.digest,
            wall_seconds=time.perf_counter() - start,
        )
        described: dict[str, Any] = {"class_names": chosen.class_names, "data": chosen.title, "provenance": said}
        if isinstance(result, Evaluation):
            written = robustness_group(result, name=group or "robustness", **described)
        else:
            hierarchy = chosen.hierarchy
            written = confusion_group(
                result, hierarchy=hierarchy, seed=model.seed, name=group or "confusion", **described
            )
        write_group(output, written, replace=replace)
        facts = {"written": str(output), "group": written.name, **facts}
    if saved is not None and isinstance(result, Evaluation):
        facts = {**facts, "images_written": saved.write(result, chosen)}
    out.data(facts)
    out.show(*view)
    if saved is not None:
        out.note(f"written: the attacked images in {save_images}; the PNG files are previews in eight bits")
    if output is not None:
        out.note(f"written: group {facts['group']} of {output}")
