"""From a command's model options to a traced graph."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import InputError
from surgery.files import existing_file
from surgery_cli.console import Output
from surgery_cli.options import ModelOptions

if TYPE_CHECKING:
    from surgery.graph import Graph
    from surgery.models import LoadedModel

_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A graph and its source, in words."""

    graph: Graph
    source: str

    def as_dict(self) -> dict[str, Any]:
        """The description of the model in JSON output."""
        from surgery.graph import computing

        return {
            "source": self.source,
            "class": self.graph.model_name,
            "input_shape": self.graph.input_shape,
            "rung": self.graph.rung,
            "operations": len(computing(self.graph)),
            "parameters": sum(tensor.numel() for tensor in self.graph.parameters()),
            "buffers": sum(tensor.numel() for tensor in self.graph.buffers()),
        }


def open_graph(options: ModelOptions, out: Output) -> Opened:
    """Load the model that `options` name and trace it.

    Raises InputError for inconsistent options, ModelFileError or TraceError.
    """
    return graph_of(open_module(options, out), options, out)


def graph_of(loaded: LoadedModel, options: ModelOptions, out: Output) -> Opened:
    """Trace a model that `open_module` loaded; raises as `open_graph` does."""
    import torch

    from surgery.graph import Graph, trace
    from surgery.graph.comparison import COMPARED
    from surgery.graph.memory import check_memory

    source = f"{options.path}, {loaded.source}" if options.path is not None else _made(options, out)
    if isinstance(loaded.module, Graph):
        wanted = loaded.module.input_shape if options.input_shape is None else parse_shape(options.input_shape)
        if wanted != loaded.module.input_shape:
            made, asked = ("x".join(map(str, shape)) for shape in (loaded.module.input_shape, wanted))
            raise InputError(
                f"--input {asked}: the graph was traced for {made}", hint="trace the model again for another shape"
            )
        check_memory(loaded.module, COMPARED)
        return Opened(graph=loaded.module, source=source)
    # A half-precision network refuses single-precision images.
    formats = (tensor.dtype for tensor in loaded.module.parameters() if tensor.is_floating_point())
    # One zero in memory, whatever the shape: tracing reads the shape and the dtype of its example only.
    example = torch.zeros((), dtype=next(formats, torch.float32)).expand(1, *_shape(loaded, source, options, out))
    with out.working("tracing"), warnings.catch_warnings():
        # Of a model that draws random numbers, say.
        warnings.showwarning = lambda message, *rest, **named: out.warn(str(message))
        return Opened(graph=trace(loaded.module, example), source=source)


def open_module(options: ModelOptions, out: Output) -> LoadedModel:
    """Load the model that `options` name, in evaluation mode; raises as `open_graph` does."""
    check_options(options)
    with out.working("loading torch"):
        import torch

        from surgery.models import open_model

    # The seed makes random weights repeatable; the fork leaves the caller's random state as it was.
    with out.working("opening the model"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return open_model(
            options.path,
            architecture=options.architecture,
            arguments=parse_arguments(options),
            input_shape=None if options.input_shape is None else parse_shape(options.input_shape),
            factory=options.factory,
            key=options.key,
            weights=options.weights,
            trust_pickle=options.trust_pickle,
        )


def check_options(options: ModelOptions) -> None:
    """Raise InputError for mistakes that can be seen without opening the file."""
    if options.path is not None:
        existing_file(options.path)
    elif options.architecture is None and options.factory is None:
        raise InputError(
            "no model: expected a model file, --arch NAME or --model FILE.py:NAME", hint="as in --arch resnet18"
        )
    if not 0 <= options.seed < 2**63:
        raise InputError(f"--seed {options.seed}: expected a whole number from 0 to 2^63 - 1")
    if options.input_shape is not None:
        parse_shape(options.input_shape)
    parse_arguments(options)


def open_either(options: ModelOptions, out: Output) -> Opened:
    """Open a file to which the options may not apply: a state dict needs them, a saved graph does without."""
    try:
        return open_graph(options, out)
    except InputError as refused:
        try:
            return open_graph(ModelOptions(path=options.path), out)
        except InputError:
            raise refused from None


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read `3x224x224`; raises InputError."""
    size = r"\s*([0-9]{1,9})\s*"
    found = re.fullmatch(rf"{size}[x×,]{size}[x×,]{size}", text, re.IGNORECASE)  # noqa: RUF001
    sizes = tuple(int(size) for size in found.groups()) if found else ()
    if len(sizes) != 3 or 0 in sizes:
        raise InputError(f"--input {text}: expected CHANNELSxHEIGHTxWIDTH", hint="as in --input 3x224x224")
    return sizes


def parse_class_names(text: str, count: int) -> tuple[str, ...]:
    """Read `--class-names`: the name of a known hierarchy, or `count` names with commas; raises InputError."""
    from surgery.hierarchy import NAMED, named

    names = named(text).class_names if text in NAMED else tuple(part.strip() for part in text.split(","))
    if len(names) != count or len(set(names)) != count or not all(names):
        raise InputError(
            f"--class-names {text}: expected {count} different names, one for each output; got {len(set(names))}"
        )
    return names


def parse_arguments(options: ModelOptions) -> dict[str, Any]:
    """The arguments of the architecture, from --arg and --num-classes; raises InputError."""
    result: dict[str, Any] = {}
    for text in options.arguments or ():
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InputError(f"--arg {text}: expected KEY=VALUE", hint="as in --arg width=32")
        if key in result:
            raise InputError(f"--arg {text}: {key} was given twice", hint="give it once")
        result[key] = _value(value.strip())
    if options.num_classes is not None:
        if result.get("num_classes", options.num_classes) != options.num_classes:
            raise InputError(
                f"--num-classes {options.num_classes} and --arg num_classes={result['num_classes']} disagree"
            )
        result["num_classes"] = options.num_classes
    return result


def _value(text: str) -> Any:
    """A number, true, false, none or a JSON list if the text parses as one; otherwise the text itself."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also of numbers of thousands of digits, and of lists in lists without end
        return text


def _shape(loaded: LoadedModel, source: str, options: ModelOptions, out: Output) -> tuple[int, ...]:
    """The shape of one input; a note says where it comes from if the user did not give it."""
    from surgery.models import default_input_shape

    if options.input_shape is not None and loaded.input_shape is not None:
        return loaded.input_shape
    default = default_input_shape(options.architecture, parse_arguments(options)) if options.architecture else None
    shape = loaded.input_shape or default
    if shape is None:
        raise InputError(f"{source}: the input shape is unknown", hint="give it, as in --input 3x224x224")
    if shape == default:
        sizes = "x".join(str(size) for size in shape)
        out.note(f"input {sizes}, the default of {options.architecture} (--input CxHxW for another)")
    return shape


def _made(options: ModelOptions, out: Output) -> str:
    """The source of a network without a file, in words; warns of random weights."""
    if options.factory is not None:
        out.note(f"no model file: the weights are those that {options.factory} makes (--seed {options.seed})")
        return f"made by {options.factory}"
    if options.weights is not None:
        return f"{options.architecture} with the published weights {options.weights}"
    out.warn(f"no model file: {options.architecture} has random weights (--seed {options.seed})")
    return f"{options.architecture} with random weights (seed {options.seed})"
