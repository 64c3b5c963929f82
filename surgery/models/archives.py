"""The zip archives that torch writes, read from their bytes and within the bounds that torch's own writers keep."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surgery.errors import ModelFileError, printable

# What Python's reader raises for damaged bytes, its own exception first.
_DAMAGED = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, struct.error, OverflowError)


def member_names(path: Path, content: bytes) -> list[str]:
    """The names of all members of the archive `content` of the file `path`; raises ModelFileError for a damaged one."""
    with _opened(path, content) as archive:
        return archive.namelist()


def check_bounds(path: Path, content: bytes) -> None:
    """Raise ModelFileError for an archive whose members take more memory than the file: torch compresses none."""
    with _opened(path, content) as archive:
        _check(path, archive, len(content))


def read_members(path: Path, content: bytes) -> dict[str, bytes]:
    """Return all members by their names below the one folder that torch puts them in; raises ModelFileError."""
    with _opened(path, content) as archive:
        _check(path, archive, len(content))
        roots = {name.partition("/")[0] for name in archive.namelist()}
        if len(roots) != 1:
            found = ", ".join(printable(root) for root in sorted(roots)[:3])
            raise ModelFileError(f"{path}: damaged archive: expected one folder with all members, got {found}")
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _check(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    unusual = next((item for item in members if item.compress_type != zipfile.ZIP_STORED or item.flag_bits & 1), None)
    if unusual is not None:
        raise ModelFileError(
            f"{path}: expected members without compression, as torch writes them, got"
            f" {printable(unusual.filename)}, compressed or encrypted, of {unusual.file_size} bytes",
            hint="unpack the archive and pack it again without compression, or save the model again with torch.save",
        )
    # Stored members can still overlap, so that many of them are made of the same bytes of the file.
    total = sum(item.file_size for item in members)
    if total > size:
        raise ModelFileError(f"{path}: damaged archive: its members have {total} bytes, the whole file has {size}")
    names = {item.filename for item in members}
    if len(names) < len(members):
        raise ModelFileError(f"{path}: damaged archive: {len(members)} members have {len(names)} names")


@contextmanager
def _opened(path: Path, content: bytes) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive
    # What Python's reader raises for damaged bytes, beyond its own exception.
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
        EOFError,
        OSError,
        struct.error,
        OverflowError,
    ) as error:
        raise ModelFileError(
            f"{path}: starts like a file of torch.save or torch.export, but its end is missing or damaged"
            f" ({printable(error)})",
            hint="it was truncated while it was written, copied or downloaded: download or save it again",
        ) from error
