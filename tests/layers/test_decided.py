"""What is kept of a decision for the batch statistic alone, and what ends it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from switchnorm.layers.norms import decided, switch
from switchnorm.layers.norms.averaged import choices_of
from switchnorm.layers.norms.sparse import SparseSwitchNorm1d, SparseSwitchNorm2d
from switchnorm.ops import kernel

C = 6


@pytest.fixture(autouse=True)
def _without_the_library() -> Iterator[None]:
    """Which would look for itself."""
    with kernel("reference"):
        yield


def settled(kind: Any = SparseSwitchNorm2d, **options: Any) -> Any:
    """A layer in evaluation that has decided for the batch statistic."""
    layer = kind(C, **options).eval()
    layer.set_importance((0.1, 0.3, 0.6), (0.1, 0.3, 0.6))
    layer.set_radius(1)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


def took(layer: Any, x: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """The statistics that were computed, and the result."""
    with mock.patch.object(switch, "normalize", wraps=switch.normalize) as normalize, torch.inference_mode():
        y = layer(x)
    return tuple(normalize.call_args.args[1]), y


def test_it_is_batch_norm() -> None:
    layer, x = settled(), torch.randn(3, C, 4, 5)
    plain = torch.nn.BatchNorm2d(C).eval()
    plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
    statistics, y = took(layer, x)
    assert statistics == ("batch",)
    torch.testing.assert_close(y, plain(x).detach())
    with torch.no_grad():
        assert took(layer, x)[0] == ("batch",)
    residual = torch.randn_like(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, residual, "relu"), (plain(x) + residual).relu())


def write_value(layer: Any) -> None:
    layer.mean_weight.data[0] = 5.0


def load(layer: Any) -> None:
    layer.load_state_dict(SparseSwitchNorm2d(C).state_dict())


CHANGES: list[Callable[[Any], Any]] = [
    write_value,
    load,
    lambda layer: layer.set_radius(0.3),
    lambda layer: layer.set_importance((0, 1, 0), (0, 0, 1)),
    lambda layer: layer.reset_parameters(),
    lambda layer: setattr(layer, "mean_weight", torch.nn.Parameter(torch.zeros(3))),
]


@pytest.mark.parametrize("change", CHANGES, ids=["data", "load", "radius", "importance", "reset", "replaced"])
def test_whatever_changes_the_importance_ends_it(change: Callable[[Any], Any]) -> None:
    layer, x = settled(), torch.randn(3, C, 4, 5)
    assert took(layer, x)[0] == ("batch",)
    change(layer)
    statistics, y = took(layer, x)
    assert statistics == layer.statistics
    torch.testing.assert_close(y, copy.deepcopy(layer)(x).detach())


@pytest.mark.parametrize("change", CHANGES[1:], ids=["load", "radius", "importance", "reset", "replaced"])
def test_versions_and_addresses_tell(change: Callable[[Any], Any]) -> None:
    """What a layer on CUDA goes by."""
    layer = settled()
    before = decided._versions(choices_of(layer))  # type: ignore[arg-type]
    assert decided._versions(choices_of(layer)) == before  # type: ignore[arg-type]
    change(layer)
    assert decided._versions(choices_of(layer)) != before  # type: ignore[arg-type]


def test_it_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = settled(), torch.randn(3, C, 4, 5)
    looks = []
    look = decided._look
    monkeypatch.setattr(decided, "_look", lambda layer: looks.append(layer) or look(layer))
    for _ in range(3):
        took(layer, x)
    assert len(looks) == 1
    layer.eval()
    took(layer, x)
    assert len(looks) == 2
    # It is no part of copies and pickles.
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other._decision is None
        took(other, x)
    assert len(looks) == 4


def test_where_gradients_flow_or_statistics_are_of_the_batch_it_is_not_asked() -> None:
    layer, x = settled(), torch.randn(3, C, 4, 5)
    with mock.patch.object(switch, "normalize", wraps=switch.normalize) as normalize:
        layer(x).sum().backward()
        assert tuple(normalize.call_args.args[1]) == layer.statistics
        assert layer.mean_weight.grad is not None
        assert layer._decision is None
        with torch.no_grad():
            layer.train()(x)
        assert tuple(normalize.call_args.args[1]) == layer.statistics


def test_a_flat_input_has_no_share_of_what_was_chosen() -> None:
    """Of an input without an instance statistic the others share the importance, which may then be another."""
    layer = settled(SparseSwitchNorm1d)
    assert took(layer, torch.randn(4, C))[0] == ("layer", "batch")
    assert took(layer, torch.randn(4, C, 3))[0] == ("batch",)


def test_no_other_choice_is_one() -> None:
    x = torch.randn(3, C, 4, 5)
    for mean, var in (((0, 0, 1), (0, 1, 0)), ((0, 1, 0), (0, 0, 1)), ((0.0, 0.1, 0.9), (0, 0, 1))):
        layer = settled()
        layer.set_importance(mean, var)
        layer.set_radius(0)
        assert took(layer, x)[0] == layer.statistics
    untracked = settled()
    untracked.running_mean = untracked.running_var = None
    assert took(untracked, x)[0] == untracked.statistics
