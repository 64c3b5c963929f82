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
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest
from surgery.signatures import ArgumentError as ArgumentError
from surgery.signatures import Signature, signature_in
from surgery.signatures import check_arguments as check_arguments
from surgery.signatures import signature_of as signature_of

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


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
    tree = _parsed(path, reference)
    signature = None if tree is None else signature_in(tree, name, reference, path)
    return Extension(reference=reference, path=path, signature=signature)


def constant_of(reference: str, name: str) -> object:
    """The constant that the body of the class `reference` assigns to `name`, without importing anything.

    None where the body does not assign a constant, as for a value that the class inherits. Raises the errors of
    `locate`.
    """
    path = locate(reference).path
    tree, class_name = _parsed(path, reference), reference.partition(":")[2]
    bodies = (
        [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name] if tree else []
    )
    for statement in (statement for body in bodies for statement in body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Constant) and any(isinstance(item, ast.Name) and item.id == name for item in targets):
            return value.value
    return None


def _parsed(path: Path, reference: str) -> ast.Module | None:
    """The syntax tree of a module; None for a compiled one, which has no source."""
    if path.suffix != ".py":
        return None
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL byte
        raise InputError(f"{reference}: {path}:{getattr(error, 'lineno', 1)}: {error.args[0]}") from None
    except (RecursionError, MemoryError):  # the parser's own words for deep nesting
        raise InputError(f"{reference}: {path}: the source is nested too deeply") from None


def load(reference: str) -> Any:
    """Import the module of `reference` and return what it names; what the module prints goes to stderr.

    Raises InputError where it does not exist, or where importing the module fails.
    """
    module_name, _, name = reference.partition(":")
    # A notebook or a prompt is a module without a file, and it is imported already.
    path = None if module_name == "__main__" else locate(reference).path
    with users_code():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # foreign code may raise anything
            raise InputError(f"{reference}: importing {path} raised {type(error).__name__}: {error}") from error
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


@contextmanager
def users_code() -> Iterator[None]:
    """Run code of a user: it may import its neighbors, and what it prints goes to stderr.

    A command prints its results to stdout, and another program may read them as JSON.
    """
    with current_folder_last(), redirect_stdout(sys.stderr):
        yield


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
    if module == "__main__":  # the script that runs; finders do not know it
        main = getattr(sys.modules["__main__"], "__file__", None)
        if main is None:
            hint = "move it to a file: its source counts in the keys of stages"
            raise InputError(f"{reference}: a notebook or a prompt has no file that could be read", hint=hint)
        return Path(main)
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
