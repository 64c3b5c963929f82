"""Attacks are values: sizes as they are written, settings of recipes, and what is refused."""

import dataclasses
import importlib
import sys
from inspect import ismodule

import pytest

import surgery.attack
from surgery.attack import Attack, attack_from, cw, fgsm, pgd, pixels, pixels_text, user_reference
from surgery.errors import InputError


def test_the_public_names_are_these():
    found = {name for name, value in vars(surgery.attack).items() if not name.startswith("_") and not ismodule(value)}
    assert found == {
        *("KINDS", "LOSSES", "NORMS", "PLAIN", "STARTS", "STEP_RULES"),
        *("Attack", "AttackProtocol", "Check", "Chunks", "Confusion", "Engine", "Evaluation", "EvaluationWarning"),
        *("ImageGenerator", "Iterate", "Outcome", "Paired", "Target"),
        *(
            "attack_batch",
            "attack_from",
            "attack_maker",
            "check_attack_names",
            "confusion_matrix",
            "cw",
            "evaluate",
            "fgsm",
        ),
        *("mcnemar", "perturb", "pgd", "pixels", "pixels_text", "random_start", "search", "settings_of"),
        "user_reference",
    }


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *[("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("2.5/255", 2.5 / 255)],
        *[("0.5", 0.5), ("1e-3", 1e-3), (0.03, 0.03), (1, 1.0)],
    ],
)
def test_sizes_are_read_as_fractions_and_numbers(written, number):
    assert pixels(written) == number


@pytest.mark.parametrize("written", ["8/255/2", "eight", "", "8/0", "/255", "--1", None, True, [8], "1e"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(InputError, match="a number or a fraction"):
        pixels(written)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        *[(float("nan"), "finite"), (float("inf"), "finite"), ("nan", "finite"), ("inf", "finite")],
        *[(-0.1, "at least 0"), ("-8/255", "at least 0")],
    ],
)
def test_sizes_are_finite_and_not_negative(written, why):
    with pytest.raises(InputError, match=f"step_size: .*{why}"):
        pixels(written, what="step_size")


def test_epsilon_8_gets_the_hint_to_write_8_255():
    with pytest.raises(InputError, match="from 0 to 1") as error:
        pgd(epsilon=8, steps=20, step_size=0.003)
    assert error.value.hint == "epsilon 8 is in units of 1/255? write 8/255"


def test_a_step_size_of_2_gets_the_same_hint():
    with pytest.raises(InputError) as error:
        pgd(epsilon="8/255", steps=20, step_size=2)
    assert error.value.hint == "step_size 2 is in units of 1/255? write 2/255"


def test_other_norms_have_larger_balls():
    assert pgd(norm="L2", epsilon=1.5, steps=1, step_size=1.5).epsilon == 1.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "linf"}, "did you mean 'Linf'"),
        ({"norm": "L3"}, "known are Linf, L2, L1"),
        ({"loss": "ce"}, "known are cross-entropy, margin, dlr"),
        ({"step_rule": "linear"}, "did you mean 'linear-decay'"),
        ({"start": "random"}, "known are uniform, zero"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 2.0}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"restarts": -1}, "restarts: expected a whole number of at least 1, got -1"),
        ({"restarts": 2, "start": "zero"}, "all the same"),
        ({"targeted": "yes"}, "true or false"),
        ({"sparsity": 0.1}, "expected no sparsity for the norm Linf"),
        ({"norm": "L1"}, "expected a sparsity for L1, the share of the pixels"),
        ({"norm": "L1", "sparsity": 1.5}, r"in \(0, 1\]"),
    ],
)
def test_what_makes_no_attack_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        pgd(**{"epsilon": "8/255", "steps": 20, "step_size": 0.003, **changes})


def test_an_attack_holds_numbers_only():
    with pytest.raises(InputError, match="holds numbers"):
        Attack(norm="Linf", epsilon="8/255", steps=1, step_size=0.1)


def test_fgsm_is_one_step_of_epsilon_from_the_image():
    attack = fgsm(epsilon="8/255")
    assert (attack.steps, attack.step_size, attack.start) == (1, attack.epsilon, "zero")


def test_cw_is_projected_gradient_descent_on_the_margin():
    arguments = {"epsilon": "8/255", "steps": 30, "step_size": 0.003}
    assert cw(**arguments) == pgd(**arguments, loss="margin")


def test_step_rules():
    def sizes(rule):
        attack = pgd(epsilon=0.1, steps=4, step_size=1.0, step_rule=rule)
        return [attack.step_at(step) for step in range(4)]

    assert sizes("constant") == [1.0] * 4
    assert sizes("linear-decay") == [1.0, 0.75, 0.5, 0.25]
    assert sizes("cosine") == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *[(8 / 255, "8/255"), (2.5 / 255, "2.5/255"), (0.5 / 255, "0.5/255"), (254 / 255, "254/255")],
        *[(0.003, "0.003"), (0.0, "0"), (1.0, "1"), (12, "12"), (128 / 255 * 2, "1.00392"), (1 / 3, "85/255")],
    ],
)
def test_sizes_are_written_in_one_form(number, text):
    assert pixels_text(number) == text
    assert pixels(text) == pytest.approx(number, rel=1e-5)


def test_functions_are_not_hidden_by_the_modules_of_their_names():
    for name in ("pgd", "random_start"):
        module = importlib.import_module(f"surgery.attack.{name}")
        assert getattr(surgery.attack, name) is getattr(module, name)


def test_settings_of_a_recipe_make_the_attack():
    settings = {"norm": "L2", "epsilon": "128/255", "steps": 10, "step_size": "15/255"}
    assert attack_from(settings) == pgd(**settings)
    assert attack_from({"kind": "fgsm", "epsilon": "8/255"}) == fgsm(epsilon="8/255")


@pytest.mark.parametrize(
    "attack",
    [
        fgsm(epsilon="8/255"),
        cw(epsilon=0.03, steps=3, step_size=0.01, restarts=2),
        pgd(norm="L1", epsilon=12, steps=2, step_size=1, sparsity=0.01, targeted=True),
    ],
)
def test_the_fields_of_an_attack_are_settings(attack):
    assert attack_from(dataclasses.asdict(attack)) == attack


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": "8/255", "steps": 20}, "at: pgd: the argument 'step_size' is missing"),
        ({"steps": 20}, "at: pgd: the argument 'epsilon' is missing"),
        ({"kind": "fgsm", "epsilon": "8/255", "steps": 3}, "at: fgsm: unknown argument 'steps'"),
        (
            {"epsilom": "8/255", "steps": 3, "step_size": 1},
            "at: pgd: unknown argument 'epsilom'(.|\n)*did you mean 'epsilon'",
        ),
        ({"kind": "pdg", "epsilon": "8/255"}, "unknown attack 'pdg'(.|\n)*did you mean 'pgd'"),
        ({"epsilon": 8, "steps": 20, "step_size": 0.1}, "at: epsilon 8(.|\n)*write 8/255"),
    ],
)
def test_wrong_settings_name_the_key(settings, message):
    with pytest.raises(InputError, match=message):
        attack_from(settings, where="at")


MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Shift:
    epsilon: float
    step_size: float = 0.1
    norm: str = "Linf"

    def __call__(self, target, images, labels, generator):
        return (images + self.epsilon).clamp(0, 1)

def broken(epsilon):
    raise ZeroDivisionError("no such thing")

def nothing(epsilon):
    return epsilon

number = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The module `own_attacks.shifts` of a user, in the current folder."""
    (tmp_path / "own_attacks").mkdir()
    (tmp_path / "own_attacks" / "shifts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "own_attacks.shifts"
    for name in ("own_attacks.shifts", "own_attacks"):
        sys.modules.pop(name, None)


def test_an_attack_of_a_user_is_a_kind(package):
    attack = attack_from({"kind": f"{package}:Shift", "epsilon": "8/255", "step_size": "2/255"})
    assert vars(attack) == {"epsilon": 8 / 255, "step_size": 2 / 255, "norm": "Linf"}


def test_an_installed_package_registers_attacks_by_name(package, monkeypatch):
    found = {"surgery.attacks": {"shift": f"{package}:Shift", "pgd": f"{package}:Shift"}}
    monkeypatch.setattr("surgery.plugins._registered", lambda: found)
    assert attack_from({"kind": "shift", "epsilon": 0.1}).epsilon == 0.1
    assert user_reference("shift") == f"{package}:Shift"
    assert user_reference("pgd") is None
    assert isinstance(attack_from({"kind": "pgd", "epsilon": 0.1, "steps": 1, "step_size": 0.1}), Attack)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Shift", {}, "at: own_attacks.shifts:Shift: the argument 'epsilon' is missing"),
        ("Shift", {"epsilom": 1}, "unknown argument 'epsilom'(.|\n)*did you mean 'epsilon'"),
        ("Shift", {"epsilon": "8/x"}, "at: epsilon: expected a number or a fraction, got '8/x'"),
        (
            "Shift",
            {"epsilon": 0.1, "norm": "L7"},
            "at: the value that own_attacks.shifts:Shift returns: expected an attack, .* got Shift",
        ),
        (
            "broken",
            {"epsilon": 0.1},
            "at: own_attacks.shifts:broken: calling it raised ZeroDivisionError: no such thing",
        ),
        (
            "nothing",
            {"epsilon": 0.1},
            "at: the value that own_attacks.shifts:nothing returns: expected an attack, .* got float",
        ),
        ("Shfit", {"epsilon": 0.1}, "at: own_attacks.shifts:Shfit: .* defines no 'Shfit'(.|\n)*did you mean 'Shift'"),
        (
            "number",
            {"epsilon": 0.1},
            "at: own_attacks.shifts:number: expected a function that returns an attack, got int",
        ),
    ],
)
def test_wrong_attacks_of_a_user_are_refused_in_place(package, name, settings, message):
    with pytest.raises(InputError, match=message):
        attack_from({"kind": f"{package}:{name}", **settings}, where="at")


def test_modules_that_do_not_exist_are_refused_in_place():
    with pytest.raises(InputError, match=r"at: nowhere_at_all\.attacks:mine: no module 'nowhere_at_all'"):
        attack_from({"kind": "nowhere_at_all.attacks:mine"}, where="at")
