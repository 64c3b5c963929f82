from __future__ import annotations

import dataclasses

import pytest
import torch

from surgery.errors import InputError
from surgery.hierarchy import NAMED, Hierarchy, named

PETS = {"animals": ("cat", "dog"), "vehicles": ("car",)}


def test_groups_and_block_matrix_say_the_same() -> None:
    hierarchy = Hierarchy.of_groups(PETS, class_names=("cat", "car", "dog"), method="test")
    assert hierarchy.superclass == (0, 1, 0)
    assert hierarchy.groups == ((0, 2), (1,))
    assert hierarchy.names == ("animals", "vehicles")
    assert hierarchy.num_superclasses == 2
    assert hierarchy.block_matrix.tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    assert hierarchy.block_matrix.dtype == torch.float64


def test_superclasses_are_numbered_by_first_appearance() -> None:
    assert Hierarchy.of_labels([7, 2, 7, 5], method="test").superclass == (0, 1, 0, 2)
    hierarchy = Hierarchy.of_groups(PETS, class_names=("car", "cat", "dog"), method="test")
    assert hierarchy.superclass == (0, 1, 1)
    assert hierarchy.names == ("vehicles", "animals")


def test_classes_without_names_are_called_by_their_labels() -> None:
    assert Hierarchy.of_labels([0, 0, 1], method="test").class_names == ("0", "1", "2")


def test_a_hierarchy_of_some_classes_keeps_their_superclasses() -> None:
    some = named("cifar10").for_classes(("dog", "ship", "cat"))
    assert some.class_names == ("dog", "ship", "cat")
    assert some.superclass == (0, 1, 0)
    assert some.names == ("animals", "non-animals")
    with pytest.raises(InputError, match=r"no class 'sheep'(.|\n)*did you mean 'ship'"):
        named("cifar10").for_classes(("dog", "sheep"))


WRONG = {
    "a class name stands twice": ({"class_names": ("cat", "dog", "cat")}, "'cat': class 0 and class 2"),
    "a class has no name": ({"class_names": ("cat", "", "dog")}, "class 1 is a non-empty string"),
    "there is no class": ({"class_names": (), "superclass": ()}, "at least one class"),
    "a class has no superclass": ({"superclass": (0, 1)}, "class 'dog' has no superclass"),
    "there are too many numbers": (
        {"superclass": (0, 1, 1, 0)},
        "expected a superclass number for each of 3 classes, got 4",
    ),
    "a number is left out": ({"superclass": (0, 2, 1)}, "superclass 2 of class 'car' is out of order"),
    "a number is negative": ({"superclass": (0, -1, 0)}, "superclass -1 of class 'car'"),
    "a superclass has no name": ({"names": ("animals",)}, "1 names for 2 superclasses"),
    "two superclasses have one name": ({"names": ("a", "a")}, "superclass 0 and superclass 1"),
    "merges are missing": ({"merges": ((0, 1, 0.5, 2),)}, "one merge less; got 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_together_is_one_error(name: str) -> None:
    good = Hierarchy(class_names=("cat", "car", "dog"), superclass=(0, 1, 0), method="test")
    changes, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(good, **changes)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ("cat", "dog"), "b": ("car", "cat")}, "class 'cat' is in superclass 'a' and 'b'"),
        ({"a": ("cat", "cat", "dog"), "b": ("car",)}, "class 'cat' is in superclass 'a' twice"),
        ({"a": ("cat", "dog"), "b": ("car", "cart")}, r"unknown class 'cart'(.|\n)*did you mean .*'car'"),
        ({"a": ("cat",), "b": ("car",)}, "class 'dog' is in no superclass"),
    ],
)
def test_groups_that_are_no_partition_are_an_error(groups: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Hierarchy.of_groups(groups, class_names=("cat", "car", "dog"), method="test")


def test_animals_of_cifar10_and_stl10_are_those_of_the_paper() -> None:
    assert dict(zip(named("cifar10").names or (), named("cifar10").groups, strict=True)) == {
        "non-animals": (0, 1, 8, 9),
        "animals": (2, 3, 4, 5, 6, 7),
    }
    assert dict(zip(named("stl10").names or (), named("stl10").groups, strict=True)) == {
        "non-animals": (0, 2, 8, 9),
        "animals": (1, 3, 4, 5, 6, 7),
    }


def test_cifar100_has_twenty_superclasses_of_five() -> None:
    hierarchy = named("cifar100")
    assert len(hierarchy.class_names) == 100
    assert list(hierarchy.class_names) == sorted(hierarchy.class_names)
    assert [len(group) for group in hierarchy.groups] == [5] * 20
    assert list(NAMED["cifar100"]) == sorted(NAMED["cifar100"])
    assert all(list(classes) == sorted(classes) for classes in NAMED["cifar100"].values())


def test_labels_of_cifar100_are_those_of_the_paper() -> None:
    """Section 4.1: superclasses 1, 2, 5 and 14, whose fifth classes are 91, 92, 87 and 98."""
    hierarchy, groups = named("cifar100"), list(NAMED["cifar100"].values())
    assert [hierarchy.class_names.index(groups[coarse][4]) for coarse in (1, 2, 5, 14)] == [91, 92, 87, 98]
    assert hierarchy.names is not None
    assert hierarchy.names[hierarchy.superclass[91]] == "fish"


@pytest.mark.parametrize("name", ["CIFAR-10", "cifar_10", "Cifar 10"])
def test_names_of_data_sets_may_be_written_in_many_ways(name: str) -> None:
    assert named(name) == named("cifar10")
    assert named("cifar20") == named("CIFAR-100")


def test_an_unknown_data_set_is_an_error_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'cifr10'(.|\n)*did you mean 'cifar10'"):
        named("cifr10")
    with pytest.raises(InputError, match=r"there are cifar10, stl10, cifar100(.|\n)*\.toml or \.json"):
        named("mnist")


def test_a_hierarchy_prints_its_superclasses() -> None:
    assert repr(named("cifar10")) == (
        "Hierarchy of 10 classes in 2 superclasses (named cifar10)\n"
        "  non-animals (4): airplane, automobile, ship, truck\n"
        "  animals (6): bird, cat, deer, dog, frog, horse"
    )
    merges = ((0, 1, 0.5, 2), (2, 3, 1.0, 3))
    found = Hierarchy.of_labels([0, 0, 1], merges=merges, method="average")
    assert repr(found).splitlines() == [
        "Hierarchy of 3 classes in 2 superclasses (average, with a dendrogram)",
        "  0 (2): 0, 1",
        "  1 (1): 2",
    ]


def test_a_large_hierarchy_prints_one_screen() -> None:
    lines = repr(Hierarchy.of_labels([label % 300 for label in range(3000)], method="test")).splitlines()
    assert len(lines) < 30
    assert all(len(line) < 120 for line in lines)
    assert lines[-1] == "  276 more (2760): ..."


def test_a_notebook_shows_a_table_without_markup_of_names() -> None:
    html = Hierarchy.of_groups({"<b>": ("cat", "dog & co"), "things": ("car",)}, method="test")._repr_html_()
    assert "<td>&lt;b&gt;</td><td>2</td><td>cat, dog &amp; co</td>" in html
    assert "Hierarchy of 3 classes in 2 superclasses (test)" in html
    assert html.count("<tr>") == html.count("</tr>") == 3
