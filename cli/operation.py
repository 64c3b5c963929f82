"""What was done to a graph: the value that is printed at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import SurgeryError
from surgery_cli.loading import Opened

if TYPE_CHECKING:
    from surgery.graph import Graph
    from surgery.linear import AffineCertificate, Comparison, Offender
    from surgery.rewrite import Plan


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What was done to a graph, and whether the result keeps what its rules promise.

    A dry run has no checks, only the `offenders` that would be left. `failure` says which promise broke, or which rule
    did not fire as it expects.
    """

    opened: Opened
    plan: Plan
    after: Graph
    certificate: AffineCertificate | None = None
    comparison: Comparison | None = None
    offenders: tuple[Offender, ...] = ()
    failure: SurgeryError | None = None
    written: Path | None = None
