"""What an evaluation normalizes by, against forward passes by hand."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import switchnorm.layers
from switchnorm.config.claim import make_claim
from switchnorm.config.recipe import evaluation_config, read_config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.surgery import calibrate
from switchnorm.surgery.batch import batch_layers
from switchnorm.training.build import build_model, training_batches
from switchnorm.training.evaluate import claim_of, evaluate, evaluate_weights
from switchnorm.training.launch import start
from switchnorm.training.words import evaluation
from switchnorm.weights import load_state, read_state

FLAGS = ("--epochs", "1", "--train.epoch_steps", "3", "--batch-size", "48", "--samples-per-gpu", "16")


@pytest.fixture
def trained(recipe, tmp_path):
    def train(norm: str, *flags: str):
        config = read_config(recipe, (*FLAGS, "--norm", norm, "--claim.top1", "90", *flags))
        return start(config, tmp_path / norm, default=Path("x"), command=(), quiet=True)[0]

    return train


def network(run):
    model = build_model(run.config(), 10)
    load_state(model, read_state(run.last), "it")
    return model.eval()


@torch.no_grad()
def loss(model, batch_size: int) -> float:
    batches = create_dataset("digits").test_batches(batch_size=batch_size)
    total = sum(float(F.cross_entropy(model(images), labels, reduction="sum")) for images, labels in batches)
    return total / 359


@pytest.mark.parametrize("norm", ["bn", "ssn"])
def test_batches_are_normalized_by_their_own_statistics_in_ghost_batches(trained, norm):
    run = trained(norm, "--train.eval_batch_size", "100")
    before = run.last.read_bytes()
    found = evaluate(run, run.last, statistics="batch")
    model = network(run)
    for _, layer in batch_layers(model):
        layer.training = True  # these alone: a layer's children, if it had any, would stay as they are
    assert found.metrics["val_loss"] == pytest.approx(loss(model, 100), rel=1e-5)
    running = evaluate(run, run.last)
    assert running.metrics["val_loss"] != pytest.approx(found.metrics["val_loss"], rel=1e-3)
    assert running.metrics["val_loss"] == pytest.approx(loss(network(run), 7), rel=1e-5)
    assert running.claim["top1"] == 90
    assert found.claim == make_claim(), "what was published is of running statistics"
    assert run.last.read_bytes() == before
    state = read_state(run.last)
    assert all(torch.equal(v, state[k]) for k, v in found.task.model.state_dict().items()), "statistics were restored"
    first = evaluation("it", found)[0]
    assert first == "it on the 359 test pictures of digits, normalized by the statistics of each batch"


def test_calibration_averages_over_the_first_training_batches_in_ghost_batches(trained):
    run = trained("sn", "--data.augment", "true")
    before = run.last.read_bytes()
    # An epoch has 3 batches: the last ones are of the next.
    found = evaluate(run, run.last, statistics="calibrate:5")
    model, loader = network(run), training_batches(run.config(), create_dataset("digits", augment=True))
    calibrate(model, [batch for _ in range(2) for batch in loader][:5])
    assert found.metrics["val_loss"] == pytest.approx(loss(model, 100), rel=1e-5)
    alone = network(run)
    for layer in (layer for _, layer in batch_layers(alone)):
        layer.ghost = None
    calibrate(alone, islice(training_batches(run.config(), create_dataset("digits", augment=True)), 1))
    assert not torch.allclose(alone.bn1.running_var, model.bn1.running_var)
    assert found.claim == make_claim()
    assert run.last.read_bytes() == before
    assert evaluation("it", found)[0].endswith("normalized by statistics over 5 training batches")


def test_weights_of_a_file_are_calibrated_too(trained):
    run = trained("bn")
    flags = ("--model", "digits_resnet9", "--norm", "bn", "--data", "digits", "--device", "cpu", "--batch-size", "48")
    config = evaluation_config(flags)
    found = evaluate_weights([run.last], config, statistics="calibrate:2")
    model = network(run)
    for _, layer in batch_layers(model):
        layer.ghost = None
    calibrate(model, islice(training_batches(config, create_dataset("digits")), 2))
    assert found.metrics["val_loss"] == pytest.approx(loss(model, 100), rel=1e-5)


@pytest.mark.parametrize("switched", [True, False])
def test_a_batch_of_one_picture_has_no_statistics(trained, monkeypatch, switched):
    """As this library's layers say, and as torch's do."""
    run = trained("bn", "--train.eval_batch_size", "179", "--samples-per-gpu", "null")
    if not switched:
        monkeypatch.setattr(switchnorm.layers.BatchNorm2d, "forward", torch.nn.BatchNorm2d.forward)
    with pytest.raises(InputError) as caught:
        evaluate(run, run.last, statistics="batch")
    assert str(caught.value).startswith("statistics 'batch' are impossible: ")
    assert "choose another batch size" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("norm", "statistics", "flags", "message"),
    [
        ("gn", "batch", (), "has no batch statistics; leave statistics out"),
        ("gn", "calibrate:2", (), "has no batch statistics; leave statistics out"),
        ("bn", "calibrate:0", (), "the nearest is 'calibrate:1'"),
        ("bn", "calibrate:1", ("--batch-size", "2000"), "larger than the training set"),
    ],
)
def test_what_cannot_be_is_refused(recipe, tmp_path, norm, statistics, flags, message):
    model = build_model(read_config(recipe, (*FLAGS, "--norm", norm)), 10)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    config = evaluation_config(("--model", "digits_resnet9", "--norm", norm, "--data", "digits", *flags))
    with pytest.raises(InputError) as caught:
        evaluate_weights([tmp_path / "w.pth"], config, statistics=statistics)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sync", ["true", "false"])
def test_statistics_of_the_batch_take_one_process(trained, monkeypatch, sync):
    run = trained("bn", "--samples-per-gpu", "null", "--train.sync", sync)
    assert evaluate(run, run.last, statistics="batch").metrics["val_loss"] > 0
    monkeypatch.setattr("switchnorm.training.evaluate.world_size", lambda: 2)
    with pytest.raises(InputError, match="statistics 'batch' take one process"):
        evaluate(run, run.last, statistics="batch")


def test_what_weights_claim_stands_in_the_card_beside_them(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "x.pth")
    assert claim_of(tmp_path / "x.pth", "any") == make_claim()
    card = {"network": "resnet50_fpn+mask_4conv1fc", "box_ap": 0.5, "mask_ap": 0.375, "source": "S"}
    (tmp_path / "x.json").write_text(json.dumps(card))
    assert claim_of(tmp_path / "x.pth", "resnet50_fpn+mask_4conv1fc") == make_claim("S", box_ap=50.0, mask_ap=37.5)
    assert claim_of(tmp_path / "x.pth", "resnet50_fpn+faster_2fc") == make_claim(), "of another network"
    (tmp_path / "x.json").write_text('["box_ap"]')
    assert claim_of(tmp_path / "x.pth", "any") == make_claim(), "some other file"
