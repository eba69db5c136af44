"""Decoders that start as in the published code, against a plain reference with the same random numbers."""

import functools

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.segmentation.decoders import C1, Decoder, PyramidPooling, UPerNet

CHANNELS = (8, 12, 16, 20)


def c1(norm: Spec, **options) -> Decoder:
    return C1(CHANNELS, norm, 7, deep_supervision=True, **options)


def pyramid_pooling(norm: Spec, **options) -> Decoder:
    return PyramidPooling(CHANNELS, norm, 7, deep_supervision=True, dropout=0.1, **options)


def upernet(norm: Spec, **options) -> Decoder:
    return UPerNet(CHANNELS, norm, 7, width=24, **options)


def reference(decoder: Decoder) -> dict[str, torch.Tensor]:
    """The state of a decoder whose layers PyTorch draws one by one, and then the weights of the convolutions again."""
    convolutions = {name: m for name, m in decoder.named_modules() if isinstance(m, nn.Conv2d)}
    drawn = {
        name: nn.Conv2d(m.in_channels, m.out_channels, m.kernel_size, bias=m.bias is not None)
        for name, m in convolutions.items()
    }
    state = {}
    for name, conv in drawn.items():
        fan_in = conv.in_channels * conv.kernel_size[0] ** 2
        state[f"{name}.weight"] = torch.empty_like(conv.weight).normal_(0, (2 / fan_in) ** 0.5)
        if conv.bias is not None:
            state[f"{name}.bias"] = conv.bias.detach()
    return state


@pytest.mark.parametrize("norm", ["bn", "sn", "gn"])
@pytest.mark.parametrize("build", [c1, pyramid_pooling, upernet])
def test_it_is_what_the_published_code_draws(build, norm):
    torch.manual_seed(3)
    decoder = build(Spec(norm), published_start=True)
    torch.manual_seed(3)
    expected = reference(decoder)
    state = decoder.state_dict()
    shift = 1e-4 if norm == "bn" else 0.0
    checked = set()
    for key, value in state.items():
        layer = decoder.get_submodule(key.rpartition(".")[0])
        if isinstance(layer, nn.Conv2d):
            torch.testing.assert_close(value, expected[key], atol=1e-7, rtol=1e-6, msg=key)
        elif key.endswith((".weight", ".bias")):
            assert (value == (1.0 if key.endswith("weight") else torch.tensor(shift))).all(), key
        checked.add(key.rpartition(".")[2])
    assert {"weight", "bias"} <= checked
    assert any(value.any() for key, value in expected.items() if key.endswith("bias"))


@pytest.mark.parametrize("build", [c1, pyramid_pooling, upernet])
def test_without_it_biases_and_shifts_are_0_and_weights_the_same(build):
    torch.manual_seed(3)
    published = build(Spec("bn"), published_start=True).state_dict()
    torch.manual_seed(3)
    state = build(Spec("bn")).state_dict()
    for key, value in state.items():
        if key.endswith("bias"):
            assert not value.any(), key
            assert published[key].any(), key
        else:
            assert torch.equal(value, published[key]), key


@pytest.mark.parametrize(
    ("norm", "shift"),
    [
        (nn.BatchNorm2d, 1e-4),
        (nn.SyncBatchNorm, 1e-4),
        (functools.partial(nn.GroupNorm, 5), 0.0),
        ("ibn", 0.0),
        ("bcn", 0.0),
    ],
)
def test_only_batch_norm_has_shifts_of_its_own(norm, shift):
    decoder = c1(Spec.of(norm), published_start=True)
    assert (decoder.cbr[1].bias == torch.tensor(shift)).all()


def test_batch_norm_may_have_neither_scale_nor_shift():
    decoder = c1(Spec.of(functools.partial(nn.BatchNorm2d, affine=False)), published_start=True)
    assert decoder.cbr[1].bias is None


@pytest.mark.parametrize("decoder", ["c1_bilinear_deepsup", "ppm_bilinear", "upernet_lite"])
def test_every_network_takes_it_for_its_decoder_alone(decoder):
    torch.manual_seed(3)
    model = switchnorm.create_model(f"resnet18+{decoder}", num_classes=3, published_start=True)
    torch.manual_seed(3)
    usual = switchnorm.create_model(f"resnet18+{decoder}", num_classes=3)
    differing = {key for key, value in model.state_dict().items() if not torch.equal(value, usual.state_dict()[key])}
    assert differing == {key for key in usual.state_dict() if key.startswith("decoder.") and key.endswith(".bias")}
    with pytest.raises(InputError, match=f"option 'published_start' of 'resnet18\\+{decoder}' takes a bool, got 1"):
        switchnorm.create_model(f"resnet18+{decoder}", published_start=1)
