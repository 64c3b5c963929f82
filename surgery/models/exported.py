"""Archives of torch.export (.pt2), read without running any of their content.

torch's own reader unpickles members, evaluates expressions, looks up operators by attribute access, imports modules
and turns names into source code, all with strings of the archive's JSON. So each string is compared with the forms that
torch.export writes, each pickle is read with `weights_only`, and torch gets a new archive: of the texts that were
checked, and of pickles that are written here.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from surgery.errors import ModelFileError, printable
from surgery.graph.overloads import overload_called
from surgery.models.archives import read_members
from surgery.models.expressions import bits_of_node, is_arithmetic

_MEMBER = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|extra/.*"
    r"|models/model\.json|data/weights/(model_weights_config\.json|model\.pt|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|model\.pt|tensor_\d+)|data/sample_inputs/model\.pt"
)
_MODEL = "models/model.json"
_CONFIGS = {
    "data/weights/": "data/weights/model_weights_config.json",
    "data/constants/": "data/constants/model_constants_config.json",
}
_PICKLES = ("data/weights/model.pt", "data/constants/model.pt", "data/sample_inputs/model.pt")
_NAME = re.compile(r"[\w.-]{0,1000}", re.ASCII)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_TEXT = re.compile(r"[\w ,.>+-]*", re.ASCII)  # modes, paddings, einsum equations; no file names
_OVERLOAD = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.((?:[a-zA-Z]|_(?!_)|__i?(?:and|or|xor|lshift|rshift)__)\w*)\.(\w+)",
    re.ASCII,
)
_FUNCTION = re.compile(
    r"torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|torch\._?sym_\w+|math\.(ceil|floor|trunc|sqrt|pow|exp|log|log2|log10|fabs|sin|cos|tan|gcd)"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_)",
    re.ASCII,
)
_INPUT_SIZE = re.compile(r"L(\['\w+'\]|\[\d+\])+\.(size|stride)\(\)\[\d+\]", re.ASCII)
_MATH = re.compile(r"\b(torch\.sym_\w+|math\.[a-z]\w*)", re.ASCII)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
# Stack traces and the like, which torch keeps as text. Recognized by their own name and not by being inside "metadata":
# a tensor may have that name too.
_FREE_TEXT = {"stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom", "torch_version"}
_EXPANDED = 1 << 24
"""Elements that a tensor may have without bytes of its own: one that was expanded is saved with its short storage."""
_reading = threading.Lock()


def load_exported(path: Path, content: bytes) -> Any:
    """Return the `torch.export.ExportedProgram` of the archive `content`, which was read from `path`.

    Raises ModelFileError for a damaged or unusual archive.
    """
    archive = _rewritten(path, content)
    # torch reports some failures to its logger only, which is one for all threads.
    with _reading, _quiet() as causes:
        try:
            return torch.export.load(archive)
        # torch reads the archive with several parsers, which raise many kinds of exception.
        except Exception as error:
            raise _damaged(path, causes[0] if causes else error) from error


def _rewritten(path: Path, content: bytes) -> io.BytesIO:
    """The same program in an archive that holds no byte that was not checked, except for numbers.

    Raises ModelFileError for an archive with more than torch.export writes for a network of plain operators and
    tensors.
    """
    from torch.export.pt2_archive import PT2ArchiveWriter

    members = read_members(path, content)
    for name in members:
        if not _MEMBER.fullmatch(name):
            raise _unusual(path, f"the member {printable(name)}")
    try:
        documents = {name: json.loads(members[name]) for name in (_MODEL, *_CONFIGS.values()) if name in members}
        for name, document in documents.items():
            for key, text in _strings(document):
                if key not in _FREE_TEXT and not _ACCEPTED.get(key, _is_name)(text):
                    raise _unusual(path, f"{key or 'a key'} {printable(text, 80)!r} in {name}")
        payloads = _payloads(path, members, documents)
        _check_numbers(path, documents.get(_MODEL))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    result = io.BytesIO()
    with PT2ArchiveWriter(result) as archive:
        for name in ("archive_format", "archive_version"):
            if name in members:
                archive.write_bytes(name, members[name])
        for name, document in documents.items():
            archive.write_string(name, json.dumps(document))
        for name, payload in payloads.items():
            archive.write_bytes(name, payload)
    result.seek(0)
    return result


def _payloads(path: Path, members: Mapping[str, bytes], documents: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of all tensors: as they are, or where they are pickled, pickled again after a safe reading."""
    pickled = [name for name in _PICKLES if name in members]
    plain: list[str] = []
    for folder, config in _CONFIGS.items():
        for entry in documents.get(config, {"config": {}})["config"].values():
            name = folder + entry["path_name"]
            if name not in members:
                continue  # torch's reader names it
            # Several names may be views of one member. If one of them asks for a pickle, torch unpickles the member.
            (pickled if entry["use_pickle"] else plain).append(name)
            if not entry["use_pickle"]:
                sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
                if math.prod(sizes) > max(len(members[name]), _EXPANDED) or min(sizes, default=0) < 0:
                    raise ModelFileError(
                        f"{path}: damaged archive: a tensor of shape {printable(sizes)} has {len(members[name])} bytes"
                    )
    safe = {name: _pickled_again(path, name, members[name]) for name in dict.fromkeys(pickled)}
    return {name: members[name] for name in plain} | safe


def _pickled_again(path: Path, name: str, content: bytes) -> bytes:
    if not content:
        return content
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Damaged bytes can make the unpickler raise nearly anything.
    except Exception as error:
        raise _damaged(path, error, f" safely: {name} is not a pickle of tensors only") from error
    result = io.BytesIO()
    torch.save(value, result)
    return result.getvalue()


def _check_numbers(path: Path, model: Any) -> None:
    """Refuse a program whose own arithmetic on sizes makes numbers of thousands of digits, which would take hours."""
    graph = {} if model is None else model["graph_module"]["graph"]
    sizes: dict[str, float] = {}
    for node in graph.get("nodes", ()):
        if node["target"].startswith(("_operator.", "math.")) and not bits_of_node(node, sizes):
            raise _unusual(path, f"{node['target']} of numbers that are too large")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string with the name of its entry, and each name of an entry under ""."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, str):
        yield key, value


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text))


def _is_operator(text: str) -> bool:
    if _FUNCTION.fullmatch(text):
        return True
    found = _OVERLOAD.fullmatch(text)
    if found is None:
        return False
    if found[1] == "torchvision":
        import torchvision  # noqa: F401  # registers its operators
    return overload_called(*found.groups()) is not None


def _is_text(text: str) -> bool:
    return bool(_TEXT.fullmatch(text))


def _is_payload(text: str) -> bool:
    return bool(_PAYLOAD.fullmatch(text))


def _is_guard(text: str) -> bool:
    """Whether `text` is such an expression of the inputs' sizes."""
    return is_arithmetic(_MATH.sub("Max", _INPUT_SIZE.sub("s0", text)))


def _is_structure(text: str) -> bool:
    """Whether `text` describes nested tuples, lists and dicts: other containers name modules to import."""
    try:
        return _is_container(json.loads(text)[1])
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def _is_container(spec: Any) -> bool:
    plain = spec["type"] in _CONTAINERS and "{" not in (spec["context"] or "")
    return plain and all(_is_container(child) for child in spec["children_spec"])


_ACCEPTED: dict[str, Callable[[str], bool]] = {
    "target": _is_operator,
    "as_operator": _is_operator,
    "expr_str": is_arithmetic,
    "guards_code": _is_guard,
    "in_spec": _is_structure,
    "out_spec": _is_structure,
    "as_string": _is_text,
    "as_strings": _is_text,
    "path_name": _is_payload,
}


@contextmanager
def _quiet() -> Iterator[list[BaseException]]:
    """Collect the exceptions that torch logs, with a traceback, instead of raising them."""
    causes: list[BaseException] = []

    def keep_cause(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            causes.append(record.exc_info[1])
        return False

    logger = logging.getLogger("torch.export")
    logger.addFilter(keep_cause)
    try:
        yield causes
    finally:
        logger.removeFilter(keep_cause)


def _unusual(path: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f"{path}: an exported program with more than plain operators and tensors: {what}",
        hint="such an archive can run code when it is read; export the network again with torch.export.save, without "
        "compiled parts, custom operators or custom containers",
    )


def _damaged(path: Path, error: BaseException, what: str = "") -> ModelFileError:
    text = str(error).strip().partition("\n")[0]
    return ModelFileError(
        f"{path}: a torch.export archive that torch cannot read{what} ({type(error).__name__}: {printable(text, 200)})",
        hint="it may be damaged, or written by another version of torch: export the network again with this version",
    )
