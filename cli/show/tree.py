"""A graph as a tree of its modules, or as a table of its operations."""

from __future__ import annotations

from itertools import groupby

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from surgery.graph import Graph
from surgery.graph.views.text import Line, ModuleTree, lines, module_tree, number_text
from surgery_cli.show.pieces import count, kind_style, numbers_text, table


def tree_view(graph: Graph, *, depth: int | None, verbose: bool) -> Tree:
    """The modules of `graph` down to `depth`; modules that repeat the one before are folded unless `verbose`."""
    tree = module_tree(graph)
    result = Tree(Text(tree.name, style="bold"), guide_style="dim")
    _grow(result, tree, depth=depth, fold=not verbose)
    return result


def table_view(graph: Graph, *, verbose: bool) -> RenderableType:
    """One row for each operation; `verbose` adds where it comes from."""
    head = ["name", "operation", "shape", "parameters", "buffers", "attributes", "rule"]
    more = ["dtype", "module", "source"] if verbose else []
    return table([_row(line, verbose=verbose) for line in lines(graph)], right=(3, 4), head=[*head, *more])


def _row(line: Line, *, verbose: bool) -> list[RenderableType]:
    counts = [number_text(count) if count else "" for count in (line.parameters, line.buffers)]
    row = [line.name, _operation(line), line.shape, *counts, line.attributes, Text(line.rule or "", style="green")]
    source = f"{line.file}:{line.line}" if line.file else ""
    return [*row, line.dtype, line.module_path, source] if verbose else row


def _grow(branch: Tree, module: ModuleTree, *, depth: int | None, fold: bool) -> None:
    """Add the content of `module`, with one line for modules that repeat the one before them."""
    for _, group in groupby(module.content, key=_signature):
        first, *others = group
        _add(branch, first, module, depth=depth, fold=fold)
        if others and fold and isinstance(first, ModuleTree):
            names = others[0].name if len(others) == 1 else f"{others[0].name} to {others[-1].name}"
            branch.add(Text(names, style="bold").append(f"  the same as {first.name}", style="not bold dim"))
        else:
            for other in others:
                _add(branch, other, module, depth=depth, fold=fold)


def _add(branch: Tree, part: Line | ModuleTree, inside: ModuleTree, *, depth: int | None, fold: bool) -> None:
    if isinstance(part, Line):
        branch.add(_line(part, inside))
    elif depth == 1:
        branch.add(_title(part).append(f", to {list(part.walk())[-1].shape}", style="not bold dim"))
    else:
        _grow(branch.add(_title(part)), part, depth=None if depth is None else depth - 1, fold=fold)


def _title(module: ModuleTree) -> Text:
    inside = list(module.walk())
    numbers = numbers_text(sum(line.parameters for line in inside), sum(line.buffers for line in inside))
    facts = count(len(inside), "operation") + (f", {numbers}" if numbers else "")
    return Text(module.name, style="bold").append(f"  {facts}", style="not bold dim")


def _line(line: Line, inside: ModuleTree) -> Text:
    """One operation: the module that consists of it alone, if any, its call, and its output shape."""
    module = line.module_path.removeprefix(inside.path).removeprefix(".")
    result = Text().append(f"{module}  " if module else "", style="bold").append_text(_operation(line))
    result.append(f"  {line.shape}")
    numbers = numbers_text(line.parameters, line.buffers)
    result.append("".join(f"  {detail}" for detail in (line.attributes, numbers) if detail), style="dim")
    if line.rule:
        result.append(f"  by {line.rule}", style="green")
    return result


def _operation(line: Line) -> Text:
    return Text(line.operation, style=kind_style(line.kind))


def _signature(part: Line | ModuleTree) -> object:
    """A key that is equal for modules with the same operations on the same shapes, and different for every line."""
    if isinstance(part, Line):
        return part.name
    return tuple(
        (
            line.operation,
            line.shape,
            line.attributes,
            line.parameters,
            line.buffers,
            line.rule,
            line.module_path[len(part.path) :],
        )
        for line in part.walk()
    )
