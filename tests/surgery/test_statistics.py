"""Running statistics: which there are, calibration, the statistics of a batch in evaluation, evaluation in training."""

from __future__ import annotations

import copy
from collections import UserDict

import pytest
import torch
from torch import Tensor, nn

from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.surgery import batch_statistics, calibrate, evaluation_mode, ghost, switch
from switchnorm.surgery.statistics import running_statistics, tracked_buffers
from tests.surgery.nets import OwnForward, small_net


class Renamed(nn.Module):
    """Batch statistics under names of its own, and buffers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("average_square", torch.ones(3))
        self.register_buffer("batches", torch.tensor(0))
        self.register_buffer("passing", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_running_statistics_are_found_whoever_wrote_the_layer():
    shared = nn.BatchNorm2d(3)
    net = nn.ModuleDict(
        {
            "one": shared,
            "again": shared,
            "ssn": layers.SparseSwitchNorm2d(3),
            "ibn": nn.Sequential(layers.InstanceBatchNorm2d(4)),
            "own": Renamed(),
            "instance": nn.InstanceNorm2d(3, track_running_stats=True),
            "group": nn.GroupNorm(1, 3),
            "untracked": nn.BatchNorm2d(3, track_running_stats=False),
        }
    )
    pairs = ("one", "again", "ssn", "ibn.0", "instance")
    expected = {f"{name}.running_{moment}" for name in pairs for moment in ("mean", "var")}
    expected |= {"own.running_mean", "own.average_square"}
    assert running_statistics(net).keys() == expected
    counters = {f"{name}.num_batches_tracked" for name in pairs} | {"own.batches", "ssn.mean_fixed", "ssn.var_fixed"}
    assert tracked_buffers(net).keys() == expected | counters
    assert all(buffer is net.get_buffer(key) for key, buffer in running_statistics(net).items())
    assert set(running_statistics(shared)) == {"running_mean", "running_var"}


@pytest.mark.parametrize("spec", [None, "bn", "sn"])
def test_calibrate_averages_over_batches(spec):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    norm.running_mean.fill_(7)
    net = nn.Sequential(norm if spec is None else switch(norm, spec), nn.Dropout(0.5)).eval()
    batches = [torch.randn(4, 3, 5, 5) + shift for shift in range(3)]
    calibrate(net, batches)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(net[0].running_mean, expected)
    assert int(net[0].num_batches_tracked) == 3
    assert net[0].momentum == 0.3
    assert not any(m.training for m in net.modules())


def test_calibrate_reads_labelled_batches_and_calls_forward():
    net, reference = small_net(), None
    batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
    for given, forward in (
        (iter(batches), None),
        ([(x, torch.zeros(4)) for x in batches], None),
        ([[x] for x in batches], None),
        ([{"image": x} for x in batches], lambda model, batch: model(batch["image"])),
        ([{"input": x, "label": torch.zeros(4)} for x in batches], None),
        ([UserDict(input=x) for x in batches], None),
    ):
        net[4].reset_running_stats()
        calibrate(net, given, forward=forward)
        reference = net[4].running_var.clone() if reference is None else reference
        torch.testing.assert_close(net[4].running_var, reference)


def test_calibrate_calls_by_name_where_the_names_are_the_forward_passs():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net()

        def forward(self, batch):
            return self.net(batch["image"])

    batch = {"image": torch.randn(4, 3, 8, 8)}
    net = Whole()
    calibrate(net, [batch])
    assert int(net.net[4].num_batches_tracked) == 1
    state = copy.deepcopy(net.net.state_dict())
    words = r"a batch of the entries 'image' does not fit Sequential.forward\(input\); give forward=lambda model, batch"
    with pytest.raises(InputError, match=words):
        calibrate(net.net, [batch])
    assert all(torch.equal(value, state[key]) for key, value in net.net.state_dict().items())


class Both(nn.Module):
    """Takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, left, right):
        return self.norm(left) + self.norm(right)


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (
            Both(),
            (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)),
            r"does not fit Both.forward\(left, right\); give forward=",
        ),
        (nn.BatchNorm2d(3), (), r"calibrate: \(\) is no batch; expected a tensor"),
        (nn.BatchNorm2d(3), "picture.png", "calibrate: 'picture.png' is no batch"),
        (nn.BatchNorm2d(3), ["picture.png"], "is no batch"),
    ],
)
def test_batches_from_which_a_model_cannot_be_called_are_refused(model, batch, message):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message):
        calibrate(model, [batch])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_calibrate_runs_only_norms_in_training_mode_and_restores_modes():
    class Mode(nn.Module):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return x

    net = nn.Sequential(Mode(), nn.BatchNorm2d(3), Mode(), nn.InstanceNorm2d(3, track_running_stats=True))
    net[1].eval()
    calibrate(net, [torch.randn(2, 3, 4, 4)])
    assert [m.training for m in net] == [True, False, True, True]
    assert torch.equal(net[3].running_mean, torch.zeros(3))


def test_calibrate_without_batches_keeps_statistics():
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(InputError, match="at least one batch"):
        calibrate(net, [])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_calibrate_restores_everything_on_error():
    net = small_net()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())

    def batches():
        yield torch.randn(4, 3, 8, 8)
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        calibrate(net, batches())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net[1].training, net[4].training, net[4].momentum) == (False, True, 0.1)


def test_calibrate_model_without_running_statistics():
    calibrate(nn.Sequential(nn.GroupNorm(2, 4)), [])


def sequence(norm: str) -> nn.Sequential:
    """Two normalizations with dropout, in evaluation mode, whose running statistics are nothing like a batch's."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6))
    switch(net, norm)
    for layer in (net[1], net[4]):
        layer.running_mean.fill_(3)
        layer.running_var.fill_(5)
    return net.eval()


@pytest.mark.parametrize("ghosts", [None, 2])
@pytest.mark.parametrize("norm", ["bn", "sn", "ssn", "ibn"])
def test_a_batch_s_own_statistics_are_those_that_training_would_take(norm, ghosts):
    net, x = sequence(norm), torch.randn(5, 3, 9, 7) * 4 + 1
    ghost(net, ghosts)
    before = copy.deepcopy(net.state_dict())
    evaluated = net(x)
    with batch_statistics(net), torch.no_grad():
        found, again = net(x), net(x[:3])
    trained = copy.deepcopy(net).train()
    trained[2].eval()
    torch.testing.assert_close(found, trained(x))
    torch.testing.assert_close(again, trained(x[:3]))
    assert not torch.allclose(found, evaluated)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    assert [net[1].momentum, net[4].momentum] == [0.1, 0.1]
    torch.testing.assert_close(net(x), evaluated)


def test_the_batch_s_own_statistics_are_all_that_bcn_relies_on():
    """In training it normalizes by running statistics that the batch has moved; here nothing of them is left."""
    net, x = sequence("bcn"), torch.randn(4, 3, 9, 7)
    with batch_statistics(net), torch.no_grad():
        net(x * 9 + 5)
        found = net(x)
    y = net[0](x)
    for layer, following in ((net[1], net[3]), (net[4], nn.Identity())):
        layer.running_mean.copy_(y.mean((0, 2, 3)))
        layer.running_var.copy_(y.var((0, 2, 3), unbiased=False))
        y = following(layer(y))
    torch.testing.assert_close(found, y, rtol=1e-4, atol=1e-4)


def test_layers_without_running_statistics_keep_their_ghost_batches_in_evaluation():
    layer = layers.BatchNorm2d(3, track_running_stats=False, ghost=2).eval()
    x = torch.randn(4, 3, 5, 5)
    with batch_statistics(layer):
        found = layer(x)
    torch.testing.assert_close(found, torch.cat([layer(part) for part in x.split(2)]))


def test_what_cannot_be_calibrated_has_no_statistics_of_a_batch_either():
    net = nn.Sequential(nn.BatchNorm2d(3), Renamed())
    with pytest.raises(InputError, match="layer '1' cannot take calibrate: Renamed has batch statistics of its own"):
        batch_statistics(net).__enter__()
    assert not net[0]._forward_pre_hooks


def test_an_error_in_evaluation_leaves_the_network_as_it_was():
    net = small_net()
    before = copy.deepcopy(net.state_dict())

    def evaluate():
        with batch_statistics(net):
            net(torch.randn(2, 3, 8, 8))
            net(torch.randn(2, 5, 8, 8))

    with pytest.raises(RuntimeError):
        evaluate()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
    assert not net[1]._forward_pre_hooks


@pytest.mark.parametrize("name", ["resnet18+ppm_bilinear_deepsup", "fcn_resnet50"])
def test_evaluation_mode_leaves_training_its_own_output(name):
    options = {"aux_loss": True} if name == "fcn_resnet50" else {}
    model = create_model(name, norm="bn", num_classes=3, **options)
    before = copy.deepcopy(model.state_dict())
    evaluation_mode(model)
    x = torch.randn(2, 3, 33, 64)
    output = model(x)
    assert output.keys() == {"out", "aux"}
    (output["out"].sum() + output["aux"].sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "nothing is tracked"
    torch.testing.assert_close(output["out"], model.eval()(x)["out"], msg="dropout or a batch's statistics")


def test_evaluation_mode_reaches_functions_that_ask_for_the_mode():
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.5, self.training)

    net = nn.Sequential(Functional(), OwnForward(3)).train()
    evaluation_mode(net)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(net(x), 2 * x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", ["bn", "sn"])
def test_calibrate_takes_no_numbers_that_are_not_finite(spec):
    model = switch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), spec)
    good = torch.randn(2, 3, 6, 6)
    model(good)
    before = copy.deepcopy(model.state_dict())
    bad = good.clone()
    bad[0, 0, 3, 3] = float("nan")
    with pytest.raises(InputError, match=r"'1\.running_mean' is not finite after batch 2; .* are as before"):
        calibrate(model, [good, bad])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model[1].training
