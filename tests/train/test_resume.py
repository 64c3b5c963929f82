import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from surgery.attack import pgd
from surgery.data import Augmentation
from surgery.errors import InputError
from surgery.models import load_model, read_checkpoint
from surgery.models.checkpoint import HEADER_KEY, read_header, read_tensors
from surgery.train import Checkpoints, ExponentialAverage, OneCycle, StochasticAverage, WeightPerturbation, fit

STAMP = "resume.safetensors"


class Stopped(Exception):
    """Somebody pulled the plug."""


def stop_after(calls, heard=None):
    """A progress callback that raises at its call number `calls`; it appends the progress to `heard`.

    It ignores progress within an evaluation.
    """
    heard = [] if heard is None else heard

    def report(progress):
        if progress.evaluated is not None:
            return
        heard.append((progress.epoch, progress.batch, progress.record is not None))
        if len(heard) == calls:
            raise Stopped

    return report


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def assert_the_same_result(first, second):
    assert same(first.model.state_dict(), second.model.state_dict())
    assert same(first.best, second.best)
    assert (first.history, first.best_epoch, first.notices) == (second.history, second.best_epoch, second.notices)


@pytest.fixture
def rich(config):
    """A configuration in which everything that can be random is."""
    return dataclasses.replace(
        config,
        epochs=3,
        schedule=OneCycle(learning_rate=0.1),
        augmentation=Augmentation(padding=1, flip=True),
        averaging=ExponentialAverage(decay=0.8, start=2),
    )


@pytest.mark.parametrize("calls", [1, 4, 5, 6, 9, 17])
def test_a_stopped_training_ends_with_the_same_bits(network, data, rich, tmp_path, calls):
    """Stopped in the first batch, within an epoch, at its last batch, at its end, in the next, and near the end."""
    everything, before, after = [], [], []
    whole = fit(network, data, rich, progress=stop_after(0, everything))
    with pytest.raises(Stopped):
        fit(network, data, rich, checkpoints=tmp_path, progress=stop_after(calls, before))
    resumed = fit(network, data, rich, checkpoints=tmp_path, progress=stop_after(0, after))
    assert_the_same_result(resumed, whole)
    assert any(note.startswith("resumed after") for note in resumed.notes)
    assert before + after == everything  # nothing is done twice


def test_it_can_be_stopped_again_and_again(network, data, rich, tmp_path):
    whole = fit(network, data, rich)
    for _ in range(4):
        with pytest.raises(Stopped):
            fit(network, data, rich, checkpoints=tmp_path, progress=stop_after(4))
    assert_the_same_result(fit(network, data, rich, checkpoints=tmp_path), whole)


def test_the_stochastic_average_and_the_perturbation_go_on_too(network, data, config, tmp_path):
    objective = dataclasses.replace(config.objective, perturbation=WeightPerturbation(gamma=0.01))
    averaging = StochasticAverage(start=1, batches=2)
    config = dataclasses.replace(config, objective=objective, averaging=averaging, epochs=3)
    whole = fit(network, data, config)
    with pytest.raises(Stopped):
        fit(network, data, config, checkpoints=tmp_path, progress=stop_after(9))
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path), whole)


def test_an_evaluation_can_be_stopped(network, data, config, tmp_path):
    selection = pgd(epsilon="8/255", steps=2, step_size="4/255")
    config = dataclasses.replace(config, selection=selection, averaging=StochasticAverage(start=1, batches=2), epochs=2)
    whole = fit(network, data, config)

    def stop(progress):
        if progress.evaluated is not None and progress.evaluated > 0.4:
            raise Stopped

    with pytest.raises(Stopped):
        fit(network, data, config, checkpoints=tmp_path, progress=stop)
    after = []
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path, progress=after.append), whole)
    assert after[0].evaluated is not None  # no batch was trained on twice


def test_another_copy_of_the_network_goes_on_with_the_weights_that_were_kept(network, data, rich, tmp_path):
    whole = fit(network, data, rich)
    with pytest.raises(Stopped):
        fit(network, data, rich, checkpoints=tmp_path, progress=stop_after(7))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter.data)
    assert_the_same_result(fit(network, data, rich, checkpoints=tmp_path), whole)


def test_a_training_stopped_at_its_first_notice_tells_it_once(network, data, config, tmp_path):
    network.append(torch.nn.Softmax(1))
    whole = fit(network, data, config)
    with pytest.raises(Stopped):
        fit(network, data, config, checkpoints=tmp_path, progress=stop_after(1))
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path), whole)


def test_states_of_earlier_versions_are_of_the_same_training(config):
    """The digest is the one that earlier versions wrote for this configuration, under other names of classes."""
    assert config.digest == "755021aebba96ebfd65a95fc9511f4915b3da9fd1e020c47df43ca7f0a8705d0"


def test_a_finished_training_is_not_trained_again(network, data, config, tmp_path):
    whole = fit(network, data, config, checkpoints=tmp_path)
    seen = []
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path, progress=seen.append), whole)
    assert seen == []


CHANGES = {
    "config": lambda network, data, config: (network, data, dataclasses.replace(config, epochs=3)),
    "data": lambda network, data, config: (network, dataclasses.replace(data, train=data.validation), config),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_state_of_another_training_is_refused_unless_told(network, data, config, tmp_path, name):
    fit(network, data, config, checkpoints=tmp_path)
    other = CHANGES[name](network, data, config)
    with pytest.raises(InputError, match=r"another configuration, other data or another network(.|\n)*resume=False"):
        fit(*other, checkpoints=tmp_path)
    anew = fit(*other, checkpoints=tmp_path, resume=False)
    assert_the_same_result(anew, fit(*other))


def test_a_network_of_other_shapes_is_refused(network, data, config, tmp_path):
    fit(network, data, config, checkpoints=tmp_path)
    network[0] = torch.nn.Conv2d(3, 8, 3, padding=1)
    with pytest.raises(InputError, match="another network"):
        fit(network, data, config, checkpoints=tmp_path)


def test_beginning_anew_forgets_what_was_kept(network, data, config, tmp_path):
    fit(network, data, config, checkpoints=tmp_path)
    other = dataclasses.replace(config, seed=8)
    with pytest.raises(Stopped):
        fit(network, data, other, checkpoints=tmp_path, resume=False, progress=stop_after(1))
    with pytest.raises(InputError, match="another configuration"):
        fit(network, data, config, checkpoints=tmp_path)


def damaged(content, how):
    if how == "truncated":
        return content[:-100]
    if how == "half a header":
        return content[:50]
    if how == "another digest of the run":
        place = content.index(b'\\"digest\\": \\"') + 15
        return content[:place] + (b"0" if content[place : place + 1] != b"0" else b"1") + content[place + 1 :]
    if how == "an entry of the header is missing":
        return content.replace(b'\\"epoch\\": 2', b'\\"epocs\\": 2')
    if how == "another number in the header":
        return content.replace(b'\\"batch\\": 0', b'\\"batch\\": 1')
    return content[:-9] + bytes([content[-9] ^ 64]) + content[-8:]


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "half a header",
        "an entry of the header is missing",
        "another digest of the run",
        "another number in the header",
        "another weight",
    ],
)
def test_a_damaged_state_says_which_file_to_delete(network, data, config, tmp_path, how):
    fit(network, data, config, checkpoints=tmp_path)
    content = (tmp_path / STAMP).read_bytes()
    assert damaged(content, how) != content
    (tmp_path / STAMP).write_bytes(damaged(content, how))
    with pytest.raises(InputError, match=rf"{STAMP}: (.|\n)*delete this file: the training then starts again"):
        fit(network, data, config, checkpoints=tmp_path)
    (tmp_path / STAMP).unlink()
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path), fit(network, data, config))


def test_states_of_earlier_versions_have_no_digest(network, data, config, tmp_path):
    whole = fit(network, data, config, checkpoints=tmp_path)
    header, tensors = read_header(tmp_path / STAMP), read_tensors(tmp_path / STAMP)
    del header["sha256"], header["threads"]
    (tmp_path / STAMP).write_bytes(save(tensors, metadata={HEADER_KEY: json.dumps(header)}))
    assert_the_same_result(fit(network, data, config, checkpoints=tmp_path), whole)


def test_another_number_of_threads_is_noticed_on_resume(network, data, config, tmp_path):
    with pytest.raises(Stopped):
        fit(network, data, config, checkpoints=tmp_path, progress=stop_after(1))
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(threads + 1)
    try:
        resumed = fit(network, data, config, checkpoints=tmp_path, progress=seen.append)
    finally:
        torch.set_num_threads(threads)
    [notice] = [notice for notice in resumed.notices if notice.kind == "threads"]
    assert notice.text.startswith(f"resumed with another number of threads ({threads + 1} instead of {threads}):")
    assert seen[0].notice == notice
    finished = fit(network, data, config, checkpoints=tmp_path)
    assert finished.notices == resumed.notices


def test_a_foreign_file_in_the_folder_is_named(network, data, config, tmp_path):
    (tmp_path / STAMP).write_bytes(b"not a state")
    with pytest.raises(InputError, match=STAMP):
        fit(network, data, config, checkpoints=tmp_path)


def test_a_folder_that_cannot_be_made_is_named(network, data, config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*cannot be made"):
        fit(network, data, config, checkpoints=tmp_path / "file" / "folder")


def test_within_an_epoch_the_state_is_written_as_often_as_asked(network, data, config, tmp_path):
    written = []

    def look(progress):
        header = read_header(tmp_path / STAMP) if (tmp_path / STAMP).exists() else {}
        if progress.evaluated is None:
            written.append((header.get("epoch"), header.get("batch")))

    fit(network, data, config, checkpoints=Checkpoints(folder=tmp_path, seconds=0.0), progress=look)
    assert written[:6] == [(None, None), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]


def test_checkpoints_open_as_the_networks_they_are(data, config, tmp_path):
    from surgery.models import build

    arguments = {"num_classes": 4, "width": 4}
    torch.manual_seed(0)
    model = build("convnet", **arguments)
    where = Checkpoints(folder=tmp_path, architecture="convnet", arguments=arguments)
    result = fit(model, data, config, checkpoints=where)
    assert same(load_model(tmp_path / "last.safetensors").state_dict(), result.model.state_dict())
    assert same(load_model(tmp_path / "best.safetensors").state_dict(), dict(result.best))
    best = read_checkpoint(tmp_path / "best.safetensors")
    assert best.class_names == data.class_names
    assert best.input_shape == (3, 8, 8)
    assert best.extra["selected_on"] == "validation"
    assert best.extra["record"]["epoch"] == result.best_epoch
    assert best.extra["plan"]["objective"]["attack"]["steps"] == 2


def test_files_hold_no_pickle(network, data, config, tmp_path):
    fit(network, data, config, checkpoints=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors", STAMP]
    for path in tmp_path.iterdir():
        length = int.from_bytes(path.read_bytes()[:8], "little")
        json.loads(path.read_bytes()[8 : 8 + length])


KILLED_AFTER = (3, 6)
"""Calls of the progress callback: within the first epoch, and at its end."""

SCRIPT = """
    import importlib.util, os, signal, sys
    import torch
    spec = importlib.util.spec_from_file_location("small", {conftest!r})
    small = importlib.util.module_from_spec(spec); spec.loader.exec_module(small)
    from surgery.train import Checkpoints, fit
    def made(fixture, *arguments):
        return fixture._get_wrapped_function()(*arguments)
    def train(calls):
        torch.set_num_threads(1)
        network, data = made(small.network), made(small.data)
        config = made(small.config, made(small.attack))
        count = 0
        def report(progress):
            nonlocal count
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
        folder = f"{{sys.argv[1]}}/{{calls}}"
        fit(network, data, config, checkpoints=Checkpoints(folder=folder, seconds=0.0), progress=report)
    # Forked before torch computes anything: importing it takes longer than the training.
    for calls in map(int, sys.argv[2:]):
        child = os.fork()
        if child == 0:
            train(calls)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of training runs that were killed, each in a folder named by the number of calls before."""
    folder = tmp_path_factory.mktemp("killed")
    script = textwrap.dedent(SCRIPT).format(conftest=str(Path(__file__).parent / "conftest.py"))
    command = [sys.executable, "-c", script, str(folder), *map(str, KILLED_AFTER)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize("calls", KILLED_AFTER)
def test_a_killed_training_ends_with_the_same_bits(network, data, config, killed, calls):
    # On one thread, like the killed process: another number of threads adds in another order.
    assert torch.get_num_threads() == 1
    resumed = fit(network, data, config, checkpoints=killed / str(calls))
    assert_the_same_result(resumed, fit(network, data, config))
    assert any(note.startswith("resumed after") for note in resumed.notes)
