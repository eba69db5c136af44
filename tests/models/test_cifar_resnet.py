import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from tests import golden

RECORDS = Path(__file__).parents[1] / "golden"


def test_resnet110_gives_the_published_logits():
    record = np.load(RECORDS / "cifar_resnet110.npz")
    model = switchnorm.create_model("cifar_resnet110").eval()
    model.load_state_dict(golden.state_dict(json.loads((RECORDS / "cifar_resnet110.keys.json").read_text())))
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    with torch.no_grad():
        logits = model(golden.images(int(record["batch"]), int(record["size"])))
    expected = torch.from_numpy(record["logits"])
    # The record's tolerance for networks in float32: 1e-4 of the largest output.
    torch.testing.assert_close(logits, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["cifar_resnet20", "digits_resnet9"])
@pytest.mark.parametrize("norm", ["bn", "gn", "in", "ln", "sn", "ssn", "gn+ws", "gn:4"])
def test_every_network_trains_with_every_norm(name, norm):
    model = switchnorm.create_model(name, norm=norm, num_classes=7)
    channels, side = (1, 8) if name.startswith("digits") else (3, 16)
    logits = model(torch.randn(2, channels, side, side))
    assert logits.shape == (2, 7)
    logits.backward(torch.randn_like(logits))
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_depth_counts_the_weighted_layers(depth):
    model = switchnorm.create_model(f"cifar_resnet{depth}")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == depth


def test_conv_and_plus_ws_are_the_same():
    by_conv = switchnorm.create_model("cifar_resnet20", norm="gn", conv="ws")
    by_name = switchnorm.create_model("cifar_resnet20", norm="gn+ws")
    assert repr(by_conv) == repr(by_name)
    assert "WSConv2d" in repr(by_name)
    assert "WSConv2d" not in repr(switchnorm.create_model("cifar_resnet20", norm="gn"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet20"}, "model 'resnet20' is unknown; did you mean 'cifar_resnet20'?"),
        ({"name": "cifar_resnet20", "norm": "sm"}, "norm 'sm' is unknown; did you mean 'sn'?"),
        ({"name": "cifar_resnet20", "norm": "sn+sw"}, "norm 'sn+sw' is unknown; did you mean 'sn+ws'?"),
        ({"name": "cifar_resnet20", "conv": "wz"}, "conv 'wz' is unknown; did you mean 'ws'?"),
        ({"name": "cifar_resnet20", "norm": "gn:3"}, "the nearest group counts are 2 or 4"),
        ({"name": "cifar_resnet20", "num_classes": 0}, "num_classes 0 is impossible; the nearest valid number is 1"),
    ],
)
def test_wrong_names_give_the_nearest_valid_one(arguments, message):
    with pytest.raises(InputError) as caught:
        switchnorm.create_model(**arguments)
    assert message in str(caught.value)


def test_list_models_filters_by_glob():
    assert switchnorm.list_models("cifar*20") == ["cifar_resnet20"]
    assert switchnorm.list_models("no such network") == []
