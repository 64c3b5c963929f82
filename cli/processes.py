"""Several processes for one training run on this machine, started as by `torchrun`, with the output of a single one.

The command itself is the first process, which writes the files and prints. The error output of the others is
kept, and shown where one of them fails. Ctrl-C reaches the first process only, which ends the others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO

import torch

from surgery.errors import InputError, SurgeryError
from surgery.run import LostProcessError
from surgery_cli.errors import ExitCode, StoppedError, problem, report

GRACE = 20.0
"""Seconds that this process has to end by itself once another one has failed."""

LINES = 12
"""Lines from the end of a failed process's output that are shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Other:
    """One of the other processes, and the file that holds its error output."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def failed(self) -> bool:
        """Whether the process has ended with a failure."""
        return self.process.poll() not in (None, ExitCode.DONE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Others:
    """All other processes. `alarm` is set when one of them has failed, `over` when failures no longer matter."""

    members: tuple[Other, ...]
    alarm: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """End this process soon after another one has failed; run in a thread."""
        while not self.over.wait(0.5):
            if any(other.failed for other in self.members):
                self.alarm.set()
                # An interrupt, as by Ctrl-C, lets training save its state. It does not end a wait inside torch for the
                # others to join, so the process exits after a while.
                os.kill(os.getpid(), signal.SIGINT)
                if not self.over.wait(GRACE):
                    # os._exit, since sys.exit in a thread ends only the thread.
                    report(problem(self.failure()), as_json=False)
                    os._exit(ExitCode.FAILED)
                return

    def failure(self) -> SurgeryError:
        """The error that quotes the last output of the first process that failed."""
        other = next((other for other in self.members if other.failed), self.members[0])
        number, count = self.members.index(other) + 2, len(self.members) + 1
        other.output.seek(0)
        lines = other.output.read().decode(errors="replace").strip().splitlines()
        code = other.process.returncode
        # A crash in native code leaves no message; the negative code is the number of the signal.
        how = f"died: {signal.strsignal(-code)}" if code is not None and code < 0 else f"has failed, exit code {code}"
        text = "\n".join(lines[-LINES:]) or "nothing"
        return SurgeryError(f"process {number} of {count} {how}; its last output:\n{text}")

    def end(self) -> None:
        """End the processes. They write no files, so nothing is left half written."""
        self.over.set()
        for other in self.members:
            other.process.kill()  # terminate would only ask, as the first Ctrl-C does
            other.process.wait()


def check_processes(count: int, device: str | None) -> None:
    """Raise InputError where there are fewer GPUs than processes that need one each."""
    if device is not None and torch.device(device).index is not None:
        raise InputError(f"--device {device}: each of {count} processes takes its own GPU", hint="--device cuda")
    gpus = torch.cuda.device_count()
    if count > gpus and (device == "cuda" or (device is None and gpus)):
        raise InputError(
            f"--nproc {count}: expected at most one process for each GPU; GPUs here: {gpus}",
            hint=f"--nproc {gpus}, or --device cpu",
        )


@contextmanager
def launched(words: Sequence[str], count: int) -> Iterator[None]:
    """Be the first of `count` processes during the block; each of the others runs `surgery` with `words`.

    Raises SurgeryError, with its last output, where one of the others fails.
    """
    # Each process would use all cores, and the processes would slow each other down.
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # Port 0 asks the system for a free port, which torch of the first process then opens, and the others connect to.
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(count)]
    with ExitStack() as stack:
        members: list[Other] = []
        for rank in ranks[1:]:
            # A file, not a pipe: nobody reads while the processes run, and a full pipe would block them.
            output = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                [sys.executable, "-m", "surgery_cli", *words],
                env={**os.environ, **address, **rank, "OMP_NUM_THREADS": threads},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal does not reach another session
            )
            members.append(Other(process=process, output=output))
        others = Others(members=tuple(members))
        stack.callback(others.end)
        threading.Thread(target=others.watch, daemon=True).start()
        stack.enter_context(_joining({**address, **ranks[0]}, threads=int(threads)))
        try:
            yield
        except (LostProcessError, StoppedError, KeyboardInterrupt) as error:
            # Where another process has failed, its output is the reason, and a lost connection or the interrupt of
            # `watch` a consequence.
            if isinstance(error, LostProcessError) or others.alarm.is_set():
                raise others.failure() from error
            raise


@contextmanager
def _joining(variables: Mapping[str, str], *, threads: int) -> Iterator[None]:
    """Set `variables`, which torch reads when training joins the processes; at the end leave them and restore all."""
    before = {name: os.environ.get(name) for name in variables}
    threads_before = torch.get_num_threads()
    os.environ.update(variables)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads_before)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
