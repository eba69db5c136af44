"""parameter_groups, for optimizers of all kinds."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from switchnorm import InputError, SparseSchedule, SparseSwitchNorm2d, SwitchNorm2d, parameter_groups, switch
from tests.optim.nets import batches, loss_of, mixed_network, network


def names(model: nn.Module, groups: list[dict[str, Any]]) -> list[tuple[set[str], float, float]]:
    of = {id(p): name for name, p in model.named_parameters()}
    return [({of[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"]) for group in groups]


def test_logits_do_not_decay_and_those_of_ssn_learn_slowly() -> None:
    model = mixed_network()
    weights = {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias"}
    of_sn, of_ssn = {"1.mean_weight", "1.var_weight"}, {"3.mean_weight", "3.var_weight"}
    groups = parameter_groups(model, lr=0.2, weight_decay=3e-4)
    assert names(model, groups) == [(weights, 0.2, 3e-4), (of_sn, 0.2, 0.0), (of_ssn, 0.2 * 0.1, 0.0)]
    assert {key for group in groups for key in group} == {"params", "lr", "weight_decay"}
    options = {"decay_norms": False, "decay_logits": True, "sparse_lr_factor": 0.5}
    groups = parameter_groups(model, lr=0.2, weight_decay=3e-4, **options)
    convolutions = {"0.weight", "2.weight"}
    assert names(model, groups) == [
        (convolutions, 0.2, 3e-4),
        (weights - convolutions, 0.2, 0.0),
        (of_sn, 0.2, 3e-4),
        (of_ssn, 0.1, 0.0),
    ]


class Centred(nn.Module):
    """Logits less their mean, which makes the same importance."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits - logits.mean()


def test_logits_that_are_computed_from_other_parameters() -> None:
    model = mixed_network()
    for layer in (model[1], model[3]):
        parametrize.register_parametrization(layer, "mean_weight", Centred())
        prune.identity(layer, "var_weight")
    *_, of_sn, of_ssn = parameter_groups(model, lr=0.2, weight_decay=3e-4)
    inner = "parametrizations.mean_weight.original", "var_weight_orig"
    for groups, number, rate in (([of_sn], 1, 0.2), ([of_ssn], 3, 0.2 * 0.1)):
        assert [found for found, *_ in names(model, groups)] == [{f"{number}.{name}" for name in inner}]
        assert (groups[0]["lr"], groups[0]["weight_decay"]) == (rate, 0.0)
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SparseSchedule(optimizer, model, 1)
    model(torch.randn(5, 3, 7, 8)).square().mean().backward()
    optimizer.step()
    assert (model[3].radius == 1).all()


def test_parameters_of_torchs_own_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(4, 2))
    assert len(parameter_groups(model, lr=1.0, weight_decay=0.1)) == 1
    decaying, others = parameter_groups(model, lr=1.0, weight_decay=0.1, decay_norms=False)
    assert [p.dim() for p in decaying["params"]] == [4, 2]
    assert others["weight_decay"] == 0
    assert len(parameter_groups(model, lr=1.0, decay_norms=False)) == 1, "nothing decays, so all are trained alike"


def test_each_trainable_parameter_once_in_the_models_order() -> None:
    model = mixed_network()
    model.append(model[0])
    model.append(nn.Conv2d(4, 4, 3))
    model[-1].weight = model[2].weight
    model[1].bias.requires_grad_(False)
    model[3].var_weight.requires_grad_(False)
    rest, _, of_ssn = parameter_groups(model, lr=0.1)
    found = [id(p) for group in parameter_groups(model, lr=0.1) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert of_ssn["params"] == [model[3].mean_weight]
    order = [id(p) for p in model.parameters()]
    assert [order.index(id(p)) for p in rest["params"]] == sorted(order.index(id(p)) for p in rest["params"])


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        lambda groups: torch.optim.SGD(groups, lr=0.1, fused=True),
        lambda groups: torch.optim.AdamW(groups, lr=0.1, foreach=True),
        lambda groups: torch.optim.AdamW(groups, lr=0.1, fused=True),
        lambda groups: torch.optim.Adam(groups),
        lambda groups: torch.optim.RMSprop(groups),
        lambda groups: torch.optim.NAdam(groups),
    ],
)
def test_optimizers_take_them(make: Any) -> None:
    model = network()
    optimizer = make(parameter_groups(model, lr=0.01, weight_decay=1e-3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for batch in batches(2):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters() if "weight" in name)
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(0.001)


def test_a_learning_rate_may_be_a_tensor() -> None:
    groups = parameter_groups(network(), lr=torch.tensor(0.5))
    assert [float(group["lr"]) for group in groups] == pytest.approx([0.5, 0.05])
    torch.optim.Adam(groups, lr=torch.tensor(0.5), capturable=False, foreach=False)


def test_a_model_in_a_wrapper() -> None:
    model = switch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "ssn")
    wrapped = torch.compile(nn.ModuleDict({"inner": model}))
    assert [len(group["params"]) for group in parameter_groups(wrapped, lr=1.0)] == [4, 2]


def test_wrong_arguments() -> None:
    model = mixed_network()
    for options, message in (
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"lr": 1.0, "weight_decay": None}, "weight_decay must be a number, got None"),
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"lr": 1.0, "weight_decay": float("nan")}, "weight_decay must be at least 0, got nan"),
        ({"lr": 1.0, "sparse_lr_factor": -0.1}, "sparse_lr_factor must be at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            parameter_groups(model, **options)
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module, got generator"):
        parameter_groups(model.parameters(), lr=1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="requires a gradient"):
        parameter_groups(nn.Sequential(SwitchNorm2d(3), SparseSwitchNorm2d(3)).requires_grad_(False), lr=1.0)
    with pytest.raises(InputError, match=r"'1\.weight' is lazy"):
        parameter_groups(nn.Sequential(nn.ReLU(), nn.LazyConv2d(4, 3)), lr=1.0)


def test_biases_and_shifts_learn_at_a_rate_of_their_own() -> None:
    model = mixed_network()
    groups = parameter_groups(model, lr=0.2, weight_decay=0.1, decay_norms=False, bias_lr_factor=2.0)
    biases = {f"{place}.bias" for place in range(4)}
    assert [found for found, rate, decay in names(model, groups) if (rate, decay) == (0.4, 0.0)] == [biases]
    with pytest.raises(InputError, match="bias_lr_factor must be at least 0, got -1"):
        parameter_groups(model, lr=0.1, bias_lr_factor=-1)
