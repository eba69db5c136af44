"""What every segmentation network keeps to: names, shapes, normalizations, initial values, messages."""

from itertools import product

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import switchnorm
from switchnorm import surgery
from switchnorm.errors import InputError
from switchnorm.layers import WSConv2d
from switchnorm.models.segmentation import FAMILIES
from switchnorm.surgery.graph import wire
from tests.models.segmentation.names import DECODERS


def test_every_pairing_is_listed():
    listed = [name for family in FAMILIES for name in family.names]
    encoders = [f"resnet{d}{s}" for d in (18, 34, 50, 101, 152) for s in ("", "_dilated16", "_dilated8")]
    assert sorted(listed) == sorted(f"{encoder}+{decoder}" for encoder, decoder in product(encoders, DECODERS))
    assert switchnorm.list_models("resnet34_dilated8+*") == [f"resnet34_dilated8+{decoder}" for decoder in DECODERS]


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_encoders_have_the_layout_of_torchvision_s_networks(depth):
    with torch.device("meta"):
        ours = switchnorm.create_model(f"resnet{depth}_dilated8+c1_bilinear").encoder.state_dict()
        theirs = torchvision.models.get_model(f"resnet{depth}").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stride", ["", "_dilated16", "_dilated8"])
def test_logits_are_at_the_decoder_s_own_size(stride, decoder):
    with torch.device("meta"):
        model = switchnorm.create_model(f"resnet18{stride}+{decoder}", norm="gn", num_classes=5)
        logits = model(torch.empty(2, 3, 70, 100))
        reduced = 4 if decoder.startswith("upernet") else int(stride.removeprefix("_dilated") or 32)
        expected = {"out": (2, 5, -(-70 // reduced), -(-100 // reduced))}
        if decoder.endswith("_deepsup"):
            expected["aux"] = (2, 5, *model.encoder(torch.empty(2, 3, 70, 100))[2].shape[2:])
        assert {name: tuple(value.shape) for name, value in logits.items()} == expected
        assert list(model.eval()(torch.empty(1, 3, 70, 100))) == ["out"]


#: Every norm with two samples, and with one where statistics allow it.
GEOMETRIES = [
    *product(["c1_bilinear_deepsup", "ppm_bilinear_deepsup"], ["bn", "gn", "ln", "sn", "ssn", "ssn+ws"], [2]),
    *product(["ppm_bilinear_deepsup"], ["gn", "ln", "sn", "ssn", "gn+ws"], [1]),
    *product(["upernet_lite"], ["bn", "sn", "ssn+ws", "gn"], [2]),
    *product(["upernet_lite"], ["sn", "ssn", "ln"], [1]),
]


@pytest.mark.parametrize(("decoder", "norm", "samples"), GEOMETRIES)
def test_every_norm_trains_in_encoder_and_decoder_and_nothing_is_nan(decoder, norm, samples):
    model = switchnorm.create_model(f"resnet18+{decoder}", norm=norm, num_classes=4)
    logits = model(torch.randn(samples, 3, 32, 32))  # Whose last map is a single pixel.
    losses = [F.cross_entropy(y, torch.zeros(samples, *y.shape[2:], dtype=torch.long)) for y in logits.values()]
    torch.stack(losses).sum().backward()
    assert all(loss.isfinite() for loss in losses)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 32, 32))["out"].isfinite().all()


def test_batch_norm_of_a_single_picture_is_refused_where_it_is_pooled_to_a_pixel():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear", norm="bn")
    with pytest.raises(
        InputError, match=r"more than one element per channel, got input \(1, 512, 1, 1\); use 2 or more"
    ):
        model(torch.randn(1, 3, 64, 64))
    assert model.eval()(torch.randn(1, 3, 64, 64))["out"].isfinite().all()


def test_instance_norm_is_refused_where_maps_are_a_pixel():
    pooled = switchnorm.create_model("resnet18+ppm_bilinear", norm="in")
    with pytest.raises(
        InputError, match=r"more than 1 value in each group .*, got input \(2, 512, 1, 1\) in 512 groups"
    ):
        pooled(torch.randn(2, 3, 64, 64))
    plain = switchnorm.create_model("resnet18+c1_bilinear", norm="in", num_classes=4)
    plain(torch.randn(1, 3, 64, 64))["out"].sum().backward()
    assert plain.decoder.cbr[0].weight.grad.isfinite().all()


def test_evaluation_does_no_work_for_the_deep_supervision():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear_deepsup", norm="gn", num_classes=3)
    calls = []
    model.decoder.cbr_deepsup.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        model.eval()(x)
        assert calls == []
        model.train()(x)
    assert calls == [1]


@pytest.mark.parametrize("decoder", DECODERS)
def test_standardized_are_the_convolutions_that_feed_a_normalization(decoder):
    with torch.device("meta"):
        model = switchnorm.create_model(f"resnet18+{decoder}", norm="gn+ws")
        switched = surgery.switch(switchnorm.create_model(f"resnet18+{decoder}", norm="bn"), "gn+ws")
    wiring = wire(model)
    assert wiring.method == "tracing"
    standardized = {m for m in model.modules() if isinstance(m, WSConv2d)}
    assert standardized == set(wiring.feeds)
    plain = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m not in standardized]
    assert plain
    assert all(name.startswith("decoder.conv_last") for name in plain)
    assert repr(switched) == repr(model)


@pytest.mark.parametrize(
    ("norm", "label"), [(None, "bn"), ("gn", "bn"), ("ln+ws", "bn"), ("sn", "sn"), ("ssn", "sn"), ("sn+ws", "sn")]
)
def test_normalizations_are_called_as_published(norm, label):
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18_dilated8+c1_bilinear", norm=norm)
    keys = set(model.state_dict())
    assert {
        f"encoder.{label}1.weight",
        f"encoder.layer1.0.{label}2.weight",
        "encoder.layer2.0.downsample.1.weight",
    } <= keys
    assert not [key for key in keys if f".{'bn' if label == 'sn' else 'sn'}1." in key]
    assert "decoder.conv_last.weight" in keys
    assert "encoder.fc.weight" not in keys
    assert model.decoder.conv_last.out_channels == 150


def test_the_statistics_that_are_asked_for_are_mixed_everywhere():
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18+upernet", norm="sn", statistics="instance,layer")
    assert {m.statistics for m in model.modules() if isinstance(m, switchnorm.SwitchNorm2d)} == {("instance", "layer")}


@pytest.mark.parametrize("decoder", ["c1_bilinear", "ppm_bilinear_deepsup", "upernet_lite"])
def test_convolutions_start_as_published(decoder):
    model = switchnorm.create_model(f"resnet18+{decoder}", num_classes=20)
    for key, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            channels = module.in_channels if key.startswith("decoder.") else module.out_channels
            expected = (2 / (module.kernel_size[0] ** 2 * channels)) ** 0.5
            # Five times what a deviation of so many numbers deviates.
            tolerance = 5 / (2 * module.weight.numel()) ** 0.5
            assert abs(float(module.weight.detach().std()) / expected - 1) < tolerance, key
            assert module.bias is None or not module.bias.any(), key


def test_dropout_as_published_unless_given():
    with torch.device("meta"):
        for options, expected in (({}, [0.1, 0.1]), ({"dropout": 0.3}, [0.3, 0.3])):
            model = switchnorm.create_model("resnet18+ppm_bilinear_deepsup", **options)
            assert [m.p for m in model.modules() if isinstance(m, nn.Dropout2d)] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet50_dilated4+upernet"}, "output stride 4 is impossible; the nearest valid stride is 8"),
        ({"name": "resnet50_dilated0+ppm_bilinear"}, "output stride 0 is impossible; the nearest valid stride is 8"),
        ({"name": "resnet50_dilated20+upernet"}, "output stride 20 is impossible; the nearest valid stride is 16"),
        ({"name": "resnet42+c1_bilinear"}, "depth 42 has no layout; the nearest valid depth is 34"),
        (
            {"name": "resnet50+c1_bilinar"},
            "model 'resnet50+c1_bilinar' is unknown; did you mean 'resnet50+c1_bilinear'?",
        ),
        ({"name": "resnet50+upernet_deepsup"}, "model 'resnet50+upernet_deepsup' is unknown; did you mean"),
        (
            {"name": "resnet50+c1_bilinear", "dropout": 0.1},
            "option of 'resnet50+c1_bilinear' 'dropout' is unknown; choose from in_channels, deep_stem, "
            "published_start, momentum, statistics",
        ),
        (
            {"name": "resnet50+ppm_bilinear", "dropout": "x"},
            "option 'dropout' of 'resnet50+ppm_bilinear' takes a float",
        ),
        ({"name": "resnet18+ppm_bilinear", "dropout": 2}, "cannot be built with dropout=2: dropout prob"),
        ({"name": "resnet18+upernet", "norm": "gn:48"}, "48 groups do not divide 64 channels"),
    ],
)
def test_what_makes_no_network_is_named(arguments, message):
    with torch.device("meta"), pytest.raises(InputError) as caught:
        switchnorm.create_model(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
