"""What holds for every family of networks for small pictures."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec, norm_names
from switchnorm.layers.weight_standardized import WSConv2d
from switchnorm.models.cifar import FAMILIES
from switchnorm.surgery.graph import wire
from switchnorm.surgery.kinds import is_norm

# The smallest network of every family, and the side of the pictures that it takes.
SMALLEST = {
    "cifar_alexnet": 29,
    "cifar_vgg11": 32,
    "cifar_vgg11_bn": 32,
    "cifar_resnet8": 8,
    "cifar_resnet11_bottleneck": 8,
    "cifar_preresnet8": 8,
    "cifar_preresnet11_bottleneck": 8,
    "cifar_resnext11_2x4": 8,
    "cifar_wrn10_1": 8,
    "cifar_densenet10_8": 8,
    "digits_resnet9": 8,
}
PLAIN = ["cifar_alexnet", "cifar_vgg11"]
NORMALIZED = [name for name in SMALLEST if name not in PLAIN]


def build(name: str, norm: str = "bn", **options: Any) -> nn.Module:
    (found,) = [(family, n) for family in FAMILIES if (n := family.numbers(name)) is not None]
    family, numbers = found
    family.check_options(name, {key: value for key, value in options.items() if key != "num_classes"})
    normalization = {} if family.norm is None else {"norm": Spec.parse(norm)}
    return family.build(*numbers, **normalization, **options)


def pictures(name: str, side: int) -> torch.Tensor:
    return torch.randn(2, 1 if name.startswith("digits") else 3, side, side)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("cifar_alexnet", 2.47),
        ("cifar_vgg19_bn", 20.04),
        ("cifar_resnet110", 1.73),
        ("cifar_resnet1202", 19.42),
        ("cifar_preresnet110", 1.73),
        ("cifar_resnext29_8x64", 34.43),
        ("cifar_resnext29_16x64", 68.16),
        ("cifar_wrn28_10", 36.48),
        ("cifar_densenet100_12", 0.77),
        ("cifar_densenet190_40", 25.62),
    ],
)
def test_published_sizes(name, millions):
    with torch.device("meta"):
        assert round(parameters(build(name, num_classes=10)) / 1e6, 2) == millions


@pytest.mark.parametrize(("depth", "count"), [(11, 9225610), (13, 9410122), (16, 14719818), (19, 20029514)])
def test_sizes_of_the_toolbox_s_networks_without_normalization(depth, count):
    """What bearpaw/pytorch-classification counts, whose README.md lists none of them."""
    with torch.device("meta"):
        assert parameters(build(f"cifar_vgg{depth}", num_classes=10)) == count


def test_listed_names_belong_to_one_family():
    listed = [name for family in FAMILIES for name in family.names]
    assert len(set(listed)) == len(listed)
    for family in FAMILIES:
        for name in family.names:
            assert [other for other in FAMILIES if other.numbers(name) is not None] == [family], name


@pytest.mark.parametrize("ws", ["", "+ws"])
@pytest.mark.parametrize("norm", [*norm_names(), "gn:2"])
@pytest.mark.parametrize("name", NORMALIZED)
def test_every_network_trains_with_every_norm(name, norm, ws):
    trains(name, build(name, norm + ws, num_classes=7))


@pytest.mark.parametrize("name", PLAIN)
def test_every_network_trains_without_one(name):
    trains(name, build(name, num_classes=7))


def trains(name: str, model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    logits = model(pictures(name, SMALLEST[name]))
    assert logits.shape == (2, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 6])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    optimizer.step()
    assert model.eval()(pictures(name, SMALLEST[name])).isfinite().all()


@pytest.mark.parametrize("name", PLAIN)
def test_plain_networks_have_nothing_to_normalize_or_standardize(name):
    kinds = {type(m).__name__ for m in build(name).modules() if not next(m.children(), None)}
    assert kinds == {"SmallestSide", "Conv2d", "ReLU", "MaxPool2d", "AdaptiveAvgPool2d", "Linear"}


@pytest.mark.parametrize("name", NORMALIZED)
def test_one_definition_for_all_norms(name):
    def structure(norm: str) -> list[str]:
        named = build(name, norm).named_modules()
        return [f"{path}: {'norm' if is_norm(m) else type(m).__name__.removeprefix('WS')}" for path, m in named]

    assert structure("bn") == structure("ssn") == structure("gn+ws")
    normalized = {type(m) for m in build(name, "sn").modules() if is_norm(m)}
    expected = {type(Spec("sn").layer(8))}
    if name == "digits_resnet9":
        expected.add(type(Spec("sn").layer(8, dims=1)))
    assert normalized == expected


@pytest.mark.parametrize("name", NORMALIZED)
def test_standardized_are_the_convolutions_that_feed_a_normalization(name):
    model = build(name, "gn+ws")
    wiring = wire(model)
    assert wiring.method == "tracing"
    assert {m for m in model.modules() if isinstance(m, WSConv2d)} == set(wiring.feeds)
    assert not any(isinstance(m, WSConv2d) for m in build(name, "gn").modules())


@pytest.mark.parametrize("name", [name for name in SMALLEST if name != "cifar_alexnet"])
def test_initialisation(name):
    torch.manual_seed(0)
    model = build(name)
    for key, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            deviation = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            # The deviation of the deviation of n normal numbers is 1 / sqrt(2 n) of it.
            tolerance = 5 / math.sqrt(2 * module.weight.numel())
            assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=tolerance), key
            assert module.bias is None or not module.bias.any(), key
        elif is_norm(module):
            assert (module.weight == 1).all(), key
            assert not module.bias.any(), key


@pytest.mark.parametrize(
    ("name", "classifier", "deviation"),
    [
        ("cifar_vgg11", "classifier", 0.01),
        ("cifar_vgg11_bn", "classifier", 0.01),
        ("cifar_resnext11_2x4", "classifier", math.sqrt(2 / 1024)),
    ],
)
def test_classifiers_start_as_published(name, classifier, deviation):
    torch.manual_seed(0)
    layer = build(name).get_submodule(classifier)
    assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=5 / math.sqrt(2 * layer.weight.numel()))
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        # A part of the names of convolutions that the depth does not count, and how many other layers it counts.
        *((f"cifar_resnet{depth}", ("downsample", 1)) for depth in (20, 32, 44, 56, 110)),
        ("cifar_resnet164_bottleneck", ("downsample", 1)),
        ("cifar_preresnet110", ("downsample", 1)),
        ("cifar_preresnet164_bottleneck", ("downsample", 1)),
        ("cifar_resnext29_8x64", ("shortcut", 1)),
        ("cifar_wrn28_10", ("nothing", 0)),
        ("cifar_wrn40_4", ("nothing", 0)),
        ("cifar_densenet100_12", ("nothing", 1)),
        ("cifar_vgg19_bn", ("nothing", 3)),
    ],
)
def test_depth_counts_the_weighted_layers(name, outside):
    part, more = outside
    with torch.device("meta"):
        named = build(name).named_modules()
    convolutions = [path for path, m in named if isinstance(m, nn.Conv2d) and part not in path]
    (depth,) = [n for family in FAMILIES if (numbers := family.numbers(name)) for n in numbers[:1]]
    assert len(convolutions) + more == depth


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar_resnet21", "depth 21 is not 6n + 2; the nearest valid depth is 20"),
        ("cifar_resnet2", "depth 2 is not 6n + 2 with n >= 1; the nearest valid depth is 8"),
        ("cifar_resnet0", "depth 0 is not 6n + 2; the nearest valid depth is 8"),
        ("cifar_resnet163_bottleneck", "depth 163 is not 9n + 2; the nearest valid depth is 164"),
        ("cifar_preresnet111", "depth 111 is not 6n + 2; the nearest valid depth is 110"),
        ("cifar_preresnet110_bottleneck", None),
        ("cifar_resnext30_8x64", "depth 30 is not 9n + 2; the nearest valid depth is 29"),
        ("cifar_resnext29_0x64", "cardinality 0 is impossible; the nearest valid number is 1"),
        ("cifar_resnext29_8x0", "width 0 is impossible; the nearest valid number is 1"),
        ("cifar_wrn27_10", "depth 27 is not 6n + 4; the nearest valid depth is 28"),
        ("cifar_wrn28_0", "width 0 is impossible; the nearest valid number is 1"),
        ("cifar_densenet101_12", "depth 101 is not 6n + 4; the nearest valid depth is 100"),
        ("cifar_densenet100_0", "growth 0 is impossible; the nearest valid number is 1"),
        ("cifar_vgg12_bn", "depth 12 is not one of VGG's; the nearest valid depth is 11"),
        ("cifar_vgg12", "depth 12 is not one of VGG's; the nearest valid depth is 11"),
        ("cifar_vgg99_bn", "depth 99 is not one of VGG's; the nearest valid depth is 19"),
    ],
)
def test_numbers_that_make_no_network_give_the_nearest_that_do(name, message):
    with torch.device("meta"):
        if message is None:
            build(name)
            return
        with pytest.raises(InputError) as caught:
            build(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "side"), [("cifar_alexnet", 29), ("cifar_vgg11", 32), ("cifar_vgg11_bn", 32), ("cifar_densenet10_8", 4)]
)
def test_pictures_too_small(name, side):
    model = build(name).eval()
    assert model(torch.randn(1, 3, side, side)).shape == (1, 10)
    with pytest.raises(InputError) as caught:
        model(torch.randn(1, 3, side, side - 1))
    assert str(caught.value) == (
        f"pictures of {side}x{side - 1} are too small for this network; the smallest it takes are {side}x{side}"
    )
    # Nothing would have been left of them.
    model.smallest.side = 1
    with pytest.raises(RuntimeError, match="too small"):
        model(torch.randn(1, 3, side, side - 1))


@pytest.mark.parametrize("name", SMALLEST)
def test_larger_pictures(name):
    assert build(name).eval()(pictures(name, 45)).isfinite().all()
