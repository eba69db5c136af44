"""Where files cannot be written a run ends in a line, leaves what is whole, and goes on once they can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.training.callbacks.history import History
from switchnorm.training.launch import resume, start
from tests import forked
from tests.training.operations import differences, left_behind
from tests.training.trainings import with_short_epochs

#: Below the size of a checkpoint that training goes on from, and above that of weights alone.
LIMIT = 500_000


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """Of short epochs."""
    return with_short_epochs(recipe)


@pytest.fixture
def reference(recipe, tmp_path) -> Path:
    """The run that nothing happens to."""
    begin(recipe, tmp_path / "reference")
    return tmp_path / "reference"


def begin(recipe: Path, out: Path) -> None:
    start(read_config(recipe), out, default=out, command=(), quiet=True)


#: A command that may write no larger files.
LIMITED = f"""
import resource, sys
from switchnorm.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
main(sys.argv[1:])
"""


def test_a_limit_of_the_size_of_files(recipe, reference, tmp_path):
    (tmp_path / "limited.py").write_text(LIMITED)
    done = forked.run(tmp_path / "limited.py", "train", recipe, "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"switchnorm: {tmp_path}/run/checkpoints/last.ckpt cannot be written: File too large; "
        "raise the limit of a file's size (`ulimit -f`), then continue with `switchnorm train --resume run`\n",
    )
    assert list(left_behind(tmp_path)) == []
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    resume(tmp_path / "run", quiet=True)
    assert list(differences(reference, tmp_path / "run")) == []


#: Trains on a file system of its own, which is too small.
SMALL_DISK = """
mount -t tmpfs -o size=1600k tmpfs disk || exit 77
{python} -m switchnorm train {recipe} --out disk/run
code=$?
cp -r disk/run run
find disk -name '.*'
exit $code
"""


def test_a_disk_that_is_full(recipe, reference, tmp_path):
    (tmp_path / "disk").mkdir()
    script = SMALL_DISK.format(python=sys.executable, recipe=recipe)
    if not shutil.which("unshare"):
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert (done.returncode, done.stderr) == (
        2,
        f"switchnorm: {tmp_path}/disk/run/checkpoints/last.ckpt cannot be written: No space left on device; "
        "free some space there, then continue with `switchnorm train --resume disk/run`\n",
    )
    assert ".part" not in done.stdout, "the part that did not fit stayed"
    resume(tmp_path / "run", quiet=True)
    assert list(differences(reference, tmp_path / "run")) == []


@pytest.mark.parametrize(("lost", "word"), [("", "tensorboard|metrics.csv"), ("checkpoints", "best.ckpt")])
def test_a_folder_that_is_removed_under_a_training(recipe, tmp_path, monkeypatch, lost, word):
    run = tmp_path / "run"
    write = History.on_train_epoch_start

    def remove(self: History, trainer, module) -> None:
        if trainer.current_epoch == 1:
            shutil.move(run / lost, tmp_path / "moved")
        write(self, trainer, module)

    with monkeypatch.context() as patched:
        patched.setattr(History, "on_train_epoch_start", remove)
        with pytest.raises(InputError, match=rf"({word}) cannot be written: .*; its folder is gone; put it back, then"):
            begin(recipe, run)
    assert not (run / lost).exists(), "it was made again, empty"
    shutil.move(tmp_path / "moved", run / lost)
    resume(run, quiet=True)


def test_a_folder_that_nobody_may_write_to(recipe, tmp_path, monkeypatch):
    def refuse(path: object, *_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(WriteError, match=r"run cannot be written: Read-only file system; make its folder writable$"):
        begin(recipe, tmp_path / "run")
