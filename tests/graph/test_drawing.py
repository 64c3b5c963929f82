from __future__ import annotations

import copy
import itertools
import random
import re
from xml.etree import ElementTree

import networkx
import pytest
import torch
from torch import Tensor, nn

from surgery.graph import KINDS, Graph, computing, to_networkx, trace
from surgery.graph.views.interchange import to_dot, to_graphml
from surgery.graph.views.lanes import Track, layout
from surgery.graph.views.svg import KIND_INKS, MARK_INKS, to_svg
from surgery.graph.views.text import Line

SVG = "{http://www.w3.org/2000/svg}"


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.relu(self.conv(x)) + self.shortcut(x)


class OddNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({'<&>"\\': nn.Sequential(nn.ReLU(), nn.Tanh()), "<&>": nn.Linear(3, 3)})

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts.values():
            x = part(x)
        return x


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trace(Residual(), torch.zeros(1, 3, 8, 8))


@pytest.fixture(scope="module")
def odd() -> Graph:
    return trace(OddNames(), torch.zeros(1, 3))


def row(name: str, *reads: str, kind: str = "") -> Line:
    return Line(
        name=name,
        operation=name,
        kind=kind,
        shape="",
        dtype="",
        attributes="",
        parameters=0,
        buffers=0,
        parameter_names=(),
        reads=reads,
        rule=None,
        module_path="",
        file=None,
        line=None,
    )


def lanes(tracks: tuple[Track, ...]) -> list[int]:
    return [track.lanes[0][1] for track in tracks]


def boxes(svg: str) -> dict[str, ElementTree.Element]:
    """The groups of the picture by the name of the node that they show."""
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return {
        (title.text or "").split("\n")[0]: group for group in groups if (title := group.find(f"{SVG}title")) is not None
    }


def label(box: ElementTree.Element) -> str | None:
    return box.findtext(f"{SVG}text")


def test_chain_stays_in_one_lane() -> None:
    assert lanes(layout([row("a"), row("b", "a"), row("c", "b")])) == [0, 0, 0]


def test_skipped_value_moves_aside_and_the_main_path_stays() -> None:
    tracks = layout([row("a"), row("b", "a"), row("c", "b"), row("add", "c", "a")])
    assert lanes(tracks) == [0, 0, 0, 0]
    assert tracks[0].lanes == ((0, 0), (1, 1))
    assert [tracks[0].lane(at) for at in range(3)] == [0, 1, 1]


def test_branch_stands_in_the_lane_of_the_value_that_it_reads() -> None:
    rows = [
        row("a"),
        row("b", "a"),
        row("side1", "a"),
        row("side2", "side1"),
        row("add", "b", "side2"),
        row("d", "add"),
    ]
    assert lanes(layout(rows)) == [0, 0, 1, 1, 0, 0]


def test_lane_is_used_again_when_its_value_was_read() -> None:
    rows = [row("a0")]
    for block in range(5):
        start = f"a{block}"
        rows += [row(f"b{block}", start), row(f"a{block + 1}", f"b{block}", start)]
    assert {lane for track in layout(rows) for _, lane in track.lanes} == {0, 1}


def test_shape_queries_leave_the_main_path_where_it_is() -> None:
    rows = [row("a"), row("size", "a", kind="shape_query"), row("b", "a"), row("reshape", "b", "size")]
    assert lanes(layout(rows, {"size"})) == [0, 1, 0, 0]


def test_value_without_readers_frees_its_lane() -> None:
    assert lanes(layout([row("a"), row("dead", "a"), row("b", "a"), row("c")])) == [0, 0, 1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_no_two_values_share_a_lane_in_any_row(seed: int) -> None:
    chance = random.Random(seed)
    rows = [row("n0")]
    for index in range(1, 60):
        pool = [f"n{chance.randrange(max(0, index - 12), index)}" for _ in range(chance.randrange(4))]
        rows.append(row(f"n{index}", *dict.fromkeys(pool)))
    aside = {one.name for one in rows if chance.random() < 0.2}
    tracks = layout(rows, aside)
    for at, own in enumerate(lanes(tracks)):
        passing = [track.lane(at) for track in tracks[:at] if track.readers and track.readers[-1] > at]
        assert len({own, *passing}) == 1 + len(passing)


def test_picture_shows_every_node_but_no_parameter(graph: Graph) -> None:
    shown = boxes(to_svg(graph))
    assert list(shown) == [node.name for node in graph.graph.nodes if node.op != "get_attr"]
    assert [label(box) for box in shown.values()][:3] == ["input", "conv2d", "conv2d"]
    texts = ["".join(text.itertext()) for text in shown["conv"].iter(f"{SVG}text")]
    assert texts == ["conv2d", "(N, 4, 8, 8)kernel_size=3, padding=1conv"]


def test_rows_do_not_overlap_and_stay_in_the_picture(graph: Graph) -> None:
    svg = to_svg(graph)
    root = ElementTree.fromstring(svg)
    edges = [
        (float(rect.get("y", 0)), float(rect.get("height", 0)))
        for box in boxes(svg).values()
        for rect in box.iter(f"{SVG}rect")
    ]
    assert all(y + height < following for (y, height), (following, _) in itertools.pairwise(edges))
    assert edges[-1][0] + edges[-1][1] < float(root.get("height", 0))


def test_picture_brings_its_own_background(graph: Graph) -> None:
    root = ElementTree.fromstring(to_svg(graph))
    background = root.findall(f"{SVG}rect")[0]
    assert background.get("fill") == "#ffffff"
    assert (background.get("width"), background.get("height")) == (root.get("width"), root.get("height"))


def test_picture_is_the_same_every_time(graph: Graph) -> None:
    assert to_svg(graph) == to_svg(copy.deepcopy(graph))


def test_kinds_have_colors_and_a_legend(graph: Graph) -> None:
    svg = to_svg(graph)
    shown = boxes(svg)
    fills = {name: box.find(f"{SVG}rect").get("fill") for name, box in shown.items()}  # pyright: ignore[reportOptionalMemberAccess]
    assert fills["conv"] == fills["stem"] == KIND_INKS["convolution"].fill
    assert len({fills["conv"], fills["relu"], fills["shortcut_1"], fills["add"], fills["x"]}) == 5
    assert {"convolution", "normalization", "activation", "arithmetic"} <= {
        text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")
    }


def test_colors_are_given_to_kinds_that_exist() -> None:
    assert set(KIND_INKS) - {""} <= set(KINDS)


def test_marks_differ_by_symbol_and_outline_too(graph: Graph) -> None:
    shown = boxes(to_svg(graph, marks={"conv": "removed", "relu": "added", "add": "changed"}))
    assert [label(shown[name]) for name in ("conv", "relu", "add", "stem")] == [
        "\N{MINUS SIGN} conv2d",
        "+ relu",
        "~ add",
        "conv2d",
    ]
    dashed = [
        name for name, box in shown.items() if any(rect.get("stroke-dasharray") for rect in box.iter(f"{SVG}rect"))
    ]
    assert dashed == ["conv"]
    assert len({(ink.fill, ink.symbol) for ink in MARK_INKS.values()}) == 3


def test_marks_color_the_lines_of_what_was_removed_and_added(graph: Graph) -> None:
    def strokes(**marks: str) -> set[str | None]:
        root = ElementTree.fromstring(to_svg(graph, marks=marks))
        return {path.get("stroke") for path in root.iter(f"{SVG}path")}

    [plain] = strokes()
    assert strokes(conv="removed") == {plain, MARK_INKS["removed"].stroke}
    assert strokes(conv="added") == {plain, MARK_INKS["added"].stroke}
    assert strokes(conv="changed") == {plain}


def test_unknown_mark_is_refused(graph: Graph) -> None:
    with pytest.raises(ValueError, match="unknown mark 'deleted'; expected one of removed, added, changed"):
        to_svg(graph, marks={"conv": "deleted"})


def test_picture_is_well_formed_whatever_the_names(odd: Graph) -> None:
    svg = to_svg(odd, title='a < b & "c"')
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == 'a < b & "c"'
    text = "".join(ElementTree.fromstring(svg).itertext())
    assert 'parts.<&>"\\.1' in text
    assert "parts.<&>.weight" in text


def test_notebook_shows_the_picture(graph: Graph) -> None:
    assert to_svg(graph) in graph._repr_html_()


@pytest.mark.parametrize("name", ["graph", "odd"])
def test_dot_is_balanced_and_names_every_node_and_edge(name: str, request: pytest.FixtureRequest) -> None:
    graph: Graph = request.getfixturevalue(name)
    dot = to_dot(graph)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", dot)
    assert '"' not in bare
    assert "\\" not in bare
    assert bare.count("{") == bare.count("}")
    network = to_networkx(graph)
    assert sorted(re.findall(r'^ *"(\w+)" \[', dot, re.MULTILINE)) == sorted(network)
    edges = re.findall(r'"(\w+)" -> "(\w+)";', dot)
    assert set(edges) == set(network.edges())


def test_dot_draws_a_part_of_several_operations_in_a_box(graph: Graph) -> None:
    clusters = re.findall(r'subgraph cluster_\d+ \{\n    label="(\w+)";', to_dot(graph))
    assert clusters == ["shortcut"]


def test_graphml_reads_back_as_the_same_network(graph: Graph) -> None:
    read = networkx.parse_graphml(to_graphml(graph), force_multigraph=True)
    network = to_networkx(graph)
    assert list(read.nodes) == list(network.nodes)
    assert sorted(read.edges()) == sorted(network.edges())
    assert read.nodes["conv"]["shape"] == "(N, 4, 8, 8)"
    assert read.nodes["conv"]["parameters"] == "conv.weight, conv.bias"
    assert read.nodes["conv"]["line"] == network.nodes["conv"]["line"]
    assert "rule" not in read.nodes["conv"]
    assert len(read) == len(computing(graph)) + 2
