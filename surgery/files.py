"""Checks of paths before they are read or written, and writing that leaves either the old or the new content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from surgery.errors import InputError, printable, suggest


def existing_file(path: str | Path) -> Path:
    """Return `path` as a Path to a readable, non-empty file, or raise InputError."""
    path = Path(path)
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            target = path.readlink()
            raise InputError(f"{path}: a link to {target}, which does not exist", hint="restore the target") from None
        readable = path.parent.is_dir() and os.access(path.parent, os.R_OK)
        near = suggest(path.name, [p.name for p in path.parent.iterdir()]) if readable else None
        raise InputError(f"{path}: no such file", hint=near) from None
    # A name that is too long, a circle of links, a file used as a folder, a null character.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{printable(path)}: cannot be opened: {reason}") from None
    if path.is_dir():
        raise InputError(f"{path}: expected a file, got a folder")
    if not path.is_file():  # opening a pipe would block, and a device may never end
        raise InputError(f"{path}: expected a file, got a pipe or a device")
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    if empty:
        raise InputError(f"{path}: the file is empty")
    return path


def sha256_of(path: str | Path) -> str:
    """SHA-256 of the content of a file, in hexadecimal digits; raises InputError where it cannot be read."""
    # An empty file has a digest too: a stage kind of a user may leave one.
    path = Path(path) if os.path.isfile(path) else existing_file(path)  # noqa: PTH113 - never raises
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def check_writable(path: str | Path) -> None:
    """Raise InputError where a file could not be written to `path`, before any work is done for it."""
    path = Path(path)
    folder = path.parent
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a name that is too long, a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{printable(path)}: cannot be written: {reason}") from None
    if path.is_dir():
        raise InputError(f"{path}: expected a file, got a folder")
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path}: the folder {folder} cannot be written")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a temporary file next to `path`, force it to the disk, and move it into place.

    Raises InputError where that fails; the old content is then unchanged.
    """
    path = Path(path)
    check_writable(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files that only their owner can read. The mask of the process can only be read by setting it.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    if os.name != "nt":  # Windows cannot open a folder
        # The new name is an entry of the folder: without this it could be lost in a power failure.
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
