"""What a switch replaces, and what it carries over."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import prune
from torchvision.ops import FrozenBatchNorm2d

from switchnorm import layers
from switchnorm.errors import InputError
from switchnorm.surgery import plan_switch, switch
from tests.surgery.nets import NoForward, OwnForward, cancel, small_net

AFFINE_OFF = pytest.mark.parametrize("affine", [True, False])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batch_norm_to_bn_computes_the_same(dims, training):
    old_class = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
    old = old_class(6, eps=1e-3, momentum=0.3).train(training)
    old.running_mean.normal_()
    old.running_var.uniform_(0.5, 2)
    nn.init.normal_(old.weight)
    new = switch(copy.deepcopy(old), "bn")
    assert type(new) is layers.registry.find("bn").layers[dims]
    x = torch.randn(4, 6, *(5, 4, 3)[:dims])
    torch.testing.assert_close(new(x), old(x), rtol=0, atol=0)
    for name, buffer in old.named_buffers():
        torch.testing.assert_close(new.get_buffer(name), buffer, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_whole_model_to_bn_computes_the_same(training):
    old = small_net().train(training)
    new = switch(copy.deepcopy(old), "bn")
    assert {type(m) for m in new.modules() if "Norm" in type(m).__name__} == {layers.BatchNorm2d}
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(new(x), old(x), rtol=0, atol=0)
    assert list(new.state_dict()) == list(old.state_dict())


def test_instance_norm_to_in_computes_the_same():
    old = small_net(nn.InstanceNorm2d)
    new = switch(copy.deepcopy(old), "in")
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(new(x), old(x), rtol=1e-5, atol=1e-5)
    assert all(m.weight is None for m in new.modules() if isinstance(m, nn.GroupNorm))


def test_group_norm_of_torch_becomes_this_librarys():
    old = nn.GroupNorm(2, 8, eps=1e-3)
    nn.init.normal_(old.weight)
    new = switch(nn.Sequential(old), "gn:2")[0]
    assert type(new) is layers.GroupNorm
    assert new.weight is old.weight
    assert new.eps == 1e-3
    x = torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(new(x), old(x), rtol=0, atol=0)


@pytest.mark.parametrize("spec", ["bn", "gn", "gn:4", "in", "ln", "sn", "ssn"])
@pytest.mark.parametrize(
    "old_class",
    [
        nn.BatchNorm2d,
        nn.SyncBatchNorm,
        nn.InstanceNorm2d,
        lambda c: nn.GroupNorm(2, c),
        layers.BatchNorm2d,
        layers.SwitchNorm2d,
        layers.SparseSwitchNorm2d,
        FrozenBatchNorm2d,
        NoForward,
    ],
)
def test_every_norm_becomes_every_other(old_class, spec):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), old_class(8), nn.Flatten(2))
    eps = net[1].eps
    assert switch(net, spec) is net
    expected = layers.Spec.parse(spec).layer(8)
    assert type(net[1]) is type(expected)
    assert net[1].eps == eps
    if isinstance(expected, nn.GroupNorm):
        assert net[1].num_groups == expected.num_groups
    net(torch.randn(2, 3, 6, 6)).sum().backward()


@pytest.mark.parametrize("spec", ["bn", "gn", "sn", "ssn"])
def test_affine_parameters_stay_the_same_objects(spec):
    net = small_net()
    net[1].bias.requires_grad_(False)
    before = dict(net.named_parameters())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    switch(net, spec)
    after = dict(net.named_parameters())
    assert all(after[name] is p for name, p in before.items())
    assert not net[1].bias.requires_grad
    value = net[1].weight.detach().clone()
    net(torch.randn(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net[1].weight, value)


@pytest.mark.parametrize("spec", ["bn", "sn", "ssn"])
def test_running_statistics_and_momentum_are_carried(spec):
    net = small_net()
    net[1].momentum, net[4].momentum = 0.25, None
    mean, tracked = net[1].running_mean, net[1].num_batches_tracked
    switch(net, spec)
    assert net[1].running_mean is mean
    assert net[1].num_batches_tracked is tracked
    assert int(tracked) == 1
    assert net[1].momentum == 0.25
    assert net[4].momentum is None


def test_untracked_batch_norm_stays_untracked():
    net = switch(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "sn")
    assert net[0].running_mean is None
    assert switch(nn.Sequential(nn.InstanceNorm2d(4)), "sn")[0].running_mean is not None


def test_everything_survives_a_way_through_sn():
    for start in ("equal", "auto"):
        net = small_net()
        net[1].running_var[2] = 1e-9  # so that the scale's growth has to be bounded
        saved = {name: value.clone() for name, value in net.state_dict().items()}
        switch(switch(net, "sn", start=start), "bn", start=start)
        assert list(net.state_dict()) == list(saved)
        for name, value in net.state_dict().items():
            fitted = start == "auto" and name in ("1.weight", "1.bias", "4.weight", "4.bias")
            torch.testing.assert_close(value, saved[name], rtol=1e-5 if fitted else 0, atol=1e-5 if fitted else 0)


def test_bias_free_batch_norm():
    old = nn.BatchNorm2d(4)
    old.register_parameter("bias", None)
    for spec in ("bn", "gn", "sn"):
        new = switch(copy.deepcopy(old), spec)
        assert new.weight is not None
        assert new.bias is None
        new(torch.randn(2, 4, 3, 3))


@pytest.mark.parametrize("spec", ["bn", "gn", "sn", "ssn"])
@AFFINE_OFF
def test_affine_follows_the_old_layer(spec, affine):
    new = switch(nn.BatchNorm2d(4, affine=affine), spec)
    assert new.affine is affine
    assert (new.weight is not None) is affine


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@AFFINE_OFF
def test_dtype_and_device(dtype, affine):
    norm = nn.InstanceNorm2d(8, affine=affine)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm).to(dtype)
    switch(net, "sn")
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert {p.device.type for p in switch(net.to("meta"), "ssn").parameters()} == {"meta"}


def test_training_mode_is_carried_layer_by_layer():
    net = small_net()
    net[1].eval()
    switch(net, "sn")
    assert (net[1].training, net[4].training) == (False, True)


@pytest.mark.parametrize("spec", ["bn", "gn", "sn"])
def test_hooks_are_carried_and_their_handles_still_remove_them(spec):
    net = small_net()
    grads = []
    handles = [
        net[4].register_forward_hook(cancel),
        net[4].register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True),
        net[4].register_full_backward_hook(lambda module, grad_in, grad_out: grads.append(grad_out)),
    ]
    switch(net, spec)
    x = torch.randn(4, 3, 8, 8)
    out = net(x)
    out.sum().backward()
    assert torch.equal(out, net[7].bias.expand_as(out))
    assert len(grads) == 1
    for handle in handles:
        handle.remove()
    assert not torch.equal(net(x), out)
    net(x).sum().backward()
    assert len(grads) == 1


def test_ties_stay_ties():
    norm = nn.BatchNorm2d(4)
    net = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm), "c": nn.BatchNorm2d(4)})
    net["c"].weight = norm.weight
    (tied, _) = plan_switch(net, "sn").changes
    assert tied.names == ("a", "b.0")
    switch(net, "sn")
    assert isinstance(net["a"], layers.SwitchNorm2d)
    assert net["a"] is net["b"][0]
    assert net["c"] is not net["a"]
    assert net["c"].weight is net["a"].weight


@pytest.mark.parametrize("spec", ["bn+ws", "gn+ws", "sn+ws", "ssn"])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_switched_model_can_be_copied_and_pickled(spec, clone):
    net = switch(small_net(), spec).eval()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(clone(net)(x), net(x), rtol=0, atol=0)


def test_frozen_batch_norm_gets_frozen_parameters():
    old = FrozenBatchNorm2d(6, eps=1e-3)
    for buffer in old.buffers():
        nn.init.uniform_(buffer, 0.5, 2)
    x = torch.randn(2, 6, 4, 4)
    expected = old(x)
    new = switch(nn.Sequential(old).eval(), "bn")[0]
    torch.testing.assert_close(new(x), expected)
    assert isinstance(new.weight, nn.Parameter)
    assert not any(p.requires_grad for p in new.parameters())


def test_sync_and_ghost_are_carried():
    assert switch(nn.SyncBatchNorm(4), "sn").sync is True
    group = dist.ProcessGroup(0, 1)
    old = nn.SyncBatchNorm(4)
    old.process_group = group
    assert switch(old, "bn").sync is group
    assert switch(layers.BatchNorm2d(4, ghost=2), "ssn").ghost == 2
    assert isinstance(switch(layers.SwitchNorm2d(4, sync=True), "gn"), nn.GroupNorm)


def test_statistics_are_carried_between_sn_and_ssn():
    old = layers.SwitchNorm2d(4, ("layer", "batch"))
    nn.init.normal_(old.mean_weight)
    new = switch(old, "ssn")
    assert new.statistics == ("layer", "batch")
    assert new.mean_weight is old.mean_weight
    assert switch(new, "sn", statistics=("instance", "batch")).statistics == ("instance", "batch")


def test_options_reach_the_new_layers():
    net = switch(
        small_net(), "ssn", statistics=["instance", "batch"], momentum=0.5, eps=1e-2, centre="simplex", ghost=2
    )
    for layer in (net[1], net[4]):
        assert layer.statistics == ("instance", "batch")
        assert (layer.momentum, layer.eps, layer.centre, layer.ghost) == (0.5, 1e-2, "simplex", 2)


def test_subclasses():
    net = nn.Sequential(NoForward(4), OwnForward(4), nn.LazyBatchNorm2d(), nn.LayerNorm(4))
    net[0].forward_count = 0
    plan = plan_switch(net, "sn")
    assert [change.names for change in plan.changes] == [("0",)]
    assert [left.reason for left in plan.left] == [
        "OwnForward has a forward of its own",
        "lazy and not initialised; run a batch first",
        "LayerNorm is not a normalization that switches: it normalizes over the channels at each position, which is no "
        "statistic of this library",
    ]
    plan.apply()
    assert [type(layer) for layer in net] == [layers.SwitchNorm2d, OwnForward, nn.LazyBatchNorm2d, nn.LayerNorm]
    assert net[0].eps == 1e-3


def test_parametrized_and_patched_layers_are_left():
    parametrized, patched = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(parametrized, "weight", nn.Softplus())
    patched.forward = lambda x: x
    plan = plan_switch(nn.Sequential(parametrized, patched), "gn")
    assert [left.reason for left in plan.left] == [
        "its parameters are parametrized",
        "BatchNorm2d has a forward of its own",
    ]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("old_class", [nn.SyncBatchNorm, lambda c: nn.GroupNorm(2, c)])
def test_dimensions_of_layers_that_do_not_tell_come_from_the_convolution(old_class, dims):
    conv = layers.weight_standardized.CONV[dims]
    net = nn.Sequential(conv(3, 4, 1), nn.SiLU(), old_class(4))
    assert isinstance(switch(net, "sn")[2], layers.registry.find("sn").layers[dims])


def test_dimensions_without_a_convolution():
    assert isinstance(switch(nn.GroupNorm(2, 4), "sn"), layers.SwitchNorm2d)
    net = switch(nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4)), "sn")
    assert isinstance(net[1], layers.SwitchNorm1d)
    net(torch.randn(2, 3)).sum().backward()


@pytest.mark.parametrize("spec", ["sn", "ssn"])
def test_flat_inputs_have_no_instance_statistic(spec):
    def net():
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))

    assert switch(net(), spec)[2].statistics == ("layer", "batch")
    assert switch(net(), spec, statistics=("batch",))[2].statistics == ("batch",)
    sequence = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4))
    assert switch(sequence, spec)[1].statistics == ("instance", "layer", "batch")


def test_model_that_is_one_norm_or_has_none():
    assert isinstance(switch(nn.BatchNorm2d(4), "gn"), nn.GroupNorm)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    plan = plan_switch(net, "sn+ws")
    assert plan.changes == []
    assert "nothing to switch" in str(plan)
    assert switch(net, "sn+ws") is net


def test_switching_twice_changes_nothing_more():
    for spec in ("bn", "gn+ws", "sn", "ssn+ws"):
        net = switch(small_net(), spec)
        before = list(net.modules())
        plan = plan_switch(net, spec)
        assert plan.changes == []
        assert f"already {spec.removesuffix('+ws')}" in {left.reason for left in plan.left}
        assert all(a is b for a, b in zip(plan.apply().modules(), before, strict=True))
    assert len(plan_switch(switch(small_net(), "sn"), "sn", momentum=0.5).changes) == 2


def snapshot(net):
    return [(name, module, type(module)) for name, module in net.named_modules()], [
        (name, id(value), value.clone()) for name, value in net.state_dict(keep_vars=True).items()
    ]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("gn:8+ws", {}, "layer '4': 8 groups do not divide 12 channels; the nearest group counts are 6 or 12"),
        ("sn", {"statistics": ("instance", "group:8")}, "layer '4': 8 groups do not divide 12 channels"),
        ("sn", {"statistics": ("instances",)}, "layer '1': statistic 'instances' is unknown; did you mean 'instance'"),
        ("sn", {"momentm": 0.5}, "option of 'sn' 'momentm' is unknown; did you mean 'momentum'"),
        ("gn", {"statistics": ("layer",)}, "option of 'gn' 'statistics' is unknown; choose from eps"),
        ("bn", {"affine": False}, "option of 'bn' 'affine' is unknown"),
        (
            "gn",
            {"num_groups": 4},
            "option of 'gn' 'num_groups' is unknown; groups are a part of the name, as in 'gn:4'",
        ),
        ("sn", {"statistics": "instance,bath"}, "layer '1': statistic 'bath' is unknown; did you mean 'batch'"),
        (nn.BatchNorm3d, {}, "layer '1': BatchNorm3d is for 3 spatial dimensions, and the input has 2"),
        (nn.LayerNorm, {}, "layer '1': LayerNorm normalizes the last dimension, .* take 'ln'"),
        (nn.GroupNorm, {}, "missing 1 required .*; give a function of the channels, such as functools.partial"),
        ("sn", {"ghost": 0}, "layer '1': ghost batches of 0 samples"),
        ("bn", {"ghost": 2, "sync": True}, "layer '1': ghost and sync exclude each other"),
        ("sm", {}, "norm 'sm' is unknown; did you mean 'sn'"),
    ],
)
def test_errors_come_before_any_change(spec, options, message):
    net = small_net()
    modules, tensors = snapshot(net)
    with pytest.raises(InputError, match=message):
        switch(net, spec, **options)
    after_modules, after_tensors = snapshot(net)
    assert after_modules == modules
    for (name, place, value), (after_name, after_place, after_value) in zip(tensors, after_tensors, strict=True):
        assert (name, place) == (after_name, after_place)
        assert torch.equal(value, after_value)


def test_statistics_may_be_spelled_as_commands_have_them():
    assert switch(nn.BatchNorm2d(4), "ssn", statistics="instance, batch").statistics == ("instance", "batch")


@pytest.mark.parametrize("spec", ["gn:2", "sn", "bn"])
def test_layers_without_scale_and_shift_may_get_them(spec):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4))
    weight = net[3].weight
    plan = plan_switch(net, spec, start="equal", affine=True)
    assert {"1.weight", "1.bias", "2.weight", "2.bias"} <= {*plan.new_parameters}
    assert "3.weight" not in plan.new_parameters
    plan.apply()
    assert all(torch.equal(net[k].weight, torch.ones(4)) and net[k].weight.requires_grad for k in (1, 2))
    assert net[3].weight is weight
    assert switch(nn.BatchNorm2d(4, affine=False), spec, start="equal").weight is None


def test_frozen_networks_stay_frozen():
    net = small_net().requires_grad_(False)
    plan = plan_switch(net, "sn")
    assert all(
        change.reason.endswith("mean_weight and var_weight stay constant, as all around") for change in plan.changes
    )
    plan.apply()
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("trained", ["weight", "0.weight"])
def test_new_parameters_train_where_the_old_or_the_convolution_before_does(trained):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).requires_grad_(False)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith(trained) and (name[0] == "1" or trained[0] == "0"))
    switch(net, "sn")
    assert net[1].mean_weight.requires_grad
    assert net[1].var_weight.requires_grad


def test_pruned_normalizations_stay():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    prune.l1_unstructured(net[1], "weight", amount=0.5)
    (left,) = plan_switch(net, "gn").left
    assert left.reason == "its weight is computed by a hook, as of pruning"


class Called(nn.BatchNorm2d):
    def __call__(self, x):
        return super().__call__(x).relu()


def test_what_does_more_when_it_is_called_stays():
    (left,) = plan_switch(nn.Sequential(Called(8)), "sn").left
    assert left.reason == "Called has a __call__ of its own"


def test_buffers_and_hooks_of_others_are_named():
    net = nn.Sequential(nn.BatchNorm2d(8))
    net[0].register_buffer("seen", torch.ones(8))
    net[0].register_state_dict_post_hook(lambda *args: None)
    (change,) = plan_switch(net, "sn").changes
    assert change.reason.endswith("not carried over: seen, hooks of its state dict")


def test_a_default_device_is_for_what_others_make():
    net = small_net()
    with torch.device("meta"):
        switch(net, "sn")
    assert net(torch.randn(4, 3, 8, 8)).isfinite().all()


def test_a_plan_can_be_read_after_the_model_has_changed():
    net = small_net()
    plan = plan_switch(net, "sn")
    before = str(plan)
    switch(net, "sn")
    assert str(plan) == before


@pytest.mark.parametrize("spec", layers.norm_names())
def test_inputs_are_called_as_torch_calls_them(spec):
    x = torch.randn(4, 8, 3, 5)
    torch.testing.assert_close(switch(nn.BatchNorm2d(8), spec)(input=x), switch(nn.BatchNorm2d(8), spec)(x))
