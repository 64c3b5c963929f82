"""The options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from surgery_cli import completion

RECIPE, MODEL, DATA, RESULT, OUTPUT = "Recipe", "Model", "Data", "Result", "Output"
"""The headings under which the help lists options."""

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A shipped recipe by its name (surgery recipes ls), or a TOML file.",
        autocompletion=completion.recipes,
        show_default=False,
    ),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a value of the recipe, as in stage.at.epochs=2; checked like the file. Repeatable.",
        rich_help_panel=RECIPE,
    ),
]

StageNames = Annotated[
    list[str] | None,
    typer.Option(
        "--stage",
        metavar="NAME",
        help="Only this stage and its input stages. Repeatable.  [default: all]",
        rich_help_panel=RECIPE,
    ),
]

RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="The run folder.  [default: the recipe's name in results]",
        rich_help_panel=RESULT,
    ),
]

ModelFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="MODEL",
        help="A surgery checkpoint or graph, a state dict (.pt, .pth, .safetensors) or an exported program (.pt2),"
        " recognized by its content; for an ONNX or TorchScript file, a message says what to do instead."
        " Without a file, --arch or --model makes a network.",
        show_default=False,
    ),
]

Architecture = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="Architecture of a state dict or a new network: resnet18, torchvision:NAME, timm:NAME, module:function.",
        autocompletion=completion.architectures,
        rich_help_panel=MODEL,
    ),
]

Factory = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FILE.py:NAME",
        help="Your class or function that makes the network, in a file or a module (package.module:name).",
        rich_help_panel=MODEL,
    ),
]

Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="KEY=VALUE",
        help="Argument of --arch or --model, as in width=32. Repeatable.",
        rich_help_panel=MODEL,
    ),
]

Classes = Annotated[
    int | None,
    typer.Option(
        "--num-classes",
        metavar="K",
        min=1,
        help="Number of classes.  [default: that of the file or the architecture]",
        rich_help_panel=MODEL,
    ),
]

InputShape = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Shape of one input, as in 3x224x224.  [default: that of the file or the architecture]",
        rich_help_panel=MODEL,
    ),
]

StateKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="NAME",
        help="The entry of the file that holds the weights, where it has several, as in model_ema.",
        rich_help_panel=MODEL,
    ),
]

PublishedWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME",
        help="Published weights of torchvision:NAME or timm:NAME, downloaded once: DEFAULT, IMAGENET1K_V2.",
        rich_help_panel=MODEL,
    ),
]

TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        help="Run the code in a file of torch.save(model). For files that you made yourself.",
        rich_help_panel=MODEL,
    ),
]

Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        help="Seed of the weights of a network without a file, and of random attacks.",
        show_default=True,
        rich_help_panel=MODEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options that say how to read a model file, named like the arguments of `surgery.models.open_model`."""

    architecture: Architecture = None
    factory: Factory = None
    arguments: Arguments = None
    num_classes: Classes = None
    input_shape: InputShape = None
    key: StateKey = None
    trust_pickle: TrustPickle = False

    def of_file(self, path: Path) -> ModelOptions:
        """The options of a file that these options apply to."""
        return ModelOptions(path=path, **vars(self))


@dataclass(frozen=True, kw_only=True)
class ModelOptions(NetworkOptions):
    """The options that select a model: a file, or a network that is made."""

    path: ModelFile = None
    weights: PublishedWeights = None
    seed: Seed = 0


Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rules",
        metavar="NAME|FILE",
        help="Ruleset: a shipped one by name (surgery rules) or a TOML file. Repeatable.",
        autocompletion=completion.rulesets,
        rich_help_panel=RESULT,
    ),
]

Result = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write the result: .safetensors (surgery graph), .pt2 or .onnx."
        " A dry run writes its plan: .toml or .json.",
        rich_help_panel=RESULT,
    ),
]

KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="Write the result even if it breaks its promise or a rule did not fire as expected (exit code 3).",
        rich_help_panel=RESULT,
    ),
]

DataName = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME|FOLDER",
        help="Data set, module:function, or a folder with one folder of images for each class in test/.",
        autocompletion=completion.data_sets,
        rich_help_panel=DATA,
    ),
]

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        help="Folder of the data set.  [default: $SURGERY_DATA, or data]",
        rich_help_panel=DATA,
    ),
]

Download = Annotated[
    bool, typer.Option("--download", help="Download the data set if it is missing.", rich_help_panel=DATA)
]

Images = Annotated[
    int | None,
    typer.Option(
        "--images", metavar="N", min=1, help="Number of test images; each class keeps its share.", rich_help_panel=DATA
    ),
]

Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Device: cpu, cuda, cuda:1.  [default: cuda if there is a GPU]"),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the results.", rich_help_panel=OUTPUT)]

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print long lists in full.", rich_help_panel=OUTPUT)]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, also for errors.", rich_help_panel=OUTPUT)]

Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Print how long each step takes, and the traceback of an error.", rich_help_panel=OUTPUT
    ),
]
