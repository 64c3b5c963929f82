"""The norms of a threat model: distances, projections onto the ball of epsilon, steepest steps, uniform points.

Images are `(batch, ...)` in [0, 1]; every function treats each image of a batch separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NormName = Literal["Linf", "L2", "L1"]


@dataclass(frozen=True, kw_only=True)
class Norm:
    """The functions of a norm that the projected-gradient loop uses.

    `distance(difference) -> (batch,)`. `project(perturbed, images, epsilon)`: a point within epsilon of the images and
    in [0, 1]; a point that meets both is returned unchanged. `direction(gradient, iterate, sparsity)`: a vector of norm
    one along which a linear loss rises; zero where the gradient is zero. `ball(uniform)`: `(batch, D + 1)` independent
    numbers in (0, 1) to `(batch, D)` points that are uniform in the unit ball. `diameter(D)`: the distance between a
    black and a white image.
    """

    distance: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, Tensor, float], Tensor]
    direction: Callable[[Tensor, Tensor, float | None], Tensor]
    ball: Callable[[Tensor], Tensor]
    diameter: Callable[[int], float]


def _distance_max(difference: Tensor) -> Tensor:
    return difference.abs().amax(_each(difference))


def _project_max(perturbed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    # Ball and range are both boxes, so clipping to one after the other is the exact projection onto both.
    return torch.clamp(perturbed, images - epsilon, images + epsilon).clamp_(0.0, 1.0)


def _direction_max(gradient: Tensor, iterate: Tensor, sparsity: float | None) -> Tensor:
    # The steepest step of length one in Linf moves every pixel: sum |g_i| is the largest value of <g, d>.
    return gradient.sign()


def _ball_max(uniform: Tensor) -> Tensor:
    return 2.0 * uniform[:, :-1] - 1.0


def _distance_euclidean(difference: Tensor) -> Tensor:
    return torch.linalg.vector_norm(difference, dim=_each(difference))


def _project_euclidean(perturbed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Scaled back into the ball, then clipped to [0, 1].

    Clipping only brings a point nearer to its image, so the result meets both constraints. It is not the nearest such
    point, which needs an iteration; published attacks in L2 do the same.
    """
    difference = perturbed - images
    length = _spread(_distance_euclidean(difference), images)
    scaled = torch.where(length > epsilon, difference * (epsilon / length.clamp_min(_TINY)), difference)
    return (images + scaled).clamp_(0.0, 1.0)


def _direction_euclidean(gradient: Tensor, iterate: Tensor, sparsity: float | None) -> Tensor:
    # Divided by the largest entry first: squares of gradients below 1e-19 are zero in float32.
    scaled = gradient / _spread(_distance_max(gradient), gradient).clamp_min(_TINY)
    return scaled / _spread(_distance_euclidean(scaled), scaled).clamp_min(_TINY)


def _ball_euclidean(uniform: Tensor) -> Tensor:
    """A normally distributed direction, at the radius u^(1/D): the volume within r is proportional to r^D."""
    # ndtri turns uniform numbers into normal ones, so that one hash serves all norms.
    normal = torch.special.ndtri(uniform[:, :-1])
    radius = uniform[:, -1:] ** (1.0 / normal.shape[1])
    return radius * normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)


def _distance_sum(difference: Tensor) -> Tensor:
    return difference.abs().sum(_each(difference))


def _project_sum(perturbed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """The nearest point of the intersection of ball and [0, 1] box; clipping after projecting would lose most of it.

    Every entry z of the difference becomes sign(z) min(max(|z| - t, 0), c), where c is how far the pixel can go and
    t >= 0 is such that the entries sum to epsilon (Croce & Hein 2021, "Mind the box").
    """
    # In float64: the sorted sums of thousands of pixels lose more in float32 than the slack that checks allow.
    difference, origin = (perturbed - images).flatten(1).double(), images.flatten(1).double()
    room = torch.where(difference > 0, 1.0 - origin, origin)
    size = difference.abs()
    kept = (size - _threshold(size, room, epsilon)).clamp_min(0.0).minimum(room)
    return (origin + difference.sign() * kept).clamp_(0.0, 1.0).to(images.dtype).reshape(images.shape)


def _threshold(size: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """The t of each row `(batch, 1)` at which sum min(max(size - t, 0), room) is epsilon; 0 where it is less at 0.

    The sum equals sum max(size - t, 0) - sum max(size - room - t, 0): linear between the sorted sizes and
    size - room, so cumulative sums give its value at all of them.
    """
    # All rows at once by sorting; a bisection would need a loop with a tolerance.
    corners = torch.cat([size, (size - room).clamp_min(0.0)], dim=1)
    signs = torch.ones_like(corners)
    signs[:, size.shape[1] :] = -1.0
    corners, order = corners.sort(dim=1, descending=True)
    signs = signs.gather(1, order)
    sums, slopes = (signs * corners).cumsum(1), signs.cumsum(1)
    below = (sums - corners * slopes) <= epsilon  # of the sum at each corner, which grows along the row
    last = below.sum(1, keepdim=True) - 1
    t = (sums.gather(1, last) - epsilon) / slopes.gather(1, last).clamp_min(1.0)
    return torch.where(below.all(1, keepdim=True), 0.0, t)


def _direction_sum(gradient: Tensor, iterate: Tensor, sparsity: float | None) -> Tensor:
    """Equal steps on the share `sparsity` of the pixels with the largest gradient, of those that can still move.

    The steepest step moves one pixel only, which takes too many steps; Tramèr & Boneh 2019 (SLIDE) move the top
    percentile.
    """
    assert sparsity is not None, "an attack in L1 has a sparsity"
    blocked = ((gradient > 0) & (iterate >= 1.0)) | ((gradient < 0) & (iterate <= 0.0))
    free = gradient.masked_fill(blocked, 0.0).flatten(1)
    # Pixels at the edge of the range that would leave it waste their share of the step: others move instead of them.
    count = max(1, round(sparsity * free.shape[1]))
    _, largest = free.abs().topk(count, dim=1)
    signs = torch.zeros_like(free).scatter_(1, largest, free.gather(1, largest).sign())
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1.0)).reshape(gradient.shape)


def _ball_sum(uniform: Tensor) -> Tensor:
    """Signed exponential numbers divided by the sum of their sizes and one more of them.

    The normalized spacings are uniform in the simplex; the additional number leaves room inside of the ball.
    """
    signed = 2.0 * uniform[:, :-1] - 1.0
    # -log u of a uniform u is exponentially distributed.
    sizes, rest = -signed.abs().clamp_min(_TINY).log(), -uniform[:, -1:].log()
    return signed.sign() * sizes / (sizes.sum(1, keepdim=True) + rest)


def _each(images: Tensor) -> tuple[int, ...]:
    """The dimensions of one image."""
    return tuple(range(1, images.dim()))


def _spread(values: Tensor, images: Tensor) -> Tensor:
    """`(batch,)` values in the dimensions of `(batch, ...)` images."""
    return values.reshape(-1, *(1,) * (images.dim() - 1))


_TINY = 1e-30
"""Replaces a zero divisor where the dividend is zero as well."""

NORMS: Mapping[str, Norm] = {
    "Linf": Norm(
        distance=_distance_max,
        project=_project_max,
        direction=_direction_max,
        ball=_ball_max,
        diameter=lambda size: 1.0,
    ),
    "L2": Norm(
        distance=_distance_euclidean,
        project=_project_euclidean,
        direction=_direction_euclidean,
        ball=_ball_euclidean,
        diameter=lambda size: size**0.5,
    ),
    "L1": Norm(
        distance=_distance_sum,
        project=_project_sum,
        direction=_direction_sum,
        ball=_ball_sum,
        diameter=lambda size: float(size),
    ),
}
"""Norms by name."""
