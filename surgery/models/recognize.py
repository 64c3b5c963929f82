"""The kind of a model file, recognized by its content and never by its extension."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from surgery.errors import InputError, ModelFileError, printable
from surgery.files import existing_file
from surgery.models.archives import member_names

_START = 512  # bytes: enough for every signature below, for a tar header and for the first line of a text
_LARGEST_HEADER = 100_000_000  # safetensors' own limit

_SIGNATURES: dict[bytes, str] = {
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x89HDF\r\n": "an HDF5 file (Keras, or results of a run)",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file of llama.cpp",
    b"\x7fELF": "a program or shared library",
}


class Kind(Enum):
    """The kinds of model file."""

    SAFETENSORS = auto()
    TORCH_ZIP = auto()  # torch.save since 1.6
    TORCH_LEGACY = auto()  # torch.save before 1.6, still an option of it
    EXPORTED = auto()  # torch.export.save


def model_file(path: str | Path) -> Path:
    """Return `path` as a Path to a readable, non-empty file, or raise ModelFileError."""
    try:
        return existing_file(path)
    except InputError as error:
        raise ModelFileError(error.message, hint=error.hint) from None


def read_model_file(path: Path) -> tuple[Kind, bytes]:
    """Return the kind and the content of a model file; raises ModelFileError as `recognize` does.

    The file is opened and read once: what is checked is then what is loaded, even if the path names another file
    meanwhile. A large foreign file is refused by its first bytes.
    """
    try:
        with path.open("rb") as stream:
            _kind_of_start(path, stream.read(_START))
            stream.seek(0)
            content = stream.read()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from None
    except MemoryError:
        raise ModelFileError(f"{path}: {path.stat().st_size} bytes are more than the free memory") from None
    return recognize(path, content), content


def recognize(path: Path, content: bytes) -> Kind:
    """Return the kind of the file; raises ModelFileError with a guess at the format of a foreign file."""
    kind = _kind_of_start(path, content[:_START])
    return _kind_of_zip(path, content) if kind is Kind.TORCH_ZIP else kind


def _kind_of_start(path: Path, start: bytes) -> Kind:
    """The kind by the first bytes; every zip archive counts as one of torch.save."""
    if start.startswith(b"PK\x03\x04"):
        return Kind.TORCH_ZIP
    if start.startswith((b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")):
        return Kind.TORCH_LEGACY
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST_HEADER:
        return Kind.SAFETENSORS
    raise _foreign(path, start)


def _kind_of_zip(path: Path, content: bytes) -> Kind:
    names = member_names(path, content)
    inside = {name.partition("/")[2] for name in names}  # torch puts everything below one folder
    if "archive_format" in inside:
        return Kind.EXPORTED
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise ModelFileError(
            f"{path}: a TorchScript archive: surgery does not read compiled code",
            hint='export the Python model instead: torch.export.save(torch.export.export(model, (x,)), "model.pt2"); '
            'or keep the weights of the archive with torch.save(torch.jit.load(file).state_dict(), "weights.pt") and '
            "load those with `architecture=NAME`",
        )
    if "serialized_exported_program.json" in names:
        raise ModelFileError(
            f"{path}: a torch.export archive in the format of torch before 2.8",
            hint="load it with the torch that wrote it and export the model again with a current one",
        )
    if "data.pkl" in inside:
        return Kind.TORCH_ZIP
    held = ", ".join(map(printable, names[:3])) or "nothing"
    raise ModelFileError(f"{path}: a zip archive, but not a model file; it holds {held}")


def _foreign(path: Path, start: bytes) -> ModelFileError:
    if start.startswith(b"version https://git-lfs"):
        return ModelFileError(f"{path}: a git-lfs pointer, not the file itself", hint="run `git lfs pull`")
    if _is_onnx(start):
        # The one importer, onnx2torch, stopped at opset 17; torch writes 18 and later.
        return ModelFileError(
            f"{path}: an ONNX file, which surgery writes but does not read",
            hint="export the PyTorch model that it was made of with torch.export.save(torch.export.export(model, "
            '(x,)), "model.pt2"), or save its state_dict() with torch.save',
        )
    looks = _looks_like(start)
    return ModelFileError(
        f"{path}: not a model file: it {looks}",
        hint="expected a surgery checkpoint or graph, a state dict (.pt, .pth, .safetensors) or a torch.export .pt2",
    )


def _is_onnx(start: bytes) -> bool:
    """Whether a file starts as ONNX's protocol buffer does: a small version, then one of the fields of a model."""
    fields = b"\x12\x1a\x22\x28\x32\x3a\x42"  # producer, its version, domain, version, text, graph, operator sets
    return len(start) > 8 and start[0] == 8 and start[1] < 32 and start[2] in fields


def _looks_like(start: bytes) -> str:
    for signature, description in _SIGNATURES.items():
        if start.startswith(signature):
            return f"looks like {description}"
    if start[257:262] == b"ustar":
        return "looks like a tar archive"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "looks like a web page, perhaps a download that met an error or a login page"
    try:
        line = start.decode("utf-8", errors="strict").strip().partition("\n")[0]
    except UnicodeDecodeError:
        line = ""
    return (
        f"starts with {line[:40]!r}" if line.isprintable() and line else f"starts with the bytes {start[:8].hex(' ')}"
    )
