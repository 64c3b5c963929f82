"""The names, texts and numbers that every reader of HDF5 and netCDF accepts."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np

from surgery.errors import InputError

Scalar = str | int | float

MAX_ATTRIBUTE_BYTES = 64 * 1024 - 1024
"""HDF5 keeps the attributes of an object in a header of 64 KiB; 1 KiB is for what HDF5 adds."""

# The attributes that netCDF, h5netcdf, xarray or the layout write on groups and variables.
RESERVED_ATTRIBUTES = {
    *("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "kind", "surgery_schema", "written", "digest")
}

PROVENANCE = "provenance"
"""The group inside every group that holds its provenance."""

# A leading underscore is netCDF's own; a slash separates groups. netCDF normalizes names to NFC, HDF5 does not.
_NAME = re.compile(r"[^\W_][\w.@+-]*")
_TIME_UNITS = re.compile(r".*\bsince\b.*|(day|hour|minute|second|millisecond|microsecond|nanosecond)s?")


def check_name(name: object, what: str) -> str:
    """Return `name` if it can name `what` in HDF5, netCDF and xarray, or raise InputError."""
    legal = isinstance(name, str) and _NAME.fullmatch(name) and len(name.encode("utf-8", "replace")) <= 255
    if not legal or name != unicodedata.normalize("NFC", str(name)):
        raise InputError(
            f"{what} {name!r}: not a legal name",
            hint="expected a letter or digit, then letters, digits and _ . @ + -; at most 255 bytes; normal form NFC",
        )
    return str(name)


def check_text(text: object, where: str) -> str:
    """Return `text` if HDF5 can hold it as a UTF-8 string, or raise InputError."""
    if not isinstance(text, str):
        raise InputError(f"{where}: expected text, got {type(text).__name__}")
    if "\0" in text:
        raise InputError(f"{where}: the text contains a NUL character, which ends a string in HDF5")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: the text cannot be encoded as UTF-8: {text!r}") from None
    return text


def check_units(units: object, where: str) -> str:
    """Return `units`, or raise InputError if xarray would convert numbers in these units to dates or durations."""
    text = check_text(units, where)
    if _TIME_UNITS.fullmatch(text):
        raise InputError(
            f"{where}: xarray would convert numbers in {text!r} to dates or durations",
            hint="use a symbol, such as s or min",
        )
    return text


def check_attribute(name: object, value: Any, where: str) -> Scalar:
    """Return an attribute's value as a plain text, integer or float; booleans become 0 and 1."""
    if check_name(name, f"{where}: attribute") in RESERVED_ATTRIBUTES:
        raise InputError(f"{where}: attribute {name!r} belongs to the layout", hint="choose another name")
    where = f"{where}: attribute {name!r}"
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        number = int(value)
        if not -(2**63) <= number < 2**63:
            raise InputError(f"{where}: {number} does not fit into 64 bits", hint="write it as text")
        return number
    if isinstance(value, (float, np.floating)):
        return float(value)
    if not isinstance(value, str):
        raise InputError(
            f"{where}: expected text or a number, got {type(value).__name__}",
            hint="write an array as a variable, other values as JSON into the provenance",
        )
    if len(check_text(value, where).encode()) > MAX_ATTRIBUTE_BYTES:
        raise InputError(f"{where}: longer than 63 KiB, the limit of HDF5", hint="put it into the provenance")
    return str(value)


def plain_array(data: Any, where: str) -> np.ndarray:
    """Return `data` as an array that every reader accepts: little-endian numbers, or text; read-only.

    float16 becomes float32, which holds it exactly. Raises InputError for other types and for empty arrays.
    """
    array = np.asarray(data)
    if array.size == 0:
        raise InputError(f"{where}: expected entries, got an array of shape {array.shape}", hint="omit the variable")
    if array.dtype.kind in "UOT":
        for text in array.flat:
            check_text(text, where)
        array = array.astype(np.str_)
    elif array.dtype == np.float16:
        # The netCDF-4 library aborts the process at a float16 variable.
        array = array.astype("<f4")
    elif array.dtype.kind in "iu" or (array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)):
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    elif array.dtype.kind != "b":
        raise InputError(
            f"{where}: expected a type that every reader accepts, got {array.dtype}",
            hint="use float32, float64, integers, booleans or text",
        )
    view = array.view()
    view.flags.writeable = False
    return view
