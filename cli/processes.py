"""Several processes for one training run on this machine, as `torchrun` starts them, but with one voice.

The command itself is the first of them and speaks for all. What the others say is kept, and told where one of them is
the reason for the end. Interrupts reach the first alone; without it the others end.
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
from surgery.recipe.running import LostProcessError
from surgery_cli.errors import ExitCode, StoppedError, problem, report

GRACE = 20.0
"""Seconds that this process has to come to its end once another one has failed."""

LINES = 12
"""Lines of what a process said last that are told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Other:
    """One of the other processes, and the file of what it says."""

    process: subprocess.Popen[bytes]
    voice: IO[bytes]

    @property
    def failed(self) -> bool:
        """Whether it has ended in failure; that the first process is gone is none."""
        return self.process.poll() not in (None, ExitCode.DONE)

    def words(self) -> str:
        """What it said last."""
        self.voice.seek(0)
        lines = self.voice.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-LINES:]) or f"it said nothing; its exit code is {self.process.returncode}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Others:
    """All other processes, watched: `alarm` is set when one has failed, `over` when that is of no interest any more."""

    members: tuple[Other, ...]
    alarm: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Have this process end soon after another one has failed; run in a thread.

        Where they meet for the first time nothing but the end of the process ends the wait for one that is gone.
        """
        while not self.over.wait(0.5):
            if any(other.failed for other in self.members):
                self.alarm.set()
                os.kill(os.getpid(), signal.SIGINT)
                if not self.over.wait(GRACE):
                    report(problem(self.failure()), as_json=False)
                    os._exit(ExitCode.FAILED)
                return

    def failure(self) -> SurgeryError:
        """What the first process that failed said."""
        other = next((other for other in self.members if other.failed), self.members[0])
        number, count = self.members.index(other) + 2, len(self.members) + 1
        return SurgeryError(f"process {number} of {count} has failed; it said:\n{other.words()}")

    def end(self) -> None:
        """End them. They write nothing, so there is nothing that they could leave half done."""
        self.over.set()
        for other in self.members:
            other.process.kill()
            other.process.wait()


def check_processes(count: int, device: str | None) -> None:
    """Raise InputError where there are fewer GPUs than processes that each want one."""
    if device is not None and torch.device(device).index is not None:
        raise InputError(f"--device {device}: each of {count} processes takes its own GPU", hint="as in --device cuda")
    gpus = torch.cuda.device_count()
    if count > gpus and (device == "cuda" or (device is None and gpus)):
        raise InputError(f"--nproc {count}: GPUs here: {gpus}", hint=f"--nproc {gpus}, or --device cpu")


@contextmanager
def launched(words: Sequence[str], count: int) -> Iterator[None]:
    """Be the first of `count` processes during the block; each of the others runs `surgery` with `words`.

    Raises SurgeryError, with what it said, where one of the others fails.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    common = {**os.environ, **address, "OMP_NUM_THREADS": threads}
    with ExitStack() as stack:
        voices = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        started = [_start(words, {**common, **_ranks(number)}, voice) for number, voice in enumerate(voices, start=1)]
        others = Others(
            members=tuple(Other(process=item, voice=voice) for item, voice in zip(started, voices, strict=True))
        )
        stack.callback(others.end)
        threading.Thread(target=others.watch, daemon=True).start()
        stack.enter_context(_environment({**address, **_ranks(0)}))
        stack.enter_context(_threads(int(threads)))
        stack.callback(_part)
        try:
            yield
        except (LostProcessError, StoppedError, KeyboardInterrupt) as error:
            if isinstance(error, LostProcessError) or others.alarm.is_set():
                raise others.failure() from error
            raise


def _ranks(number: int) -> dict[str, str]:
    return {"RANK": str(number), "LOCAL_RANK": str(number)}


def _start(words: Sequence[str], environment: Mapping[str, str], voice: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own, which Ctrl-C at the terminal does not reach."""
    return subprocess.Popen(
        [sys.executable, "-m", "surgery_cli", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=voice,
        start_new_session=True,
    )


def _part() -> None:
    """Leave the group of processes, which training joins and stays in."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
