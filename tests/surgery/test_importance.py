"""Reading importances, radius, hardening."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.ops import importance as of_logits
from switchnorm.ops import simplex
from switchnorm.surgery import harden, importance, set_radius, switch, unharden
from tests.surgery.nets import small_net


def test_importance_has_a_row_per_layer_in_order():
    net = nn.Sequential(
        layers.SwitchNorm2d(4),
        nn.Sequential(layers.SparseSwitchNorm2d(4, ("instance", "batch"))),
        nn.BatchNorm2d(4),
        layers.SwitchNorm2d(4, dtype=torch.float64),
    )
    with torch.no_grad():
        net[0].mean_weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    rows = importance(net)
    assert [row.layer for row in rows] == ["0", "1.0", "3"]
    assert rows[0].statistics == ("instance", "layer", "batch")
    assert rows[0].mean == pytest.approx(torch.tensor([1.0, 2.0, 3.0]).softmax(0).tolist())
    assert rows[0].var == pytest.approx([1 / 3] * 3)
    assert rows[1].mean == pytest.approx([0.5, 0.5])
    assert not any(row.frozen for row in rows)
    assert importance(nn.ReLU()) == []


def test_importance_waits_for_the_device_once(monkeypatch):
    net = switch(small_net(), "ssn")
    calls = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: calls.append(1) or tolist(self))
    for name in ("item", "__bool__", "__float__", "__int__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("waited"))
    # On the CPU, where reading waits for nothing, SparsestMax is computed on numbers that are read.
    monkeypatch.setattr(of_logits, "_readable", lambda mean, var: False)
    monkeypatch.setattr(simplex, "_known_everywhere", lambda condition: False)
    assert len(importance(net)) == 2
    assert calls == [1]


def test_harden_counts_choices():
    net = switch(small_net(), "ssn")
    assert harden(net) == (0, 4)
    with torch.no_grad():
        net[1].mean_weight.copy_(torch.tensor([3.0, 0, 0]))
    assert harden(net) == (1, 4)
    with torch.no_grad():
        net[1].var_weight.copy_(torch.tensor([0, 3.0, 0]))
    assert harden(net) == (2, 4)
    rows = importance(net)
    assert [row.frozen for row in rows] == [True, False]
    assert rows[0].mean == (1, 0, 0)
    assert harden(small_net()) == (0, 0)


def test_set_radius():
    net = switch(small_net(), "ssn")
    assert set_radius(net, 0.5) == 2
    assert set_radius(small_net(), 0.5) == 0
    assert [float(net[k].radius) for k in (1, 4)] == [0.5, 0.5]
    for radius in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="outside"):
            set_radius(net, radius)
    assert [float(net[k].radius) for k in (1, 4)] == [0.5, 0.5]


def test_unharden_opens_all_choices():
    net = switch(small_net(), "ssn", start="equal")
    net[1].set_importance([0, 1, 0], [0, 0, 1])
    assert harden(net) == (2, 4)
    set_radius(net, 1)
    assert unharden(net) == 1
    rows = importance(net)
    assert not any(row.frozen for row in rows)
    assert rows[0].mean == pytest.approx((0.01, 0.98, 0.01))
    assert rows[1].mean == pytest.approx((1 / 3,) * 3)
    assert [float(net[k].radius) for k in (1, 4)] == [0, 0]
    assert harden(net) == (0, 4)
    assert unharden(small_net()) == 0
