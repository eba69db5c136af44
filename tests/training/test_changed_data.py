"""A run whose data was moved goes on; one whose data or batch size has changed says what, and goes on when told to."""

import re
import shlex
import shutil
import signal
from unittest.mock import patch

import pytest
import torch
import yaml

from switchnorm.cli import main
from switchnorm.errors import InputError
from switchnorm.optim.radius import RadiusShape
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import resume
from switchnorm.training.schedule import factor
from tests.data.photos import CLASSES, write_photo, write_tree
from tests.training.photo_runs import forget, recipe_for, train
from tests.training.test_resume import assert_same_run, wait_for
from tests.training.trainings import StoppedError, stopping


@pytest.fixture
def photos(tmp_path):
    return write_tree(tmp_path / "photos", train=4, val=2)


@pytest.fixture
def stopped(photos, tmp_path):
    """A run of 3 epochs of 4 steps that was stopped after `step`."""

    def begin(step, *flags):
        return train(recipe_for(photos, tmp_path), tmp_path / "run", *flags, stop=step)

    return begin


def edit(run: RunFolder, section: str, **values) -> None:
    content = yaml.safe_load(run.config_file.read_text())
    content[section].update(values)
    run.config_file.write_text(yaml.safe_dump(content))


def refusal(run: RunFolder, flags=(), **options) -> str:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        resume(run.path, flags, quiet=True, **options)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}, "nothing was written"
    return str(caught.value)


def epochs(run: RunFolder) -> list[tuple[int, int]]:
    """Epoch and step of each row, all of which were validated."""
    assert all(row["val_accuracy"] and row["train_loss"] for row in run.metrics())
    return [(int(row["epoch"]), int(row["step"])) for row in run.metrics()]


def test_moved_data_is_named_once_and_the_run_ends_as_if_it_had_not_moved(photos, stopped, tmp_path, capsys):
    reference = train(recipe_for(photos, tmp_path), tmp_path / "reference")
    run = stopped(6)
    moved = photos.rename(tmp_path / "elsewhere")
    assert "is not a folder" in refusal(run)
    resume(run.path, ["--data.root", str(moved)], data_changed=True)
    out = capsys.readouterr().out
    assert "nothing has changed that --data-changed would be for" in out
    assert f"says from now on: --data.root {moved}" in out
    assert_same_run(reference.path, run.path)
    assert run.config().data["root"] == str(moved)
    assert run.config().data["size"] == 16


def test_what_is_refused_has_not_gone_back_to_the_checkpoint_before(photos, stopped):
    run = stopped(6)
    (photos / "train/dog/3.jpg").unlink()
    assert "1 training picture fewer" in refusal(run, checkpoint="previous")
    resume(run.path, checkpoint="previous", data_changed=True, quiet=True)
    assert epochs(run)[-1][0] == 3


def test_a_place_with_other_data_is_refused_and_the_configuration_stays(stopped, tmp_path):
    run = stopped(5)
    other = write_tree(tmp_path / "other", train=5, val=2)
    message = refusal(run, ["--data.root", str(other)])
    assert "3 training pictures more (12 -> 15) in cat, dog, fox, first: cat/4.jpg" in message
    assert "--data-changed" in message


def rename(photos):
    (photos / "train/dog/3.jpg").rename(photos / "train/dog/new.jpg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: write_photo(p / "train/dog/9.jpg", 9),
            "1 training picture more (12 -> 13) in dog, first: dog/9.jpg",
        ),
        (lambda p: (p / "train/dog/3.jpg").unlink(), "1 training picture fewer (12 -> 11) in dog; "),
        (rename, "other training pictures, as many as before (12) in dog, first: dog/new.jpg"),
        (lambda p: (p / "val/cat/0.jpg").unlink(), "1 test picture fewer (6 -> 5) in cat; "),
        (lambda p: shutil.rmtree(p / "val"), "no test pictures any more"),
    ],
)
def test_data_that_has_changed_is_refused_with_what_has(photos, stopped, change, said):
    run = stopped(2)
    change(photos)
    if said.startswith("no test"):
        said = "is missing"  # which is said before anything is compared
    assert said in refusal(run)


@pytest.mark.parametrize("step", [4, 6])
def test_a_grown_data_set_is_trained_to_the_end_when_told_so(photos, stopped, step, capsys):
    """After the first epoch, and inside the second."""
    run = stopped(step, "--train.ema", "0.5")
    trained = torch.load(run.last)["trained_state_dict"]
    for name in CLASSES:
        write_photo(photos / "train" / name / "9.jpg", 9)
    resume(run.path, data_changed=True)
    out = capsys.readouterr().out
    assert "going on with what has changed: 3 training pictures more (12 -> 15) in cat, dog, fox" in out
    done = step // 4
    anew = " anew, with the weights after 2 batches of it" if step % 4 else ""
    assert f"epoch {done + 1} of 3 begins{anew}, at step {5 * done} of 15" in out
    assert epochs(run) == [(e, 4 * e if e <= done else 5 * e) for e in (1, 2, 3)]
    record = run.record()
    assert record["status"] == "finished"
    assert record["data"]["train"]["count"] == 15
    assert record["continued"][0]["after_epochs"] == done
    assert any(
        not torch.equal(value, torch.load(run.last)["trained_state_dict"][key]) for key, value in trained.items()
    )
    last = torch.load(run.last)
    assert last["global_step"] == 15
    assert last["lr_schedulers"][0]["last_epoch"] == 15


def test_what_goes_on_is_at_its_place_in_the_schedule(photos, stopped):
    run = stopped(6)
    edit(run, "train", batch_size=2)
    assert "train.batch_size is 2 in config.yaml, and the run was trained with 3" in refusal(run)
    edit(run, "optimizer", lr=0.5)
    assert "optimizer.lr is 0.5 in config.yaml, and the run was trained with 0.05; put that back" in refusal(
        run, data_changed=True
    )
    edit(run, "optimizer", lr=0.05)
    resume(run.path, data_changed=True, quiet=True)
    config = run.config()
    rows = run.metrics()
    assert epochs(run) == [(1, 4), (2, 12), (3, 18)]
    radius = RadiusShape(18, 0.0, 1.0, 1.0)
    for epoch in (1, 2):
        expected = 0.05 * factor(config.schedule, 6 * (epoch + 1) - 1, 18, 3, 0.05)
        assert float(rows[epoch]["learning_rate"]) == pytest.approx(expected, rel=1e-6)
        assert float(rows[epoch]["radius"]) == pytest.approx(radius(6 * (epoch + 1) - 1), rel=1e-4)
    assert [float(row["train_loss"]) > 0 for row in rows] == [True] * 3


def test_a_rate_that_goes_by_the_batch_follows_it(stopped):
    run = stopped(4, "--optimizer.lr_per", "3")
    edit(run, "train", batch_size=6)
    with patch("switchnorm.training.launch.train"):
        resume(run.path, data_changed=True, quiet=True)
    last = torch.load(run.last)
    rate = 0.1 * factor(run.config().schedule, 2, 6, 3, 0.05)
    assert last["lr_schedulers"][0]["base_lrs"][0] == pytest.approx(0.1)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(rate)
    assert run.record()["learning_rate"] == pytest.approx(0.1)


def test_what_was_stopped_again_goes_on_without_being_told(photos, stopped, tmp_path):
    """Right after the checkpoint was written anew, and in the epoch that began with it."""
    run = stopped(6)
    write_photo(photos / "train/cat/9.jpg", 9)
    write_photo(photos / "train/cat/91.jpg", 9)
    write_photo(photos / "train/cat/92.jpg", 9)
    with patch("switchnorm.training.launch.train"):
        resume(run.path, data_changed=True, quiet=True)
    copy = shutil.copytree(run.path, tmp_path / "copy")
    resume(copy, quiet=True)
    with patch.object(MidEpochCheckpoint, "on_train_batch_end", stopping(7)), pytest.raises(StoppedError):
        resume(run.path, quiet=True)
    resume(run.path, quiet=True)
    assert_same_run(copy, run.path)
    assert epochs(run) == [(1, 4), (2, 10), (3, 15)]


def test_how_a_run_is_computed_may_change_and_is_said_and_kept(stopped, capsys):
    run = stopped(6)
    edit(run, "train", precision="bf16", deterministic=True)
    changes = ["precision 32 -> bf16", "deterministic False -> True"]
    for _ in range(2):  # the second time as after a kill: nothing was trained in between
        with patch("switchnorm.training.launch.train"):
            resume(run.path)
        assert f"computed otherwise from here on: {', '.join(changes)}; the result is not" in capsys.readouterr().out
        assert run.record()["continued"] == [{"after_epochs": 1, "changes": changes}]
    resume(run.path, quiet=True)
    assert run.finished()
    assert torch.load(run.last)["computed"]["precision"] == "bf16"
    assert len(run.record()["continued"]) == 1


def test_a_checkpoint_from_before_that_was_kept_knows_of_processes_alone(stopped, capsys):
    run = stopped(4)
    checkpoint = torch.load(run.last)
    del checkpoint["computed"]
    torch.save(checkpoint, run.last)
    edit(run, "train", precision="bf16")
    run.update_record(processes=2)
    with patch("switchnorm.training.launch.train"):
        resume(run.path)
    assert "computed otherwise from here on: processes 2 -> 1; " in capsys.readouterr().out


def test_the_weights_of_a_finished_run_are_trained_for_longer_as_it_says(photos, tmp_path, monkeypatch, capsys):
    run = train(recipe_for(photos, tmp_path), tmp_path / "a run", "--epochs", "1")
    edit(run, "train", epochs=2)
    for changed in (False, True):
        message = refusal(run, data_changed=changed)
    command = shlex.split(re.findall("`(.*?)`", message)[-1])
    monkeypatch.chdir(tmp_path)
    main(command[1:])
    assert "training begins with epoch 2 of 2" in capsys.readouterr().out
    assert epochs(RunFolder(tmp_path / "NEW")) == [(2, 8)]


def test_new_pictures_are_looked_at_before_anything_is_written(photos, stopped, capsys):
    run = stopped(5)
    write_photo(photos / "train/cat/9.jpg", 9)
    (photos / "train/cat/notes.xml").write_text("<a/>")
    (photos / "val/cat/9.jpg").write_bytes((photos / "train/cat/9.jpg").read_bytes()[:-300])
    assert "a val picture cannot be read" in refusal(run, data_changed=True)
    (photos / "val/cat/9.jpg").unlink()
    with patch("switchnorm.training.launch.train"):
        resume(run.path, data_changed=True)
    assert "train leaves out files of type .xml: 1 (" in capsys.readouterr().out


def test_fewer_epochs_than_were_trained_are_refused(stopped):
    run = stopped(6)
    edit(run, "train", epochs=1)
    assert "train.epochs must be at least 1" in refusal(run, data_changed=True)


def test_a_run_from_before_is_told_by_its_steps(photos, stopped, capsys):
    run = stopped(8)
    forget(run)
    write_photo(photos / "train/cat/9.jpg", 9)  # which fills no batch
    with patch("switchnorm.training.launch.train"):
        resume(run.path)
    assert "names no classes: that they have the order of this data is taken on trust" in capsys.readouterr().out
    assert run.record()["classes"] == list(CLASSES)
    assert run.record()["data"]["train"]["count"] == 13
    edit(run, "train", batch_size=2)
    assert "4 steps per epoch were trained, and this data and batch size make 6" in refusal(run)
    resume(run.path, data_changed=True, quiet=True)
    assert [epoch for epoch, _ in epochs(run)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], "expected counts and digests of the data"),
        ({"train": {"count": "many"}}, "expected counts and digests of the data"),
        ({"train": {"count": 12, "digest": "x", "classes": 3}}, "expected counts and digests of the data"),
    ],
)
def test_a_damaged_record_is_named(stopped, data, message):
    run = stopped(2)
    run.update_record(data=data)
    assert message in refusal(run)


def test_a_killed_run_whose_data_grew_is_refused_and_then_goes_on(command, photos, tmp_path, capsys):
    """The whole of it by the command line, with a process that was killed."""
    recipe_for(photos, tmp_path)
    process = command("train", "photos.yaml", "--out", "run", "--epochs", "40")
    last = tmp_path / "run/checkpoints/last.ckpt"
    wait_for(last.is_file, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    moved = photos.rename(tmp_path / "elsewhere")
    write_photo(moved / "train/cat/9.jpg", 9)
    run = RunFolder(tmp_path / "run")
    arguments = ["train", "--resume", str(run.path), "--data.root", str(moved)]
    for flags, message in [
        ([], "1 training picture more (12 -> 13) in cat, first: cat/9.jpg"),
        (["--data.size", "9"], "leave out --data.size (where the data lies now may be said by --data.root, "),
        (["--epochs", "3"], "leave out --epochs"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *flags])
        assert ended.value.code == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    edit(run, "train", epochs=torch.load(last)["epoch"] + 2)
    main([*arguments, "--data-changed"])
    assert "train.epochs 40 -> " in capsys.readouterr().out
    assert len(run.metrics()) == run.config().train.epochs
    assert run.finished()
