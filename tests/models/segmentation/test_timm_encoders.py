"""Networks of timm as encoders, against timm itself."""

import copy
import warnings

import pytest
import timm
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, GroupNorm, SparseSwitchNorm2d, SwitchNorm2d, WSConv2d
from switchnorm.models import task_of
from switchnorm.training.warm_start import warm_start

LITE = "timm:tf_efficientnet_lite0_dilated16+c1_bilinear"


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def has_gradients(model: nn.Module) -> bool:
    return all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("bn", BatchNorm2d), ("sn", SwitchNorm2d), ("ssn", SparseSwitchNorm2d), ("gn", GroupNorm), ("gn+ws", GroupNorm)],
)
def test_the_normalization_of_encoder_and_decoder_is_switched(norm, kind):
    model = switchnorm.create_model(LITE, norm=norm, num_classes=11)
    assert (count(model.encoder, kind), count(model.decoder, kind)) == (48, 1)
    # All but four of timm's, which pad as TensorFlow does by a forward pass of their own, and the classifier of pixels.
    assert count(model, WSConv2d) == (45 if norm == "gn+ws" else 0)
    logits = model(torch.randn(2, 3, 66, 97))
    assert {key: tuple(value.shape) for key, value in logits.items()} == {"out": (2, 11, 5, 7)}
    logits["out"].square().sum().backward()
    assert has_gradients(model)


def test_without_a_norm_the_encoder_is_as_timm_built_it_and_the_decoder_has_batch_norm():
    torch.manual_seed(3)
    expected = timm.create_model("resnet18.a1_in1k", features_only=True, out_indices=(-4, -3, -2, -1))
    torch.manual_seed(3)
    model = switchnorm.create_model("timm:resnet18.a1_in1k+c1_bilinear")
    assert repr(model.encoder) == repr(expected)
    assert model.encoder.pretrained_cfg["tag"] == "a1_in1k"
    assert all(torch.equal(a, b) for a, b in zip(model.encoder.parameters(), expected.parameters(), strict=True))
    assert type(model.decoder.cbr[1]) is BatchNorm2d


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("timm:resnet18_dilated8+upernet_lite", {"out": (16, 24)}),
        ("timm:resnet18_dilated8+ppm_bilinear_deepsup", {"out": (8, 12), "aux": (8, 12)}),
        ("timm:vgg11_bn+c1_bilinear_deepsup", {"out": (2, 3), "aux": (4, 6)}),
        ("timm:xception41_dilated16+c1_bilinear", {"out": (4, 6)}),
    ],
)
def test_maps_have_the_stride_of_the_name(name, sizes):
    assert task_of(name) == "segmentation"
    model = copy.deepcopy(switchnorm.create_model(name, norm="sn", num_classes=5))
    assert count(model, nn.modules.batchnorm._BatchNorm) == 0
    logits = model(torch.randn(2, 3, 64, 96))
    assert {key: tuple(value.shape) for key, value in logits.items()} == {
        key: (2, 5, *size) for key, size in sizes.items()
    }
    sum(each.square().sum() for each in logits.values()).backward()
    assert has_gradients(model)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("swin_tiny_patch4_window7_224", "LayerNorm"),
        ("vit_tiny_patch16_224", "LayerNorm"),
        ("convnext_atto", "LayerNorm2d"),
    ],
)
def test_an_encoder_that_keeps_its_normalization_is_said(name, kinds):
    with pytest.warns(
        UserWarning, match=f"has no normalization that switches, only {kinds}; 'gn' is that of the decoder alone"
    ):
        model = switchnorm.create_model(f"timm:{name}+c1_bilinear", norm="gn", num_classes=5)
    assert (count(model.encoder, GroupNorm), count(model.decoder, GroupNorm)) == (0, 1)
    side = 16 if name.startswith("vit") else 32
    assert model(torch.randn(2, 3, 64, 96))["out"].shape == (2, 5, 64 // side, 96 // side)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "timm:vgg11_bn_dilated16+c1_bilinear",
            "cannot have an output stride of 16; the nearest that it can have is 32",
        ),
        (
            "timm:vit_tiny_patch16_224_dilated8+upernet",
            "the nearest that it can have is 16, with 'timm:vit_tiny_patch16",
        ),
        ("timm:resnet18_dilated4+c1_bilinear", "output stride 4 is impossible; the nearest valid stride is 8"),
        ("timm:levit_128s+c1_bilinear", "'timm:levit_128s' gives the maps of 3 stages, and decoders take four"),
        ("timm:resnet181+c1_bilinear", "model 'timm:resnet181' is unknown; did you mean 'timm:resnet18'"),
        ("timm:resnet18.a1_in1+c1_bilinear", "weights 'a1_in1' is unknown; did you mean 'a1_in1k'"),
        ("timm:resnet18.b", "weights 'b' is unknown; choose from a1_in1k"),
        ("timm:resnet18+c1_biliner", "decoder 'c1_biliner' is unknown; did you mean 'c1_bilinear'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(name, message):
    with pytest.raises(InputError, match=message):
        switchnorm.create_model(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, "starts at random, without 'pretrained'"),
        ({"features_only": True}, "gives logits, so that 'features_only' is not an option"),
        ({"output_stride": 8}, "option 'output_stride' of 'timm:resnet18' is what the network's name says"),
        ({"dropout": "much"}, "option 'dropout' of '\\+ppm_bilinear' takes a float, got 'much'"),
        ({"dropout": 2}, "model '\\+ppm_bilinear' cannot be built with dropout=2: dropout prob"),
        ({"deep_stem": True}, "'timm:resnet18' cannot be built with deep_stem=True"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        switchnorm.create_model("timm:resnet18+ppm_bilinear", **options)


def test_options_go_to_the_decoder_or_to_timm():
    model = switchnorm.create_model("timm:resnet18+ppm_bilinear", dropout=0.3, drop_path_rate=0.2, momentum=0.01)
    assert next(m.p for m in model.decoder.modules() if isinstance(m, nn.Dropout2d)) == 0.3
    assert count(model.encoder, timm.layers.DropPath) > 0
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}


# One of each way in which timm makes a network give maps, and calls its entries there.
@pytest.mark.parametrize(
    "name", ["resnet10t", "convnext_atto", "densenet121", "vit_tiny_patch16_224", "mobilenetv3_small_050"]
)
def test_a_classifier_s_weights_become_the_encoder_s(name, tmp_path):
    torch.manual_seed(0)
    classifier = timm.create_model(name, **({"dynamic_img_size": True} if name.startswith("vit") else {})).eval()
    for key, value in classifier.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = switchnorm.create_model(f"timm:{name}+c1_bilinear", norm="bn").eval()
    report = warm_start(model, tmp_path / "w.pth")
    assert all(key.startswith("decoder.") for key in report.missing)
    assert report.shapes == ()
    assert report.classifier
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = classifier.forward_intermediates(x, indices=4, intermediates_only=True)
        for ours, theirs in zip(model.encoder(x), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
