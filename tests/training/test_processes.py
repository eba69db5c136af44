"""Training on several real processes (gloo, torchrun)."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.forked import together


def torchrun(
    folder: Path, processes: int, *arguments: str, program: Sequence[str] = ("-m", "switchnorm")
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*command, *program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def last_row(run: Path) -> dict[str, str]:
    with (run / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))[-1]


@pytest.mark.parametrize("norm", [pytest.param("bn", marks=pytest.mark.sweep), "ssn"])
def test_synchronised_processes_train_as_one(run, recipe, tmp_path, norm):
    flags = ("--epochs", "1", "--norm", norm, "--precision", "64", "--samples-per-gpu", "null")
    assert run("train", recipe, *flags, "--out", "one")[0] == 0
    training = ("train", recipe, *flags, "--train.sync", "true", "--out", "two")
    done = together(tmp_path, 2, "-m", "switchnorm", *training)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        # Five steps in float64: only the order of sums differs.
        torch.testing.assert_close(two[key], value, rtol=1e-6, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")
    a, b = last_row(tmp_path / "one"), last_row(tmp_path / "two")
    assert a["val_accuracy"] == b["val_accuracy"], "evaluation counted a picture twice, or not at all"
    for name in ("train_loss", "train_accuracy", "val_loss"):
        assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-5)


def test_a_mistake_under_torchrun_stops_every_process(recipe, tmp_path):
    done = torchrun(tmp_path, 2, "train", recipe, "--norm", "sm", "--out", "two")
    assert done.returncode != 0
    assert "norm 'sm' is unknown; did you mean 'sn'?" in done.stderr
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("views", [pytest.param("centre", marks=pytest.mark.sweep), "flip"])
def test_evaluation_on_processes_counts_every_picture_once(run, recipe, tmp_path, views):
    flags = ("--epochs", "1", "--norm", "bn", "--train.ema", "0.5", "--batch-size", "512", "--samples-per-gpu", "null")
    assert run("train", recipe, *flags, "--out", "one")[0] == 0
    code, alone, err = run("eval", "one", "--views", views, "--batch-size", "7")
    assert code == 0, err
    done = together(tmp_path, 2, "-m", "switchnorm", "eval", "one", "--views", views, "--batch-size", "7")
    assert done.returncode == 0, done.stderr
    assert "on the 359 test pictures" in alone
    assert done.stdout.splitlines()[-4:] == alone.splitlines()


#: A command whose last act is to name the threads that are left.
LISTS_THREADS = """
import atexit, sys
from pathlib import Path
threads = Path("/proc/self/task")
atexit.register(lambda: print("threads:", *[(thread / "comm").read_text().strip() for thread in threads.iterdir()]))
from switchnorm.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux")
def test_no_thread_of_gloo_outlives_the_command(recipe, tmp_path):
    """One that does may abort the process when the interpreter is torn down under it."""
    program = tmp_path / "program.py"
    program.write_text(LISTS_THREADS)
    flags = ("--epochs", "1", "--train.epoch_steps", "2", "--samples-per-gpu", "null", "--out", "r")
    done = torchrun(tmp_path, 2, "train", recipe, *flags, program=[str(program)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("threads:") == 2
    assert "gloo" not in done.stdout
