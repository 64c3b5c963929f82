"""Whatever happens while a store is written, it is whole: kills, full disks, read-only folders, two writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surgery.errors import InputError
from surgery.store import Group, StoreError, folder_lock, list_groups, read_group, write_group, write_groups
from surgery.store.lock import LOCK, NOTE

ROOT = Path(__file__).parent.parent.parent
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")

WRITER = """
import os, resource, sys
from pathlib import Path
import numpy as np
from surgery.errors import InputError
from surgery.store import Group, StoreError, Variable, folder_lock, list_groups, write_group

def group(name, classes):
    data = np.random.default_rng(0).normal(size=(classes, 3, 32, 32))
    item = Variable(name="x", data=data, dimensions=("class", "channel", "row", "column"), long_name="x")
    return Group(name=name, kind="test", variables=(item,))

path = sys.argv[1]
"""


def run(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WRITER + code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@POSIX
def test_killed_at_random_moments() -> None:
    """The same program kills 200 times: benchmarks/kill_store.py."""
    command = [sys.executable, "-W", "error", str(ROOT / "benchmarks" / "kill_store.py"), "--times", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "every store opened and held every group" in done.stdout


@POSIX
def test_full_disk_is_an_error_and_the_old_store_stays(tmp_path: Path) -> None:
    """A limit on the size of files refuses writes as a full disk does; the process has to end well, too."""
    path = tmp_path / "results.h5"
    code = """
write_group(path, group("first", 2))
before = Path(path).read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
for _ in range(3):
    try:
        write_group(path, group("large", 100))
    except StoreError as error:
        print(error)
assert Path(path).read_bytes() == before
write_group(path, group("small", 2))
print([item.name for item in list_groups(path)])
"""
    done = run(code, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"{path}: cannot be written: the file would be larger than the limit") == 3
    assert done.stdout.count("the old content is unchanged") == 3
    assert done.stdout.endswith("['first', 'small']\n")
    assert {item.name for item in tmp_path.iterdir()} <= {path.name, LOCK}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user reaches; pytest's own are for their owner only."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@POSIX
def test_read_only_folder_is_an_error_and_the_old_store_stays(
    open_folder: Path, tmp_path: Path, make: Callable[..., Group]
) -> None:
    """Root may write everywhere, so the process becomes somebody else first."""
    path = write_group(open_folder, make())
    (open_folder / LOCK).unlink(missing_ok=True)
    before = path.read_bytes()
    open_folder.chmod(0o555)
    code = """
new = group("new", 2)
if os.geteuid() == 0:
    write_group(sys.argv[2], new)  # imports all that it needs, which somebody else may not read
    os.setgid(65534)
    os.setuid(65534)
print([item.name for item in list_groups(path)])
try:
    write_group(path, new)
except InputError as error:
    print(error)
"""
    done = run(code, path, tmp_path)
    open_folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "['linear']", "reading needs no lock"
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == before
    assert [item.name for item in open_folder.iterdir()] == [path.name]


def test_disk_that_fails_later_leaves_the_old_store(
    tmp_path: Path, make: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_group(tmp_path, make())
    before = path.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with folder_lock(tmp_path):  # held already, so that its own note is not what fails
        monkeypatch.setattr("surgery.store.writing.os.replace", fails)
        with pytest.raises(StoreError, match="cannot be written: no space left on the disk"):
            write_group(path, make("other"))
        monkeypatch.undo()
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


# Two writers


def test_second_writer_waits(tmp_path: Path, make: Callable[..., Group]) -> None:
    def write(first: int) -> None:
        for number in range(first, 24, 4):
            write_group(tmp_path, make(f"group{number}", seed=number))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item.name for item in list_groups(tmp_path)} == {f"group{number}" for number in range(24)}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder."""
    code = WRITER + "with folder_lock(path): print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_writer_is_told_who_holds_the_lock(
    tmp_path: Path, make: Callable[..., Group], other: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreError, match=rf"locked by process {other.pid} on .* since 20..-.*waited 0.1 s"):
        write_group(tmp_path, make(), timeout=0.1)
    assert other.poll() is None
    other.communicate("\n")
    write_group(tmp_path, make(), timeout=10)


def test_lock_of_a_dead_process_is_taken_over_and_said(
    tmp_path: Path, make: Callable[..., Group], other: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    other.kill()
    other.wait()
    assert json.loads((tmp_path / NOTE).read_text())["process"] == other.pid
    stray = tmp_path / ".surgery-123-abcdef.h5.tmp"
    stray.touch()
    write_group(tmp_path, make(), timeout=5)
    assert f"took over the lock of process {other.pid} on " in caplog.text
    assert {item.name for item in tmp_path.iterdir()} <= {"results.h5", LOCK}
    caplog.clear()
    write_group(tmp_path, make("other"))
    assert not caplog.text


def test_a_thread_may_take_its_lock_again(tmp_path: Path, make: Callable[..., Group]) -> None:
    with folder_lock(tmp_path):
        write_group(tmp_path, make(), timeout=0.1)
        assert (tmp_path / NOTE).exists()
    assert not (tmp_path / NOTE).exists()


# Names


def test_replacing_has_to_be_said(tmp_path: Path, make: Callable[..., Group]) -> None:
    write_group(tmp_path, make("one"))
    path = write_group(tmp_path, make("two"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="the store has a group 'one' already"):
        write_groups(path, [make("three"), make("one", seed=1)])
    assert path.read_bytes() == before
    write_group(path, make("one", seed=1), replace=True)
    assert read_group(path, "one")["weight"].tolist() == make(seed=1)["weight"].tolist()
    assert read_group(path, "two")["weight"].tolist() == make()["weight"].tolist()
    with pytest.raises(InputError, match="different names"):
        write_groups(path, [make("four"), make("four")])


def test_replacing_does_not_grow_the_file(tmp_path: Path, make: Callable[..., Group]) -> None:
    path = write_group(tmp_path, make("large", classes=300))
    write_group(path, make("small"))
    before = path.stat().st_size
    for seed in range(5):
        write_group(path, make("large", seed=seed, classes=300), replace=True)
    assert path.stat().st_size < 1.05 * before


def test_folder_and_link_and_permissions(tmp_path: Path, make: Callable[..., Group]) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write_group(tmp_path / "nowhere" / "W.h5", make())
    path = write_group(tmp_path / "W.h5", make())
    path.chmod(0o640)
    (tmp_path / "link.h5").symlink_to(path)
    write_group(tmp_path / "link.h5", make("other"))
    assert (tmp_path / "link.h5").is_symlink()
    assert [item.name for item in list_groups(path)] == ["linear", "other"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_others_put_into_the_file_stays(tmp_path: Path, make: Callable[..., Group]) -> None:
    import h5py

    path = write_group(tmp_path, make())
    with h5py.File(path, "a") as file:
        file["notes/mine"] = [1, 2, 3]
        file["notes/scale"] = ["x", "y", "z"]
        file["notes/scale"].make_scale("scale")
        file["notes/mine"].dims[0].attach_scale(file["notes/scale"])
        file["notes/mine"].dims[0].attach_scale(file["linear/class"])
        file.attrs["mine"] = 4
    write_group(path, make("other"))
    write_group(path, make("linear"), replace=True)
    with h5py.File(path) as file:
        assert file["notes/mine"][:].tolist() == [1, 2, 3]
        assert [scale.name for scale in file["notes/mine"].dims[0].values()] == ["/notes/scale"]
        assert file.attrs["mine"] == 4
    assert [item.name for item in list_groups(path)] == ["other", "linear"]
