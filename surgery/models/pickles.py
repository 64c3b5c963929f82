"""Files of torch.save, read without running them; where that is impossible, the error names the classes in the file.

A pickle is a program: it names functions, which unpickling imports and calls. torch.load(weights_only=True) accepts
only a list of harmless ones. pickletools disassembles a refused file, so that the error can name its content.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch

from surgery.errors import ModelFileError, printable
from surgery.models.archives import check_bounds

# The names in a pickle of tensors, numbers and containers, which errors leave out.
_PLAIN = re.compile(
    r"collections\.OrderedDict|_codecs\.encode"
    r"|torch\._utils\._rebuild_\w+|torch\.nn\.parameter\.Parameter|torch\.(storage\.)?\w*Storage"
    r"|torch\.(Size|device|Tensor|serialization\._get_layout|u?int\d+|b?float\d+\w*|bool|complex\d+)"
)
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
_TRUST = "`trust_pickle=True` runs the file"
_ZIP = b"PK"
_OPCODES = 300_000  # of one pickle, about a second; state dicts have some ten for each tensor
_LEGACY_PICKLES = 4  # magic number, protocol, system, object; raw tensor memory follows


def load_torch_file(path: Path, content: bytes, *, trust_pickle: bool) -> Any:
    """Return the value in the file of torch.save `content`, which was read from `path`, on the CPU.

    Nothing in the file is run unless `trust_pickle`. Raises ModelFileError for a damaged file, and for one that could
    only be read by running it: the error names the classes in it and the alternatives.
    """
    if content.startswith(_ZIP):
        check_bounds(path, content)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # _explain makes an error of it
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=not trust_pickle)
    # Damaged bytes can make the unpickler raise nearly anything, from EOFError to UnicodeDecodeError.
    except Exception as error:
        if not trust_pickle:
            raise _explain(path, content, error) from error
        raise ModelFileError(
            f"{path}: cannot be unpickled ({_first_line(error)})",
            hint="a pickle needs the classes that it was made of: run where they can be imported",
        ) from error


def classes_inside(content: bytes) -> list[str]:
    """Name the classes and functions that unpickling would import, except for plain tensors, without unpickling."""
    found: dict[str, None] = {}
    # In a damaged file, the names before the damage are still useful.
    with suppress(ValueError, IndexError, EOFError, zipfile.BadZipFile):
        for stream in _pickles(content):
            for name in _globals(stream):
                found[name] = None
    names = [name for name in found if not _PLAIN.fullmatch(name)]
    return sorted(names, key=lambda name: name.startswith(("torch.", "builtins.", "__builtin__.")))


def _pickles(content: bytes) -> Iterable[IO[bytes]]:
    """The pickles of the file; those of the legacy form follow each other in one stream."""
    if not content.startswith(_ZIP):
        yield from [io.BytesIO(content)] * _LEGACY_PICKLES
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                yield io.BytesIO(archive.read(name))


def _globals(stream: IO[bytes]) -> Iterable[str]:
    """Disassemble one pickle and yield `module.name` of each global it refers to.

    STACK_GLOBAL takes module and name from the stack. Instead of a full stack, the strings are tracked in their order,
    and the memo, from which repeated strings are fetched.
    """
    strings: list[str] = []
    memory: dict[int, str] = {}
    last = ""
    for opcode, argument, _ in islice(pickletools.genops(stream), _OPCODES):
        if opcode.name == "GLOBAL":
            last = str(argument).replace(" ", ".", 1)
            yield last
        elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
            last = ".".join(strings[-2:])
            yield last
        elif opcode.name in _STRINGS:
            last = str(argument)
            strings.append(last)
        elif opcode.name == "MEMOIZE":
            memory[len(memory)] = last
        elif "PUT" in opcode.name and isinstance(argument, int):
            memory[argument] = last
        elif "GET" in opcode.name and isinstance(argument, int) and argument in memory:
            strings.append(memory[argument])


def _explain(path: Path, content: bytes, error: Exception) -> ModelFileError:
    classes = classes_inside(content)
    if classes:
        return _refusal(path, classes)
    if f"Unsupported operand {pickle.FRAME[0]}" in str(error):
        return ModelFileError(
            f"{path}: written with a newer pickle protocol than can be read without running the file",
            hint=f"save it again with torch.save's default protocol; {_TRUST}",
        )
    return ModelFileError(
        f"{path}: damaged, or not written by torch.save ({_first_line(error)})",
        hint="it may be incomplete: download it again, or save the weights again: torch.save(model.state_dict(), file)",
    )


def _refusal(path: Path, classes: list[str]) -> ModelFileError:
    shown = ", ".join(map(printable, classes[:6])) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
    if any(name.startswith("torch.nn.modules.") for name in classes):
        what = "a whole pickled module, as torch.save(model) writes it"
        save = "torch.save(model.state_dict(), file)"
    else:
        what = "pickled Python objects in addition to weights"
        save = 'torch.save(checkpoint["state_dict"], file)'
    return ModelFileError(
        f"{path}: holds {what}; reading it runs code that the file names. Inside: {shown}",
        hint="if you trust the file, keep its weights with "
        f"{save}, or write the model with torch.export.save; {_TRUST}",
    )


def _first_line(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return f"{type(error).__name__}: {printable(text)}" if text else type(error).__name__
