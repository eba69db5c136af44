"""SwitchNorm's parameters and buffers: loading, running statistics, copies, and what a forward pass may write."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm, SwitchNorm2d
from switchnorm.layers.norms import switch
from switchnorm.ops import normalize
from tests.layers.switch_norms import BOTH, SHAPES, random_layer, snapshot

pytestmark = pytest.mark.usefixtures("poisoned")

Golden = Callable[[str], dict[str, Tensor]]


def test_the_published_layout_loads_into_a_network_on_the_meta_device(golden: Golden) -> None:
    record = golden("switch_norm_2d")
    state = {key.replace("before.", "1."): value for key, value in record.items() if key.startswith("before.")}
    with torch.device("meta"):
        network = nn.Sequential(nn.Identity(), SwitchNorm2d(6))
    network.load_state_dict(state, strict=True, assign=True)
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    assert network.eval()(record["x"]).shape == record["x"].shape


@pytest.mark.parametrize("wrong", [{"weight": torch.ones(1, 5, 1, 1)}, {"mean_weight": torch.ones(2)}], ids=str)
def test_what_does_not_fit_is_not_loaded(wrong: dict[str, Tensor]) -> None:
    layer = SwitchNorm2d(6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(snapshot(layer) | wrong)
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({})


@pytest.mark.parametrize("kind", BOTH)
def test_weights_of_another_normalizer_are_named(kind: type[SwitchNorm]) -> None:
    """`strict=False` takes them, and would lose without a word what they compute."""
    network = nn.Sequential(nn.Conv2d(3, 6, 1), random_layer(kind))
    theirs = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)).state_dict()
    with pytest.warns(UserWarning, match="another normalizer's, .*: load them before switch"):
        network.load_state_dict(theirs, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.load_state_dict(network.state_dict())
        network.load_state_dict({"0.bias": torch.zeros(6)}, strict=False)
        nn.utils.parametrizations.weight_norm(network[1], "mean_weight", dim=None)
        network.load_state_dict(network.state_dict())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_a_forward_pass_writes_no_parameter_and_buffers_only_in_training(
    kind: type[SwitchNorm], training: bool
) -> None:
    layer = random_layer(kind).train(training)
    if hasattr(layer, "radius"):
        layer.set_radius(1)  # the published layer would write its choice now
    before, versions = snapshot(layer), [parameter._version for parameter in layer.parameters()]
    layer(torch.randn(4, 6, 5, 7)).sum().backward()
    after = layer.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == ({"running_mean", "running_var", "num_batches_tracked"} if training else set())
    assert versions == [parameter._version for parameter in layer.parameters()]


@pytest.mark.parametrize("shape", [(0, 6, 5, 5), (3, 6, 0, 5)])
@pytest.mark.parametrize("kind", BOTH)
def test_an_empty_batch_leaves_no_trace(kind: type[SwitchNorm], shape: tuple[int, ...]) -> None:
    layer = random_layer(kind)
    before = snapshot(layer)
    for training in (True, False):
        y = layer.train(training)(torch.empty(shape, requires_grad=True))
        assert y.shape == shape
        y.sum().backward()
        assert all((parameter.grad == 0).all() for parameter in layer.parameters())
    torch.testing.assert_close(snapshot(layer), before, rtol=0, atol=0)


def test_momentum_none_averages_over_all_batches() -> None:
    layer = random_layer(momentum=None)
    layer.reset_running_stats()
    batches = [torch.randn(4, 6, 3, 3) + shift for shift in range(5)]
    statistics = [normalize(x, ("batch",)) for x in batches]
    for count in (5, 3):  # and again after a reset
        for x in batches[:count]:
            layer(x)
        assert layer.num_batches_tracked == count
        for name in ("mean", "var"):
            expected = torch.stack([getattr(each, f"batch_{name}") for each in statistics[:count]]).mean(0)
            torch.testing.assert_close(getattr(layer, f"running_{name}"), expected)
        layer.reset_running_stats()


def test_momentum_is_the_share_of_the_new_batch() -> None:
    layer = random_layer(momentum=0.3)
    before = snapshot(layer)
    x = torch.randn(4, 6, 3, 3)
    batch = normalize(x, ("batch",))
    layer(x)
    torch.testing.assert_close(layer.running_mean, 0.7 * before["running_mean"] + 0.3 * batch.batch_mean)
    torch.testing.assert_close(layer.running_var, 0.7 * before["running_var"] + 0.3 * batch.batch_var)
    assert layer.num_batches_tracked == 1


def test_without_affine_and_without_running_statistics() -> None:
    layer = random_layer(affine=False, track_running_stats=False)
    assert set(layer.state_dict()) == {"mean_weight", "var_weight"}
    x = torch.randn(4, 6, 5, 5)
    y = layer(x)
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0)
    torch.testing.assert_close(y, normalize(x, layer.statistics, *layer.importance()).y, rtol=0, atol=0)
    without_batch = SwitchNorm2d(6, ("instance", "layer"))
    assert set(without_batch.state_dict()) == {"weight", "bias", "mean_weight", "var_weight"}


def test_ghost_batches_are_taken_in_training_only() -> None:
    layer = random_layer(ghost=2)
    parts = copy.deepcopy(layer)
    parts.ghost = None
    x = torch.randn(5, 6, 4, 4)
    torch.testing.assert_close(layer(x), torch.cat([copy.deepcopy(parts)(part) for part in x.split(2)]))
    parts.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x), parts.eval()(x), rtol=0, atol=0)


def test_evaluation_without_running_statistics_is_of_the_whole_batch_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither of ghost batches, nor of other processes, which may not be evaluating."""
    plain = random_layer(track_running_stats=False)
    x = torch.randn(5, 6, 4, 4)
    asked: list[Any] = []
    monkeypatch.setattr(switch, "process_group", asked.append)
    for setting, value in (("ghost", 2), ("sync", True)):
        layer = copy.deepcopy(plain)
        setattr(layer, setting, value)
        torch.testing.assert_close(layer.eval()(x), plain.eval()(x), rtol=0, atol=0)
    assert asked == []
    layer.train()(x)
    assert asked == [True]


@pytest.mark.parametrize("kind", SHAPES)
def test_copies(kind: type[SwitchNorm]) -> None:
    """A deep copy, a pickle, a state dict and functional_call all compute the same."""
    layer = random_layer(kind, momentum=None)
    x = torch.randn(SHAPES[kind])
    layer(x)
    layer.eval()
    expected = layer(x)
    fresh = kind(6).eval()
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(snapshot(other), snapshot(layer), rtol=0, atol=0)
    state = snapshot(layer)
    torch.testing.assert_close(torch.func.functional_call(kind(6).eval(), state, x), expected, rtol=0, atol=0)
    # In training, the buffers handed over are the ones that move.
    shell = kind(6)
    untouched = snapshot(shell)
    torch.func.functional_call(shell, state, x)
    assert state["num_batches_tracked"] == layer.num_batches_tracked + 1
    torch.testing.assert_close(snapshot(shell), untouched, rtol=0, atol=0)


def test_reset() -> None:
    layer = random_layer(SparseSwitchNorm2d)
    layer(torch.randn(4, 6, 5, 5))
    layer.mean_fixed.fill_(1)
    layer.reset_parameters()
    torch.testing.assert_close(snapshot(layer), snapshot(SparseSwitchNorm2d(6)), rtol=0, atol=0)
