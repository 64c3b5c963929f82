"""Several processes: the failure of one of them names the signal that ended it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from surgery_cli.processes import Other, Others

CODES = [
    ("import os; os.kill(os.getpid(), 11)", "process 2 of 2 died: Segmentation fault; its last output:\nnothing"),
    ("raise SystemExit('out of luck')", "process 2 of 2 has failed, exit code 1; its last output:\nout of luck"),
]


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize(("code", "said"), CODES)
def test_failure_says_how_the_process_ended(code: str, said: str) -> None:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=output)
        process.wait(timeout=30)
        assert Others(members=(Other(process=process, output=output),)).failure().message == said
