from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from surgery import models
from surgery.errors import InputError
from surgery.graph import Graph, trace
from surgery.linear.features import ClassMeans, class_means, feature_distance, features_at, node_at, penultimate

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def draw(seed: int, images: int = 40, classes: int = 4, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randint(classes, (images - classes,), generator=generator)
    return torch.randn(images, size, generator=generator), torch.cat([torch.arange(classes), rest])


def by_hand(features: Tensor, labels: Tensor) -> Tensor:
    means = [features[labels == label].double().mean(0) for label in labels.unique()]
    distance = torch.tensor([[float((a - b).norm()) for b in means] for a in means], dtype=torch.float64)
    return distance / distance.max(1, keepdim=True).values


@few
@given(seed=seeds)
def test_distances_are_those_of_the_paper(seed: int) -> None:
    features, labels = draw(seed)
    found = feature_distance(features, labels)
    torch.testing.assert_close(found, by_hand(features, labels))
    assert torch.equal(found.amax(1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(found.diagonal(), torch.zeros(4, dtype=torch.float64))


@few
@given(seed=seeds, sizes=st.lists(st.integers(0, 9), max_size=6), limit=st.sampled_from([None, 3, 128]))
def test_streaming_equals_all_at_once(seed: int, sizes: list[int], limit: int | None) -> None:
    features, labels = draw(seed)
    whole = ClassMeans.empty(4, limit=limit).add(features, labels)
    streamed = ClassMeans.empty(4, limit=limit)
    sizes = [*sizes, len(labels) - sum(sizes)] if sum(sizes) <= len(labels) else [len(labels)]
    for batch in zip(features.split(sizes), labels.split(sizes), strict=True):
        streamed = streamed.add(*batch)
    assert torch.equal(streamed.counts, whole.counts)
    # Sums in float64 in another order.
    torch.testing.assert_close(streamed.means, whole.means, rtol=0, atol=1e-14)


@few
@given(seed=seeds, order=st.permutations(range(4)))
def test_permuting_classes_permutes_the_matrix(seed: int, order: list[int]) -> None:
    features, labels = draw(seed)
    position = torch.tensor(order).argsort()
    found = feature_distance(features, position[labels])
    torch.testing.assert_close(found, feature_distance(features, labels)[order][:, order])


def test_the_published_variant_takes_the_first_images_and_squares() -> None:
    features, labels = draw(0, images=600)
    kept = torch.cat([(labels == label).nonzero()[:128, 0] for label in range(4)])
    assert len(kept) < 600
    expected = by_hand(features[kept], labels[kept]) ** 2
    torch.testing.assert_close(feature_distance(features, labels, variant="published"), expected)


def test_class_means_stop_when_there_are_enough_images() -> None:
    asked = []

    def batches():
        for seed in range(100):
            asked.append(seed)
            yield draw(seed, images=80)

    found = class_means(lambda images: images, batches(), num_classes=4, variant="published")
    assert found.counts.tolist() == [128] * 4
    assert len(asked) < 20


def test_features_of_any_shape_are_flattened() -> None:
    features, labels = draw(0)
    torch.testing.assert_close(feature_distance(features.reshape(40, 2, 3), labels), feature_distance(features, labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 0, 2]), "class 1 has no images"),
        (torch.tensor([0, 1, -1]), "label -1 is none of the 2 classes"),
        (torch.tensor([0, 1]), r"shape \(2,\) and torch.int64 for 3 images"),
        (torch.tensor([0.0, 1.0, 1.0]), "torch.float32 for 3 images"),
        (torch.tensor([0, 0, 0]), r"class 0 is the same as of every other class \(1 classes\)"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        feature_distance(torch.randn(3, 2), labels)


def test_other_input_that_does_not_fit_is_an_error() -> None:
    features, labels = draw(0)
    with pytest.raises(InputError, match="class 4 has no images"):
        feature_distance(features, labels, num_classes=5)
    with pytest.raises(InputError, match="label 3 is none of the 3 classes 0 to 2"):
        feature_distance(features, labels, num_classes=3)
    with pytest.raises(InputError, match=r"no variant 'publishd'(.|\n)*did you mean 'published'"):
        feature_distance(features, labels, variant="publishd")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="5 features an image, earlier ones had 6"):
        ClassMeans.empty(4).add(features, labels).add(features[:, :5], labels)
    features[2, 1] = torch.nan
    with pytest.raises(InputError, match="features of image 2 of the batch, class 2, are not finite"):
        feature_distance(features, labels)
    with pytest.raises(InputError, match="class 0 has no images"):
        class_means(lambda images: images, [], num_classes=2).distance()


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=10
    )
    nn.init.normal_(model.heads[0].weight)  # zero as torchvision leaves it
    return model


class Mlp(nn.Module):
    """The head of torchvision's VGG and AlexNet, with dropout in it, at a size that is quick."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


NETWORKS = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), "fc", 512),
    "vgg": (lambda: models.build("vgg16_bn", width=8), "classifier", 64),
    "dropout": (Mlp, "classifier.3", 16),
    "vit": (vit, "heads.head", 8),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Graph, str, int]:
    torch.manual_seed(0)
    build, head, size = NETWORKS[request.param]
    model = build().eval()
    return model, trace(model, torch.zeros(1, 3, 32, 32)), head, size


def test_penultimate_features_are_what_the_last_linear_layer_reads(
    network: tuple[nn.Module, Graph, str, int],
) -> None:
    model, graph, head, size = network
    images = torch.randn(3, 3, 32, 32)
    part = features_at(graph, penultimate(graph))
    with torch.no_grad():
        features = part(images)
        assert features.shape == (3, size)
        torch.testing.assert_close(model.get_submodule(head)(features), model(images))
    assert not any(name.startswith(f"{head}.") for name in part.tensors())


def test_a_module_stands_for_its_output() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    images = torch.randn(2, 3, 32, 32)
    seen: list[Tensor] = []
    model.layer2.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        model(images)
        torch.testing.assert_close(features_at(graph, "layer2")(images), seen[0])
        torch.testing.assert_close(features_at(graph, "*r2")(images), seen[0])
    assert node_at(graph, "layer[12].0").name == "layer2_0_relu_1"
    assert node_at(graph, "layer1_0_conv1").meta["operation"] == "conv2d"
    assert node_at(graph, "x").op == "placeholder"


def test_the_part_shares_its_tensors_and_leaves_the_graph() -> None:
    graph = trace(Mlp().eval(), torch.zeros(1, 3, 8, 8))
    before = [node.name for node in graph.graph.nodes]
    part = features_at(graph, "features")
    assert part.tensors()["features.0.weight"] is graph.tensors()["features.0.weight"]
    assert set(part.tensors()) == {"features.0.weight", "features.0.bias"}
    assert [node.name for node in graph.graph.nodes] == before
    assert part.input_shape == graph.input_shape


class Ends(nn.Module):
    def __init__(self, end: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        if self.end == "two":
            return self.first(x) + self.second(x.relu())
        if self.end == "product":
            return self.first(x) @ self.second.weight
        if self.end == "unused":
            self.second(x)
            return self.first(x).softmax(1)
        return x.relu()


def test_a_layer_that_does_not_lead_to_the_output_is_not_the_last() -> None:
    assert penultimate(trace(Ends("unused"), torch.zeros(1, 4))) == "x"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("two", r"ends in first \(linear\) and second \(linear\)"),
        ("product", r"ends in matmul \(matmul\)"),
        ("none", "no layer at all"),
    ],
)
def test_no_single_last_linear_layer_is_an_error(end: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        penultimate(trace(Ends(end), torch.zeros(1, 4)))


def test_a_node_that_is_not_there_is_an_error_with_the_nearest() -> None:
    graph = trace(Mlp().eval(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"no node or module 'clasifier.2'(.|\n)*did you mean 'classifier.2'"):
        features_at(graph, "clasifier.2")
    with pytest.raises(InputError, match="that depends on the input"):
        features_at(graph, "features_0_weight")


def test_a_value_without_a_row_for_each_image_is_an_error() -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.T.relu().T

    with pytest.raises(InputError, match="does not begin with N"):
        features_at(trace(Mixed(), torch.zeros(1, 4)), "relu")
