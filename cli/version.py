"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version, or the source tree's where nothing is installed."""
    try:
        return metadata.version("model-surgery")
    except metadata.PackageNotFoundError:
        import surgery

        return surgery.__version__
