"""Averages of weights, as libraries make them: radius and final choices are those of the layer that is trained."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from switchnorm import SparseSwitchNorm2d, harden, importance, set_radius
from switchnorm.surgery import LayerImportance

Update = Callable[[nn.Module], Any]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), SparseSwitchNorm2d(4), nn.Conv2d(4, 6, 3), SparseSwitchNorm2d(6))


def averaged(**options: Any) -> Callable[[nn.Module], tuple[nn.Module, Update]]:
    def make(model: nn.Module) -> tuple[nn.Module, Update]:
        average = AveragedModel(model, **options)
        return average.module, average.update_parameters

    return make


def of_timm(kind: Any, **options: Any) -> Callable[[nn.Module], tuple[nn.Module, Update]]:
    def make(model: nn.Module) -> tuple[nn.Module, Update]:
        average = kind(model, decay=0.9, **options)
        return getattr(average, "module", None) or average.ema, average.update

    return make


def of_state_dict(model: nn.Module) -> tuple[nn.Module, Update]:
    """As Ultralytics: what is floating in the state dict, integers untouched, a decay that grows."""
    average = copy.deepcopy(model).eval().requires_grad_(False)
    updates = 0

    @torch.no_grad()
    def update(model: nn.Module) -> None:
        nonlocal updates
        updates += 1
        decay = 0.9 * (1 - 2.7 ** (-updates / 3))
        theirs = model.state_dict()
        for key, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value *= decay
                value += (1 - decay) * theirs[key].detach()

    return average, update


def of_data(model: nn.Module) -> tuple[nn.Module, Update]:
    """As a teacher of self-supervised learning: parameters alone, written past their counters."""
    average = copy.deepcopy(model)

    def update(model: nn.Module) -> None:
        for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
            ours.data.mul_(0.9).add_(0.1 * theirs.detach().data)

    return average, update


def of_new_data(model: nn.Module) -> tuple[nn.Module, Update]:
    """As MoCo: parameters whose data is replaced."""
    average = copy.deepcopy(model)

    def update(model: nn.Module) -> None:
        for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
            ours.data = ours.data * 0.9 + theirs.data * 0.1

    return average, update


AVERAGES: dict[str, Callable[[nn.Module], tuple[nn.Module, Update]]] = {
    "equal": averaged(),
    "equal with buffers": averaged(use_buffers=True),
    "ema": averaged(multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "ema with buffers": averaged(multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True),
    "ema of single tensors with buffers": averaged(avg_fn=get_ema_avg_fn(0.9), use_buffers=True),
    "timm": of_timm(ModelEma),
    "timm v2": of_timm(ModelEmaV2),
    "timm v3": of_timm(ModelEmaV3, foreach=False),
    "timm v3 foreach": of_timm(ModelEmaV3, foreach=True),
    "timm v3 without buffers": of_timm(ModelEmaV3, exclude_buffers=True),
    "state dict": of_state_dict,
    "data": of_data,
    "new data": of_new_data,
}


def step(model: nn.Module, place: int, steps: int = 10) -> None:
    """As an optimizer would, with logits that change their order."""
    generator = torch.Generator().manual_seed(place)
    with torch.no_grad():
        for layer in (model[1], model[3]):
            for logits, fixed in ((layer.mean_weight, layer.mean_fixed), (layer.var_weight, layer.var_fixed)):
                if not fixed:
                    logits.add_(torch.randn(3, generator=generator), alpha=0.5)
        model[0].weight.add_(0.1)
    set_radius(model, min(place / (steps - 1), 1.0))
    if place % 3 == 2 or place == steps:
        harden(model)


def choices(model: nn.Module) -> list[tuple[float, ...]]:
    return [tuple(float(getattr(model[k], name)) for name in ("radius", "mean_fixed", "var_fixed")) for k in (1, 3)]


def final_rows(model: nn.Module, of: nn.Module) -> list[Any]:
    """The importances that are final in `of`."""
    found = []
    for k, row in zip((1, 3), importance(model), strict=True):
        found += [row.mean] if of[k].mean_fixed else []
        found += [row.var] if of[k].var_fixed else []
    return found


@pytest.mark.parametrize("name", AVERAGES)
def test_radius_and_choices_are_those_of_the_trained_layer(name: str) -> None:
    model = network()
    average, update = AVERAGES[name](model)
    weights, seen = [], 0
    for place in range(1, 11):
        step(model, place)
        update(model)
        weights.append(model[0].weight.detach().clone())
        # Not looked at before, so that nothing else makes it follow.
        if place in (1, 4, 8, 10):
            assert choices(average) == choices(model)
            finals = final_rows(model, model)
            assert final_rows(average, model) == finals
            seen += len(finals)
    assert seen > 4
    assert not torch.equal(average[0].weight, model[0].weight), "an average of the rest"
    assert all(row.frozen for row in importance(average))
    x = torch.randn(5, 3, 7, 8)
    reference = copy.deepcopy(average)
    reference[1].load_state_dict(average[1].state_dict() | {"radius": torch.ones(1)})
    assert torch.equal(average.eval()(x), reference.eval()(x))


READINGS: dict[str, Callable[[nn.Module], dict[str, Tensor]]] = {
    "state dict": lambda model: model.state_dict(),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)).state_dict(),
    "torch.save": lambda model: loaded(model).state_dict(),
    "half a copy": lambda model: copy.deepcopy(model).half().float().state_dict(),
    "forward": lambda model: model.eval()(torch.zeros(2, 3, 7, 7)) is not None and raw(model),
    "inference": lambda model: (
        torch.inference_mode()(lambda: model(torch.zeros(2, 3, 7, 7)))() is not None and raw(model)
    ),
    "importance": lambda model: importance(model) != [] and raw(model),
    "an attribute": lambda model: [model[k].radius for k in (1, 3)] != [] and raw(model),
    "moved": lambda model: raw(model.to(torch.float64)),
    "harden": lambda model: harden(model)[1] == 4 and raw(model),
}


def loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


def raw(model: nn.Module) -> dict[str, Tensor]:
    """The tensors, read past the layers."""
    return {key: value.detach() for key, value in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("reading", READINGS)
def test_however_it_is_read(reading: str) -> None:
    model = network()
    average, update = of_state_dict(model)
    for place in range(1, 9):
        step(model, place)
    update(model)
    assert raw(average)["1.mean_fixed"] == 0 < model[1].mean_fixed, "integers are not averaged there"
    found = READINGS[reading](average)
    for key in ("1.radius", "1.mean_fixed", "1.var_fixed", "3.radius", "3.mean_fixed", "3.var_fixed"):
        torch.testing.assert_close(found[key], model.state_dict()[key].to(found[key]), rtol=1e-3, atol=0)
    for key in ("mean", "var"):
        if model[1].state_dict()[f"{key}_fixed"]:
            assert found[f"1.{key}_weight"].tolist() == model[1].state_dict()[f"{key}_weight"].tolist()


def test_tensors_that_are_read_past_the_layer_are_right_after_each_schedules_step() -> None:
    """As Lightning's WeightAveraging does, which copies them."""
    model = network()
    average, update = averaged(avg_fn=get_ema_avg_fn(0.9), use_buffers=True)(model)
    for place in range(1, 11):
        step(model, place)
        update(model)
        ours, theirs = raw(average), raw(model)
        for key in theirs:
            if key.endswith(("radius", "fixed")):
                torch.testing.assert_close(ours[key], theirs[key])


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999])
def test_a_flag_that_is_averaged_with_itself_stays(decay: float) -> None:
    flag = torch.ones(1, dtype=torch.long)
    flag.copy_(flag * decay + (1.0 - decay) * torch.ones(1, dtype=torch.long))
    assert flag == 1


def final(model: nn.Module) -> None:
    for place in range(1, 11):
        step(model, place)


def test_a_copy_that_nobody_writes_to_stays() -> None:
    model = network()
    step(model, 3)
    best = copy.deepcopy(model)
    moved = copy.deepcopy(model).half().float()
    expected = {key: value.clone() for key, value in best.state_dict().items()}
    final(model)
    for snapshot in (best, moved):
        for key, value in snapshot.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-3)
        assert choices(snapshot)[0][0] == pytest.approx(3 / 9, rel=1e-3)


def test_a_snapshot_of_an_average_stays_and_an_average_of_it_follows() -> None:
    model = network()
    average, update = of_state_dict(model)
    step(model, 3)
    update(model)
    snapshot = copy.deepcopy(average)
    kept = choices(snapshot)
    average_of_average, update_it = of_state_dict(average)
    final(model)
    update(model)
    update_it(average)
    assert choices(snapshot) == kept
    assert choices(average_of_average) == choices(model) == [(1, 1, 1)] * 2


def test_an_average_outlives_what_was_trained() -> None:
    model = network()
    average, update = of_state_dict(model)
    final(model)
    update(model)
    expected = choices(model)
    del model
    gc.collect()
    assert choices(average) == expected


def test_a_pair_that_is_copied_together() -> None:
    """As a module that holds its teacher: the copy's teacher follows the copy's student."""
    pair = nn.ModuleDict({"student": network()})
    pair["teacher"], _ = of_data(pair["student"])
    other = copy.deepcopy(pair)
    final(other["student"])
    with torch.no_grad():
        for ours, theirs in zip(other["teacher"].parameters(), other["student"].parameters(), strict=True):
            ours.lerp_(theirs, 0.1)
    assert choices(other["teacher"]) == [(1, 1, 1)] * 2
    assert choices(pair["teacher"]) == choices(pair["student"]) == [(0, 0, 0)] * 2


@pytest.mark.parametrize("own", ["trained", "radius"])
def test_a_copy_that_is_trained_itself_goes_its_own_way(own: str) -> None:
    model = network()
    other = copy.deepcopy(model)
    if own == "radius":
        set_radius(other, 0.2)
    else:
        other(torch.randn(4, 3, 7, 8)).square().sum().backward()
    with torch.no_grad():
        for layer in (other[1], other[3]):
            layer.mean_weight.copy_(torch.tensor([0.5, 1.0, 0.2]))
    final(model)
    assert choices(other) == [(pytest.approx(0.2 if own == "radius" else 0.0), 0, 0)] * 2


def test_what_is_loaded_into_a_copy_stays_and_an_average_of_more_follows() -> None:
    """As when a training and its average are resumed."""
    model = network()
    average, update = of_state_dict(model)
    saved = network()
    step(saved, 4)
    state = copy.deepcopy(saved.state_dict())
    final(model)
    average.load_state_dict(state)
    assert choices(average) == choices(saved)
    model.load_state_dict(state)
    assert choices(average) == choices(saved)
    final(model)
    assert choices(average) == choices(saved), "nothing was averaged since"
    update(model)
    assert choices(average) == choices(model) == [(1, 1, 1)] * 2


def test_the_average_of_one_training_does_not_follow_the_next() -> None:
    model = network()
    start = copy.deepcopy(model.state_dict())
    average, update = of_state_dict(model)
    final(model)
    update(model)
    model.load_state_dict(start)
    assert choices(average) == [(1, 1, 1)] * 2
    assert choices(model) == [(0, 0, 0)] * 2


def test_functional_calls_leave_their_tensors_alone() -> None:
    model = network()
    average, update = of_state_dict(model)
    step(model, 5)
    update(model)
    given = {key: value.clone() for key, value in network().state_dict().items()}
    before = {key: value.clone() for key, value in given.items()}
    torch.func.functional_call(average.eval(), given, torch.randn(2, 3, 7, 7))
    for key, value in given.items():
        assert torch.equal(value, before[key]), key


def test_averages_of_parameters_that_are_put_into_the_trained_network_keep_its_choices() -> None:
    """As diffusers' EMAModel does: `copy_to` writes the data of parameters alone."""
    model = network()
    final(model)
    expected = importance(model)
    with torch.no_grad():
        for layer in (model[1], model[3]):
            for logits in (layer.mean_weight, layer.var_weight):
                logits.data.copy_(0.6 * logits + 0.4 * torch.tensor([0.4, 0.3, 0.3]))
    set_radius(model, 0.3)  # a final choice does not depend on it
    assert importance(model) == expected
    assert all(isinstance(row, LayerImportance) and max(row.mean) == 1 for row in expected)
