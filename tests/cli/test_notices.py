"""Notices about models that a command traces."""

import pytest
from typer.testing import CliRunner

from surgery_cli.main import app

NETWORKS = """
import torch
from torch import nn


class Noise(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.rand(1)


class Counts(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x.flatten(1) * self.calls
"""


def inspected(tmp_path, name):
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return CliRunner().invoke(app, ["inspect", "--model", f"{path}:{name}", "--input", "3x4x4"])


@pytest.mark.filterwarnings("default")  # as for users: the tests turn warnings into errors
def test_random_numbers_are_a_warning(tmp_path):
    result = inspected(tmp_path, "Noise")
    assert result.exit_code == 0
    assert "warning: Noise draws random numbers in evaluation mode" in result.stderr
    assert "UserWarning" not in result.stderr


def test_a_count_of_calls_is_an_error(tmp_path):
    result = inspected(tmp_path, "Counts")
    assert result.exit_code == 2
    assert "error: Counts gives other outputs for the same images in its second forward pass" in result.stderr
    assert "Traceback" not in result.stderr
