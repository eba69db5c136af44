"""A run is continued from what is whole: the checkpoint before a damaged one, and tables as that knows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from switchnorm.cli import main
from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.runs.checkpoints import checkpoint_of
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.parallel import ended_as
from switchnorm.training.callbacks.history import History
from switchnorm.training.launch import resume, start
from switchnorm.training.words import outcome
from tests.training.operations import differences
from tests.training.trainings import StoppedError

EPOCHS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A finished run "whole", and "cut", the same one stopped as its last epoch began."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "r.yaml"
    recipe.write_text(
        "model: {name: digits_resnet9, norm: ssn}\ndata: {name: digits}\noptimizer: {lr: 0.05}\n"
        f"train: {{epochs: {EPOCHS}, batch_size: 512, samples_per_gpu: 64, device: cpu}}\n"
    )

    def stop(self: History, trainer, module) -> None:
        if trainer.current_epoch == EPOCHS - 1:
            raise StoppedError
        begin(self, trainer, module)

    begin = History.on_train_epoch_start
    config = read_config(recipe)
    start(config, folder / "whole", default=folder, command=(), quiet=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(History, "on_train_epoch_start", stop)
        with pytest.raises(StoppedError):
            start(config, folder / "cut", default=folder, command=(), quiet=True)
    return folder


@pytest.fixture
def cut(runs, tmp_path) -> RunFolder:
    """A copy of the stopped run."""
    shutil.copytree(runs / "cut", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def damage(path: Path) -> None:
    """Flip a bit in the middle of the tensors."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_checkpoint_names_the_one_before_and_that_goes_on(cut, runs, capsys):
    damage(cut.last)
    before = {path: path.read_bytes() for path in cut.path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="2"):
        main(("train", "--resume", str(cut.path)))
    said = capsys.readouterr().err
    assert "last.ckpt' is damaged: its content is not that of its checksum; continue from the one before with" in said
    assert f"`switchnorm train --resume {cut.path} --checkpoint previous`" in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in cut.path.rglob("*") if path.is_file()} == before
    main(("train", "--resume", str(cut.path), "--checkpoint", "previous"))
    assert list(differences(runs / "whole", cut.path)) == []


@pytest.mark.parametrize("which", ["last", "previous", "best"])
def test_eval_refuses_a_damaged_checkpoint(cut, which, capsys):
    damage(checkpoint_of(cut, which))
    with pytest.raises(SystemExit, match="2"):
        main(("eval", str(cut.path), "--checkpoint", which))
    assert "is damaged" in capsys.readouterr().err


def test_what_cannot_be_gone_on_from_is_refused(cut, runs):
    damage(cut.last)
    damage(cut.previous)
    with pytest.raises(InputError, match=r"previous\.ckpt' is damaged.*; begin anew with another --out"):
        resume(cut.path, checkpoint="previous", quiet=True)
    cut.previous.unlink()
    with pytest.raises(InputError, match=r"last\.ckpt' is damaged.*; begin anew with another --out"):
        resume(cut.path, quiet=True)
    with pytest.raises(InputError, match=r"has no previous\.ckpt; leave out --checkpoint"):
        resume(cut.path, checkpoint="previous", quiet=True)
    shutil.rmtree(cut.checkpoints)
    with pytest.raises(InputError, match=r"last\.ckpt is missing after 2 epochs; put it back, or begin anew"):
        resume(cut.path, quiet=True)
    with pytest.raises(InputError, match="is finished"):
        resume(runs / "whole", checkpoint="previous", quiet=True)


def test_a_missing_checkpoint_is_the_one_before(cut, runs, capsys):
    cut.last.unlink()
    resume(cut.path, quiet=True)
    assert "last.ckpt is missing; continued from previous.ckpt" in capsys.readouterr().out
    assert list(differences(runs / "whole", cut.path)) == []


def test_a_run_that_goes_on_reads_its_checkpoint_twice(cut, monkeypatch):
    """Before anything is decided, and by the trainer: large ones take seconds each time."""
    read = []
    monkeypatch.setattr("switchnorm.weights.formats.verify", read.append)
    with monkeypatch.context() as patched:
        patched.setattr(History, "on_train_epoch_start", _stop)
        with pytest.raises(StoppedError):
            resume(cut.path, quiet=True)
    assert read == [cut.last, cut.last]


def _stop(*_: object) -> None:
    raise StoppedError


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("1", "2", 1))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def double(path: Path) -> None:
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, rows[0], *rows]))


@pytest.mark.parametrize(
    ("name", "change"),
    [("metrics.csv", empty), ("metrics.csv", double), ("importance.csv", lose)],
)
def test_tables_are_written_again_from_the_checkpoint(cut, runs, capsys, name, change):
    change(cut.path / name)
    resume(cut.path, quiet=True)
    assert capsys.readouterr().out.splitlines() == [
        f"{cut.path / name} was not as last.ckpt knows it; written again from there"
    ]
    assert list(differences(runs / "whole", cut.path)) == []


@pytest.mark.parametrize("change", [empty, edit, cut_off])
def test_tables_that_a_checkpoint_does_not_hold_have_to_be_whole(cut, change):
    old = torch.load(cut.last, weights_only=True)
    del old["tables"]  # as earlier versions wrote it
    torch.save({**old, "epoch": 2}, cut.last)
    change(cut.metrics_file)
    with pytest.raises(InputError, match=r"metrics\.csv has no row of epoch [12]; put it back|is damaged; expected"):
        resume(cut.path, quiet=True)


def test_a_checkpoint_writes_nothing_but_tables(cut):
    strange = torch.load(cut.last, weights_only=True)
    strange["tables"] = {"../other.csv": "mine"}
    torch.save(strange, cut.last)
    with pytest.raises(InputError, match=r"'\.\./other\.csv' is no table of a run"):
        resume(cut.path, quiet=True)
    assert not (cut.path.parent / "other.csv").exists()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"continued": "x"}, "continued is 'x', expected a list"),
        ({"diverged": 5}, "diverged is 5"),
        ({"stopped": {"patience": 2}}, "stopped is .*, expected after_epochs, patience and radius"),
    ],
)
def test_a_record_with_entries_of_another_type_is_refused(cut, entries, said):
    cut.record_file.write_text(json.dumps({**json.loads(cut.record_file.read_text()), **entries}))
    with pytest.raises(InputError, match=rf"run\.json: {said}"):
        resume(cut.path, quiet=True)


def test_a_record_without_its_entries_is_as_good_as_one_with_them(cut):
    cut.record_file.write_text("{}")
    assert resume(cut.path, quiet=True)[0].finished()
    cut.record_file.write_text("{}")  # now nothing is left to train, which would take time that is known
    run, result = resume(cut.path, quiet=True)
    assert outcome(run, result)[0].startswith(f"{cut.path}: ")
    assert not any("in total" in line for line in outcome(run, result))
    run.update_record(result={})
    assert "run.json has no result; `switchnorm train --resume" in ended_as(run.path).error


def test_a_run_that_was_killed_before_it_said_that_it_was_finished_says_the_same(runs, tmp_path):
    """Nothing is left to train, and no validation counts pictures again."""
    shutil.copytree(runs / "whole", tmp_path / "killed")
    killed = RunFolder(tmp_path / "killed")
    finished = ("result", "test_pictures", "steps_left_out", "stopped")
    expected = {name: killed.record()[name] for name in finished}
    killed.update_record(status="running", result={}, **dict.fromkeys(finished[1:]))
    resume(killed.path, quiet=True)
    assert {name: killed.record()[name] for name in finished} == expected
    assert expected["test_pictures"] == 359
