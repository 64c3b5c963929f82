import dataclasses

import pytest

from surgery.attack import fgsm, pgd
from surgery.train import EpochRecord, Objective, TrainingConfig, fit, trainer
from surgery.train.diagnostics import notices_after
from surgery.train.validation import Accuracies


@pytest.fixture
def config(config) -> TrainingConfig:
    quick = fgsm(epsilon="8/255")
    return dataclasses.replace(
        config,
        objective=Objective(kind="pgd", attack=quick),
        selection=pgd(epsilon="8/255", steps=10, step_size="2/255"),
    )


def records(*pairs):
    """Epochs with these robust accuracies in training and in the evaluation."""
    return [
        EpochRecord(
            epoch=number,
            loss=1.0,
            parts={},
            train_natural=None,
            train_robust=train,
            natural=0.8,
            robust=robust,
            learning_rate=0.1,
            seconds=1.0,
        )
        for number, (train, robust) in enumerate(pairs, start=1)
    ]


def kinds(config, *pairs, images=1000):
    found = notices_after(config, records(*pairs), images=images, classes=10)
    return [notice.kind for notice in found]


def test_a_defence_against_one_step_only_is_noticed(config):
    assert kinds(config, (0.5, 0.4), (0.85, 0.01)) == ["catastrophic-overfitting", "robust-overfitting"]
    assert kinds(config, (0.85, 0.01)) == ["catastrophic-overfitting"]
    [notice] = notices_after(config, records((0.85, 0.01)), images=1000, classes=10)
    assert notice.epoch == 1
    assert "85.0% are right under the attack of training (1 steps" in notice.text
    assert "1.0% under 10 steps" in notice.text


def test_a_gap_alone_is_not_catastrophic(config):
    assert kinds(config, (0.9, 0.42)) == []


def test_a_network_that_has_learnt_nothing_is_not_catastrophic(config):
    assert kinds(config, (0.15, 0.01)) == []


def test_a_stronger_evaluation_is_no_sign(config):
    stronger = dataclasses.replace(config, selection=pgd(epsilon="32/255", steps=10, step_size="8/255"))
    assert kinds(stronger, (0.85, 0.01)) == []


def test_robust_accuracy_that_falls_is_noticed(config):
    assert kinds(config, (0.5, 0.50), (0.6, 0.47), (0.8, 0.44)) == ["robust-overfitting"]
    [notice] = notices_after(config, records((0.5, 0.5), (0.8, 0.44)), images=1000, classes=10)
    assert "44.0%, after 50.0% in epoch 1" in notice.text


def test_what_goes_up_and_down_is_no_overfitting_and_matters_at_the_end(config):
    config = dataclasses.replace(config, epochs=3)
    assert kinds(config, (0.5, 0.50), (0.51, 0.44)) == []
    assert kinds(config, (0.5, 0.50), (0.51, 0.44), (0.52, 0.50)) == []
    assert kinds(config, (0.5, 0.50), (0.51, 0.50), (0.52, 0.44)) == ["unsteady"]
    assert kinds(config, (None, 0.50), (None, 0.44)) == ["robust-overfitting"]  # as far as anybody knows


def test_noise_is_no_fall(config):
    assert kinds(config, (0.5, 0.50), (0.6, 0.48)) == []  # two points
    assert kinds(config, (0.5, 0.50), (0.6, 0.44), images=100) == []  # two standard errors are fourteen
    assert kinds(config, (0.5, 0.44), (0.6, 0.50)) == []  # rising


def test_nothing_is_said_of_epochs_that_were_not_evaluated(config):
    assert kinds(config, (0.5, 0.5), (0.9, None)) == []
    assert notices_after(config, [], images=1000, classes=10) == []


def test_standard_training_is_not_told_that_it_is_not_robust(config):
    standard = dataclasses.replace(config, objective=Objective(kind="standard"))
    assert kinds(standard, (None, 0.5), (None, 0.0)) == []


def test_each_kind_is_said_once_and_through_progress(network, data, config, monkeypatch):
    scores = iter([0.9, 0.3, 0.2, 0.1])
    monkeypatch.setattr(trainer, "accuracies", lambda *_, **__: Accuracies(natural=1.0, robust=next(scores)))
    seen = []
    result = fit(network, data, dataclasses.replace(config, epochs=4), progress=seen.append)
    assert [notice.epoch for notice in result.notices if notice.kind == "robust-overfitting"] == [2]
    assert [p.notice for p in seen if p.notice] == list(result.notices)
    assert result.best_epoch == 1
