"""A run that would fail on its data leaves nothing behind."""

import pytest
import torch
from PIL import Image

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.survey import quick
from switchnorm.training import dry_run
from switchnorm.training.build import prepare, prepare_evaluation, training_batches
from switchnorm.training.first_look import first_look
from switchnorm.training.launch import start
from tests.data.photos import write_tree
from tests.forked import together
from tests.training.scenes import VOID, write_scenes

FLAGS = ("--device", "cpu", "--batch-size", "2", "--epochs", "1", "--train.epoch_steps", "1", "--data.workers", "0")


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_scenes(tmp_path / "scenes", {"train": 6, "val": 3})


def config(scenes, *flags):
    data = ("--data", "masks", "--data.root", str(scenes), "--data.ignore", f"[{VOID}]", "--data.short_sides", "[32]")
    return read_config(find_recipe("camvid/small"), (*data, "--data.test_sides", "[32]", *FLAGS, *flags))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("begin", [lambda config, out: start(config, out, default=out, command=["x"]), dry_run])
def test_a_damaged_mask_of_either_split_stops_before_there_is_a_folder(scenes, tmp_path, split, begin):
    (scenes / f"{split}annot/{split}02.png").write_bytes(b"no")
    with pytest.raises(InputError, match=rf"mask.* .*/{split}(annot)?/{split}02\.png \(cannot identify"):
        begin(config(scenes), tmp_path / "run") if begin is not dry_run else begin(config(scenes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begin", [lambda config, out: start(config, out, default=out, command=["x"]), dry_run])
def test_pictures_of_one_class_teach_nothing(tmp_path, begin):
    tree = write_tree(tmp_path / "photos", classes=("cat",))
    data = (
        "--data",
        "folder",
        "--data.root",
        str(tree),
        "--data.size",
        "16",
        "--data.resize",
        "20",
        "--model",
        "cifar_resnet8",
    )
    wanted = read_config(find_recipe("digits/resnet9"), (*data, *FLAGS, "--schedule.warmup_epochs", "0"))
    with pytest.raises(InputError, match=r"photos' has one class, 'cat', .* expected two at least; is that the right"):
        begin(wanted, tmp_path / "run") if begin is not dry_run else begin(wanted)
    assert not (tmp_path / "run").exists()
    assert len(prepare_evaluation(wanted)[1].classes) == 1


def test_all_of_the_first_step_is_looked_at(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(quick, "_SAMPLES", 1)
    monkeypatch.setattr(quick, "_FEW", 1)
    wanted = config(scenes)
    last = training_batches(wanted, prepare(wanted)[1]).upcoming()[-1]
    assert last != 0
    Image.new("L", (5, 5)).save(scenes / f"trainannot/train{last:02}.png")
    with pytest.raises(InputError, match=rf"a mask of another size: .*train{last:02}\.png \(5x5"):
        start(wanted, tmp_path / "run", default=tmp_path / "run", command=["x"])
    assert not (tmp_path / "run").exists()


def test_it_says_what_is_unusual_once_and_draws_no_random_number(scenes):
    (scenes / "val/val00.png").write_bytes((scenes / "train/train00.png").read_bytes())
    wanted = config(scenes)
    _, dataset = prepare(wanted)
    before = torch.random.get_rng_state()
    assert first_look(wanted, dataset) == (
        "val has 1 picture of train byte for byte: val val00.png is train train00.png",
        "1 picture is there again with other masks: val val00.png is train train00.png",
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert training_batches(wanted, dataset).state_dict() == {"epoch": 0, "position": 0}
    assert "val has 1 picture of train byte for byte" in str(dry_run(wanted))


@pytest.mark.sweep
def test_no_folder_is_left_where_several_processes_find_it(scenes, tmp_path):
    (scenes / "valannot/val02.png").write_bytes(b"no")
    flags = ("--data", "masks", "--data.root", scenes, "--data.ignore", f"[{VOID}]", "--data.short_sides", "[32]")
    training = ("train", "camvid/small", *flags, *FLAGS, "--samples-per-gpu", "1", "--out", "run")
    done = together(tmp_path, 2, "-m", "switchnorm", *training)
    assert done.returncode != 0
    assert f"switchnorm: cannot read mask {scenes}/valannot/val02.png (" in done.stderr
    assert not (tmp_path / "run").exists()


def test_whatever_fails_before_anything_is_trained_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a layer of the user's own")

    monkeypatch.setattr("switchnorm.training.launch.train", fail)
    with pytest.raises(KeyError, match="of the user's own"):
        start(read_config(find_recipe("digits/resnet9")), tmp_path / "run", default=tmp_path, command=["x"])
    assert list(tmp_path.iterdir()) == []
