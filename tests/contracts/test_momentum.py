"""Contract: the momentum reaches every layer that keeps running statistics, in every network with every norm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Norm, Spec, norm_names, norm_of, register
from switchnorm.models import Family, registry
from switchnorm.surgery import set_momentum
from tests.contracts.half import half

__all__ = ["half"]

pytestmark = pytest.mark.usefixtures("half")

#: Normalizers that keep no running statistics.
STATELESS = ("gn", "in", "ln")
#: One network of every origin, and the shape of its pictures. The first has a flat layer too.
NETWORKS = {
    "digits_resnet9": (1, 8, 8),
    "cifar_preresnet8": (3, 16, 16),
    "resnet18_dilated8+c1_bilinear_deepsup": (3, 32, 32),
    "resnet18": (3, 64, 64),
    "timm:resnet10t": (3, 64, 64),
}
MOMENTA = (0.0, 0.003, 1.0)


def tracking(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with running statistics, by name, told by their buffers alone."""
    return {name: m for name, m in model.named_modules() if isinstance(getattr(m, "running_mean", None), Tensor)}


def inputs_of(model: nn.Module, batches: list[Tensor]) -> dict[str, list[Tensor]]:
    """What each of these layers is called with when the model trains on the batches; running statistics move."""
    seen: dict[str, list[Tensor]] = {name: [] for name in tracking(model)}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0].detach().clone()))
        for name, layer in tracking(model).items()
    ]
    with torch.no_grad():
        for batch in batches:
            model.train()(batch)
    for hook in hooks:
        hook.remove()
    return seen


def mean_of(x: Tensor) -> Tensor:
    """(N, C, *S) -> (C,)."""
    return x.transpose(0, 1).flatten(1).mean(1)


def variance_of(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The variance of a batch as a layer keeps it, (N, C, *S) -> (C,); None for a normalizer that defines its own."""
    norm = norm_of(layer)
    if norm is not None and norm.mixes and x.dim() > 2:
        each = x.flatten(2)
        return (each.var(2) + each.mean(2).square()).mean(0) - mean_of(x).square()
    return None if norm is not None and norm.name == "bcn" else x.transpose(0, 1).flatten(1).var(1)


def pictures(name: str) -> Tensor:
    return torch.randn(4, *NETWORKS[name]) + 0.5


NORMS = (None, *norm_names(), "half", "ssn+ws")


@pytest.mark.parametrize(
    ("name", "norm", "momentum"),
    # Each network with each norm; each network, and each norm, has every momentum, and `make sweep` has all with all.
    [
        pytest.param(name, norm, momentum, marks=pytest.mark.sweep if (row + column - place) % len(MOMENTA) else ())
        for row, name in enumerate(NETWORKS)
        for column, norm in enumerate(NORMS)
        for place, momentum in enumerate(MOMENTA)
    ],
)
def test_running_statistics_move_by_the_momentum(name: str, norm: str | None, momentum: float) -> None:
    torch.manual_seed(0)
    model = switchnorm.create_model(name, norm=norm, momentum=momentum, num_classes=3)
    assert bool(tracking(model)) == (norm not in STATELESS)
    check_one_batch(model, pictures(name), momentum)


@pytest.mark.parametrize("norm", [*(name for name in norm_names() if name not in STATELESS), "half"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7), (5, 6, 3, 7), (5, 6, 3, 2, 7)])
def test_running_statistics_of_layers_for_any_dimensions(norm: str, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(Spec(norm).layer(6, max(len(shape) - 2, 1), flat=len(shape) == 2))
    if norm == "ibn" and len(shape) == 2:
        model = nn.Sequential(switchnorm.InstanceBatchNorm1d(6, instance_channels=0))
    assert set_momentum(model, 0.003) == 1
    check_one_batch(model, torch.randn(shape) * 2 + 1, 0.003)


def check_one_batch(model: nn.Module, batch: Tensor, momentum: float) -> None:
    """Train on a batch, and compare what every layer keeps with plain formulas of its input."""
    layers = tracking(model)
    for layer_name, (x,) in inputs_of(model, [batch]).items():
        layer = layers[layer_name]
        channels = len(layer.running_mean)
        x = x[:, x.shape[1] - channels :]  # Where only some channels have batch statistics, the last do.
        expected = momentum * mean_of(x)  # They begin at 0, variances at 1.
        torch.testing.assert_close(layer.running_mean, expected, atol=1e-5, rtol=1e-4, msg=layer_name)
        variance = variance_of(layer, x)
        if variance is not None:
            expected = (1 - momentum) + momentum * variance
            torch.testing.assert_close(layer.running_var, expected, atol=1e-5, rtol=1e-4, msg=layer_name)


@pytest.mark.parametrize("norm", [name for name in norm_names() if name not in STATELESS])
def test_none_averages_over_all_batches(norm: str) -> None:
    model = switchnorm.create_model("cifar_resnet8", norm=norm, momentum=None)
    batches = [torch.randn(3, 3, 8, 8) + shift for shift in range(3)]
    for name, xs in inputs_of(model, batches).items():
        running = model.get_submodule(name).running_mean
        means = torch.stack([mean_of(x[:, x.shape[1] - len(running) :]) for x in xs])
        torch.testing.assert_close(running, means.mean(0), atol=1e-5, rtol=1e-4, msg=name)


def test_not_given_layers_keep_theirs() -> None:
    assert {m.momentum for m in tracking(switchnorm.create_model("cifar_resnet8", norm="ssn")).values()} == {0.1}
    # This one was made with TensorFlow's.
    assert {m.momentum for m in tracking(switchnorm.create_model("mnasnet0_5")).values()} == {1 - 0.9997}
    changed = switchnorm.create_model("mnasnet0_5", momentum=0.25)
    assert {m.momentum for m in tracking(changed).values()} == {0.25}


@pytest.mark.parametrize("norm", STATELESS)
def test_without_running_statistics_it_is_taken_and_none_have_it(norm: str) -> None:
    model = switchnorm.create_model("cifar_resnet8", norm=norm, momentum=0.5)
    assert set_momentum(model, 0.5) == 0


@pytest.mark.parametrize("name", ["cifar_vgg11", "alexnet"])
def test_networks_without_a_normalization_take_it_too(name: str) -> None:
    assert set_momentum(switchnorm.create_model(name, momentum=0.5), 0.5) == 0


def test_statistics_without_the_batch_are_not_run() -> None:
    model = switchnorm.create_model("cifar_resnet8", norm="sn", statistics="instance,layer", momentum=0.5)
    assert set_momentum(model, 0.5) == 0


def test_networks_of_ones_own_take_it() -> None:
    def build(*, norm: Spec, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm.layer(4), nn.Flatten(), nn.LazyLinear(num_classes))

    registry.register(Family("mine", build, ("mine",)))
    assert switchnorm.create_model("mine", norm="sn", momentum=0.25)[1].momentum == 0.25
    assert switchnorm.create_model("mine", norm="half", momentum=0.25)[1].batch.momentum == 0.25
    assert switchnorm.create_model("mine", norm=nn.BatchNorm2d, momentum=None)[1].momentum is None


def test_it_counts_the_layers_of_anybody() -> None:
    layers: list[nn.Module] = [
        nn.BatchNorm2d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        switchnorm.SwitchNorm2d(4),
        switchnorm.InstanceBatchNorm2d(4),
        switchnorm.BatchChannelNorm2d(4),
    ]
    others = [nn.InstanceNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4), nn.LayerNorm(4)]
    model = nn.Sequential(*layers, *others, nn.Sequential(layers[0]))
    assert set_momentum(model, 1) == len(layers)
    assert [layer.momentum for layer in layers] == [1.0] * len(layers)
    assert [layer.momentum for layer in others[:2]] == [0.1, 0.1]


class Stubborn(nn.Module):
    """Keeps running statistics at a pace of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.running_mean.view(-1, 1, 1)


@pytest.mark.parametrize("make", [lambda: Stubborn, lambda: register(Norm("stubborn", {2: Stubborn})).name])
def test_a_layer_without_a_momentum_is_refused_before_anything_changes(make: Callable[[], object]) -> None:
    refusal = "cannot take momentum 0.5: Stubborn has running statistics and no attribute momentum; leave momentum out"
    model = nn.Sequential(nn.BatchNorm2d(4), Stubborn(4))
    with pytest.raises(InputError, match=f"^layer '1' {refusal}$"):
        set_momentum(model, 0.5)
    assert model[0].momentum == 0.1
    with pytest.raises(InputError, match=f"^layer 'bn1' {refusal}$"):
        switchnorm.create_model("cifar_resnet8", norm=make(), momentum=0.5)


@pytest.mark.parametrize(
    ("momentum", "message"),
    [
        (-0.1, "momentum -0.1 is outside [0, 1]; the nearest valid number is 0"),
        (1.5, "momentum 1.5 is outside [0, 1]; the nearest valid number is 1"),
        (float("inf"), "momentum inf is outside [0, 1]; the nearest valid number is 1"),
        (float("nan"), "momentum nan is no number in [0, 1]; PyTorch's is 0.1, and None averages"),
        (True, "momentum True is no number in [0, 1]; PyTorch's is 0.1, and None averages"),
        ("0.1", "momentum '0.1' is no number in [0, 1]; PyTorch's is 0.1, and None averages"),
    ],
)
def test_a_momentum_out_of_range_is_refused_before_a_network_is_built(
    momentum: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_build", None)
    for refused in (
        lambda: switchnorm.create_model("cifar_resnet8", momentum=momentum),
        lambda: set_momentum(nn.BatchNorm2d(3), momentum),
    ):
        with pytest.raises(InputError) as caught:
            refused()
        assert str(caught.value) == message
