"""Encoders and decoders against plain references: torchvision's networks, and functions of a decoder's state."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Spec
from switchnorm.models.segmentation.decoders import C1, PyramidPooling, UPerNet
from switchnorm.models.segmentation.encoder import Encoder


def perturbed(model: nn.Module) -> nn.Module:
    """The model, so that no scale is 1 and no statistic 0; variances stay positive."""
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.add_(torch.rand_like(value), alpha=0.2)
    return model


@pytest.mark.parametrize(("stride", "replaced"), [(32, (False,) * 3), (16, (0, 0, 1)), (8, (0, 1, 1))])
def test_encoders_compute_what_torchvision_s_dilated_networks_do(stride, replaced):
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[bool(each) for each in replaced])
    state = perturbed(theirs).eval().state_dict()
    ours = Encoder(50, stride, Spec("bn")).eval()
    ours.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    x = torch.randn(1, 3, 65, 49)
    with torch.no_grad():
        maps = ours(x)
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for found, layer in zip(maps, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
            y = layer(y)
            torch.testing.assert_close(found, y, atol=1e-5 * float(y.abs().max()), rtol=0)
    assert maps[3].shape == (1, 2048, -(-65 // stride), -(-49 // stride))


def test_dilation_in_blocks_of_two_convolutions():
    # The strided convolution keeps half of its stage's dilation, and only that one.
    encoder = Encoder(18, 8, Spec("bn"))
    for stage, expected in (
        (encoder.layer2, [1, 1, 1, 1]),
        (encoder.layer3, [1, 2, 2, 2]),
        (encoder.layer4, [2, 4, 4, 4]),
    ):
        convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert [conv.dilation[0] for conv in convs] == [conv.padding[0] for conv in convs] == expected
    assert [m.stride for m in encoder.layer4.modules() if isinstance(m, nn.Conv2d)] == [(1, 1)] * 5


CHANNELS = (6, 8, 12, 20)


def stage_maps(dilated: bool) -> list[Tensor]:
    sides = [(9, 11), (5, 6), (5, 6), (5, 6)] if dilated else [(18, 22), (9, 11), (5, 6), (3, 3)]
    return [torch.randn(2, channels, *side) for channels, side in zip(CHANNELS, sides, strict=True)]


class Plain:
    """Functions of a decoder's state, with running statistics."""

    def __init__(self, decoder: nn.Module) -> None:
        self.state = decoder.state_dict()

    def layer(self, conv: str, norm: str, x: Tensor) -> Tensor:
        """Convolution without bias, Batch Norm, ReLU."""
        weight = self.state[f"{conv}.weight"]
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            self.state[f"{norm}.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
        )
        return torch.relu((y - mean) / torch.sqrt(var + 1e-5) * scale + shift)

    def classifier(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def bilinear(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def averaged(x: Tensor, side: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, side)


def plain_c1(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    return {
        "out": net.classifier("conv_last", net.layer("cbr.0", "cbr.1", maps[3])),
        "aux": net.classifier("conv_last_deepsup", net.layer("cbr_deepsup.0", "cbr_deepsup.1", maps[2])),
    }


def plain_pyramid_pooling(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    last = maps[3]
    parts = [last]
    for i, side in enumerate((1, 2, 3, 6)):
        parts.append(bilinear(net.layer(f"ppm.{i}.1", f"ppm.{i}.2", averaged(last, side)), last))
    y = net.layer("conv_last.0", "conv_last.1", torch.cat(parts, 1))
    supervised = net.layer("cbr_deepsup.0", "cbr_deepsup.1", maps[2])
    return {"out": net.classifier("conv_last.4", y), "aux": net.classifier("conv_last_deepsup", supervised)}


def plain_upernet(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    last = maps[3]
    parts = [last]
    for i, side in enumerate((1, 2, 3, 6)):
        parts.append(net.layer(f"ppm_conv.{i}.0", f"ppm_conv.{i}.1", bilinear(averaged(last, side), last)))
    top = net.layer("ppm_last_conv.0", "ppm_last_conv.1", torch.cat(parts, 1))
    outs = {3: top}
    for i in (2, 1, 0):
        top = net.layer(f"fpn_in.{i}.0", f"fpn_in.{i}.1", maps[i]) + bilinear(top, maps[i])
        outs[i] = net.layer(f"fpn_out.{i}.0.0", f"fpn_out.{i}.0.1", top)
    y = torch.cat([outs[0], *(bilinear(outs[i], outs[0]) for i in (1, 2, 3))], 1)
    return {"out": net.classifier("conv_last.1", net.layer("conv_last.0.0", "conv_last.0.1", y))}


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize(
    ("build", "plain"),
    [
        (lambda: C1(CHANNELS, Spec("bn"), 7, deep_supervision=True), plain_c1),
        (
            lambda: PyramidPooling(CHANNELS, Spec("bn"), 7, deep_supervision=True, dropout=0.1),
            plain_pyramid_pooling,
        ),
        (lambda: UPerNet(CHANNELS, Spec("bn"), 7, width=16), plain_upernet),
    ],
    ids=["c1", "ppm", "upernet"],
)
def test_decoders_compute_what_plain_functions_do(build, plain, dilated):
    decoder, maps = perturbed(build()).eval(), stage_maps(dilated)
    expected = plain(Plain(decoder), maps)
    with torch.no_grad():
        assert list(decoder(maps)) == ["out"]
        decoder.training = True  # Its normalizations and dropout stay in evaluation mode.
        found = decoder(maps)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5 * float(value.abs().max()), rtol=0)
    assert found["out"].shape[2:] == maps[0 if isinstance(decoder, UPerNet) else 3].shape[2:]
