"""Contract: what every registered normalizer does, also one of which only its class is known."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import Spec, has_batch_statistics, kind_of, norm_names, registry
from switchnorm.layers.weight_standardized import CONV
from switchnorm.surgery import calibrate, fuse, ghost, harden, importance, plan_fuse, plan_switch, set_radius, switch
from switchnorm.surgery import sync as synchronise
from tests.contracts.half import half

__all__ = ["half"]

pytestmark = pytest.mark.usefixtures("half")

NAMES = (*norm_names(), "half")
EVERY = pytest.mark.parametrize("name", NAMES)
DIMS = pytest.mark.parametrize("dims", [1, 2, 3])


def batch(dims: int = 2, samples: int = 6, channels: int = 6) -> Tensor:
    return torch.randn(samples, channels, *(5, 4, 3)[:dims]) * 2 + 1


def net(name: str, dims: int = 2, width: int = 6) -> nn.Sequential:
    spec, conv = Spec.parse(name), CONV[dims]
    layers = [conv(3, width, 3, padding=1), spec.layer(width, dims), nn.ReLU()]
    layers += [conv(width, width, 3, padding=1), spec.layer(width, dims), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))


def settings(model: nn.Module, name: str) -> list[Any]:
    return [getattr(m, name) for m in model.modules() if has_batch_statistics(m)]


@EVERY
@DIMS
def test_layers_are_made_for_every_dimension(name: str, dims: int) -> None:
    spec = Spec.parse(name)
    for channels in (1, 6, 7):
        layer = spec.layer(channels, dims)
        x = batch(dims, channels=channels)
        assert layer(x).shape == x.shape
        assert layer(x).isfinite().all()
        kind = kind_of(layer)
        assert kind is not None
        assert kind.own
    assert spec.layer(6, dims, eps=1e-3).eps == 1e-3
    double = spec.layer(6, dims, dtype=torch.float64)
    assert {t.dtype for t in double.state_dict().values()} <= {torch.float64, torch.long}
    assert all(t.is_meta for t in spec.layer(6, dims, device="meta").state_dict().values())


@EVERY
def test_affine_can_be_left_out_where_the_layer_says_so(name: str) -> None:
    spec = Spec.parse(name)
    if "affine" in spec.registration.takes():
        layer = spec.layer(6, affine=False)
        assert not [n for n, _ in layer.named_parameters() if n.endswith(("weight", "bias")) and "_" not in n]
        assert layer(batch()).isfinite().all()
    else:
        with pytest.raises(InputError, match=f"option of '{name}' 'affine' is unknown"):
            spec.layer(6, affine=False)


@EVERY
@DIMS
def test_a_switch_there_and_back(name: str, dims: int) -> None:
    x = torch.randn(4, 3, *(6, 5, 4)[:dims])
    model = net("bn", dims)
    model(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    switch(model, name)
    assert model(x).isfinite().all()
    assert [kind_of(m).norm.name for m in (model[1], model[4])] in ([name] * 2, ["gn"] * 2)
    changes_nothing = plan_switch(model, name)
    assert changes_nothing.changes == []
    assert {left.reason for left in changes_nothing.left if left.names[0] in "14"} == {f"already {name}"}
    assert str(changes_nothing)
    switch(model, "bn")
    assert model.state_dict().keys() == before.keys()
    assert all(value.shape == before[key].shape for key, value in model.state_dict().items())
    model(x).sum().backward()


@EVERY
@pytest.mark.parametrize("other", NAMES)
def test_every_normalizer_becomes_every_other(name: str, other: str) -> None:
    model = net(name)
    model(torch.randn(4, 3, 6, 5))
    plan = plan_switch(model, other)
    assert [change.names[0] for change in plan.changes] == ([] if name == other else ["1", "4"])
    model = plan.apply()
    assert type(model[1]) is type(Spec.parse(other).layer(6))
    model(torch.randn(4, 3, 6, 5)).sum().backward()


@EVERY
def test_what_a_switch_cannot_carry_the_reason_tells(name: str) -> None:
    model = net("bn")
    model(torch.randn(4, 3, 6, 5))
    nn.init.uniform_(model[1].weight)
    old = model[1]
    (change, _) = plan_switch(model, name).changes or (None, None)
    if change is None:
        return
    new = switch(model, name)[1]
    for kept in ("weight", "bias"):
        carried = getattr(new, kept, None) is getattr(old, kept)
        assert carried == (f" {kept}" not in change.reason.partition("not carried over:")[2])
    keeps_batch = any(map(has_batch_statistics, new.modules()))
    carried = getattr(new, "running_mean", None) is old.running_mean
    assert ("running statistics" in change.reason) == (keeps_batch and not carried)


@EVERY
@DIMS
def test_ghost_batches_are_each_part_by_itself_or_refused(name: str, dims: int) -> None:
    layer = Spec.parse(name).layer(6, dims)
    model = nn.Sequential(copy.deepcopy(layer))
    x, dy = batch(dims), batch(dims)
    modules = list(model.modules())
    if has_batch_statistics(layer) and not registry.find(name).ghost:
        with pytest.raises(InputError, match=f"layer '0' cannot take ghost: '{name}' does not support ghost batches"):
            ghost(model, 2)
        assert list(model.modules()) == modules
        return
    ghost(model, 2)
    results = []
    for parts, layers in (([x], [model]), (x.split(2), [copy.deepcopy(layer) for _ in range(3)])):
        leaves = [part.clone().requires_grad_() for part in parts]
        y = torch.cat([each(leaf) for each, leaf in zip(layers, leaves, strict=True)])
        y.backward(dy)
        results.append((y, torch.cat([leaf.grad for leaf in leaves])))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    assert set(settings(model, "ghost")) <= {2}
    ghost(model, None)
    assert set(settings(model, "ghost")) <= {None}


@EVERY
def test_statistics_are_synchronised_or_that_is_refused(name: str) -> None:
    model = nn.Sequential(Spec.parse(name).layer(6))
    y = model(batch())
    synchronise(model)
    assert set(settings(model, "sync")) <= {True}
    torch.manual_seed(1)
    assert model(batch()).shape == y.shape
    synchronise(model, False)
    assert set(settings(model, "sync")) <= {False}


@EVERY
def test_calibration_averages_over_batches(name: str) -> None:
    model = nn.Sequential(Spec.parse(name).layer(6)).eval()
    batches = [batch() + shift for shift in range(3)]
    calibrate(model, batches)
    for tracked in (m for m in model.modules() if getattr(m, "running_mean", None) is not None):
        mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
        var = torch.stack([x.var((0, 2, 3), correction=0) for x in batches]).mean(0)
        size = len(tracked.running_mean)
        torch.testing.assert_close(tracked.running_mean, mean[-size:])
        # Some are unbiased.
        torch.testing.assert_close(tracked.running_var, var[-size:], rtol=0.06, atol=0)
    assert not any(m.training for m in model.modules())


@EVERY
def test_fused_networks_compute_the_same(name: str) -> None:
    model = net(name)
    x = torch.randn(4, 3, 6, 5)
    model(x)
    fused = copy.deepcopy(model)
    plan = plan_fuse(fused)
    assert [change.names[0] for change in plan.changes] == (["1", "4"] if registry.find(name).fuses else [])
    fuse(fused)
    torch.testing.assert_close(fused(x), model(x))


@EVERY
def test_importance_and_hardening(name: str) -> None:
    model, norm = net(name), registry.find(name)
    rows = importance(model)
    assert [row.layer for row in rows] == (["1", "4"] if norm.mixes else [])
    for row in rows:
        assert sum(row.mean) == pytest.approx(1)
    set_radius(model, 1.0)
    for layer in (model[1], model[4]):
        for logits in ("mean_weight", "var_weight") if norm.mixes else ():
            with torch.no_grad():
                getattr(layer, logits).copy_(torch.tensor([0.1, 0.5, 0.2]))
    assert harden(model) == ((4, 4) if norm.sparse else (0, 0))
    assert all(row.frozen == norm.sparse for row in importance(model))


@EVERY
def test_steps_of_training_decrease_a_loss(name: str) -> None:
    model = net(name)
    x, labels = torch.randn(8, 3, 6, 5), torch.arange(8) % 2
    model(x)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


@EVERY
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_compute_the_same(name: str, clone: Any) -> None:
    model = net(name)
    x = torch.randn(4, 3, 6, 5)
    model(x)
    model.eval()
    torch.testing.assert_close(clone(model)(x), model(x), rtol=0, atol=0)


@EVERY
def test_state_dicts_are_complete(name: str) -> None:
    model, other = net(name), net(name)
    x = torch.randn(4, 3, 6, 5)
    model(x), other(x)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(other.eval()(x), model.eval()(x), rtol=0, atol=0)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_memory_format_are_kept(name: str, dtype: torch.dtype) -> None:
    layer = Spec.parse(name).layer(6, dtype=dtype)
    x = batch().to(dtype)
    plain = layer(x)
    assert plain.dtype == dtype
    y = copy.deepcopy(layer)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, layer.train()(x), rtol=1e-4, atol=1e-4)
    if name != "half":  # What a user's own layer does to the format is its business.
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert plain.is_contiguous()


@EVERY
@pytest.mark.parametrize("suffix", ["", "+ws"])
def test_networks_are_made_of_it(name: str, suffix: str) -> None:
    for network, channels in (("digits_resnet9", 1), ("cifar_resnet20", 3), ("resnet18", 3)):
        model = switchnorm.create_model(network, norm=name + suffix, num_classes=4)
        model(torch.randn(2, channels, 64, 64)).sum().backward()
        made = {kind.norm.name for m in model.modules() if (kind := kind_of(m)) is not None and kind.own}
        assert made == {"gn" if name in ("in", "ln") else name}


@EVERY
def test_blocks_start_as_identities_where_there_is_a_scale(name: str) -> None:
    if name == "half":
        with pytest.raises(InputError, match="sets the scale of Half to 0, which has none; use last_gamma=False"):
            switchnorm.create_model("resnetv1sn18", norm=name)
        assert switchnorm.create_model("resnetv1sn18", norm=name, last_gamma=False)
        return
    model = switchnorm.create_model("resnetv1sn18", norm=name)
    block = model.layer1[0]
    x = torch.randn(2, 64, 6, 6)
    torch.testing.assert_close(block(x), x.relu())
