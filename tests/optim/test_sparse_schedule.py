"""SparseSchedule in plain loops: against a loop that does all by hand, its hooks, resuming, and what it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm import (
    InputError,
    SparseSchedule,
    harden,
    importance,
    parameter_groups,
    set_radius,
    surgery,
    switch,
    unharden,
)
from switchnorm.optim.radius import RadiusShape
from tests.optim.nets import all_final, batches, loss_of, mixed_network, network, radii, sparse


def sgd(model: nn.Module, lr: float = 0.02) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameter_groups(model, lr=lr, sparse_lr_factor=1.0), lr=lr, momentum=0.9)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Iterable[tuple[Tensor, Tensor]]) -> None:
    for batch in data:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, clip_norm: float = 1.0) -> None:
    logits = [p for layer in sparse(model) for p in (layer.mean_weight, layer.var_weight)]
    for step, batch in enumerate(batches(steps)):
        set_radius(model, step / (steps - 1))
        harden(model)
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        for layer in sparse(model):  # a final choice is not trained any more, by momentum neither
            layer.mean_weight.grad = None if layer.mean_fixed else layer.mean_weight.grad
            layer.var_weight.grad = None if layer.var_fixed else layer.var_weight.grad
        torch.nn.utils.clip_grad_norm_(logits, clip_norm)
        optimizer.step()
    harden(model)


@pytest.mark.parametrize("clip_norm", [1.0, 0.02])
def test_a_loop_is_the_one_by_hand(clip_norm: float) -> None:
    model, reference = network(), network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 20, clip_norm=clip_norm)
    train(model, optimizer, batches(20))
    by_hand(reference, sgd(reference), 20, clip_norm)
    for (key, ours), theirs in zip(model.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    assert radii(model) == [1, 1]
    assert all_final(model)
    assert all(row.frozen and max(row.mean) == max(row.var) == 1 for row in importance(model))


def test_the_radius_of_every_step() -> None:
    model = network()
    optimizer = sgd(model)
    options = {"start": 0.2, "end": 0.8, "power": 2.0}
    SparseSchedule(optimizer, model, 11, **options)
    shape, seen = RadiusShape(11, **options), []
    for batch in batches(14):
        seen.append(radii(model))
        train(model, optimizer, [batch])
    expected = [float(torch.tensor(shape(step))) for step in range(14)]
    assert seen == [[radius] * 2 for radius in expected]
    assert expected[8:] == [1] * 6


def test_choices_are_final_where_the_radius_is_1_before_the_last_step() -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 1000, end=0.02)
    train(model, optimizer, batches(20))
    assert radii(model) == [1, 1]
    assert all_final(model)


def test_choices_are_looked_for_a_hundred_times(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 700)
    calls: list[int] = []
    monkeypatch.setattr(type(model[1]), "harden", lambda self: calls.append(1))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(700):
        optimizer.step()
    assert len(calls) == 2 * 101, "100, and when the radius reached 1"


def test_other_parameters_are_not_clipped() -> None:
    model = mixed_network()
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.0), lr=0.0)
    SparseSchedule(optimizer, model, 10, clip_norm=0.5)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    clipped = torch.cat([model[3].mean_weight.grad, model[3].var_weight.grad])
    torch.testing.assert_close(clipped.norm(), torch.tensor(0.5))
    logits = {id(model[3].mean_weight), id(model[3].var_weight)}
    assert all((p.grad == 7).all() for p in model.parameters() if id(p) not in logits)


def test_none_clips_nothing() -> None:
    model = network()
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.0), lr=0.0)
    SparseSchedule(optimizer, model, 10, clip_norm=None)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    assert all((p.grad == 7).all() for p in model.parameters())


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("when", ["before", "after", "assigned"])
@pytest.mark.parametrize("options", [{}, {"start": 0.5, "power": 2.0}], ids=str)
def test_training_goes_on_from_the_models_state_alone(when: str, options: dict[str, float]) -> None:
    model, steps = network(), 30
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02), lr=0.02)
    SparseSchedule(optimizer, model, steps, **options)
    data = list(batches(steps))
    train(model, optimizer, data[:13])
    saved = state_of(model)
    train(model, optimizer, data[13:])
    resumed = network(seed=7)
    if when == "before":
        resumed.load_state_dict(saved)
    optimizer = torch.optim.SGD(parameter_groups(resumed, lr=0.02), lr=0.02)
    SparseSchedule(optimizer, resumed, steps, **options)
    if when == "after":
        train(resumed, optimizer, data[:2])
        resumed.load_state_dict(saved)
    elif when == "assigned":
        for layer in sparse(resumed):  # parameters that are assigned would be none of the optimizer's
            layer._buffers["radius"] = saved["1.radius"].clone()
        resumed.load_state_dict(saved)
    train(resumed, optimizer, data[13:])
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_finished_training_stays_finished() -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 20)
    train(model, optimizer, batches(20))
    again = network()
    again.load_state_dict(model.state_dict())
    optimizer = sgd(again)
    SparseSchedule(optimizer, again, 20)
    train(again, optimizer, batches(3))
    assert radii(again) == [1, 1]
    assert all_final(again)


def test_a_model_in_bfloat16_ends_at_the_same_step() -> None:
    model = network().to(torch.bfloat16)
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 3000)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    seen = []
    for _ in range(3000):
        optimizer.step()
        seen.append(radii(model)[0])
    assert seen[1499] == pytest.approx(0.5, abs=2**-9)
    assert seen.index(1.0) >= 2990, "radii that round alike do not stop it, nor let it jump"
    model.to(torch.float32)
    set_radius(model, 0.25)
    optimizer.step()
    assert radii(model)[0] == pytest.approx(751 / 2999, abs=1e-6), "and what was written or moved is read"


def test_layers_of_two_trainings_go_on_from_the_one_that_has_come_least_far() -> None:
    model = network()
    model[1].set_radius(0.5)
    model[4].set_radius(0.2)
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 11)
    train(model, optimizer, batches(1))
    assert radii(model) == pytest.approx([0.3, 0.3])


def test_a_copy_of_the_optimizer_has_no_schedule() -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 10)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert not other._optimizer_step_pre_hooks
        assert not other._optimizer_step_post_hooks
    optimizer.load_state_dict(optimizer.state_dict())
    train(model, optimizer, batches(1))
    assert radii(model) == pytest.approx([1 / 9] * 2), "loading the optimizer's state keeps it"


def test_remove() -> None:
    model = network()
    optimizer = sgd(model)
    schedule = SparseSchedule(optimizer, model, 10)
    train(model, optimizer, batches(2))
    schedule.remove()
    schedule.remove()  # again does nothing
    before = radii(model)
    train(model, optimizer, batches(2))
    assert radii(model) == before != [0, 0]
    SparseSchedule(optimizer, model, 10)
    train(model, optimizer, batches(1))
    assert radii(model) == pytest.approx([3 / 9] * 2)


def test_a_second_schedule_is_refused_while_the_first_lives() -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 10)
    with pytest.raises(InputError, match=r"layer '1' has a SparseSchedule already; call its remove\(\) first"):
        SparseSchedule(sgd(model), model, 10)
    with pytest.raises(InputError, match="has a SparseSchedule already"):
        SparseSchedule(optimizer, model[4], 10)
    optimizer.me = optimizer  # a cycle, as learning rate schedulers make
    del optimizer
    SparseSchedule(sgd(model), model, 10)
    gc.collect()


def test_logits_that_the_optimizer_does_not_have() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    switch(model, "ssn")
    with pytest.raises(InputError, match=r"make it after switch, from switchnorm\.parameter_groups"):
        SparseSchedule(optimizer, model, 10)
    optimizer.add_param_group({"params": [model[1].mean_weight]})
    with pytest.warns(UserWarning, match=r"3 of 4 SSN logits are not in this optimizer, such as '1\.var_weight'"):
        schedule = SparseSchedule(optimizer, model, 10)
    schedule.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SparseSchedule(sgd(model), model, 10)


def test_frozen_logits() -> None:
    model = network()
    for layer in sparse(model):
        layer.mean_weight.requires_grad_(False)
        layer.var_weight.requires_grad_(False)
    with pytest.raises(InputError, match="the logits of all 2 SSN layers are frozen"):
        SparseSchedule(torch.optim.SGD(model.parameters(), lr=0.1), model, 10)
    model[4].mean_weight.requires_grad_(True)
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 10)
    train(model, optimizer, batches(10))
    assert radii(model) == [0, 1], "a frozen layer computes what it did"


@pytest.mark.parametrize("by", ["freeze", "requires_grad"])
def test_layers_that_are_frozen_on_the_way_stay_what_they_are(by: str) -> None:
    model = network()
    first, last = sparse(model)
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 10)
    train(model, optimizer, batches(4))
    if by == "freeze":
        surgery.freeze(model, next(name for name, module in model.named_modules() if module is first))
    else:
        first.requires_grad_(False)
    names = {"radius", "mean_weight", "var_weight", "mean_fixed", "var_fixed"}
    before = {name: value.clone() for name, value in first.state_dict().items() if name in names}
    assert 0 < first.radius < 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*have not chosen: .*\\b1\\b")
        train(model, optimizer, batches(6))
    assert all(torch.equal(first.state_dict()[name], value) for name, value in before.items())
    assert last.radius == 1, "the others come to the end of the schedule"


def test_a_layer_that_learns_again_has_the_radius_of_the_others() -> None:
    model = network()
    first, last = sparse(model)
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 5)
    train(model, optimizer, batches(2))
    first.requires_grad_(False)
    train(model, optimizer, batches(6))
    assert (float(first.radius), float(last.radius)) == (RadiusShape(5, 0.0, 1.0, 1.0)(2), 1)
    first.requires_grad_(True)
    train(model, optimizer, batches(1))
    assert radii(model) == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 5, "end": 2}, "end must lie above start"),
        ({"steps": 5, "clip_norm": "1"}, "clip_norm must be a number, got '1'"),
        ({"steps": 5, "power": None}, "power must be a number, got None"),
        ({"steps": 5, "clip_norm": 0}, "clip_norm must be above 0, got 0; None clips nothing"),
        ({"steps": 5, "model": nn.Sequential(nn.BatchNorm2d(3))}, "no SSN layer"),
        ({"steps": 5, "model": "resnet"}, r"takes a torch\.nn\.Module, got str"),
        ({"steps": 5, "optimizer": None}, "NoneType is no torch.optim.Optimizer"),
    ],
)
def test_wrong_arguments_change_nothing(arguments: dict[str, Any], message: str) -> None:
    model = network()
    optimizer = sgd(model)
    with pytest.raises(InputError, match=message):
        SparseSchedule(**{"optimizer": optimizer, "model": model, **arguments})
    assert not optimizer._optimizer_step_pre_hooks
    SparseSchedule(optimizer, model, 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01, weight_decay=1e-3, momentum=0.9),
        lambda model: torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3),
        lambda model: torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.1),
    ],
)
def test_final_choices_are_not_decayed_nor_moved_by_momentum(make: Any) -> None:
    model = network()
    optimizer = make(model)
    SparseSchedule(optimizer, model, 1000, end=0.02)
    train(model, optimizer, batches(20))
    assert all_final(model)
    logits = [p.clone() for layer in sparse(model) for p in (layer.mean_weight, layer.var_weight)]
    train(model, optimizer, batches(60))
    after = [p for layer in sparse(model) for p in (layer.mean_weight, layer.var_weight)]
    assert all(map(torch.equal, logits, after))
    assert sorted(logits[0].tolist()) == [0, 0, 1]


def test_choices_that_are_opened_again_learn_at_once() -> None:
    model = network()
    optimizer = sgd(model)
    SparseSchedule(optimizer, model, 1000, end=0.02)
    train(model, optimizer, batches(20))
    unharden(model)
    before = model[1].mean_weight.clone()
    train(model, optimizer, batches(1))
    assert not torch.equal(model[1].mean_weight, before)
    assert radii(model)[0] == pytest.approx(1 / (0.02 * 999))


def test_logits_that_the_optimizer_gets_later_are_clipped() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[:3].parameters(), lr=0.0)
    with pytest.warns(UserWarning, match="2 of 4 SSN logits"):
        SparseSchedule(optimizer, model, 10, clip_norm=0.5)
    optimizer.add_param_group({"params": model[3:].parameters()})
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    clipped = torch.cat([p.grad for layer in sparse(model) for p in (layer.mean_weight, layer.var_weight)])
    torch.testing.assert_close(clipped.norm(), torch.tensor(0.5))


def test_layers_that_have_not_chosen_are_named_once_at_the_end() -> None:
    """Updates below the precision of logits that are all 1 leave ties, which no radius breaks."""
    model = network()
    optimizer = torch.optim.SGD(parameter_groups(model, lr=0.02), lr=0.02)
    SparseSchedule(optimizer, model, 10)
    optimizer.param_groups[-1]["lr"] = 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, batches(9 - 1))
    with pytest.warns(UserWarning, match=r"2 of 2 SSN layers have not chosen: 1, 4; largest logits are equal") as said:
        train(model, optimizer, batches(4))
    assert len(said) == 1
    assert radii(model) == [1, 1]
    assert not all_final(model)
