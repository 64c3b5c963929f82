"""The command `surgery attack`: what it records, and attacks of a user by name."""

import json
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from surgery.attack import evaluate, pgd
from surgery.data import images_as_float, load
from surgery.graph import weight_digest
from surgery.models import Checkpoint, build, save_checkpoint
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


def test_json_says_what_was_attacked():
    found = json.loads(run(*SMALL, *DATA, *PGD, "--device", "cpu", "--seed", 3, "--json"))
    assert found["model"] == {
        "file": None, "source": found["model"]["source"], "architecture": "convnet", "normalize": None
    }  # fmt: skip
    assert found["data"] == {"name": "planted", "title": "planted 3x3", "images": 45}
    assert (found["seed"], found["device"], found["precision"]) == (3, "cpu", "auto")


def test_an_accuracy_at_chance_is_a_warning():
    output = CliRunner().invoke(app, ["attack", *SMALL, *DATA, *PGD, "--seed", "1"])
    assert output.exit_code == 0
    said = " ".join(output.stderr.split())
    assert "warning: natural accuracy" in said
    assert "is not above chance (11.1%): is the normalization that of the training" in said


def test_normalization_is_a_layer_before_the_model(tmp_path):
    constants = "0.1,0.2,0.3;0.4,0.5,0.6"
    run(*SMALL, *DATA, *PGD, "-o", tmp_path / "run.h5", "--normalize", constants)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build("convnet", num_classes=9, width=4, normalize={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})
    data = load("planted", test_size=45)
    attack = pgd(epsilon="8/255", steps=2, step_size="4/255")
    expected = evaluate(model, data, {"pgd": attack})
    group = read_group(tmp_path / "run.h5", "robustness")
    assert group["prediction"][1].tolist() == expected["pgd"].predictions.tolist()
    assert json.loads(group.provenance["parameters"])["normalize"]["mean"] == [0.1, 0.2, 0.3]
    known = json.loads(run(*SMALL, *DATA, *PGD, "--normalize", "imagenet", "--json"))
    assert known["model"]["normalize"]["std"] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize("attack", ["pgd", "noise_attack:Noise"])
def test_attacked_images_are_written_exactly_and_as_a_preview(noise, tmp_path, attack):
    arguments = ["--attack", attack, "--attack-arg", "queries=2"] if "noise" in attack else []
    settings = ["--epsilon", "8/255"] if "noise" in attack else PGD
    run(*SMALL, *DATA, *settings, *arguments, "--save-images", tmp_path / "new" / "images")
    name = attack.replace(":", "-")
    tensors = load_file(tmp_path / "new" / "images" / f"{name}.safetensors")
    images, test = tensors["images"], load("planted", test_size=45).test
    assert torch.equal(tensors["labels"], test.labels)
    assert float((images - images_as_float(test.images)).abs().max()) <= 8 / 255 + 1e-6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build("convnet", num_classes=9, width=4).eval()
    assert torch.equal(model(images).argmax(1), tensors["predictions"])
    with Image.open(tmp_path / "new" / "images" / f"{name}.png") as preview:
        assert preview.height == 32


def test_classes_in_another_order_are_a_warning(tmp_path):
    names = tuple(reversed(load("planted", test_size=9).class_names))
    model = build("convnet", num_classes=9, width=4)
    checkpoint = Checkpoint(architecture="convnet", arguments={"num_classes": 9, "width": 4}, input_shape=(3, 16, 16),
                            class_names=names, state=model.state_dict())  # fmt: skip
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    output = CliRunner().invoke(app, ["attack", str(tmp_path / "model.safetensors"), *DATA, *PGD])
    assert "the model has the classes C3, C2, C1, ..., the data A1, A2, A3" in " ".join(output.stderr.split())


@pytest.mark.parametrize("code", ["{}['no logits']", "1 + nn.ReLU()(x.no_logits)", "x.view(7)"])
def test_a_model_that_raises_is_located(tmp_path, monkeypatch, code):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return " + code + "\n"
    )
    monkeypatch.chdir(tmp_path)
    output = " ".join(run("--model", "own_net.py:Net", *DATA, *PGD, code=2).split())
    assert "own_net.py:6" in output
    assert "internal error" not in output


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
        ([*PGD, "--matrix", "--save-images", "there"], "--save-images and --matrix exclude each other"),
        ([*PGD, "--save-images", "noise_attack.py"], "--save-images noise_attack.py: cannot be made"),
        ([*PGD, "--normalize", "imagnet"], "--normalize: expected cifar10, imagenet or MEAN;STD, got 'imagnet'"),
        ([*PGD, "--normalize", "0.5;0.5"], "1 numbers in mean and 1 in std"),
    ],
)
def test_wrong_options_are_refused_by_name(noise, arguments, message):
    assert message in " ".join(run(*SMALL, *DATA, *arguments, code=2).split())
