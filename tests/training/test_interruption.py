"""A signal saves a run where all is whole, ends it in one line, and a resumed run ends as one that heard none."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl

from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.signals import ENDING, Interrupted
from switchnorm.training import fit
from switchnorm.training.launch import resume, start
from tests.training.test_resume import assert_same_run, wait_for

#: Epochs of 5 batches, validation of 4.
FLAGS = ("--epochs", "3", "--train.eval_batch_size", "90", "--train.checkpoint_minutes", "99")

#: All that has a state of its own in validation.
STATEFUL = ("--train.ema", "0.6", "--train.calibrate", "2", "--train.iteration_size", "2")


class Sends(pl.Callback):
    """Sends this process a signal the nth time that a hook is called."""

    def __init__(self, hook: str, time: int, number: int = signal.SIGTERM) -> None:
        self.left = time

        def send(*args, **kwargs) -> None:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), number)

        setattr(self, hook, send)


def sending(monkeypatch, *arguments) -> None:
    """Have the next training get a signal, see `Sends`."""
    own = fit.step_callbacks
    monkeypatch.setattr(fit, "step_callbacks", lambda *given: [*own(*given), Sends(*arguments)])


@pytest.fixture
def begin(recipe, tmp_path):
    """Train a run with flags into a folder below the test's."""

    def train(name, *flags):
        config = read_config(recipe, (*FLAGS, *flags))
        return start(config, tmp_path / name, default=tmp_path, command=(), quiet=True)[0]

    return train


@pytest.mark.parametrize(
    ("more", "places"),
    [
        (
            (),
            {
                ("on_train_batch_start", 7): "saved after epoch 2, step 2 of 5;",
                ("on_train_batch_end", 5): "saved after epoch 1, before its validation;",
                ("on_validation_start", 1): "saved after epoch 1, before its validation;",
                ("on_validation_batch_end", 6): "saved after epoch 2, before its validation;",
                ("on_validation_end", 1): "saved after epoch 1 of 3;",
                ("on_save_checkpoint", 2): "saved after epoch 2 of 3;",
            },
        ),
        (
            STATEFUL,
            {
                ("on_train_batch_start", 6): "saved after epoch 2, step 2 of 5;",
                ("on_validation_batch_end", 2): "saved after epoch 1, before its validation;",
                ("on_validation_batch_end", 10): "saved after epoch 3, before its validation;",
            },
        ),
        (("--norm", "bn", "--train.calibrate", "2"), {("on_validation_batch_end", 3): "before its validation;"}),
    ],
)
def test_a_run_that_a_signal_ended_goes_on_bit_for_bit(begin, tmp_path, monkeypatch, more, places):
    reference = begin("reference", *more)
    for number, (place, said) in enumerate(places.items()):
        with monkeypatch.context() as patched, pytest.raises(Interrupted) as caught:
            sending(patched, *place)
            begin(f"run{number}", *more)
        path = tmp_path / f"run{number}"
        assert said in caught.value.said, place
        assert caught.value.said.endswith(f"continue with `switchnorm train --resume {path}`")
        assert caught.value.exit_code == 143
        assert RunFolder(path).record()["status"] == "running"
        resume(path, quiet=True)
        assert_same_run(reference.path, path)


def test_a_signal_in_the_last_epochs_end_lets_the_run_finish(begin, monkeypatch):
    sending(monkeypatch, "on_validation_end", 3)
    assert begin("run").finished()


@pytest.mark.parametrize("hook", ["setup", "on_train_start"])
def test_before_the_first_step_nothing_is_left(begin, tmp_path, monkeypatch, hook):
    sending(monkeypatch, hook, 1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        begin("run")
    assert not (tmp_path / "run").exists()


def test_handlers_are_put_back_and_those_of_others_stay(begin, tmp_path, monkeypatch):
    heard = []
    before = {number: signal.getsignal(number) for number in ENDING}
    theirs = lambda number, frame: heard.append(number)  # noqa: E731
    signal.signal(signal.SIGUSR1, theirs)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for number in (signal.SIGUSR1, signal.SIGHUP):
            with monkeypatch.context() as patched:
                sending(patched, "on_train_batch_start", 2, number)
                assert begin(f"run{number}").finished()
        assert heard == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is theirs
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        sending(patched, "on_train_batch_start", 2, signal.SIGINT)
        begin("run")
    assert {number: signal.getsignal(number) for number in ENDING} == before


def test_a_run_in_another_thread_hears_nothing_and_trains(begin):
    done = []
    thread = threading.Thread(target=lambda: done.append(begin("run", "--epochs", "1")))
    thread.start()
    thread.join()
    assert done[0].finished()
