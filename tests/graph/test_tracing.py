"""Tracing: what it records, what it leaves alone, and how it fails."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.errors import TraceError
from surgery.graph import computing, from_exported

EXAMPLE = torch.zeros(1, 3, 8, 8)


def operations(graph):
    return [node.meta["operation"] for node in computing(graph)]


def agrees(graph, model, example=EXAMPLE, batch=5):
    images = torch.randn((batch, *example.shape[1:]))
    with torch.no_grad():
        torch.testing.assert_close(graph(images), copy.deepcopy(model).eval()(images))


class Spellings(nn.Module):
    """One network, whose relu is written in one of many ways."""

    def __init__(self, activate):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.activate = activate

    def forward(self, x):
        return self.activate(self.conv(x)).flatten(1)


@pytest.mark.parametrize(
    "activate",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(x, True),
        torch.relu,
        torch.relu_,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        lambda x: torch.ops.aten.relu(x),
    ],
    ids=["module", "in-place module", "functional", "in-place", "flag", "torch", "torch_", "method", "method_", "aten"],
)
def test_every_spelling_of_relu_is_one_operation(activate):
    model = Spellings(activate)
    graph = surgery.trace(model, EXAMPLE)
    assert operations(graph) == ["conv2d", "relu", "flatten"]
    agrees(graph, model)


def test_nodes_say_what_they_are_and_where_they_come_from():
    graph = surgery.trace(Wrapped(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())), EXAMPLE)
    conv = computing(graph)[0]
    assert conv.meta["operation"] == "conv2d"
    assert conv.meta["kind"] == "convolution"
    assert conv.meta["shape"] == ("N", 4, 8, 8)
    assert conv.meta["dtype"] == torch.float32
    assert conv.meta["module_path"] == "body.0"
    assert conv.meta["file"] == __file__
    assert conv.meta["line"] == Wrapped.forward.__code__.co_firstlineno + 1
    assert conv.meta["rule"] is None


class Wrapped(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


def test_positions_inside_libraries_are_those_of_the_library():
    vision = pytest.importorskip("torchvision")
    graph = surgery.trace(vision.models.resnet18(), torch.zeros(1, 3, 64, 64))
    assert computing(graph)[0].meta["file"].endswith("resnet.py")


def test_parameters_keep_their_names_and_values():
    model = Wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    graph = surgery.trace(model, EXAMPLE)
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    assert graph.state_dict().keys() == state.keys()
    assert all(torch.equal(graph.state_dict()[key], value) for key, value in state.items())
    assert {name for name, _ in graph.named_parameters()} == {name for name, _ in model.named_parameters()}


def test_the_caller_keeps_model_mode_and_random_state():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(inplace=True)).train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    graph = surgery.trace(model, EXAMPLE)
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not graph.training


def test_the_graph_does_not_follow_later_training():
    model = nn.Linear(3, 2)
    graph = surgery.trace(model, torch.zeros(1, 3))
    before = graph.state_dict()["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    assert torch.equal(graph.state_dict()["weight"], before)


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    graph = surgery.trace(model, torch.zeros(1, 3))
    assert len(list(graph.parameters())) == 3
    agrees(graph, model, torch.zeros(1, 3))


class Views(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        torch._assert(c == 3, "three channels")
        if h % 4 != 0:
            x = F.pad(x, (0, 0, 0, 4 - h % 4))
        dead = x * 2
        dead.relu()
        return x.view(n, c, -1).mean(dim=-1) / w


def test_size_branches_resolve_and_the_batch_stays_free():
    graph = surgery.trace(Views(), torch.zeros(1, 3, 6, 6))
    assert graph.rung == "symbolic-with-values"
    assert graph(torch.rand(1, 3, 6, 6)).shape == (1, 3)
    agrees(graph, Views(), torch.zeros(1, 3, 6, 6), batch=7)


class Pairs(nn.Module):
    """The products of all pairs of images."""

    def forward(self, x):
        x = x.flatten(1)
        return torch.stack([x @ x.t(), x @ x.t()]).flatten()


def test_sizes_that_grow_with_the_square_of_the_batch_are_written_so():
    shapes = [node.meta["shape"] for node in computing(surgery.trace(Pairs(), EXAMPLE))]
    assert shapes[2:] == [("N", "N"), (192, "N"), ("N", "N"), (2, "N", "N"), ("2*N^2",)]


def test_assertions_and_dead_code_are_gone():
    graph = surgery.trace(Views(), torch.zeros(1, 3, 8, 8))
    assert set(operations(graph)) <= {"size", "reshape", "mean", "div"}


class InPlace(nn.Module):
    """`y` is x, and x is overwritten afterwards."""

    def forward(self, x):
        x = x * 1
        y = x
        x += 1
        z = y * 2
        x.relu_()
        return y + z


def test_in_place_operations_reach_every_later_reader():
    agrees(surgery.trace(InPlace(), EXAMPLE), InPlace())


class ThroughView(nn.Module):
    def forward(self, x):
        x = x * 1
        rows = x.view(x.shape[0], -1)
        x.relu_()
        return rows


def test_in_place_operations_under_a_view_are_not_mistraced():
    graph = surgery.trace(ThroughView(), EXAMPLE)
    assert graph.rung == "export"
    agrees(graph, ThroughView())


class Writes(nn.Module):
    def forward(self, x):
        x = x.clone()
        x[:, 0] = 0
        return x


def test_item_assignment_goes_down_the_ladder():
    graph = surgery.trace(Writes(), EXAMPLE)
    assert graph.rung == "export"
    agrees(graph, Writes())


def test_shared_modules_are_separate_call_sites():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 3, 1), relu, nn.Conv2d(3, 3, 1), relu)
    graph = surgery.trace(model, EXAMPLE)
    assert operations(graph) == ["conv2d", "relu", "conv2d", "relu"]
    assert len({node.name for node in computing(graph)}) == 4


def test_hooks_are_part_of_the_model():
    conv = nn.Conv2d(3, 4, 3)
    conv.register_forward_hook(lambda module, args, output: output * 2)
    norm = nn.BatchNorm2d(4)
    norm.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model = nn.Sequential(conv, norm)
    agrees(surgery.trace(model, EXAMPLE), model)


def test_parametrized_weights_are_traced():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    agrees(surgery.trace(model, EXAMPLE), model)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_is_written_out(batch_first, need_weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, x):
            mixed, weights = self.attention(x, x, x, need_weights=need_weights)
            return (mixed.sum(), weights) if need_weights else mixed.sum()

    model = Attention().eval()
    graph = surgery.trace(model, torch.zeros(1, 5, 8))
    assert "scaled_dot_product_attention" in operations(graph)
    sequence = torch.randn(3, 5, 8)
    torch.testing.assert_close(graph(sequence), model(sequence))


def test_an_exported_program_reads_as_the_model_does():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).eval()
    program = torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    graph = from_exported(program)
    assert [name for name in operations(graph) if name != "size"][:4] == ["conv2d", "batch_norm", "relu", "max_pool2d"]
    conv = next(node for node in computing(graph) if node.meta["operation"] == "conv2d")
    assert conv.meta["module_path"] == "0"
    agrees(graph, model)


class DataDependent(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


def test_an_untraceable_model_is_refused_with_place_and_advice():
    with pytest.raises(TraceError) as caught:
        surgery.trace(DataDependent(), EXAMPLE)
    line = DataDependent.forward.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}" in str(caught.value)
    assert all(rung in str(caught.value) for rung in ("symbolic", "symbolic-with-values", "export"))
    assert caught.value.hint


class BatchBranch(nn.Module):
    def forward(self, x):
        return x * 2 if len(x) % 2 else x


def test_a_branch_on_the_number_of_images_is_never_taken_silently():
    with pytest.raises(TraceError):
        surgery.trace(BatchBranch(), EXAMPLE)


class TwoInputs(nn.Module):
    def forward(self, x, mask):
        return x * mask


def test_two_inputs_are_refused_by_name():
    with pytest.raises(TraceError, match=r"takes 2 inputs \(x, mask\)"):
        surgery.trace(TwoInputs(), EXAMPLE)


class OptionalInput(nn.Module):
    def forward(self, x, scale=3.0, mask=None):
        return x * scale if mask is None else x * mask


def test_optional_inputs_keep_their_defaults():
    agrees(surgery.trace(OptionalInput(), EXAMPLE), OptionalInput())


def test_a_wrong_input_shape_is_named():
    with pytest.raises(TraceError, match=r"refuses an input of shape \(1, 1, 8, 8\)"):
        surgery.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 1, 8, 8))


def test_the_module_that_refuses_an_input_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)))
    with pytest.raises(TraceError, match=r"refuses an input of shape \(1, 3, 8, 8\) at 1\.1: Given groups=1"):
        surgery.trace(model, EXAMPLE)


@pytest.mark.parametrize("model", ["model.pt", None, nn.ReLU])
def test_what_is_no_model_is_told(model):
    with pytest.raises(TraceError, match=r"expected a model \(torch\.nn\.Module\), got"):
        surgery.trace(model, EXAMPLE)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused_with_what_to_do():
    with pytest.raises(TraceError, match="give the Python module from which it was scripted"):
        surgery.trace(torch.jit.trace(nn.ReLU(), EXAMPLE), EXAMPLE)


@pytest.mark.parametrize("example", [None, (1, 3, 8, 8), torch.zeros(3)])
def test_an_example_that_is_no_batch_is_refused(example):
    with pytest.raises(TraceError, match="example"):
        surgery.trace(nn.Conv2d(3, 4, 3), example)


def test_a_graph_traces_to_itself():
    graph = surgery.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    assert surgery.trace(graph, torch.zeros(1, 3)) is graph
    assert surgery.trace(graph, torch.zeros(7, 3)) is graph


def test_a_graph_is_not_traced_for_another_shape():
    graph = surgery.trace(nn.Conv2d(3, 4, 3), EXAMPLE)
    with pytest.raises(TraceError, match=r"takes inputs of shape \(N, 3, 8, 8\); the example has \(N, 3, 16, 16\)"):
        surgery.trace(graph, torch.zeros(1, 3, 16, 16))


class Named(nn.Module):
    """The identity, as a layer in a dictionary under any name."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.parts = nn.ModuleDict({name: nn.Linear(3, 3, bias=False)})
        nn.init.eye_(self.parts[name].weight)

    def forward(self, x):
        return self.parts[self.name](x)


def test_a_tensor_that_no_code_can_name_is_refused():
    with pytest.raises(TraceError, match="cannot be read by generated code"):
        surgery.trace(Named('a"b'), torch.zeros(1, 3))
    agrees(surgery.trace(Named("layer-1"), torch.zeros(1, 3)), nn.Identity(), torch.zeros(1, 3))


def test_copies_are_independent():
    graph = surgery.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    twin = copy.deepcopy(graph)
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(graph.parameters()).any()
    assert isinstance(twin, surgery.Graph)
    assert twin.input_shape == graph.input_shape


class RefusesOthers(nn.Module):
    """Computes for plain tensors only what every graph of it refuses."""

    def forward(self, x):
        return x if type(x) is torch.Tensor else x.flatten(1)[:, 500:].max(dim=1)[0]


@pytest.mark.parametrize("model", [DataDependent(), BatchBranch(), RefusesOthers()])
def test_refused_rungs_print_nothing(model, capfd):
    with pytest.raises(TraceError):
        surgery.trace(model, EXAMPLE)
    assert capfd.readouterr() == ("", "")


def test_handled_fallbacks_print_nothing(capfd):
    assert surgery.trace(Writes(), EXAMPLE).rung == "export"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("last", [nn.ReLU(), Writes()], ids=["symbolic", "export"])
def test_a_model_of_modules_of_torch_has_no_lines_of_other_code(last):
    first = computing(surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), last), EXAMPLE))[0]
    assert (first.meta["module_path"], first.meta["file"], first.meta["line"]) == ("0", None, None)


def test_a_node_that_fails_is_named_with_its_line():
    with pytest.raises(TraceError) as caught:
        surgery.trace(RefusesOthers(), EXAMPLE)
    line = RefusesOthers.forward.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}: the graph raises an error where the model does not, at node max_dim (max_dim)" in str(
        caught.value
    )
