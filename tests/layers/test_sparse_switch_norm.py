"""SparseSwitchNorm: the published layers, the radius, and final choices."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm, SparseSwitchNorm1d, SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.ops import sparsemax, sparsestmax

pytestmark = pytest.mark.usefixtures("poisoned")

Golden = Callable[[str], dict[str, Tensor]]

RADII = ("0.0", "0.25", "0.5", "0.8", "1.0")


@pytest.mark.parametrize("radius", RADII)
def test_published(radius: str, golden: Golden) -> None:
    record = golden(f"sparse_switch_norm_2d_radius_{radius}")
    layer = SparseSwitchNorm2d(6, momentum=0.003).double()
    layer.load_state_dict({k.removeprefix("before."): v for k, v in record.items() if k.startswith("before.")})
    assert abs(float(layer.radius) - float(radius)) < 1e-7
    x = record["x"].requires_grad_()
    y = layer(x)
    y.backward(record["dy"])
    # The published code rounds the centre of the ball to float32, see tests/ops/test_simplex.py.
    closely = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(y, record["y_train"], **closely)
    torch.testing.assert_close(x.grad, record["dx"], **closely)
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None
        # A choice that is one-hot has no gradient there, and one of zero here.
        expected = record.get(f"grad.{key}", torch.zeros_like(parameter)).flatten()
        torch.testing.assert_close(parameter.grad, expected, **closely)
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, key), record[f"after.{key}"].flatten(), **closely)
    torch.testing.assert_close(layer.eval()(x), record["y_eval"], **closely)
    # What the published forward pass writes, harden() writes.
    final = layer.harden()
    assert final == bool(record["after.mean_fixed"] and record["after.var_fixed"])
    after = {k.removeprefix("after."): v for k, v in record.items() if k.startswith("after.")}
    for key in ("mean_weight", "var_weight", "mean_fixed", "var_fixed", "radius"):
        torch.testing.assert_close(layer.state_dict()[key], after[key], **closely)
    torch.testing.assert_close(layer(x), record["y_eval"], **closely)
    # And what it has written loads.
    other = SparseSwitchNorm2d(6).double().eval()
    other.load_state_dict(after)
    torch.testing.assert_close(other(x), record["y_eval"], **closely)


def logits(layer: SparseSwitchNorm2d, mean: list[float], var: list[float]) -> None:
    with torch.no_grad():
        layer.mean_weight.copy_(torch.tensor(mean))
        layer.var_weight.copy_(torch.tensor(var))


@pytest.mark.parametrize("centre", ["support", "simplex"])
def test_importance_is_sparsestmax_at_the_radius(centre: str) -> None:
    layer = SparseSwitchNorm2d(6, centre=centre)
    logits(layer, [0.1, 0.4, 0.2], [0.9, -0.3, 0.3])
    for radius in (0.0, 0.2, 0.6, 1.0):
        layer.set_radius(radius)
        for importance, weights in zip(layer.importance(), (layer.mean_weight, layer.var_weight), strict=True):
            torch.testing.assert_close(importance, sparsestmax(weights, radius, centre))
    layer.set_radius(0.0)
    torch.testing.assert_close(layer.importance()[0], sparsemax(layer.mean_weight))


def test_radius_is_checked() -> None:
    layer = SparseSwitchNorm2d(6)
    for wrong, nearest in ((1.2, "1.0"), (-1, "0.0")):
        with pytest.raises(InputError, match=f"the nearest valid radius is {nearest}"):
            layer.set_radius(wrong)
    assert layer.radius == 0


def test_training_makes_a_choice_that_harden_keeps() -> None:
    """From equal logits, a growing radius and the gradient alone lead to one-hot importance."""
    layer = SparseSwitchNorm2d(4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    wanted = SwitchNorm2d(4, ("layer",))
    x = torch.randn(8, 4, 5, 5) * torch.rand(8, 1, 1, 1) + torch.randn(8, 4, 1, 1)
    for step in range(30):
        layer.set_radius(step / 29)
        optimizer.zero_grad()
        (layer(x) - wanted(x)).square().mean().backward()
        optimizer.step()
    assert [weights.tolist() for weights in layer.importance()] == [[0, 1, 0], [0, 1, 0]]
    y = layer(x)
    assert layer.harden()
    assert layer.harden()  # again changes nothing
    assert layer.mean_weight.tolist() == [0, 1, 0]
    torch.testing.assert_close(layer(x), y, rtol=0, atol=0)
    layer.set_radius(0.0)
    torch.testing.assert_close(layer(x), y, rtol=0, atol=0)


def test_only_one_hot_choices_become_final_and_keep_a_gradient_of_zero() -> None:
    layer = SparseSwitchNorm2d(6)
    logits(layer, [0.1, 1.4, 0.2], [0.4, 0.3, 0.25])
    layer.set_radius(0.4)
    before = layer.var_weight.clone()
    assert not layer.harden()
    assert (layer.mean_fixed.item(), layer.var_fixed.item()) == (1, 0)
    assert layer.mean_weight.tolist() == [0, 1, 0]
    assert torch.equal(layer.var_weight, before)
    layer(torch.randn(4, 6, 5, 5)).square().mul(torch.rand(4, 6, 5, 5)).sum().backward()
    assert layer.mean_weight.grad is not None
    assert (layer.mean_weight.grad == 0).all()
    assert layer.var_weight.grad is not None
    assert (layer.var_weight.grad != 0).all()
    torch.optim.Adam(layer.parameters(), lr=0.1).step()
    assert layer.mean_weight.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", [SparseSwitchNorm1d, SparseSwitchNorm2d])
def test_instance_is_no_final_choice_where_flat_inputs_may_come(kind: type[SparseSwitchNorm]) -> None:
    """These lack it, and mix the rest by the logits, which a final choice would replace."""
    layer = kind(6)
    layer.set_radius(1)
    with torch.no_grad():
        layer.mean_weight.copy_(torch.tensor([1.4, 0.1, 0.2]))
        layer.var_weight.copy_(torch.tensor([0.1, 1.4, 0.2]))
    flat = kind is SparseSwitchNorm1d
    assert layer.harden() is not flat
    assert (layer.mean_fixed.item(), layer.var_fixed.item()) == (int(not flat), 1)
    assert layer.mean_weight.tolist() == pytest.approx([1.4, 0.1, 0.2] if flat else [1, 0, 0])
    assert layer.var_weight.tolist() == [0, 1, 0]


def test_a_tie_is_not_final() -> None:
    layer = SparseSwitchNorm2d(6)
    layer.set_radius(1)
    assert not layer.harden()
    assert torch.equal(layer.mean_weight, torch.ones(3))


def test_state_of_choices_is_saved() -> None:
    layer = SparseSwitchNorm2d(6)
    logits(layer, [0.1, 1.4, 0.2], [0.4, 0.3, 0.3])
    layer.set_radius(1)
    assert layer.harden()
    other = SparseSwitchNorm2d(6)
    other.load_state_dict(layer.state_dict())
    assert other.mean_fixed == other.var_fixed == other.radius == 1
    x = torch.randn(3, 6, 4, 4)
    torch.testing.assert_close(other(x), copy.deepcopy(layer)(x), rtol=0, atol=0)


def test_a_flat_input_mixes_the_other_statistics() -> None:
    layer = SparseSwitchNorm1d(6)
    layer.set_radius(0.2)
    with torch.no_grad():
        layer.mean_weight.copy_(torch.tensor([5.0, 0.3, 0.1]))
        layer.var_weight.copy_(torch.tensor([5.0, 0.1, 0.3]))
    reduced = SparseSwitchNorm1d(6, ("layer", "batch"))
    reduced.load_state_dict(layer.state_dict() | {n: getattr(layer, n)[1:] for n in ("mean_weight", "var_weight")})
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), reduced(x), rtol=0, atol=0)


def test_errors() -> None:
    with pytest.raises(InputError, match="centre 'suport' is unknown; did you mean 'support'"):
        SparseSwitchNorm2d(6, centre="suport")  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [SwitchNorm2d, SparseSwitchNorm2d])
def test_importance_can_be_set(cls: type[SwitchNorm2d]) -> None:
    layer = cls(6, statistics=("instance", "layer", "group:3", "batch"))
    mean, var = [0.1, 0.2, 0.3, 0.4], [0.85, 0.05, 0.05, 0.05]
    layer.set_importance(mean, var)
    assert [each.tolist() for each in layer.importance()] == [pytest.approx(mean), pytest.approx(var)]
    before = copy.deepcopy(layer.state_dict())
    for wrong in ([1.0], [0.5] * 4, [-0.2, 0.4, 0.4, 0.4], [float("nan"), 0, 0, 1], 0.5, [None] * 4):
        with pytest.raises(InputError, match="importance of var must be 4 numbers that sum to 1"):
            layer.set_importance(mean, wrong)
    one_hot = [0.0, 0, 1, 0]
    if cls is SwitchNorm2d:
        with pytest.raises(InputError, match="importance of 0"):
            layer.set_importance(mean, one_hot)
        assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    else:
        layer.set_importance(mean, one_hot)
        assert layer.importance()[1].tolist() == one_hot
        assert not layer.mean_fixed
        assert not layer.var_fixed


def test_a_final_choice_can_be_opened_again_and_made_otherwise() -> None:
    torch.manual_seed(0)
    layer, x = SparseSwitchNorm2d(6), torch.randn(3, 6, 5, 7) * torch.rand(3, 6, 1, 1) * 4
    teacher = SparseSwitchNorm2d(6)
    teacher.set_importance([0, 0, 1], [0, 0, 1])
    target = teacher(x).detach()
    layer.set_importance([1, 0, 0], [1, 0, 0])
    layer.set_radius(1)
    assert layer.harden()
    layer.set_radius(0)

    def train() -> float:
        optimizer = torch.optim.SGD([layer.mean_weight, layer.var_weight], 0.2)
        for _ in range(200):
            loss = (layer(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    stuck = train()
    assert stuck > 0.1
    assert layer.mean_weight.tolist() == [1, 0, 0]
    layer.set_radius(0.9)
    assert layer.unharden()
    assert not layer.unharden(), "it is open already"
    assert [float(layer.radius), int(layer.mean_fixed), int(layer.var_fixed)] == [0, 0, 0]
    assert layer.importance()[0].tolist() == pytest.approx([0.98, 0.01, 0.01])
    layer(x).backward(torch.randn_like(x))
    assert (layer.mean_weight.grad.abs() > 0).all()
    assert (layer.var_weight.grad.abs() > 0).all()
    assert train() < stuck / 20
    layer.set_radius(1)
    assert layer.harden()
    assert layer.importance()[1].tolist() == [0, 0, 1]


def test_opening_keeps_an_importance_that_is_inside() -> None:
    layer = SparseSwitchNorm2d(6)
    layer.set_importance([0.5, 0.3, 0.2], [0.6, 0.4, 0])
    layer.set_radius(0.4)
    mean, var = (each.tolist() for each in layer.importance())
    assert not layer.unharden()
    assert layer.importance()[0].tolist() == pytest.approx(mean)
    assert layer.importance()[1].tolist() == pytest.approx([0.99 * var[0], 0.99 * var[1], 0.01])
