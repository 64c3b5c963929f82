"""The view of `surgery doctor`: versions, devices and checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from surgery_cli.show.pieces import heading, table


def health_view(facts: Mapping[str, Any], checks: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Versions, devices, and the result of each check."""
    yield Text(f"surgery {facts['surgery']}", style="bold")
    yield table(
        [
            ("python", facts["python"]),
            ("system", facts["system"]),
            ("devices", ", ".join(facts["devices"])),
            ("threads", f"{facts['threads']} on {facts['cores']} cores"),
        ]
    )
    yield heading("Packages")
    yield table([(name, _version(found)) for name, found in facts["packages"].items()])
    yield heading("Extras")
    yield table([(name, _version(found, name)) for name, found in facts["extras"].items()])
    yield heading("Checks")
    works, fails = Text("works", style="green"), Text("fails", style="bold red")
    yield table(
        [
            (name, works if check["works"] else fails, str(check["found"]), f"{check['seconds']:.2f} s")
            for name, check in checks.items()
        ]
    )


def _version(found: str | None, extra: str | None = None) -> Text:
    """The installed version, or how to install `extra`; only a missing extra is not an error."""
    if found is not None:
        return Text(found)
    advice = f"not installed (pip install 'model-surgery[{extra}]')" if extra else "not installed"
    return Text(advice, style="dim" if extra else "bold red")
