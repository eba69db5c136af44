"""Runs that end when their score no longer rises."""

import itertools
import json

import pytest
import torch

from switchnorm.cli import main
from switchnorm.config.recipe import read_config
from switchnorm.report import print_results, write
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.parallel import train_one
from switchnorm.training.callbacks.history import History
from switchnorm.training.callbacks.stopping import Patience
from switchnorm.training.launch import resume, start
from tests.training.trainings import StoppedError

#: Nothing is learned: the first validation has the best score there will be.
STILL = ("--lr", "0", "--optimizer.sparse_lr_factor", "0", "--train.epoch_steps", "2", "--epochs", "6", "--norm", "gn")


def begin(recipe, path, *flags):
    return start(read_config(recipe, (*STILL, *flags)), path, default=path, command=(), quiet=True)[0]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (3, 4), (5, 6), (9, 6)])
def test_so_many_validations_without_a_better_score_end_a_run(recipe, tmp_path, patience, epochs):
    run = begin(recipe, tmp_path / "run", "--train.patience", str(patience))
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    record = run.record()
    assert record["status"] == "finished"
    assert record["result"]["val_accuracy"] == pytest.approx(float(rows[-1]["val_accuracy"]))
    early = {"after_epochs": epochs, "patience": patience, "radius": None}
    assert record["stopped"] == (early if epochs < 6 else None)
    assert torch.load(run.last, weights_only=True)["epoch"] == epochs - 1


def test_without_patience_a_run_goes_to_its_end(recipe, tmp_path):
    run = begin(recipe, tmp_path / "run")
    assert (len(run.metrics()), run.record()["stopped"]) == (6, None)


def test_a_score_that_rises_is_waited_for(recipe, tmp_path):
    flags = ("--lr", "0.05", "--epochs", "4", "--train.patience", "1")
    scores = [float(row["val_accuracy"]) for row in begin(recipe, tmp_path / "run", *flags).metrics()]
    rising = [after > before for before, after in itertools.pairwise(scores)]
    assert all(rising[:-1])
    assert len(scores) == 4 or not rising[-1]


def test_the_schedule_stays_that_of_all_epochs(recipe, tmp_path):
    rates = [
        [row["learning_rate"] for row in begin(recipe, tmp_path / name, *flags, "--lr", "1e-30").metrics()]
        for name, flags in {"whole": (), "short": ("--train.patience", "2")}.items()
    ]
    assert rates[1] == rates[0][:3]


def killing(epoch: int, late: bool):
    """`History.on_train_epoch_end`, after which the process dies: before last.ckpt is written, or after."""
    write_rows = History.on_train_epoch_end

    def die(self, trainer, pl_module):
        write_rows(self, trainer, pl_module)
        if trainer.current_epoch == epoch and not late:
            raise StoppedError

    def die_at_start(self, trainer, pl_module):
        if trainer.current_epoch == epoch + 1:
            raise StoppedError

    return {"on_train_epoch_start": die_at_start} if late else {"on_train_epoch_end": die}


@pytest.mark.parametrize(("epoch", "late"), [(1, False), (1, True), (3, False)])
def test_a_resumed_run_stops_where_the_unkilled_one_does(recipe, tmp_path, monkeypatch, epoch, late):
    flags = ("--train.patience", "3", "--train.checkpoint_minutes", "0")
    whole = begin(recipe, tmp_path / "whole", *flags)
    with monkeypatch.context() as patched:
        for name, method in killing(epoch, late).items():
            patched.setattr(History, name, method)
        with pytest.raises(StoppedError):
            begin(recipe, tmp_path / "killed", *flags)
    killed, result = resume(tmp_path / "killed", quiet=True)
    assert (result, killed.record()["stopped"]) == (whole.record()["result"], whole.record()["stopped"])
    assert len(killed.metrics()) == len(whole.metrics()) == 4


def test_a_run_killed_after_its_last_epoch_trains_no_more(recipe, tmp_path):
    run = begin(recipe, tmp_path / "run", "--train.patience", "2")
    before, weights = run.record(), torch.load(run.last, weights_only=True)["state_dict"]
    content = run.record()
    run.record_file.write_text(json.dumps({**content, "status": "running", "result": {}, "stopped": None}))
    resume(run.path, quiet=True)
    after = run.record()
    assert (after["status"], after["result"], after["stopped"]) == ("finished", before["result"], before["stopped"])
    assert all(torch.equal(v, weights[k]) for k, v in torch.load(run.last, weights_only=True)["state_dict"].items())


def test_it_is_said_where_a_run_ends_and_in_reports(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", str(recipe), *STILL[:-1], "ssn", "--train.patience", "1", "--out", "run"])
    lines = capsys.readouterr().out.splitlines()
    stopped = RunFolder(tmp_path / "run").record()["stopped"]
    done, radius = stopped["after_epochs"], stopped["radius"]
    assert done < 6
    assert radius == pytest.approx((2 * done - 1) / 11), "of the last step, of the steps of all epochs"
    assert f"  stopped after epoch {done} of 6: 1 validation without a better accuracy" in lines
    assert f"  SSN's radius is {radius:.2f}: it would have been 1 in the last epoch, and all choices final" in lines
    print_results([tmp_path / "run"])
    said = "Stopped early, for their score no longer rose: SSN."
    assert said in capsys.readouterr().out
    assert said in write([tmp_path / "run"], tmp_path / "report.html").read_text()
    outcome = train_one(tmp_path / "other", read_config(recipe, (*STILL, "--train.patience", "1")), ())
    assert outcome.stopped == 2


def test_its_state_is_a_checkpoints(tmp_path):
    one, other = Patience("val_accuracy", 3), Patience("val_accuracy", 3)
    one.wait_count = 2
    torch.save({one.state_key: one.state_dict()}, tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)[other.state_key])
    assert other.wait_count == 2
