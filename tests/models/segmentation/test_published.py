"""Segmentation networks against the published records: their numbers and their keys."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import switchnorm
from switchnorm.weights import load_published
from tests import golden
from tests.models.segmentation.names import NAME

RECORDS = Path(__file__).parents[2] / "golden"
PUBLISHED = "ade_resnet50_dilated8_c1_bilinear_deepsup"


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, Tensor], nn.Module]:
    """The record's state, and a network without it."""
    keys = json.loads((RECORDS / f"{PUBLISHED}.keys.json").read_text())
    with torch.device("meta"):
        model = switchnorm.create_model(NAME, norm="sn")
    return golden.state_dict(keys), model.to_empty(device="cpu")


def save(state: dict[str, Tensor], part: str, folder: Path) -> Path:
    """A file of one part of a network, as it was published."""
    file = folder / f"{part}.pth"
    torch.save({k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}, file)
    return file


@pytest.mark.parametrize("files", ["one", "pair"])
def test_published_checkpoints_give_the_published_numbers(files, published, tmp_path):
    state, model = published
    for value in model.state_dict().values():
        value.fill_(0)
    if files == "pair":
        load_published(model, save(state, "encoder", tmp_path), save(state, "decoder", tmp_path))
    else:
        torch.save(state, tmp_path / "whole.pth")
        load_published(model, tmp_path / "whole.pth")
    for file in tmp_path.iterdir():
        file.unlink()  # pytest keeps its folders for a while, and these files are large.
    loss, test = (np.load(RECORDS / f"{PUBLISHED}_{part}.npz") for part in ("loss", "probabilities"))
    assert sum(p.numel() for p in model.parameters()) == loss["parameters"] == test["parameters"]
    model.eval()
    model.decoder.training = True  # The record has both branches in evaluation mode.
    with torch.no_grad():
        logits = model(golden.images(int(loss["batch"]), int(loss["size"])))
        alone = model.eval()(golden.images(int(test["batch"]), int(test["size"])))
    for name, record in (("out", "log_probabilities"), ("aux", "log_probabilities_deep_supervision")):
        expected = torch.from_numpy(loss[record])
        found = logits[name].log_softmax(1)
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert list(alone) == ["out"]
    found = F.interpolate(alone["out"], (90, 110), mode="bilinear", align_corners=False).softmax(1)[..., ::2, ::2]
    recorded = test["probabilities_90x110_half"]
    # Half precision rounds by half a unit in the last place.
    allowed = np.spacing(recorded).astype(np.float64) / 2 + 1e-5 * float(recorded.max())
    assert (np.abs(found.double().numpy() - recorded) <= allowed).all()


def test_keys_are_the_published_ones_in_their_order(published):
    state, model = published
    ours = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert ours == list(state)


@pytest.mark.parametrize(
    ("decoder", "keys"),
    [
        (
            "ppm_bilinear_deepsup",
            "ppm.0.1.weight ppm.3.2.bias cbr_deepsup.0.weight cbr_deepsup.1.weight conv_last.0.weight "
            "conv_last.1.weight conv_last.4.weight conv_last.4.bias conv_last_deepsup.weight",
        ),
        (
            "upernet",
            "ppm_conv.0.0.weight ppm_conv.3.1.bias ppm_last_conv.0.weight ppm_last_conv.1.weight fpn_in.0.0.weight "
            "fpn_in.2.1.weight fpn_out.0.0.0.weight fpn_out.2.0.1.bias conv_last.0.0.weight conv_last.0.1.weight "
            "conv_last.1.weight conv_last.1.bias",
        ),
    ],
)
def test_decoders_have_the_published_keys(decoder, keys):
    with torch.device("meta"):
        state = switchnorm.create_model(f"resnet50+{decoder}", norm="sn").state_dict()
    assert {f"decoder.{key}" for key in keys.split()} <= set(state)
    if decoder == "upernet":
        shapes = {key: tuple(state[f"decoder.{key}.weight"].shape) for key in ("ppm_last_conv.0", "fpn_in.2.0")}
        assert shapes == {"ppm_last_conv.0": (512, 2048 + 4 * 512, 3, 3), "fpn_in.2.0": (512, 1024, 1, 1)}
