"""The names that a package offers: what its `__init__` imports, without the modules that define them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType


def public_names(package: str) -> Callable[[], list[str]]:
    """Return a `__dir__` for `package`.

    Importing a module binds it in its package, so `dir` would list the internal modules next to the public names.
    """

    def names() -> list[str]:
        found = vars(sys.modules[package]).items()
        return sorted(name for name, value in found if not (name.startswith("_") or isinstance(value, ModuleType)))

    return names
