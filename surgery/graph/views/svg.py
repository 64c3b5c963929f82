"""A graph as SVG: a row for each node in order of execution, in lanes, colored by kind or by a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from surgery.graph.nodes import Described
from surgery.graph.views.lanes import Track, Way, layout
from surgery.graph.views.text import Line, headline, lines, number_text


@dataclass(frozen=True, kw_only=True)
class Ink:
    """The style of a box; symbol and dashes repeat the information of the color."""

    fill: str
    stroke: str
    symbol: str = ""
    dashes: str = ""


# Okabe and Ito's palette, which stays distinct for the common kinds of color blindness; fills lighter, strokes full.
_SKY, _BLUE = Ink(fill="#e0f1fb", stroke="#56a4d6"), Ink(fill="#c3dcec", stroke="#0072b2")
_GREEN, _YELLOW = Ink(fill="#d2ede4", stroke="#009e73"), Ink(fill="#faf5b5", stroke="#a89c14")
_ORANGE, _VERMILION = Ink(fill="#fbe6bd", stroke="#d39200"), Ink(fill="#f9d9c6", stroke="#d55e00")
_PURPLE, GRAY = Ink(fill="#f3dce8", stroke="#b75f92"), Ink(fill="#eceef1", stroke="#8b929c")
_WHITE, _PLAIN = Ink(fill="#ffffff", stroke="#30353c"), Ink(fill="#ffffff", stroke="#a8aeb8")

KIND_INKS: Mapping[str, Ink] = {
    "": _WHITE,
    "convolution": _SKY,
    "matrix_product": _BLUE,
    "attention": _PURPLE,
    "normalized_weights": _PURPLE,
    "activation": _VERMILION,
    "gated_activation": _VERMILION,
    "elementwise": _VERMILION,
    "normalization": _GREEN,
    "pooling": _YELLOW,
    "reduction": _YELLOW,
    "arithmetic": _ORANGE,
}
"""The colors of kinds; kinds that only move or describe values, and unknown kinds, are gray."""

_REMOVED = Ink(fill="#fbe0d2", stroke="#d55e00", symbol="\N{MINUS SIGN}", dashes="5 3")
_ADDED = Ink(fill="#c8ebe4", stroke="#00836a", symbol="+")

MARK_INKS: Mapping[str, Ink] = {
    "removed": _REMOVED,
    "added": _ADDED,
    "changed": Ink(fill="#fbf3a3", stroke="#96890a", symbol="~"),
}
"""The colors of the marks of a comparison."""

_PITCH, _HEIGHT = 36, 22
_GAP, _BEND = _PITCH - _HEIGHT, 5
_MARGIN, _LANE_GAP, _NARROW = 20, 16, 13
_CHARACTER = 6.65
_DARK, _DIM, _PALE = "#20242a", "#5c6370", "#767d89"
_EDGE = Ink(fill="none", stroke="#9097a3")
_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """The layout: each row's box and track, each lane's center, the left edge of each column of text."""

    rows: tuple[Line, ...]
    labels: tuple[str, ...]
    inks: tuple[Ink, ...]
    tracks: tuple[Track, ...]
    centers: tuple[float, ...]
    columns: tuple[float, ...]
    width: float
    top: float

    def y(self, row: int) -> float:
        """The upper edge of the box in `row`."""
        return self.top + row * _PITCH

    def x(self, row: int) -> float:
        """The center of the box in `row`."""
        return self.centers[self.tracks[row].lanes[0][1]]


def to_svg(graph: Described, *, marks: Mapping[str, str] | None = None, title: str | None = None) -> str:
    """Draw `graph`; `marks` maps nodes to `removed`, `added` or `changed`; the other nodes are drawn plain."""
    return draw(lines(graph), marks=marks, title=headline(graph) if title is None else title)


def draw(rows: Sequence[Line], *, marks: Mapping[str, str] | None, title: str) -> str:
    """Draw nodes that read each other by name, each after those that it reads.

    Raises ValueError for a mark that is not `removed`, `added` or `changed`.
    """
    unknown = sorted(set((marks or {}).values()) - MARK_INKS.keys())
    if unknown:
        raise ValueError(f"unknown mark {unknown[0]!r}; expected one of {', '.join(MARK_INKS)}")
    if marks is None:
        inks = [KIND_INKS.get(row.kind, GRAY) for row in rows]
    else:  # in a comparison the colors are for the marks alone
        inks = [MARK_INKS[marks[row.name]] if row.name in marks else _PLAIN for row in rows]
    labels = [f"{ink.symbol} {row.operation}".strip() for row, ink in zip(rows, inks, strict=True)]
    removed = {name for name, mark in (marks or {}).items() if mark == "removed"}
    tracks = layout(rows, removed | {row.name for row in rows if row.kind == "shape_query"})
    centers, right = _spread([track.lanes for track in tracks], [_width(label) + 14 for label in labels])
    columns = _columns(rows, right)
    width = max(columns[-1], _MARGIN + _width(title) * 1.15) + _MARGIN
    legend, top = _legend(_captions(rows, inks, marks), width)
    scene = _Scene(
        rows=tuple(rows),
        labels=tuple(labels),
        inks=tuple(inks),
        tracks=tracks,
        centers=centers,
        columns=columns,
        width=width,
        top=top,
    )
    return "\n".join(_document(scene, title, legend))


def _width(text: str) -> float:
    return len(text) * _CHARACTER


def _spread(lanes: Sequence[Way], widths: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """The center of each lane, wide enough for the boxes in it, and where the lanes end."""
    room = dict.fromkeys((lane for way in lanes for _, lane in way), float(_NARROW))
    for way, width in zip(lanes, widths, strict=True):
        room[way[0][1]] = max(room[way[0][1]], width + _LANE_GAP)
    centers: list[float] = []
    left = float(_MARGIN)
    for lane in range(len(room)):
        centers.append(left + room[lane] / 2)
        left += room[lane]
    return tuple(centers), left


def _texts(row: Line) -> tuple[str, str, str]:
    """The text next to a box: shape, attributes, module path; the end of a long path says most."""
    attributes = row.attributes if len(row.attributes) <= 52 else row.attributes[:51] + "\N{HORIZONTAL ELLIPSIS}"
    path = row.module_path if len(row.module_path) <= 44 else "\N{HORIZONTAL ELLIPSIS}" + row.module_path[-43:]
    return row.shape, attributes, path


def _columns(rows: Sequence[Line], left: float) -> tuple[float, ...]:
    """Where each column of text begins, and where the last one ends."""
    edges = [left + 8]
    for column in zip(*map(_texts, rows), strict=True):
        widest = max(map(len, column))
        edges.append(edges[-1] + (widest * _CHARACTER + 18 if widest else 0))
    return tuple(edges)


def _captions(rows: Sequence[Line], inks: Sequence[Ink], marks: Mapping[str, str] | None) -> dict[Ink, str]:
    """What the colors mean, as far as they occur."""
    if marks is not None:
        return {ink: f"{ink.symbol} {mark}" for mark, ink in MARK_INKS.items()}
    kinds: dict[Ink, list[str]] = {}
    for row, ink in zip(rows, inks, strict=True):
        names = kinds.setdefault(ink, [])
        name = row.kind.replace("_", " ") or "input and output"
        if name not in names:
            names.append(name)
    return {ink: ", ".join(names) for ink, names in kinds.items()}


def _legend(captions: Mapping[Ink, str], width: float) -> tuple[list[str], float]:
    """The legend under the title, in as many rows as it takes, and where the picture below it begins."""
    x, y, parts = float(_MARGIN), 46.0, []
    for ink, caption in captions.items():
        needed = 20 + _width(caption) + 22
        if x > _MARGIN and x + needed > width:
            x, y = float(_MARGIN), y + 20
        parts.append(_rectangle(x, y, 14, 12, ink, 3))
        parts.append(f'<text x="{x + 20:g}" y="{y + 10:g}" fill="{_DIM}">{escape(caption)}</text>')
        x += needed
    return parts, y + 38


def _rectangle(x: float, y: float, width: float, height: float, ink: Ink, radius: float) -> str:
    dashes = f' stroke-dasharray="{ink.dashes}"' if ink.dashes else ""
    return (
        f'<rect x="{x:.5g}" y="{y:g}" width="{width:.5g}" height="{height:g}" rx="{radius:g}"'
        f' fill="{ink.fill}" stroke="{ink.stroke}"{dashes}/>'
    )


def _document(scene: _Scene, title: str, legend: Sequence[str]) -> Iterator[str]:
    width, height = f"{scene.width:.0f}", f"{scene.y(len(scene.rows)) + _MARGIN - _GAP:.0f}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' role="img" font-family="{_FONT}" font-size="11">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="{_MARGIN}" y="28" font-size="12.5" font-weight="bold" fill="{_DARK}">{escape(title)}</text>'
    yield from legend
    yield from _bands(scene)
    yield '<g fill="none" stroke-width="1.6" stroke-linejoin="round">'
    yield from _edges(scene)
    yield "</g>"
    for row in range(len(scene.rows)):
        yield _box(scene, row)
    yield "</svg>"


def _bands(scene: _Scene) -> Iterator[str]:
    """A background tint for every other block of rows, where a block is a run of operations in one module."""
    paths = [row.module_path for row in scene.rows]
    modules = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "."}
    blocks = [path if path in modules else path.rpartition(".")[0] for path in paths]
    start, tinted = 0, False
    for row in range(1, len(blocks) + 1):
        if row == len(blocks) or blocks[row] != blocks[start]:
            if tinted:
                y, height = scene.y(start) - _GAP / 2, (row - start) * _PITCH
                yield f'<rect y="{y:g}" width="{scene.width:.0f}" height="{height}" fill="#f6f7f9"/>'
            start, tinted = row, not tinted


def _edges(scene: _Scene) -> Iterator[str]:
    """The trunk of each value, and a branch to each reader; together, unless marks set them apart."""
    for row, track in enumerate(scene.tracks):
        strokes: dict[Ink, str] = {}
        for reader in track.readers:
            ends = (scene.inks[row], scene.inks[reader])
            ink = next((mark for mark in (_REMOVED, _ADDED) if mark in ends), _EDGE)
            # The branch leaves above the reader, below the values that are pushed aside in this row.
            x, y = scene.centers[track.lane(reader - 1)], scene.y(reader)
            branch = f"M{x:.5g} {y - _GAP:g}" + _bend(x, scene.x(reader), y - _BEND, y)
            strokes[ink] = strokes.get(ink, "") + branch
        trunk = next(iter(strokes)) if len(strokes) == 1 else _EDGE
        if strokes:
            strokes[trunk] = _trunk(scene, row, track) + strokes.get(trunk, "")
        for ink, path in strokes.items():
            dashes = f' stroke-dasharray="{ink.dashes}"' if ink.dashes else ""
            yield f'<path d="{path}" stroke="{ink.stroke}"{dashes}/>'


def _trunk(scene: _Scene, row: int, track: Track) -> str:
    """Down from the box, aside where the value is pushed aside, to above the last reader."""
    x = scene.x(row)
    path = f"M{x:.5g} {scene.y(row) + _HEIGHT:g}"
    for start, lane in track.lanes[1:]:
        y = scene.y(start)
        path += f"V{y - _GAP:g}" + _bend(x, scene.centers[lane], y - _GAP + _BEND, y)
        x = scene.centers[lane]
    return f"{path}V{scene.y(track.readers[-1]) - _GAP:g}"


def _bend(start: float, end: float, level: float, y: float) -> str:
    """Down to `level`, across from `start` to `end`, and down to `y`, with round corners."""
    if start == end:
        return f"V{y:g}"
    side = _BEND if end > start else -_BEND
    across = f"V{level - _BEND:g}q0 {_BEND} {side} {_BEND}H{end - side:.5g}"
    return f"{across}q{side} 0 {side} {_BEND}V{y:g}"


def _box(scene: _Scene, row: int) -> str:
    line, ink, label = scene.rows[row], scene.inks[row], scene.labels[row]
    width, y = _width(label) + 14, scene.y(row)
    columns = "".join(
        f'<tspan x="{x:.5g}" fill="{color}">{escape(text)}</tspan>'
        for x, color, text in zip(scene.columns, (_DARK, _DIM, _PALE), _texts(line), strict=False)
        if text
    )
    return (
        f"<g><title>{escape(_hint(line))}</title>{_rectangle(scene.x(row) - width / 2, y, width, _HEIGHT, ink, 6)}"
        f'<text x="{scene.x(row):.5g}" y="{y + 15:g}" text-anchor="middle" fill="{_DARK}">{escape(label)}</text>'
        f'<text y="{y + 15:g}">{columns}</text></g>'
    )


def _hint(line: Line) -> str:
    """The text that a pointer resting on a box shows."""
    count = line.parameters + line.buffers
    numbers = f"{number_text(count)} numbers in {', '.join(line.parameter_names)}" if count else ""
    position = f"{line.file}:{line.line}" if line.file else ""
    rule = f"made by rule {line.rule}" if line.rule else ""
    return "\n".join(part for part in (line.name, line.dtype, numbers, position, rule) if part)
