"""What single families of networks for small pictures compute, where no record tells."""

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.blocks import Layers, ResidualBlock, bottleneck
from switchnorm.models.cifar.densenet import CifarDenseNet, compressed
from switchnorm.models.cifar.preresnet import CifarPreResNet, PreActivatedBasicBlock, PreActivatedBottleneck
from switchnorm.models.cifar.resnet import CifarResNet
from switchnorm.models.cifar.vgg import CifarVGG
from switchnorm.models.cifar.wide_resnet import CifarWideResNet, WideBlock

BN = Spec("bn")


def modules_with_parameters(model: nn.Module) -> set[str]:
    return {key.rpartition(".")[0] for key, _ in model.named_parameters()}


class TestNames:
    """Keys of the families without a record, as published checkpoints have them."""

    def test_vgg(self):
        convolutions = (0, 4, 8, 11, 15, 18, 22, 25)
        expected = {f"features.{i + j}" for i in convolutions for j in (0, 1)} | {"classifier"}
        assert modules_with_parameters(CifarVGG(11, norm=BN)) == expected
        assert all(isinstance(CifarVGG(11, norm=BN).features[i], nn.Conv2d) for i in convolutions)

    def test_vgg_without_normalization(self):
        convolutions = (0, 3, 6, 8, 11, 13, 16, 18)
        model = CifarVGG(11, norm=None)
        assert modules_with_parameters(model) == {f"features.{i}" for i in convolutions} | {"classifier"}
        assert all(isinstance(model.features[i + 1], nn.ReLU) for i in convolutions)

    @pytest.mark.parametrize(("depth", "block", "layers"), [(8, None, 2), (11, "bottleneck", 3)])
    def test_preresnet(self, depth, block, layers):
        expected = {"conv1", "bn", "fc", "layer2.0.downsample.0", "layer3.0.downsample.0"}
        expected |= {f"layer{s}.0.{kind}{i + 1}" for s in (1, 2, 3) for kind in ("bn", "conv") for i in range(layers)}
        if block:
            expected.add("layer1.0.downsample.0")
        assert modules_with_parameters(CifarPreResNet(depth, block, norm=BN)) == expected

    def test_wide_resnet(self):
        expected = {"conv1", "bn1", "fc", "block2.layer.0.convShortcut", "block3.layer.0.convShortcut"}
        expected |= {
            f"block{s}.layer.{b}.{name}{i}"
            for s in (1, 2, 3)
            for b in (0, 1)
            for name in ("bn", "conv")
            for i in (1, 2)
        }
        assert modules_with_parameters(CifarWideResNet(16, 1, norm=BN)) == expected

    def test_resnet_bottleneck(self):
        expected = {"conv1", "bn1", "fc"}
        expected |= {f"layer{s}.0.{kind}{i}" for s in (1, 2, 3) for kind in ("bn", "conv") for i in (1, 2, 3)}
        expected |= {f"layer{s}.0.downsample.{i}" for s in (1, 2, 3) for i in (0, 1)}
        assert modules_with_parameters(CifarResNet(11, "bottleneck", norm=BN)) == expected


@pytest.mark.parametrize("block", [PreActivatedBasicBlock, PreActivatedBottleneck])
def test_a_pre_activated_shortcut_is_x_itself(block):
    block = block(16, 16, 1, BN)
    nn.init.zeros_((block.conv3 if hasattr(block, "conv3") else block.conv2).weight)
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(block(x.clone()), x)


@pytest.mark.parametrize("block", [PreActivatedBasicBlock, PreActivatedBottleneck])
def test_a_pre_activated_projection_takes_x_as_it_comes(block):
    block = block(8, 16, 2, BN)
    nn.init.zeros_((block.conv3 if hasattr(block, "conv3") else block.conv2).weight)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x.clone()), block.downsample[0](x))


def test_a_wide_projection_takes_x_normalized_and_rectified():
    block = WideBlock(8, 16, 2, BN, 0.0)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x.clone()), block.convShortcut(block.bn1(x).relu()))
    same = WideBlock(16, 16, 1, BN, 0.0)
    nn.init.zeros_(same.conv2.weight)
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(same(x.clone()), x)


def test_a_bottleneck_rectifies_the_sum():
    block = ResidualBlock(16, bottleneck(16, 1, 4), Layers(BN))
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(block(x.clone()), x.relu())
    assert ResidualBlock(16, bottleneck(32, 2, 8), Layers(BN))(x).shape == (2, 32, 3, 3)


@pytest.mark.parametrize("width", [1, 3])
def test_width_multiplies_the_channels_of_the_stages(width):
    model = CifarWideResNet(10, width, norm=BN)
    assert model.conv1.out_channels == 16
    assert [getattr(model, f"block{s}").layer[0].conv2.out_channels for s in (1, 2, 3)] == [
        16 * width,
        32 * width,
        64 * width,
    ]
    assert not model.fc.bias.any()


def test_dropout_acts_before_the_second_convolution_in_training_alone():
    block = WideBlock(16, 16, 1, BN, 0.3)
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(64, 16, 8, 8)
    block(x)
    block.eval()(x)
    in_training, in_evaluation = ((y == 0).double().mean() for y in seen)
    # Half of the values is zero after the ReLU, and 0.3 of the other half is dropped.
    assert float(in_training) == pytest.approx(0.5 + 0.5 * 0.3, abs=0.01)
    assert float(in_evaluation) == pytest.approx(0.5, abs=0.01)
    assert [m.p for m in CifarWideResNet(10, 1, norm=BN, dropout=0.3).modules() if isinstance(m, nn.Dropout)] == [
        0.3
    ] * 3


@pytest.mark.parametrize(("network", "usual"), [(CifarWideResNet, 0.3), (CifarDenseNet, 0.2)])
@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (1, "dropout 1 is outside [0, 1); the paper's is "),
        (-0.1, "dropout -0.1 is outside [0, 1); the nearest valid number is 0"),
        ("0.3", "dropout '0.3' is outside [0, 1); the paper's is "),
        (float("nan"), "dropout nan is outside [0, 1); the paper's is "),
        (True, "dropout True is outside [0, 1); the paper's is "),
    ],
)
def test_dropout_out_of_range(network, usual, dropout, message):
    with pytest.raises(InputError) as caught:
        network(10, 1, norm=BN, dropout=dropout)
    assert str(caught.value) == message + (str(usual) if message.endswith(" ") else "")


@pytest.mark.parametrize(
    ("channels", "compression", "kept"),
    [(216, 0.5, 108), (5, 0.5, 2), (5, 1, 5), (100, 0.29, 29), (10, 0.7, 7), (30, 0.1, 3), (1000, 1e-3, 1)],
)
def test_compression_keeps_its_share_rounded_down(channels, compression, kept):
    assert compressed(channels, compression) == kept


@pytest.mark.parametrize("channels", [216, 99, 7, 12])
@pytest.mark.parametrize("rate", [1, 2, 3, 4, 5, 6, 7])
def test_every_published_compression_rate_is_a_fraction(channels, rate):
    """bearpaw/pytorch-classification divides the channels by an integer and rounds down."""
    assert compressed(channels, f"1/{rate}") == channels // rate


def test_compression_is_that_of_both_transitions():
    model = CifarDenseNet(10, 8, norm=BN, compression=0.75)
    # 16 + 8 = 24 channels -> 18; 18 + 8 = 26 -> 19; 19 + 8 = 27.
    assert [model.trans1.conv1.out_channels, model.trans2.conv1.out_channels, model.fc.in_features] == [18, 19, 27]


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        (0, "compression 0 is outside (0, 1]; the paper's is 0.5"),
        (2, "compression 2 is outside (0, 1]; the nearest valid number is 1"),
        (True, "compression True is outside (0, 1]; the paper's is 0.5"),
        ("4/3", "compression '4/3' is outside (0, 1]; the nearest valid number is 1"),
        ("1/0", "compression '1/0' is outside (0, 1]; the paper's is 0.5"),
        ("half", "compression 'half' is outside (0, 1]; the paper's is 0.5"),
        (float("nan"), "compression nan is outside (0, 1]; the paper's is 0.5"),
        ("1/99", "compression '1/99' keeps none of 24 channels; the nearest that keeps one is 0.042"),
        (0.01, "compression 0.01 keeps none of 24 channels; the nearest that keeps one is 0.042"),
    ],
)
def test_compression_out_of_range(compression, message):
    with pytest.raises(InputError) as caught:
        CifarDenseNet(10, 8, norm=BN, compression=compression)
    assert str(caught.value) == message


def test_a_dense_layer_appends_its_channels():
    layer = CifarDenseNet(10, 8, norm=BN).dense1[0]
    x = torch.randn(2, 16, 4, 4)
    y = layer(x.clone())
    assert y.shape == (2, 24, 4, 4)
    assert torch.equal(y[:, :16], x)


def test_dropout_of_a_dense_layer_acts_on_what_it_appends_in_training_alone():
    model = CifarDenseNet(10, 8, norm=BN, dropout=0.25)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25] * 3
    layer = model.dense1[0]
    x = torch.randn(32, 16, 16, 16)
    new = []
    layer.conv2.register_forward_hook(lambda _, inputs, output: new.append(output))
    y = layer(x.clone())[:, 16:]
    kept = y != 0
    assert float(kept.double().mean()) == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(y[kept], new[0][kept] / 0.75)
    assert torch.equal(layer(x.clone())[:, :16], x)
    y = layer.eval()(x.clone())[:, 16:]
    assert torch.equal(y, new[-1])


@pytest.mark.parametrize("options", [{"in_channels": 0}, {"embedding": 0}, {"in_channels": "3"}, {"embedding": True}])
def test_resnet_options_that_are_no_numbers_of_channels(options):
    with pytest.raises(InputError, match="is impossible; the nearest valid number is 1"):
        CifarResNet(8, norm=BN, **options)
