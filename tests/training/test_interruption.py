"""A signal saves a run where all is whole, ends it in one line, and a resumed run ends as one that heard none."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import pytorch_lightning as pl

from switchnorm.cli import main
from switchnorm.cli import train as train_command
from switchnorm.config import plugins
from switchnorm.config.recipe import read_config
from switchnorm.runs.folder import RunFolder
from switchnorm.signals import ENDING, Interrupted
from switchnorm.training.launch import resume, start
from tests.forked import side_by_side
from tests.training.test_resume import assert_same_run, wait_for
from tests.training.trainings import with_callback

#: Epochs of 5 batches, validation of 4.
FLAGS = ("--epochs", "2", "--train.eval_batch_size", "90", "--train.checkpoint_minutes", "99")

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


def sending(*arguments):
    """Have the next training get a signal, see `Sends`."""
    return with_callback(lambda: Sends(*arguments))


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
                ("on_validation_end", 1): "saved after epoch 1 of 2;",
            },
        ),
        (
            STATEFUL,
            {
                ("on_train_batch_start", 6): "saved after epoch 2, step 2 of 5;",
                ("on_validation_batch_end", 2): "saved after epoch 1, before its validation;",
                ("on_validation_batch_end", 5): "saved after epoch 2, before its validation;",
            },
        ),
        (("--norm", "bn", "--train.calibrate", "2"), {("on_validation_batch_end", 3): "before its validation;"}),
    ],
)
def test_a_run_that_a_signal_ended_goes_on_bit_for_bit(begin, tmp_path, more, places):
    reference = begin("reference", *more)
    for number, (place, said) in enumerate(places.items()):
        with sending(*place), pytest.raises(Interrupted) as caught:
            begin(f"run{number}", *more)
        path = tmp_path / f"run{number}"
        assert said in caught.value.said, place
        assert caught.value.said.endswith(f"continue with `switchnorm train --resume {path}`")
        assert caught.value.exit_code == 143
        assert RunFolder(path).record()["status"] == "running"
        resume(path, quiet=True)
        assert_same_run(reference.path, path)


def test_a_signal_in_the_last_epochs_end_lets_the_run_finish(begin):
    with sending("on_validation_end", 2):
        assert begin("run").finished()


def test_a_signal_of_which_a_library_makes_another_error_is_an_interruption_all_the_same(tmp_path, monkeypatch, capsys):
    def load(names):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy is broken") from None

    monkeypatch.setattr(plugins, "load", load)
    with pytest.raises(SystemExit) as caught:
        main(["report", str(tmp_path)])
    assert (caught.value.code, capsys.readouterr().err) == (143, "switchnorm: interrupted\n")


@pytest.mark.parametrize("there", [False, True])
def test_only_a_run_that_is_there_can_be_continued(tmp_path, monkeypatch, capsys, there):
    """An interruption before anything else is known of it."""
    monkeypatch.chdir(tmp_path)
    if there:
        Path("run").mkdir()
        Path("run/config.yaml").write_text("")

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train_command, "_resume", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["train", "--resume", "run"])
    said = "; continue with `switchnorm train --resume run`" if there else ""
    assert (caught.value.code, capsys.readouterr().err) == (143, f"switchnorm: interrupted{said}\n")


@pytest.mark.parametrize("hook", ["setup", "on_train_start"])
@pytest.mark.parametrize("there", [False, True])
def test_before_the_first_step_nothing_is_left(begin, tmp_path, hook, there):
    if there:
        (tmp_path / "run").mkdir()
    with sending(hook, 1, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        begin("run")
    assert (tmp_path / "run").exists() == there
    assert not there or os.listdir(tmp_path / "run") == []


def test_handlers_are_put_back_and_those_of_others_stay(begin, tmp_path):
    heard = []
    before = {number: signal.getsignal(number) for number in ENDING}
    theirs = lambda number, frame: heard.append(number)  # noqa: E731
    signal.signal(signal.SIGUSR1, theirs)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for number in (signal.SIGUSR1, signal.SIGHUP):
            with sending("on_train_batch_start", 2, number):
                assert begin(f"run{number}").finished()
        assert heard == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is theirs
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with sending("on_train_batch_start", 2, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        begin("run")
    assert {number: signal.getsignal(number) for number in ENDING} == before


def test_a_run_in_another_thread_hears_nothing_and_trains(begin):
    done = []
    thread = threading.Thread(target=lambda: done.append(begin("run", "--epochs", "1")))
    thread.start()
    thread.join()
    assert done[0].finished()


def test_each_signal_ends_a_command_in_a_line_with_its_exit_code(command, run, recipe, tmp_path):
    last = tmp_path / "run/checkpoints/last.ckpt"
    continued = "continue with `switchnorm train --resume run`"
    process = command("train", recipe, "--epochs", "99", "--out", "run")
    for number, code in ((signal.SIGUSR1, 138), (signal.SIGHUP, 129)):
        wait_for(last.is_file, process)
        before = last.stat().st_mtime_ns
        wait_for(lambda before=before: last.stat().st_mtime_ns != before, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err.count("\n")) == (code, 1), err
        assert err.startswith("switchnorm: interrupted; saved after epoch ")
        assert err.endswith(f"; {continued}\n")
        process = command("train", "--resume", "run")
    process.send_signal(signal.SIGTERM)  # while it starts
    _, err = process.communicate(timeout=120)
    assert process.returncode in (143, -signal.SIGTERM)
    assert err in ("", f"switchnorm: interrupted; {continued}\n")


def ranks(agent: int) -> list[int]:
    """The processes that torchrun has started, by rank."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    each = (line.split(None, 2) for line in listed.splitlines()[1:])
    return sorted(int(pid) for pid, parent, name in each if int(parent) == agent and "switchnorm" in name)


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "switchnorm"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_save_together_whichever_gets_the_signal_and_end_when_one_is_lost(recipe, tmp_path):
    last = tmp_path / "run/checkpoints/last.ckpt"

    def wait_until_it_has_saved(process) -> None:
        before = last.stat().st_mtime_ns if last.is_file() else 0
        wait_for(lambda: last.is_file() and last.stat().st_mtime_ns != before, process)

    def line(err: str) -> str:
        (ours,) = [line for line in err.splitlines() if line.startswith("switchnorm: ")]
        assert "; continue with `torchrun --nproc-per-node 2 -m switchnorm train --resume run`" in ours
        return ours

    flags = ("--samples-per-gpu", "null", "--train.checkpoint_minutes", "99", "--train.calibrate", "1")
    process = torchrun(tmp_path, "train", recipe, *flags, "--epochs", "99", "--out", "run")
    wait_until_it_has_saved(process)
    os.kill(ranks(process.pid)[1], signal.SIGTERM)
    assert "interrupted; saved after epoch " in line(process.communicate(timeout=120)[1])
    assert process.returncode != 0

    lost, left = side_by_side(tmp_path, 2, "-m", "switchnorm", "train", "--resume", "run")
    wait_until_it_has_saved(left)
    lost.kill()
    lost.communicate(timeout=120)
    left.send_signal(signal.SIGTERM)  # as torchrun does then
    assert "another process of this training has ended" in line(left.communicate(timeout=120)[1])
    assert left.returncode != 0
