"""Of several that train in one folder at once, one goes on; the others end in a line, and touch nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.lock import locked
from switchnorm.training import ownership
from switchnorm.training.launch import resume
from switchnorm.training.ownership import existing_run
from tests import forked
from tests.forked import together
from tests.training.operations import differences, in_child, left_behind, train
from tests.training.trainings import with_short_epochs


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """Of short epochs."""
    return with_short_epochs(recipe)


def test_of_several_at_once_one_goes_on(recipe, tmp_path):
    done = forked.run("-m", "tests.training.test_ownership", recipe, tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert found["codes"] == {"train": [0, 2, 2], "resume": [0, 2, 2]}
    assert done.stderr.count("\n") == 4
    assert done.stderr.count(" is in use by process ") + done.stderr.count("exists; continue it with --resume") == 4
    for name in ("train", "resume"):  # whose record begins otherwise
        assert {*differences(tmp_path / "alone", tmp_path / name)} - {"run.json differs"} == set()
    assert list(left_behind(tmp_path)) == []


@pytest.mark.sweep
def test_the_processes_of_torchrun_end_with_the_line(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "run.json"):
        (run / name).write_text("{}")
    before = time.monotonic()
    with locked(run):
        done = together(tmp_path, 2, "-m", "switchnorm", "train", "--resume", "run")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("switchnorm: ")]
    assert len(said) == 1, "both have it, and one says it"
    assert f"'run' is in use by process {os.getpid()} on " in said[0]
    assert time.monotonic() - before < 60


def test_the_others_look_at_a_run_when_the_first_process_has_written(recipe, tmp_path, monkeypatch):
    """Which may write the checkpoint anew: a process that reads it before counts other steps, and waits for ever."""
    run, happened = RunFolder.create(tmp_path / "run", read_config(recipe), ()), []

    def find() -> int:
        happened.append("looks")
        return 5

    monkeypatch.setattr(ownership, "_tell", lambda line: happened.append("tells"))
    monkeypatch.setattr(ownership, "_heard", lambda: happened.append("hears") or "")
    monkeypatch.setattr(ownership, "world_size", lambda: 2)
    for first, order in ((True, ["looks", "tells"]), (False, ["hears", "looks"])):
        monkeypatch.setattr(ownership, "is_first", lambda first=first: first)
        with existing_run(run, find) as found:
            assert found == 5
        assert happened == order
        happened.clear()


def several(recipe: Path, folder: Path) -> None:
    """Train "alone", and then three at once, each way to begin; print how they ended."""
    create_dataset(**read_config(recipe).data)  # what is imported here no child has to
    assert in_child(lambda: train(recipe, folder / "alone")) == 0
    config = read_config(recipe)
    RunFolder.create(folder / "resume", config, ())
    codes = {
        "train": at_once(lambda: train(recipe, folder / "train")),
        "resume": at_once(lambda: resume(folder / "resume", quiet=True)),
    }
    print(json.dumps({"codes": codes}))


def at_once(do: Callable[[], Any]) -> list[int]:
    """How three children end that do something at the same time."""
    with ThreadPool(3) as pool:
        return sorted(pool.map(lambda _: in_child(do), range(3)))


if __name__ == "__main__":
    several(Path(sys.argv[1]), Path(sys.argv[2]))
