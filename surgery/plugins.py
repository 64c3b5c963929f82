"""Extensions that users write: callables named `package.module:name`, found and checked without importing them.

A recipe, a command, or an entry point of an installed package may name an architecture, a data set, an attack or a
stage kind that is not part of surgery. `check` and `plan` must not run foreign code, so `locate` finds the source file
through the import system's finders and reads the signature from the syntax tree. Only `load` imports.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ArgumentError(InputError):
    """A callable does not take an argument, or needs one that was not given; `key` names the argument."""

    def __init__(self, message: str, *, key: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The parameters that a callable accepts by keyword. `open_ended`: it has `**keywords`, which accepts any name."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    open_ended: bool


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A callable of a user, located but not imported.

    `path`: the file of its module. `signature`: read from the source; None where the source does not show it, as for
    a class that inherits its constructor.
    """

    reference: str
    path: Path
    signature: Signature | None

    @property
    def digest(self) -> str:
        """The SHA-256 of the module's file: a stage that uses the extension runs again when the file changes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def is_reference(text: str) -> bool:
    """Whether `text` has the form `package.module:name`."""
    return _REFERENCE.fullmatch(text) is not None


def registered(group: str) -> Mapping[str, str]:
    """The references that installed packages register as entry points of `group` (`surgery.attacks`), by name."""
    return _registered().get(group, {})


@functools.cache
def _registered() -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = {}
    # metadata.entry_points() is a mapping before Python 3.12 and a list since.
    for entry in (entry for distribution in metadata.distributions() for entry in distribution.entry_points):
        if entry.group.startswith("surgery."):
            found.setdefault(entry.group, {}).setdefault(entry.name, entry.value)
    return found


def reference_of(text: str, group: str) -> str | None:
    """The reference that `text` is, or that it names as an entry point of `group`; None for any other text."""
    return text if is_reference(text) else registered(group).get(text)


def locate(reference: str) -> Extension:
    """Find the callable `package.module:name` without importing anything.

    Modules are searched as Python does, and in the current folder last.

    Raises InputError where the module or the name in it does not exist.
    """
    if not is_reference(reference):
        raise InputError(f"expected package.module:name, got {reference!r}", hint="as in mypackage.nets:make")
    module, _, name = reference.partition(":")
    path = _file_of(module, reference)
    if path.suffix != ".py":  # a compiled module has no signature to read
        return Extension(reference=reference, path=path, signature=None)
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise InputError(f"{reference}: {path}:{error.lineno}: {error.msg}") from None
    return Extension(reference=reference, path=path, signature=_signature_in(tree, name, reference, path))


def load(reference: str) -> Any:
    """Import the module of `reference` and return what it names.

    Raises InputError where it does not exist, or where importing the module fails.
    """
    extension = locate(reference)
    module_name, _, name = reference.partition(":")
    with current_folder_last():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # foreign code may raise anything
            raise InputError(
                f"{reference}: importing {extension.path} raised {type(error).__name__}: {error}"
            ) from error
    if not hasattr(module, name):
        raise InputError(f"{reference}: {module_name} has no {name!r}", hint=suggest(name, vars(module)))
    return getattr(module, name)


def raised_inside(error: BaseException, extensions: Iterable[Extension]) -> InputError | None:
    """An error that names the user's code if `error`, which surgery did not raise on purpose, comes out of it."""
    files = {str(extension.path): extension for extension in extensions}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            reference = files[frame.filename].reference
            return InputError(
                f"{reference}: {frame.filename}:{frame.lineno} raised {type(error).__name__}: {error}",
                hint="--debug prints the traceback",
            )
    return None


def users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of `error` in the user's own code: in no file of surgery, Python or an installed package."""
    folders = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        file = frame.f_code.co_filename
        # Generated code, such as that of torch.fx, has a name in angle brackets instead of a file.
        generated, installed = file.startswith("<"), "dist-packages" in file or file.startswith(folders)
        if package not in ("surgery", "surgery_cli") and not generated and not installed:
            return traceback.FrameSummary(file, line, frame.f_code.co_name)
    return None


def check_arguments(
    what: str, signature: Signature | None, given: Iterable[str], *, provided: Collection[str] = ()
) -> None:
    """Check that a callable takes the keywords `given` and needs nothing else.

    `what`: the name of the callable in messages. `provided`: keywords that surgery itself passes if they are accepted.

    Raises ArgumentError for the first keyword that does not fit.
    """
    if signature is None:
        return
    given = list(given)
    known = [name for name in (*signature.required, *signature.optional) if name not in provided]
    for key in given:
        if key not in known and not signature.open_ended:
            hint = suggest(key, known) or (f"it takes {', '.join(known)}" if known else "it takes no arguments")
            raise ArgumentError(f"{what}: unknown argument {key!r}", key=key, hint=hint)
    for key in signature.required:
        if key not in given and key not in provided:
            raise ArgumentError(f"{what}: the argument {key!r} is missing", key="", hint=f"add {key} = ...")


def signature_of(function: Any) -> Signature | None:
    """The signature of an imported callable; None where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    return Signature(
        required=tuple(item.name for item in named if item.default is item.empty),
        optional=tuple(item.name for item in named if item.default is not item.empty),
        open_ended=any(item.kind is item.VAR_KEYWORD for item in parameters),
    )


@contextmanager
def current_folder_last() -> Iterator[None]:
    """Search modules in the current folder too: a console script does not, and a user's own modules are often there."""
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _file_of(module: str, reference: str) -> Path:
    """The file of a module. `importlib.util.find_spec` would import the parent packages, so each finder is asked."""
    parts = module.split(".")
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    with current_folder_last():
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            importlib.invalidate_caches()
            spec = None
            for finder in sys.meta_path:
                # A folder without __init__.py inside such a folder needs its parent imported: Python raises KeyError.
                with suppress(KeyError):
                    spec = spec or (finder.find_spec(name, search) if hasattr(finder, "find_spec") else None)
            if spec is None:
                folders = [Path(folder) / parts[end - 1] for folder in search or ()]
                search = [str(folder) for folder in folders if folder.is_dir()]
                if search and end < len(parts):
                    continue
                raise InputError(
                    f"{reference}: no module {name!r} was found", hint="is it installed, or in this folder?"
                )
            search = None if spec.submodule_search_locations is None else [*spec.submodule_search_locations]
            if search is None and end < len(parts):
                raise InputError(f"{reference}: {name!r} is a module, not a package")
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"{reference}: the module {module!r} has no file")
    return Path(spec.origin)


def _signature_in(tree: ast.Module, name: str, reference: str, path: Path) -> Signature | None:
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
            if node.name == name:
                if not isinstance(node, ast.ClassDef) and node.decorator_list:
                    return None  # a decorator may change the parameters
                return _of_class(node) if isinstance(node, ast.ClassDef) else _of_function(node.args, skip=0)
        else:
            names += _bound_by(node)
    # A star import, a branch or a module's __getattr__ can define names that the syntax tree does not show.
    if name in names or "*" in names or "__getattr__" in names:
        return None
    raise InputError(f"{reference}: {path} defines no {name!r}", hint=suggest(name, names))


def _bound_by(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module binds, as far as they can be read from it."""
    found = []
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [item.asname or item.name for item in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
    return found


def _of_class(node: ast.ClassDef) -> Signature | None:
    decorators = [ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in node.decorator_list]
    if decorators == ["dataclass"] and not node.bases:
        return _of_dataclass(node)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args, skip=1)
    return None


def _of_dataclass(node: ast.ClassDef) -> Signature | None:
    """The signature of the constructor that `dataclass` makes; None where a call, such as `field`, makes a field."""
    required, optional = list[str](), list[str]()
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args, skip=1)
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        if isinstance(item.value, ast.Call):
            return None
        kind = ast.unparse(item.annotation).strip("'\"").rpartition("[")[0] or ast.unparse(item.annotation)
        if not kind.endswith(("ClassVar", "KW_ONLY")):
            (required if item.value is None else optional).append(item.target.id)
    return Signature(required=tuple(required), optional=tuple(optional), open_ended=False)


def _of_function(arguments: ast.arguments, *, skip: int) -> Signature:
    positional = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    needed = positional[: len(positional) - len(arguments.defaults)]
    keywords = list(zip((item.arg for item in arguments.kwonlyargs), arguments.kw_defaults, strict=True))
    return Signature(
        required=(*needed[skip:], *(key for key, default in keywords if default is None)),
        optional=(*positional[len(needed) :], *(key for key, default in keywords if default is not None)),
        open_ended=arguments.kwarg is not None,
    )
