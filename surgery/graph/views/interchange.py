"""A graph in the formats of graph programs: Graphviz and GraphML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx

from surgery.graph.nodes import Described
from surgery.graph.views.networkx import to_networkx
from surgery.graph.views.svg import GRAY, KIND_INKS
from surgery.graph.views.text import Line, lines, shape_text, value_text


def to_dot(graph: Described) -> str:
    """The graph for Graphviz, with the operations of each part of the model in one box."""
    everything = lines(graph)
    parts: dict[str, list[Line]] = {}
    for line in everything:
        parts.setdefault(line.module_path.partition(".")[0], []).append(line)
    text = [
        f"digraph {_quoted(graph.model_name)} {{",
        '  node [shape=box style="rounded,filled" fontname="monospace"];',
    ]
    for number, (part, members) in enumerate(parts.items()):
        nodes: list[str] = []
        for line in members:
            ink = KIND_INKS.get(line.kind, GRAY)
            label = "\n".join(item for item in (line.operation, line.attributes, line.shape, line.module_path) if item)
            colors = f'fillcolor="{ink.fill}" color="{ink.stroke}"'
            nodes.append(f"    {_quoted(line.name)} [label={_quoted(label)} {colors}];")
        cluster = [f"  subgraph cluster_{number} {{", f"    label={_quoted(part)};", *nodes, "  }"]
        text += cluster if part and len(members) > 1 else nodes
    text += [f"  {_quoted(source)} -> {_quoted(line.name)};" for line in everything for source in line.reads]
    return "\n".join([*text, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_graphml(graph: Described) -> str:
    """The graph as GraphML, which has only text and numbers: shapes and attributes are text, None is omitted."""
    network = to_networkx(graph)
    plain = networkx.MultiDiGraph(**_scalars(network.graph))
    plain.add_nodes_from((name, _scalars(data)) for name, data in network.nodes(data=True))
    plain.add_edges_from(
        (source, reader, {"argument": str(data["argument"])}) for source, reader, data in network.edges(data=True)
    )
    return "\n".join(networkx.generate_graphml(plain))


def _scalars(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _scalar(key, value) for key, value in data.items() if value is not None}


def _scalar(key: str, value: Any) -> str | int:
    if key.endswith("shape"):
        return shape_text(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={value_text(item)}" for name, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, int) else value_text(value)
