"""Trainings side by side: kept when finished, continued when interrupted, and none lost through another's failure."""

import contextlib
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from switchnorm import signals
from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.studies import parallel
from switchnorm.studies.parallel import Outcome, train_all, train_one
from tests.data.photos import write_tree

FLAGS = ("--epochs=1", "--batch-size=512", "--schedule.warmup_epochs=0", "--device=cpu")


class Recorder:
    """Remembers what it was told; kills the worker of the runs that it is given."""

    def __init__(self, kills=()):
        self.kills = kills
        self.began = []
        self.outcomes = {}

    def started(self, path):
        self.began.append(path)
        if path in self.kills:
            for process in multiprocessing.active_children():
                process.kill()

    def ended(self, path, outcome):
        self.outcomes[path] = outcome

    def tick(self):
        pass


@pytest.fixture
def config():
    return read_config(find_recipe("digits/resnet9"), FLAGS)


def test_finished_runs_are_kept_and_interrupted_ones_continued(tmp_path, config):
    plan = [(tmp_path / "a", config), (tmp_path / "b", replace(config, seed=7))]
    first = {path: train_one(path, each, ("test",)) for path, each in plan}
    assert all(0 < outcome.result["val_accuracy"] <= 1 for outcome in first.values())
    run = RunFolder(tmp_path / "a")
    saved = run.last.stat().st_mtime_ns
    watch = Recorder()
    assert train_all(plan, ("test",), watch) == watch.outcomes == first
    assert (watch.began, run.last.stat().st_mtime_ns) == ([], saved)
    run.update_record(status="running")
    assert train_one(*plan[0], ("test",)) == first[tmp_path / "a"]
    assert run.finished()


def test_a_training_side_by_side_may_read_its_pictures_in_processes(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"""
model: {{name: cifar_resnet8}}
data: {{name: folder, root: {write_tree(tmp_path / "photos")}, size: 16, resize: 20, workers: 1}}
train: {{epochs: 1, batch_size: 4, device: cpu}}
"""
    )
    outcomes = train_all([(tmp_path / "run", read_config(recipe))], ("test",), Recorder(), workers=1)
    assert not outcomes[tmp_path / "run"].error


def test_a_worker_that_is_killed_takes_no_other_training_with_it(tmp_path, config):
    plan = [(tmp_path / "killed", config), (tmp_path / "well", config)]
    watch = Recorder(kills=(tmp_path / "killed",))
    outcomes = train_all(plan, ("test",), watch, workers=1, logs=tmp_path / "logs")
    assert outcomes[tmp_path / "killed"].error == (
        "its process was killed by SIGKILL, as the system does where memory is short"
    )
    assert outcomes[tmp_path / "well"].result["val_accuracy"] > 0
    assert not list((tmp_path / "logs").glob("well*")), "a log of nothing"
    assert multiprocessing.active_children() == []


class Pipe:
    """Gives a worker one run, and nothing more."""

    def __init__(self, *runs):
        self.runs, self.sent = list(runs), []
        self.send = self.sent.append

    def recv(self):
        if not self.runs:
            raise EOFError
        return self.runs.pop()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals are POSIX")
def test_a_worker_that_is_told_to_end_as_its_training_ends_takes_no_other(tmp_path, config, monkeypatch):
    def train(*_):
        with signals.Ending() as ending:
            ending.wait()
            os.kill(os.getpid(), signal.SIGTERM)
        return Outcome()

    ignored = signal.getsignal(signal.SIGINT)
    for name, instead in (("train_one", train), ("end_with_parent", int), ("printing_to", contextlib.nullcontext)):
        monkeypatch.setattr(parallel, name, instead)
    pipe = Pipe((tmp_path / "run", config))
    try:
        parallel._work(pipe, torch.get_num_threads(), (), None)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert not pipe.sent


def test_a_mistake_is_its_line(tmp_path, config):
    huge = replace(config, train=replace(config.train, batch_size=9999))
    outcome = train_one(tmp_path / "run", huge, ("test",))
    assert "9999" in outcome.error
    assert not outcome.traceback
    assert not (tmp_path / "run").exists()


def test_what_else_goes_wrong_is_named_and_its_traceback_printed(tmp_path, config, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no memory\nand more")

    monkeypatch.setattr("switchnorm.studies.parallel.start", fail)
    outcome = train_one(tmp_path / "run", config, ("test",))
    assert outcome == Outcome(error="RuntimeError: no memory", traceback=True)
    assert "Traceback" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_no_result(tmp_path, config):
    wild = replace(config, optimizer=replace(config.optimizer, lr=1e38, clip_norm=None))
    outcome = train_one(tmp_path / "run", wild, ("test",))
    assert outcome.error.startswith("training diverged in epoch 1, step 2 of ")
    again = train_all([(tmp_path / "run", wild)], ("test",), Recorder())
    assert again[tmp_path / "run"].error.startswith("diverged in epoch 1: "), "it would diverge again"


@pytest.mark.parametrize("left", [(), ("checkpoints",), ("checkpoints", "config.yaml", ".run.json@host.123.part")])
def test_a_folder_whose_making_was_cut_off_is_made_again(tmp_path, config, left):
    path = tmp_path / "run"
    path.mkdir()
    (path / ".lock").write_text("")
    for name in left:
        (path / name).mkdir(parents=True) if name == "checkpoints" else (path / name).write_text("half")
    assert train_one(path, config, ("test",)).result


def test_a_folder_of_something_else_is_left_alone(tmp_path, config):
    path = tmp_path / "run"
    path.mkdir()
    (path / "diary.txt").write_text("dear")
    assert "exists" in train_one(path, config, ("test",)).error
    assert (path / "diary.txt").read_text() == "dear"
