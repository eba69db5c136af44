"""Encoders that begin with three 3x3 convolutions, as CSAILVision's segmentation framework publishes them."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import switchnorm
from switchnorm import surgery
from switchnorm.errors import InputError
from switchnorm.layers import Spec, WSConv2d
from switchnorm.models.segmentation.encoder import Encoder
from switchnorm.surgery.graph import wire
from switchnorm.training.warm_start import warm_start
from switchnorm.weights import load_published, read_state
from tests import golden
from tests.models.segmentation.names import DECODERS
from tests.weights.files import write_legacy

RECORDS = Path(__file__).parents[2] / "golden"
RECORD = "ade_resnet18_dilated8_deep_stem_c1_bilinear_deepsup"
NAME = "resnet18_dilated8+c1_bilinear_deepsup"
#: What the framework's synchronised Batch Norm keeps beside its running statistics.
SUMS = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")


def published() -> dict[str, torch.Tensor]:
    return golden.state_dict(json.loads((RECORDS / f"{RECORD}.keys.json").read_text()))


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Encoder and decoder as the framework saves them."""
    files = folder / "encoder_epoch_20.pth", folder / "decoder_epoch_20.pth"
    for part, file in zip(("encoder", "decoder"), files, strict=True):
        write_legacy({k.removeprefix(f"{part}."): v for k, v in published().items() if k.startswith(part)}, file)
    return files


def test_published_files_load_strictly_and_give_the_published_numbers(tmp_path):
    record = np.load(RECORDS / f"{RECORD}_loss.npz")
    model = switchnorm.create_model(NAME, deep_stem=True)
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    load_published(model, *write_pair(tmp_path))
    model.eval()
    model.decoder.training = True  # The record has both branches in evaluation mode.
    with torch.no_grad():
        logits = model(golden.images(int(record["batch"]), int(record["size"])))
    for name, key in (("out", "log_probabilities"), ("aux", "log_probabilities_deep_supervision")):
        expected = torch.from_numpy(record[key])
        torch.testing.assert_close(
            logits[name].log_softmax(1), expected, atol=1e-5 * float(expected.abs().max()), rtol=0
        )


def test_keys_are_the_published_ones_in_their_order():
    with torch.device("meta"):
        state = switchnorm.create_model(NAME, deep_stem=True).state_dict()
    ours = [key for key in state if not key.endswith("num_batches_tracked")]
    theirs = published()
    assert ours == [key for key in theirs if not key.endswith(SUMS)]
    assert all(state[key].shape == theirs[key].shape for key in ours)


def test_of_a_published_file_the_sums_beside_running_statistics_are_left_out(tmp_path):
    encoder, _ = write_pair(tmp_path)
    kept = read_state(encoder)
    assert not [key for key in kept if key.endswith(SUMS)]
    assert "bn3.running_mean" in kept
    # Entries of such a name that are no sums stay.
    torch.save({"a._running_iter": torch.ones(1)}, tmp_path / "own.pth")
    assert list(read_state(tmp_path / "own.pth")) == ["a._running_iter"]


@pytest.mark.parametrize(("decoder", "depth"), [*product(DECODERS, [18]), *product(["c1_bilinear"], [34, 50])])
def test_every_network_takes_it(decoder, depth):
    with torch.device("meta"):
        model = switchnorm.create_model(f"resnet{depth}_dilated8+{decoder}", deep_stem=True, norm="ssn")
        usual = switchnorm.create_model(f"resnet{depth}_dilated8+{decoder}", norm="ssn")
        x = torch.empty(2, 3, 50, 70)
        assert [y.shape for y in model.encoder(x)] == [y.shape for y in usual.encoder(x)]
    state, others = model.state_dict(), usual.state_dict()
    added = {key.rpartition(".")[0] for key in state.keys() - others.keys()}
    shortcut = {"encoder.layer1.0.downsample.0", "encoder.layer1.0.downsample.1"} if depth < 50 else set()
    assert added == {"encoder.conv2", "encoder.sn2", "encoder.conv3", "encoder.sn3"} | shortcut
    assert tuple(state["encoder.conv1.weight"].shape) == (64, 3, 3, 3)
    assert tuple(state["encoder.conv3.weight"].shape) == (128, 64, 3, 3)


@pytest.mark.parametrize(("norm", "label"), [("bn", "bn"), ("gn+ws", "bn"), ("sn", "sn"), ("ssn+ws", "sn")])
def test_its_normalizations_are_called_as_elsewhere(norm, label):
    with torch.device("meta"):
        encoder = switchnorm.create_model("resnet18+upernet", norm=norm, deep_stem=True).encoder
    assert [name for name, _ in encoder.named_children()][:6] == [
        *("conv1", f"{label}1", "conv2", f"{label}2", "conv3", f"{label}3"),
    ]


def test_the_stem_computes_what_plain_functions_do():
    encoder = Encoder(18, 8, Spec("bn"), deep_stem=True).eval()
    state = encoder.state_dict()
    x = y = torch.randn(2, 3, 33, 47)
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        state[f"bn{number}.running_mean"].uniform_(-0.1, 0.1)
        y = F.conv2d(y, state[f"conv{number}.weight"], stride=stride, padding=1)
        y = torch.relu((y - state[f"bn{number}.running_mean"].view(-1, 1, 1)) / (1 + 1e-5) ** 0.5)
    expected = F.max_pool2d(y, 3, 2, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder.stem(x), expected, atol=1e-5, rtol=1e-5)
    assert expected.shape == (2, 128, 9, 12)


def test_its_convolutions_are_standardized_and_its_layers_fused():
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18+c1_bilinear", norm="gn+ws", deep_stem=True)
        wiring = wire(model)
        assert wiring.method == "tracing"
        assert {m for m in model.modules() if isinstance(m, WSConv2d)} == set(wiring.feeds)
        assert all(isinstance(getattr(model.encoder, f"conv{number}"), WSConv2d) for number in (1, 2, 3))
        plan = surgery.plan_fuse(switchnorm.create_model("resnet18+c1_bilinear", norm="sn", deep_stem=True))
        usual = surgery.plan_fuse(switchnorm.create_model("resnet18+c1_bilinear", norm="sn"))
    assert len(plan.changes) == len(usual.changes) + 2


def test_a_classifier_s_weights_fit_all_but_the_stem(tmp_path):
    theirs = switchnorm.create_model("resnet50", norm="bn")
    for value in theirs.state_dict().values():
        value.fill_(0.5) if value.is_floating_point() else None
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    model = switchnorm.create_model("resnet50_dilated8+c1_bilinear", norm="sn", deep_stem=True)
    report = warm_start(model, tmp_path / "classifier.pth")
    assert report.shapes == (
        "encoder.conv1.weight (64, 3, 7, 7) for (64, 3, 3, 3)",
        "encoder.layer1.0.conv1.weight (64, 64, 1, 1) for (64, 128, 1, 1)",
        "encoder.layer1.0.downsample.0.weight (256, 64, 1, 1) for (256, 128, 1, 1)",
    )
    assert report.unexpected == ()
    stem = {
        key
        for key in model.state_dict()
        if key.startswith(tuple(f"encoder.{m}{n}." for m in ("conv", "sn") for n in (2, 3)))
    }
    assert stem <= set(report.missing)
    assert (model.encoder.sn1.weight == 0.5).all()
    assert (model.encoder.layer1[0].sn2.weight == 0.5).all()
    assert (model.encoder.sn2.weight == 1).all()


def test_an_encoder_s_weights_fit_an_encoder_of_either_stem(tmp_path):
    encoder, _ = write_pair(tmp_path)
    state = published()
    deep = switchnorm.create_model(NAME, norm="sn", deep_stem=True)
    report = warm_start(deep, encoder, start="equal")
    assert (report.unexpected, report.shapes) == ((), ())
    for number in (1, 2, 3):
        assert torch.equal(getattr(deep.encoder, f"sn{number}").weight, state[f"encoder.bn{number}.weight"])
        assert torch.equal(getattr(deep.encoder, f"conv{number}").weight, state[f"encoder.conv{number}.weight"])
    usual = switchnorm.create_model(NAME, norm="sn")
    report = warm_start(usual, encoder)
    assert {key.rpartition(".")[0] for key in report.unexpected} == {
        *("conv2", "bn2", "conv3", "bn3"),
        *("layer1.0.downsample.0", "layer1.0.downsample.1"),
    }
    assert [text.partition(" ")[0] for text in report.shapes] == [
        *("encoder.conv1.weight", "encoder.layer1.0.conv1.weight"),
    ]


def test_it_is_a_truth_value():
    with pytest.raises(InputError, match="option 'deep_stem' of 'resnet18\\+upernet' takes a bool, got 'yes'"):
        switchnorm.create_model("resnet18+upernet", deep_stem="yes")


def test_convolutions_start_by_what_leaves_them():
    encoder = Encoder(18, 8, Spec("bn"), deep_stem=True)
    for conv in (encoder.conv1, encoder.conv2, encoder.conv3):
        assert isinstance(conv, nn.Conv2d)
        expected = (2 / (9 * conv.out_channels)) ** 0.5
        assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=5 / (2 * conv.weight.numel()) ** 0.5)
