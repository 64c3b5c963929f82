"""Archives of torch.export (.pt2), read without running any of their content.

torch's own reader unpickles members, evaluates expressions, looks up operators by attribute access, imports modules
and turns names into source code, all with strings of the archive's JSON. So each string is compared with the forms that
torch.export writes before torch reads the archive; the remaining pickles are read with `weights_only`.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surgery.errors import ModelFileError

_MEMBER = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/\w+|extra/.*|models/model\.json"
    r"|data/weights/(model_weights_config\.json|model\.pt|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|model\.pt|tensor_\d+)|data/sample_inputs/model\.pt"
)
_JSON_MEMBERS = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
_NAME = re.compile(r"[\w.-]*", re.ASCII)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_TEXT = re.compile(r"[\w ,.>+-]*", re.ASCII)  # modes, paddings, einsum equations; no file names
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!_*from_file)"  # from_file maps, and can create, a file
    r"([a-zA-Z]|_(?!_)|__i?(and|or|xor|lshift|rshift)__)\w*(\.[a-zA-Z]\w*)?"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|torch\._?sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|lshift|rshift)",
    re.ASCII,
)
_CALLABLE = re.compile(  # of sympy, and of torch.utils._sympy.functions
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Min|Max|Abs|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality"
    r"|(Strict)?(Less|Greater)Than|floor|ceiling|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilDiv"
    r"|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|(Ceil|Floor|Trunc|Round)ToInt|TruncToFloat"
    r"|RoundDecimal|ToFloat|Identity|IsNonOverlappingAndDenseIndicator"
)
_SYMBOL = re.compile(r"[a-z]+\d+|oo|int_oo|inf", re.ASCII)
_ARITHMETIC = (
    ast.Expression, ast.Call, ast.keyword, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp,
    ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
_INPUT_SIZE = re.compile(r"L(\['\w+'\]|\[\d+\])+\.(size|stride)\(\)\[\d+\]", re.ASCII)
_MATH = re.compile(r"\b(torch\.sym_\w+|math\.[a-z]\w*)", re.ASCII)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
# Stack traces and the like, which torch keeps as text. Recognized by their own name and not by being inside "metadata":
# a tensor may have that name too.
_FREE_TEXT = {"stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom", "torch_version"}


def load_exported(path: Path) -> Any:
    """Return the `torch.export.ExportedProgram` of an archive; raises ModelFileError for a damaged or unusual one."""
    import torch.export

    _check(path)
    with path.open("rb") as stream, _only_weights_unpickled(), _quiet() as causes:
        try:
            return torch.export.load(stream)
        # torch reads the archive with several parsers, which raise many kinds of exception.
        except Exception as error:
            raise _damaged(path, causes[0] if causes else error) from error


def _check(path: Path) -> None:
    """Refuse an archive with more than torch.export writes for a network of plain operators and tensors."""
    from torch.export.pt2_archive import PT2ArchiveReader

    try:
        with path.open("rb") as stream, PT2ArchiveReader(stream) as archive:
            members = archive.get_file_names()
            texts = {name: archive.read_string(name) for name in members if name in _JSON_MEMBERS}
        with zipfile.ZipFile(path) as archive:
            # torch's reader tries these when it fails; the archive reader above does not list them.
            members += [name for name in archive.namelist() if Path(name).name.startswith("serialized_")]
        documents = {name: json.loads(text) for name, text in texts.items()}
    except (RuntimeError, ValueError, AssertionError, zipfile.BadZipFile, RecursionError) as error:
        raise _damaged(path, error) from error
    for name in members:
        if not _MEMBER.fullmatch(name):
            raise _unusual(path, f"the member {name}")
    for name, document in documents.items():
        for key, text in _strings(document):
            if key not in _FREE_TEXT and not _ACCEPTED.get(key, _is_name)(text):
                raise _unusual(path, f"{key or 'a key'} {text[:80]!r} in {name}")


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
    return bool(_OPERATOR.fullmatch(text))


def _is_text(text: str) -> bool:
    return bool(_TEXT.fullmatch(text))


def _is_payload(text: str) -> bool:
    return bool(_PAYLOAD.fullmatch(text))


def _is_arithmetic(text: str) -> bool:
    """Whether `text` is an expression of numbers, symbols and the functions that shapes are computed with."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return text.isascii() and text.isprintable() and all(_is_arithmetic_node(node) for node in nodes)


def _is_arithmetic_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(_CALLABLE.fullmatch(node.func.id))
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id) or _CALLABLE.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        value = node.value
        return isinstance(value, (int, float)) or (isinstance(value, str) and bool(_SYMBOL.fullmatch(value)))
    return isinstance(node, _ARITHMETIC)


def _is_guard(text: str) -> bool:
    """Whether `text` is such an expression of the inputs' sizes."""
    return _is_arithmetic(_MATH.sub("Max", _INPUT_SIZE.sub("s0", text)))


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
    "expr_str": _is_arithmetic,
    "guards_code": _is_guard,
    "in_spec": _is_structure,
    "out_spec": _is_structure,
    "as_string": _is_text,
    "as_strings": _is_text,
    "path_name": _is_payload,
}


@contextmanager
def _only_weights_unpickled() -> Iterator[None]:
    """Make every torch.load in the process safe during the block: torch's reader itself asks for the unsafe one."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


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


def _damaged(path: Path, error: BaseException) -> ModelFileError:
    text = str(error).strip().partition("\n")[0]
    return ModelFileError(
        f"{path}: a torch.export archive that torch cannot read ({type(error).__name__}: {text[:200]})",
        hint="it may be damaged, or written by another version of torch: export the network again with this version",
    )
