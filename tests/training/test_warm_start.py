"""Starting with somebody's weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.training.launch import start
from switchnorm.training.recipe import read_config
from switchnorm.training.warm_start import warm_start


@pytest.fixture
def saved(tmp_path):
    def save(state) -> Path:
        torch.save(state, tmp_path / "w.pt")
        return tmp_path / "w.pt"

    return save


def model(norm: str = "bn", classes: int = 10) -> nn.Module:
    return create_model("digits_resnet9", norm=norm, num_classes=classes)


def test_everything_of_the_same_network_is_taken(saved):
    theirs, ours = model(), model()
    report = warm_start(ours, saved(theirs.state_dict()))
    assert (report.missing, report.unexpected, report.shapes) == ((), (), ())
    assert len(report.matched) == report.total == len(ours.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_what_does_not_fit_stays_and_is_reported(saved):
    theirs, ours = model("bn", classes=7), model("ssn")
    for p in theirs.parameters():
        p.data.fill_(0.5)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    report = warm_start(ours, saved({"module." + k: v for k, v in theirs.state_dict().items()}))
    assert report.shapes == ("fc.weight (7, 128) for (10, 128)", "fc.bias (7,) for (10,)")
    assert "bn1.mean_weight" in report.missing
    assert not report.unexpected or all(key in theirs.state_dict() for key in report.unexpected)
    after = ours.state_dict()
    assert (after["conv1.weight"] == 0.5).all()
    for key in (*report.missing, "fc.weight", "fc.bias"):
        assert torch.equal(after[key], before[key]), key
    text = str(report)
    assert text.startswith(f"warm start: {len(report.matched)} of {len(after)} entries from ")
    assert "2 of another shape (fc.weight (7, 128) for (10, 128), fc.bias (7,) for (10,))" in text


def test_published_layouts_fit(saved):
    theirs = model("sn")
    for p in theirs.parameters():
        p.data.normal_()
    wide = {
        k: v.view(1, -1, 1, 1) if k.startswith("bn1.") and v.numel() == 16 else v
        for k, v in theirs.state_dict().items()
    }
    ours = model("sn")
    report = warm_start(ours, saved(wide))
    assert not report.shapes
    assert torch.equal(ours.bn1.weight, theirs.bn1.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv.weight": torch.zeros(3, 3)}, "it has no 'conv1.weight'; the nearest name in it is 'conv.weight'"),
        ({"conv1.weight": torch.zeros(3, 3)}, r"its conv1.weight is \(3, 3\), expected \(16, 1, 3, 3\)"),
        ({"bn1.num_batches_tracked": torch.tensor(3)}, "nothing of"),
    ],
)
def test_nothing_that_fits_is_an_error(saved, state, message):
    with pytest.raises(InputError, match=message):
        warm_start(model(), saved(state))


def test_a_run_starts_with_them_and_records_it(saved, recipe, tmp_path, capsys):
    theirs = model()
    theirs.conv1.weight.data.fill_(0.25)
    flags = ("--norm", "bn", "--epochs", "1", "--batch-size", "512", "--samples-per-gpu", "null", "--optimizer.lr", "0")
    config = read_config(recipe, (*flags, "--train.warm_start", str(saved(theirs.state_dict()))))
    run, _ = start(config, tmp_path / "run", default=Path("x"), command=())
    assert "warm start: " in capsys.readouterr().out
    kept = torch.load(run.last, weights_only=True)["state_dict"]
    assert torch.equal(kept["model.conv1.weight"], theirs.conv1.weight), "the rate is 0, so nothing moves"
    record = run.record()["warm_start"]
    assert record["file"].endswith("w.pt")
    assert record["matched"] == len(theirs.state_dict())
    assert record["missing"] == record["unexpected"] == record["shapes"] == []


def test_a_file_that_is_not_there_leaves_no_folder(recipe, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        start(read_config(recipe, ("--train.warm_start", "none.pt")), tmp_path / "run", default=Path("x"), command=())
    assert not (tmp_path / "run").exists()
