"""Results do not depend on the state of torch that the caller has set, nor on other threads."""

import copy
import threading

import pytest
import torch

from surgery.attack import PLAIN, confusion_matrix, evaluate, perturb, pgd, search

PGD = pgd(epsilon="2/255", steps=2, step_size="1/255")
FUNCTIONS = {
    "evaluate": lambda model, images, labels: evaluate(model, (images, labels), {"pgd": PGD})["pgd"].predictions,
    "evaluate, plain": lambda model, images, labels: (
        evaluate(model, (images, labels), {"pgd": PGD}, engine=PLAIN)["pgd"].predictions
    ),
    "confusion_matrix": lambda model, images, labels: confusion_matrix(model, (images, labels), PGD).counts,
    "perturb": lambda model, images, labels: perturb(model, images, labels, PGD),
    "search": lambda model, images, labels: search(lambda x: -model(x)[:, 0], images, PGD, start=images),
}
STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_callers_state_changes_no_result_and_comes_back(model, images, labels, name, state):
    expected = FUNCTIONS[name](model, images[:16], labels[:16])
    with STATES[state]():
        before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        # Images that are made in the caller's state, as those of a data loader there.
        found = FUNCTIONS[name](model, images[:16].clone(), labels[:16].clone())
        assert before == (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )
    assert not found.is_inference()
    assert torch.equal(found, expected)


def test_a_network_that_was_made_in_inference_mode_is_attacked(model, images, labels):
    with torch.inference_mode():
        made = copy.deepcopy(model)
    assert next(made.parameters()).is_inference()
    found = evaluate(made, (images, labels), {"pgd": PGD})
    assert torch.equal(found["pgd"].predictions, evaluate(model, (images, labels), {"pgd": PGD})["pgd"].predictions)


def test_a_network_in_float64_is_searched_on_a_traced_copy(model, images, labels):
    found = evaluate(copy.deepcopy(model).double(), (images, labels), {"pgd": PGD})
    assert len(found.notes) == 1
    assert found.notes[0].startswith("searched on a traced copy")


def test_two_evaluations_at_once_leave_the_model_in_its_mode(model, images, labels):
    shared = copy.deepcopy(model).train()
    shared.norm.eval()
    second_holds_it, first_is_done = threading.Event(), threading.Event()
    data, seen = (images[:16], labels[:16]), []

    def second_progress(done, total):
        second_holds_it.set()
        first_is_done.wait(20)
        seen.append(shared.training)

    def second():
        evaluate(shared, data, {"pgd": PGD}, progress=second_progress)

    thread = threading.Thread(target=second)

    def first_progress(done, total):
        thread.start()
        second_holds_it.wait(20)

    evaluate(shared, data, {"pgd": PGD}, progress=first_progress)
    first_is_done.set()
    thread.join(20)
    assert seen == [False]
    assert shared.training
    assert shared.head.training
    assert not shared.norm.training
