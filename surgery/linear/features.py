"""Distances between the classes in feature space: the matrix F (Bai et al. 2021, eq. 8-9), and the choice of features.

Means are summed over batches in float64, so the features of a whole data set are never held at once.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from surgery.errors import InputError, suggest
from surgery.graph import Graph, copy_nodes, depends_on_input, operation_name, operation_of
from surgery.graph.normalizer import remove_dead_code
from surgery.torch_state import torch_state

Variant = Literal["paper", "published"]
"""`paper`: L2 distances between the means of all images. `published`: as in the paper's code, the mean squared
difference between the means of the first 128 images of each class (there with logits as features).
"""

VARIANTS: dict[Variant, int | None] = {"paper": None, "published": 128}
"""How many images of each class count."""

_LAYERS = frozenset(("convolution", "matrix_product", "attention"))
"""Kinds of operations that mix features: none of them is after the last linear layer."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClassMeans:
    """Sums of the features of each class, to which batches are added one after the other.

    `sums`: `(K, d)` in float64, or None before the first batch. `counts`: `(K,)`, images summed. `limit`: only so many
    images of each class count, the first that come; None for all.
    """

    sums: Tensor | None
    counts: Tensor
    limit: int | None

    def __repr__(self) -> str:
        features = "no" if self.sums is None else self.sums.shape[1]
        return f"ClassMeans of {len(self.counts)} classes, {int(self.counts.sum())} images, {features} features"

    @staticmethod
    def empty(num_classes: int, *, limit: int | None = None) -> ClassMeans:
        return ClassMeans(sums=None, counts=torch.zeros(num_classes, dtype=torch.int64), limit=limit)

    def add(self, features: Tensor, labels: Tensor) -> ClassMeans:
        """The means with another batch: `features` `(batch, ...)`, flattened; `labels` `(batch,)`, integers.

        Raises InputError for shapes or labels that do not fit, and for features that are not finite.
        """
        flat, labels = features.detach().flatten(1), labels.to(features.device)
        self._check(flat, labels)
        counts = self.counts.to(flat.device)
        if self.limit is not None:
            kept = counts[labels] + _rank_in_class(labels, len(counts)) < self.limit
            flat, labels = flat[kept], labels[kept]
        sums = self.sums if self.sums is not None else flat.new_zeros((len(counts), flat.shape[1]), dtype=torch.float64)
        return ClassMeans(
            sums=sums.index_add(0, labels, flat.double()),
            counts=counts + labels.bincount(minlength=len(counts)),
            limit=self.limit,
        )

    @property
    def means(self) -> Tensor:
        """Z `(K, d)`, the mean feature of each class (eq. 8). Raises InputError naming a class without images."""
        missing = (self.counts == 0).nonzero()
        if missing.numel() or self.sums is None:
            first = int(missing[0]) if missing.numel() else 0
            raise InputError(f"class {first} has no images, so it has no mean feature ({len(self.counts)} classes)")
        return self.sums / self.counts[:, None]

    def distance(self, variant: Variant = "paper") -> Tensor:
        """F_ab = |Z_a - Z_b| / max_c |Z_a - Z_c| `(K, K)`, float64, in [0, 1] (eq. 9); squared norms if `published`.

        Every row is divided by its own largest entry, so F is not symmetric.

        Raises InputError for a class without images, or one whose mean is that of all others.
        """
        _limit(variant)
        means = self.means
        # By matrix products, |a|^2 + |b|^2 - 2ab would lose the digits of near classes.
        distance = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.square() / means.shape[1] if variant == "published" else distance
        largest = distance.amax(dim=1, keepdim=True)
        if not bool((largest > 0).all()):
            raise InputError(
                f"the mean feature of class {int((largest[:, 0] == 0).nonzero()[0])} is the same as of every other "
                f"class ({len(means)} classes), so its distances cannot be divided by the largest"
            )
        return distance / largest

    def _check(self, flat: Tensor, labels: Tensor) -> None:
        classes = len(self.counts)
        if labels.dim() != 1 or len(labels) != len(flat) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise InputError(
                f"labels are integers, one for each image; got shape {tuple(labels.shape)} and {labels.dtype} for "
                f"{len(flat)} images"
            )
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.numel():
            raise InputError(f"label {int(outside[0])} is none of the {classes} classes 0 to {classes - 1}")
        if self.sums is not None and flat.shape[1] != self.sums.shape[1]:
            raise InputError(f"this batch has {flat.shape[1]} features an image, earlier ones had {self.sums.shape[1]}")
        finite = flat.isfinite().all(dim=1)
        if not bool(finite.all()):
            image = int((~finite).nonzero()[0])
            raise InputError(f"the features of image {image} of the batch, class {int(labels[image])}, are not finite")


@torch_state(gradients=False)
def feature_distance(
    features: Tensor, labels: Tensor, *, num_classes: int | None = None, variant: Variant = "paper"
) -> Tensor:
    """F `(K, K)` of features `(images, ...)` with labels `(images,)` (Bai et al. 2021, eq. 8-9).

    The paper takes penultimate features and its code takes logits; what `features` holds is the caller's choice. For
    data that come in batches, use `class_means`. `num_classes` is the largest label plus one by default.

    Raises InputError as `ClassMeans.add` and `ClassMeans.distance` do.
    """
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if labels.numel() else 0
    return ClassMeans.empty(num_classes, limit=_limit(variant)).add(features, labels).distance(variant)


@torch_state(gradients=False)
def class_means(
    function: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    variant: Variant = "paper",
) -> ClassMeans:
    """Stream `(images, labels)` through `function`, such as a graph from `features_at`, and sum its outputs by class.

    Stops early where `variant` needs no more images. Raises InputError as `ClassMeans.add` does.
    """
    result = ClassMeans.empty(num_classes, limit=_limit(variant))
    for images, labels in batches:
        result = result.add(function(images), labels)
        if result.limit is not None and bool((result.counts >= result.limit).all()):
            break
    return result


def _limit(variant: Variant) -> int | None:
    if variant not in VARIANTS:
        raise InputError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}", hint=suggest(variant, VARIANTS))
    return VARIANTS[variant]


def _rank_in_class(labels: Tensor, num_classes: int) -> Tensor:
    """How many earlier images of the batch have the same label, `(batch,)`."""
    # Sorted stably, the images of a class are consecutive and in order: the rank is the distance from the first.
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=num_classes)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    return rank


def penultimate(graph: Graph) -> str:
    """The name of the node that the last linear layer reads: the penultimate features.

    Raises InputError where the graph does not end in exactly one linear layer.
    """
    last = _last_layers(graph)
    if len(last) == 1 and operation_name(last[0]) == "linear":
        read = last[0].args[0]
        assert isinstance(read, fx.Node), "operands of a traced linear layer are nodes"
        return read.name
    found = " and ".join(f"{node.name} ({operation_name(node)})" for node in last) or "no layer at all"
    raise InputError(
        f"{graph.model_name} has no penultimate features: expected one linear layer at the end; it ends in {found}",
        hint="name a node or a module path instead",
    )


def _last_layers(graph: Graph) -> list[fx.Node]:
    """The layers that reach the output through no other layer, in order."""
    dependent = depends_on_input(graph.graph)
    last: list[fx.Node] = []
    reached = {node for node in graph.graph.nodes if node.op == "output"}
    for node in reversed(graph.graph.nodes):
        if node not in reached:
            continue
        operation = operation_of(node)
        if operation is not None and node in dependent and _LAYERS & set(operation.kinds):
            last.append(node)
        else:
            reached.update(node.all_input_nodes)
    return last[::-1]


def node_at(graph: Graph, where: str) -> fx.Node:
    """The node called `where`, or the output of the module whose path is `where`, which may be a glob.

    The output of a module is the last of its nodes (submodules included) that is read outside it. With a glob, the
    modules it fits count as one.

    Raises InputError with the nearest names where there is none, or it does not depend on the input.
    """
    dependent = depends_on_input(graph.graph)
    nodes = [node for node in graph.graph.nodes if node.op in ("placeholder", "call_function") and node in dependent]
    for node in nodes:
        if node.name == where:
            return node
    inside = [node for node in nodes if _is_inside(node.meta["module_path"], where)]
    outputs = [node for node in inside if any(reader not in inside for reader in node.users)]
    if outputs:
        return outputs[-1]
    known = {node.name for node in nodes} | {node.meta["module_path"] for node in nodes if node.meta["module_path"]}
    raise InputError(
        f"{graph.model_name} has no node or module {where!r} that depends on the input", hint=suggest(where, known)
    )


def _is_inside(path: str, where: str) -> bool:
    return bool(path) and (fnmatch.fnmatchcase(path, where) or fnmatch.fnmatchcase(path, f"{where}.*"))


def features_at(graph: Graph, where: str) -> Graph:
    """The part of `graph` that computes `where`, a node's name or a module's path (a glob, if wanted), as a graph.

    It maps images `(batch, channels, height, width)` to that node's value `(batch, ...)` and shares its tensors with
    `graph`.

    Raises InputError where there is no such node, or its value has no row for each image.
    """
    node = node_at(graph, where)
    shape = node.meta["shape"]
    if not shape or shape[0] != "N":
        raise InputError(f"the value of {node.name} has the shape {shape}, which does not begin with N, the images")
    nodes, copies = copy_nodes(graph.graph)
    output = next(node for node in nodes.nodes if node.op == "output")
    output.args = (copies[node],)
    remove_dead_code(nodes)
    result = graph.derive(nodes, graph.tensors(), graph.log)
    result.class_names = None  # features are not the classes
    return result
