"""Which convolutions feed a normalization, and what becomes of them."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from switchnorm import layers
from switchnorm.ops import standardize_weight
from switchnorm.surgery import plan_switch, switch
from tests.surgery.nets import DataDependent, PreActivation, SqueezeExcite, small_net


def standardized(plan):
    return [change.names[0] for change in plan.changes if change.after.startswith("WSConv")]


def reasons(plan):
    return {left.names[0]: left.reason for left in plan.left}


class Wrap(nn.Module):
    """A convolution, some operation, a norm."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.operation = operation
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x):
        return self.norm(self.operation(self.conv(x)))


def shuffled(x):
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


@pytest.mark.parametrize(
    ("operation", "feeds"),
    [
        (lambda x: x, True),
        (nn.ReLU(inplace=True), True),
        (nn.LeakyReLU(), True),
        (nn.PReLU(), True),
        (nn.MaxPool2d(2), True),
        (nn.AdaptiveAvgPool2d(1), True),
        (nn.Dropout2d(), True),
        (nn.Upsample(scale_factor=2), True),
        (nn.ZeroPad2d(1), True),
        (torchvision.ops.StochasticDepth(0.5, "row"), True),
        (lambda x: torch.cat([x[:, :4], x[:, 4:]], 1), True),
        (lambda x: x * 0.5 + x / 2, True),
        (lambda x: nn.functional.interpolate(x, x.shape[-2:]), True),
        (shuffled, True),
        (lambda x: x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.5), True),
        (nn.SiLU(), False),
        (nn.Sigmoid(), False),
        (nn.ReLU6(), False),
        (nn.Conv2d(8, 8, 1), False),
        (lambda x: x * x.sigmoid(), False),
        (lambda x: x * x, False),
        (lambda x: 1 / x, False),
        (lambda x: x.exp(), False),
    ],
)
def test_operations_between_convolution_and_norm(operation, feeds):
    plan = plan_switch(Wrap(operation), "gn+ws")
    assert plan.wiring == "tracing"
    assert ("conv" in standardized(plan)) is feeds


def test_squeeze_and_excite_gates_are_left():
    plan = plan_switch(SqueezeExcite(), "gn+ws")
    assert standardized(plan) == ["conv"]
    assert reasons(plan) == {"reduce": "does not feed a normalization", "expand": "does not feed a normalization"}


def test_pre_activation_in_any_order_of_definition():
    net = PreActivation()
    plan = plan_switch(net, "sn+ws")
    assert standardized(plan) == ["blocks.0.2", "blocks.1.2", "stem"]
    assert reasons(plan) == {"head": "does not feed a normalization"}
    assert {change.names[0]: change.reason for change in plan.changes}["stem"] == "feeds blocks.0.0"
    plan.apply()(torch.randn(2, 3, 8, 8)).sum().backward()


def test_of_a_model_that_cannot_be_traced_what_comes_before_is_known():
    net = DataDependent()
    plan = plan_switch(net, "sn+ws")
    assert plan.wiring.startswith("tracing in parts, the rest by order of definition (tracing failed: TraceError")
    assert plan.wiring in str(plan)
    assert standardized(plan) == ["conv"]
    assert net.seen is None
    plan.apply()(torch.randn(2, 3, 8, 8))


def test_untraceable_part_without_norms_does_not_hinder_tracing():
    class Part(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    plan = plan_switch(nn.Sequential(Part(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), "gn+ws")
    assert plan.wiring == "tracing"
    assert standardized(plan) == ["1"]


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_model_is_traced_inside(wrap):
    plan = plan_switch(wrap(PreActivation()), "gn+ws")
    assert plan.wiring == "tracing"
    assert len(standardized(plan)) == 3


def test_parts_that_are_not_run_go_by_definition_order():
    plan = plan_switch(torchvision.models.googlenet(weights=None, init_weights=False).eval(), "gn+ws")
    assert plan.wiring == "tracing"
    assert "aux1.conv.conv" in standardized(plan)


def test_tracing_runs_no_hooks_and_draws_no_randomness():
    net = small_net()
    net.register_forward_pre_hook(lambda module, args: pytest.fail("hook ran"))
    state = torch.get_rng_state()
    assert plan_switch(net, "sn+ws").wiring == "tracing"
    assert torch.equal(torch.get_rng_state(), state)


def test_shared_convolution_must_feed_a_norm_every_time():
    class Twice(nn.Module):
        def __init__(self, both) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.both = both

        def forward(self, x):
            y = self.conv(self.norm(self.conv(x)))
            return self.norm(y) if self.both else y.sigmoid()

    assert standardized(plan_switch(Twice(True), "gn+ws")) == ["conv"]
    assert standardized(plan_switch(Twice(False), "gn+ws")) == []


def test_conversion_keeps_the_module_and_its_parameters():
    net = small_net()
    conv, weight = net[0], net[0].weight
    seen = []
    conv.register_forward_hook(lambda module, args, output: seen.append(output))
    switch(net, "gn+ws")
    assert net[0] is conv
    assert type(conv) is layers.WSConv2d
    assert conv.weight is weight
    x = torch.randn(2, 3, 8, 8)
    net(x)
    expected = nn.functional.conv2d(x, standardize_weight(weight), conv.bias)
    torch.testing.assert_close(seen[0], expected)


def test_convolutions_that_cannot_be_standardized():
    class Odd(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    class Named(nn.Conv2d):
        pass

    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
        *(nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4)),
        *(nn.ConvTranspose2d(4, 4, 1), nn.BatchNorm2d(4)),
        *(Odd(4, 4, 1), nn.BatchNorm2d(4)),
        *(Named(4, 4, 1), nn.BatchNorm2d(4)),
        *(layers.WSConv2d(4, 4, 1), nn.BatchNorm2d(4)),
    )
    plan = plan_switch(net, "gn+ws")
    assert standardized(plan) == ["0", "8"]
    plan.apply()
    assert isinstance(net[8], layers.WSConv2d)
    assert isinstance(net[8], Named)
    assert reasons(plan) == {
        "2": "a single weight per output cannot be standardized",
        "4": "transposed",
        "6": "Odd has a forward of its own",
        "10": "already standardized",
    }


def test_without_ws_standardized_convolutions_stay_and_the_plan_says_so():
    net = switch(small_net(), "gn+ws")
    plan = plan_switch(net, "sn")
    assert reasons(plan) == {"0": "stays standardized", "3": "stays standardized"}
    plan.apply()
    assert type(net[0]) is layers.WSConv2d


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_dimension(dims):
    net = nn.Sequential(layers.weight_standardized.CONV[dims](3, 4, 3), nn.SyncBatchNorm(4))
    switch(net, "ssn+ws")
    assert [type(m) for m in net] == [
        layers.weight_standardized.WS_CONV[dims],
        layers.registry.find("ssn").layers[dims],
    ]
    copy.deepcopy(net)(torch.randn(2, 3, *(5, 5, 5)[:dims])).sum().backward()
