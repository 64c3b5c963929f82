"""The command `surgery attack`: what it records, and attacks of a user by name."""

import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from surgery.graph import weight_digest
from surgery.models import build
from surgery.store import read_group
from surgery_cli.main import app

SMALL = ["--arch", "convnet", "--num-classes", "9", "--arg", "width=4", "--input", "3x16x16"]
DATA = ["--data", "planted", "--images", "45"]
PGD = ["--epsilon", "8/255", "--steps", "2", "--step-size", "4/255"]

MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Noise:
    epsilon: float
    queries: int
    norm: str = "Linf"
    uses_gradients: bool = False

    def __call__(self, target, images, labels, generator):
        for _ in range(self.queries):
            yield (images + self.epsilon * (2 * generator.uniform(*images.shape[1:]) - 1)).clamp(0, 1)
"""


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["attack", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


@pytest.fixture
def noise(tmp_path, monkeypatch):
    (tmp_path / "noise_attack.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "noise_attack:Noise"
    sys.modules.pop("noise_attack", None)


def test_the_provenance_says_which_weights_were_attacked(tmp_path):
    run(*SMALL, *DATA, *PGD, "-o", tmp_path / "run.h5")
    provenance = read_group(tmp_path / "run.h5", "robustness").provenance
    parameters = json.loads(provenance["parameters"])
    torch.manual_seed(0)
    assert parameters["weight_digest"] == weight_digest(build("convnet", num_classes=9, width=4))
    assert parameters["architecture"] == "convnet"
    assert "None" not in provenance["parameters"]
    assert "model_file" not in parameters
    assert json.loads(provenance["seeds"]) == {"attack": 0, "weights": 0}


def test_an_attack_of_a_user_goes_with_others(noise, tmp_path):
    arguments = ["--attack", "pgd", "--attack", noise, "--attack-arg", "queries=3", "-o", tmp_path / "run.h5", "--json"]
    found = json.loads(run(*SMALL, *DATA, *PGD, *arguments))
    assert list(found["outcomes"]) == ["natural", "pgd", noise, "worst case"]
    assert found["outcomes"][noise]["attack"]["queries"] == 3
    assert found["outcomes"][noise]["attack"]["epsilon"] == 8 / 255
    assert all(check["passed"] for check in found["checks"] if "epsilon" in check["name"])
    group = read_group(tmp_path / "run.h5", "robustness")
    assert json.loads(group.provenance["parameters"])["attacks"][noise]["queries"] == 3


def test_a_matrix_of_an_attack_of_a_user(noise):
    arguments = ["--attack", noise, "--epsilon", "8/255", "--attack-arg", "queries=2", "--matrix", "--json"]
    found = json.loads(run(*SMALL, *DATA, *arguments))
    assert sum(map(sum, found["counts"])) == 45


def test_other_arguments_of_an_attack_are_toml_values():
    found = json.loads(
        run(*SMALL, *DATA, *PGD, "--attack-arg", "start=zero", "--attack-arg", "early-stop=false", "--json")
    )
    attack = found["outcomes"]["pgd"]["attack"]
    assert (attack["start"], attack["early_stop"]) == ("zero", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "noise_attack:Noise", "--epsilon", "8/255"], "needs --attack-arg queries=VALUE"),
        (["--attack", "noise_attack:Noise"], "needs --epsilon SIZE, --attack-arg queries=VALUE"),
        ([*PGD, "--attack-arg", "queries=3"], "--attack-arg queries is not a setting of pgd"),
        ([*PGD, "--attack-arg", "queries"], "--attack-arg queries: expected KEY=VALUE"),
        ([*PGD, "--attack-arg", "start=zero", "--attack-arg", "start=zero"], "start is given twice"),
        ([*PGD, "--attack-arg", "epsilon=1"], "--epsilon is given too"),
        (
            ["--attack", "noise_attack:Noise", "--epsilon", "1/255", "--attack-arg", "queries=1", "--targeted"],
            "--targeted is not a setting of noise_attack:Noise",
        ),
        (["--attack", "fgsm", "--epsilon", "8/255", "--steps", "3"], "--steps is not a setting of fgsm"),
        (["--attack", "fgms", "--epsilon", "8/255"], "did you mean 'fgsm'"),
        (["--attack", "noise_attack:Nois", "--epsilon", "8/255"], "defines no 'Nois'"),
        (["--attack", "natural", "--epsilon", "8/255"], "cannot be called 'natural'"),
        ([*PGD, "--attack", "pgd", "--attack", "fgsm", "--matrix"], "--matrix takes one attack"),
    ],
)
def test_wrong_options_are_refused_by_name(noise, arguments, message):
    assert message in " ".join(run(*SMALL, *DATA, *arguments, code=2).split())
