from __future__ import annotations

import pytest
import torch
from torch import Tensor

from surgery.data import Augmentation
from surgery.errors import InputError


def batch(count: int = 64, shape: tuple[int, int, int] = (3, 6, 5)) -> Tensor:
    # No zeros, so that padding can be distinguished from pixels.
    return torch.randint(1, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def windows(image: Tensor, padding: int, flip: bool) -> list[Tensor]:
    """All images that may come of one, one by one."""
    height, width = image.shape[1:]
    padded = torch.zeros(len(image), height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    places = range(2 * padding + 1)
    found = [padded[:, y : y + height, x : x + width] for y in places for x in places]
    return found + [window.flip(2) for window in found] if flip else found


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (1, False), (1, True), (2, True)])
def test_every_image_becomes_one_of_its_windows_and_every_window_comes(padding: int, flip: bool) -> None:
    image = batch(1)
    images = image.expand(4000, -1, -1, -1)
    found = Augmentation(padding=padding, flip=flip)(images, torch.Generator().manual_seed(1))
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    allowed = torch.stack(windows(image[0], padding, flip))
    same = (found[:, None] == allowed).flatten(2).all(2)
    assert bool((same.sum(1) == 1).all())
    expected = len(images) / len(allowed)
    # Six standard deviations of a count.
    assert bool(((same.sum(0) - expected).abs() <= 6 * expected**0.5).all())


def test_images_of_a_batch_are_drawn_on_their_own() -> None:
    images = batch()
    found = Augmentation(padding=1, flip=True)(images, torch.Generator().manual_seed(2))
    places = [
        next(i for i, window in enumerate(windows(image, 1, True)) if torch.equal(window, result))
        for image, result in zip(images, found, strict=True)
    ]
    assert len(set(places)) > 10


def test_only_the_given_generator_is_used() -> None:
    augment, images = Augmentation(padding=4, flip=True), batch()
    state = torch.get_rng_state()
    first = augment(images, torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(augment(images, generator), first)
    assert not torch.equal(augment(images, generator), first)


def test_images_are_left_as_they_are() -> None:
    images = batch()
    before = images.clone()
    Augmentation(padding=2, flip=True)(images, torch.Generator())
    assert torch.equal(images, before)
    assert Augmentation(padding=2, flip=True)(images[:0], torch.Generator()).shape == (0, 3, 6, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_generator_on_the_cpu_makes_the_same_images_on_the_gpu() -> None:
    augment, images = Augmentation(padding=4, flip=True), batch()
    found = augment(images.cuda(), torch.Generator().manual_seed(4))
    assert torch.equal(found.cpu(), augment(images, torch.Generator().manual_seed(4)))
    assert augment(images, torch.Generator("cuda").manual_seed(4)).device.type == "cpu"


def test_what_is_no_batch_of_images_is_an_error() -> None:
    with pytest.raises(InputError, match="padding is a whole number of at least 0; got -1"):
        Augmentation(padding=-1, flip=True)
    for wrong in (batch().float(), batch()[0]):
        with pytest.raises(InputError, match="uint8 images of shape"):
            Augmentation(padding=1, flip=True)(wrong, torch.Generator())
