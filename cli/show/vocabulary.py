"""The vocabulary that rules are written with: every operation by its main kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from surgery.graph import Operation


def vocabulary_view() -> Table:
    """A row for each operation: its kinds, and how a call of it is written."""
    from rich.table import Table

    from surgery.graph import OPERATIONS

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kinds", "operation"):
        table.add_column(heading)
    for operation in sorted(OPERATIONS.values(), key=lambda item: (item.kinds[:1], item.name)):
        table.add_row(", ".join(operation.kinds), _written(operation))
    return table


def vocabulary_dict() -> dict[str, Any]:
    """The same for programs; attributes without a default are null."""
    from surgery.graph import KINDS, OPERATIONS

    return {
        "operations": {
            name: {
                "kinds": list(operation.kinds),
                "operands": list(operation.operands),
                "attributes": {key: _default(value) for key, value in operation.attributes.items()},
            }
            for name, operation in OPERATIONS.items()
        },
        "kinds": {kind: list(names) for kind, names in KINDS.items()},
    }


def _written(operation: Operation) -> str:
    """`conv2d(input, weight, [bias], stride=1, ...)`; attributes without a default stand alone."""
    optional = len(operation.operands) - operation.optional
    operands = [name if place < optional else f"[{name}]" for place, name in enumerate(operation.operands)]
    attributes = [key if value is ... else f"{key}={value}" for key, value in operation.attributes.items()]
    return f"{operation.name}({', '.join(operands + attributes)})"


def _default(value: Any) -> Any:
    return None if value is ... else value
