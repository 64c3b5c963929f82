"""A printed certificate: the verdict, the operations that are not affine, and the scale of the signal by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from surgery.graph import Graph
from surgery.linear import AffineCertificate, Offender
from surgery_cli.show.pieces import count, heading, sparkline, table

STAGES, FEW_STAGES = 12, 4
"""The most rows of the table of scales, and the fewest, where modules can be divided further."""

OFFENDERS = 10
"""Offenders printed unless all are asked for."""

_VERDICT_STYLES = {"affine": "bold green", "nonlinear": "bold red", "inconclusive": "bold yellow"}


def certificate_dict(certificate: AffineCertificate) -> dict[str, Any]:
    """The certificate as plain values."""
    return {
        "verdict": certificate.verdict,
        "affine": certificate.affine,
        "reason": certificate.reason,
        "offenders": [vars(offender) for offender in certificate.offenders],
        "superposition_error": certificate.superposition_error,
        "tolerance": certificate.tolerance,
        "output_scale": certificate.output_scale,
        "scales": dict(certificate.scales),
    }


def certificate_view(graph: Graph, certificate: AffineCertificate, *, verbose: bool) -> Iterator[RenderableType]:
    """The certificate of `graph` as sections."""
    title = heading("Certificate: ")
    title.append(certificate.verdict, style=_VERDICT_STYLES[certificate.verdict])
    yield title
    if certificate.offenders:
        yield from offenders_view(certificate.offenders, verbose=verbose)
    else:
        yield Text(f"  {certificate.reason}")
    if certificate.scales:
        scales = certificate.scales
        values = list(scales.values())
        yield heading("Scale", "root mean square of the linear part, for standard normal images")
        yield Text(f"  {sparkline(values)}  {min(values):.3g} to {max(values):.3g}, output {values[-1]:.3g}")
        paths = {node.name: str(node.meta["module_path"]) for node in graph.graph.nodes}
        stages = [(name, name) for name in scales] if verbose else _stages({name: paths[name] for name in scales})
        yield table([(label, f"{scales[name]:.3g}") for label, name in stages], right=(1,))


def offenders_view(offenders: tuple[Offender, ...], *, verbose: bool) -> Iterator[RenderableType]:
    """The operations that are not affine, with their positions."""
    shown = offenders if verbose else offenders[:OFFENDERS]
    yield Text(f"  {count(len(offenders), 'operation')} not affine:")
    rows = [
        (
            Text(offender.module_path or offender.node, style="bold"),
            Text(offender.operation, style="red"),
            offender.reason,
            Text(f"{offender.file}:{offender.line}" if offender.file else "", style="dim"),
        )
        for offender in shown
    ]
    yield table(rows, head=("where", "operation", "why", "source"))
    if len(shown) < len(offenders):
        yield Text(f"  ... and {len(offenders) - len(shown)} more (-v for all)", style="dim")


def _stages(paths: Mapping[str, str]) -> list[tuple[str, str]]:
    """Labels and last nodes of the stages of a network, as deep in its modules as there is room for."""
    best = _stages_at(paths, 1)
    for depth in range(2, 6):
        deeper = _stages_at(paths, depth)
        if len(best) >= FEW_STAGES and len(deeper) > STAGES:
            break
        best = deeper
    if len(best) <= STAGES:
        return best
    return [best[round(index * (len(best) - 1) / (STAGES - 1))] for index in range(STAGES)]


def _stages_at(paths: Mapping[str, str], depth: int) -> list[tuple[str, str]]:
    """Consecutive nodes of one module, `depth` levels deep; nodes of no module do not make a stage."""
    inside = [(name, ".".join(path.split(".")[:depth])) for name, path in paths.items() if path]
    groups = [(label, list(members)[-1][0]) for label, members in groupby(inside, key=lambda pair: pair[1])]
    last = list(paths)[-1]
    return groups if groups and groups[-1][1] == last else [*groups, (last, last)]
