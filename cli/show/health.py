"""The view of `surgery doctor`: versions, devices and checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
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
            ("memory", facts["memory"]),
        ]
    )
    yield heading("Folders")
    yield table([(name, path, *_absent(path)) for name, path in facts["folders"].items()])
    yield heading("Packages")
    yield table(
        [(name, _version(found, least=facts["too_old"].get(name))) for name, found in facts["packages"].items()]
    )
    yield heading("Extras")
    yield table([(name, _version(found, extra=name)) for name, found in facts["extras"].items()])
    yield heading("Checks")
    works, fails = Text("works", style="green"), Text("fails", style="bold red")
    yield table(
        [
            (name, works if check["works"] else fails, str(check["found"]), f"{check['seconds']:.2f} s")
            for name, check in checks.items()
        ]
    )


def _absent(path: str) -> tuple[Text]:
    """A remark where there is no such folder yet."""
    return (Text("" if Path(path).is_dir() else "does not exist yet", style="dim"),)


def _version(found: str | None, *, extra: str | None = None, least: str | None = None) -> Text:
    """The installed version, or how to install what is missing or older than `least`; a missing extra is no error."""
    if found is None:
        advice = f"not installed (pip install 'model-surgery[{extra}]')" if extra else "not installed"
        return Text(advice, style="dim" if extra else "bold red")
    return Text(found) if least is None else Text(f"{found}, too old: at least {least} is needed", style="bold red")
