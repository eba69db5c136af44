"""Which layers take up constants, and why others do not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from switchnorm import layers
from switchnorm.surgery import fold, plan_fold, switch
from tests.surgery.folding.folded import assert_same, trained

BEFORE, AFTER = "part of the layer before", "part of the layer after"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.prepare()

    def prepare(self):
        pass


class Blocks(Net):
    def prepare(self):
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


class TwoConsumers(Net):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class TwoNorms(Net):
    def forward(self, x):
        return self.last(self.conv(self.norm(self.conv(x))))


class SharedPair(Net):
    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x)).relu()))


class SeveralSources(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.norm(self.other(x))


class Returned(Net):
    def forward(self, x):
        y = self.conv(x)
        return torch.cat([self.norm(y), {"y": [y]}["y"][0]])


class ReadsWeight(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) * self.conv.weight.sum()


class ReadsAll(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) * sum(p.sum() for p in self.parameters())


class ReadsState(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) * self.state_dict()["conv.weight"].sum()


class AsksAll(Net):
    def forward(self, x):
        return self.norm(self.conv(x.to(next(self.parameters()).dtype)))


class Keeps(Net):
    def forward(self, x):
        self.seen = {"conv": [self.conv(x)]}
        return self.norm(self.seen["conv"][0])


class ReadsType(Net):
    def forward(self, x):
        return self.norm(self.conv(x.to(self.conv.weight.dtype)))


class ReadsNorm(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm.weight.sum()


class Asks(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm.num_features


class Tied(Net):
    def prepare(self):
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.other(self.norm(self.conv(x)).relu())


class ReluBetween(Net):
    def forward(self, x):
        return self.norm(self.conv(x).relu())


class NormTwice(Net):
    def forward(self, x):
        return self.norm(self.norm(self.conv(x)))


class UsedInPart(Blocks):
    """A forward pass that cannot be traced, and goes past the one that shows a pair."""

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.block(x) + self.block[0](x)


class UsedByWalking(Blocks):
    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.block(x) + next(self.block.children())(x)


class HandsItselfOver(Blocks):
    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.block(x) + weight_of(self).sum()


def weight_of(net):
    return net.block[0].weight


class CalledAsAWhole(Blocks):
    def forward(self, x):
        if x.sum() > 1e9 or self.block is None:
            return x
        return self.block(x)


class Sequence(Blocks):
    def forward(self, x):
        for layer in self.block:
            x = layer(x)
        return x


class SequenceUntraced(Blocks):
    def forward(self, x):
        if x.sum() > 1e9:
            return x
        for layer in self.block:
            x = layer(x)
        return x + self.block[0](x)


class Listed(Net):
    """A list that is no container of torch's refers to the layers too."""

    def prepare(self):
        self.layers = [self.conv, self.norm]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Dictionary(Net):
    def prepare(self):
        self.layers = nn.ModuleDict({"a": nn.ModuleList([self.conv, self.norm])})

    def forward(self, x):
        return self.layers["a"][1](self.layers["a"][0](x))


CASES = {
    TwoConsumers: ({}, "is used 2 times"),
    TwoNorms: ({}, "is called elsewhere too"),
    SharedPair: ({BEFORE: 1}, None),
    SeveralSources: ({}, "what several layers give"),
    Returned: ({}, "is used 2 times"),
    ReadsWeight: ({}, "the weight of conv is read elsewhere"),
    ReadsAll: ({}, "reads its parameters past its call"),
    ReadsState: ({}, "reads its parameters past its call"),
    AsksAll: ({BEFORE: 1}, None),
    Keeps: ({}, "what conv gives is kept in an attribute"),
    ReadsType: ({BEFORE: 1}, None),
    ReadsNorm: ({}, "reads its parameters past its call"),
    Asks: ({BEFORE: 1}, None),
    Tied: ({}, "shares its weight with other"),
    ReluBetween: ({}, "relu comes before it"),
    NormTwice: ({}, "what several layers give"),
    UsedInPart: ({}, "cannot be traced"),
    UsedByWalking: ({}, "cannot be traced"),
    HandsItselfOver: ({}, "cannot be traced"),
    CalledAsAWhole: ({BEFORE: 1}, None),
    Sequence: ({BEFORE: 1}, None),
    SequenceUntraced: ({}, "cannot be traced"),
    Listed: ({BEFORE: 1}, None),
    Dictionary: ({BEFORE: 1}, None),
}


@pytest.mark.parametrize("cls", CASES)
@pytest.mark.parametrize("norm", ["bn", "sn"])
def test_connections(cls, norm):
    torch.manual_seed(0)
    counts, reason = CASES[cls]
    net = cls()
    if norm != "bn":
        if cls is Listed:  # a list of one's own, which a switch does not know
            return
        switch(net, norm)
    plan, _ = assert_same(trained(net), torch.randn(2, 3, 6, 5))
    if norm == "bn":
        called = [left for left in plan.left if "no call of it was seen" not in left.reason]
        assert plan.counts.get(BEFORE, 0) == counts.get(BEFORE, 0)
        assert reason is None or any(reason in left.reason for left in called), called


def pair(*between):
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *between, nn.BatchNorm2d(6), nn.ReLU())


def hook(module, args, output):
    return output * 2


def hooked(name):
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3)), nn.Identity(), nn.BatchNorm2d(6), nn.ReLU())
    net.get_submodule(name).register_forward_hook(hook)
    return net


@pytest.mark.parametrize(
    ("name", "folds"), [("0.0", False), ("0", False), ("1", False), ("2", False), ("3", True), ("", True)]
)
def test_hooks(name, folds):
    torch.manual_seed(0)
    plan, folded = assert_same(trained(hooked(name)), torch.randn(2, 3, 6, 5))
    assert (plan.counts.get(BEFORE, 0) == 1) is folds
    assert len(folded.get_submodule(name)._forward_hooks) == 1


def test_hooks_before():
    net = pair()
    net[1].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    plan, _ = assert_same(trained(net), torch.randn(2, 3, 6, 5))
    assert plan.left[0].reason == "it has hooks, which see what it computes"


def test_weights_that_are_computed():
    torch.manual_seed(0)
    net = pair()
    parametrizations.weight_norm(net[0])
    plan, _ = assert_same(trained(net), torch.randn(2, 3, 6, 5))
    assert "0 has parametrized weights" in plan.left[0].reason
    net = trained(pair())
    prune.l1_unstructured(net[0], "weight", 0.5)
    plan, x = plan_fold(net), torch.randn(2, 3, 6, 5)
    assert "0 has a weight that a hook computes" in plan.left[0].reason
    assert torch.equal(plan.apply()(x), net(x))


def test_identities_are_seen_through():
    plan, _ = assert_same(trained(pair(nn.Identity(), nn.Sequential())), torch.randn(2, 3, 6, 5))
    assert plan.counts == {BEFORE: 1}


AFTERS = {
    "1x1": (nn.Conv2d(4, 6, 1), True),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), True),
    "padded": (nn.Conv2d(4, 6, 3, padding=1), False),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), False),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid", bias=False), True),
    "reflected": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), True),
    "transposed": (nn.ConvTranspose2d(4, 6, 3), False),
}


@pytest.mark.parametrize("name", AFTERS)
def test_the_layer_after(name):
    torch.manual_seed(0)
    conv, folds = AFTERS[name]
    plan, _ = assert_same(trained(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), conv)), torch.randn(2, 4, 7, 5))
    assert plan.counts == ({AFTER: 1} if folds else {"as it was": 1})
    norm = nn.BatchNorm2d(4)
    net = trained(nn.Sequential(nn.ReLU(), norm, conv))
    with torch.no_grad():
        norm.running_mean.zero_()
        norm.bias.zero_()
    plan, _ = assert_same(net, torch.randn(2, 4, 7, 5))
    assert plan.counts == {AFTER: 1}  # nothing is shifted


def test_both_sides_of_one_convolution():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6))
    plan, folded = assert_same(trained(net), torch.randn(2, 4, 7, 5))
    assert plan.counts == {BEFORE: 1, AFTER: 1}
    assert folded[2].bias is not None


def test_what_ends_with_an_activation_is_not_moved_past_it():
    import switchnorm

    net = nn.Sequential(nn.ReLU(), switchnorm.BatchNorm2d(4, activation="relu"), nn.Conv2d(4, 6, 1))
    plan, folded = assert_same(trained(net), torch.randn(2, 4, 7, 5))
    assert plan.counts == {"BatchNorm2d by constants": 1}
    assert [type(module) for module in folded[1]] == [nn.BatchNorm2d, nn.ReLU]


def test_linear_layers():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Flatten(), nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4))
    )
    plan, _ = assert_same(trained(net), torch.randn(3, 3, 2, 2))
    assert plan.counts == {BEFORE: 1, AFTER: 1}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_convolutions(dims):
    torch.manual_seed(0)
    conv = getattr(nn, f"ConvTranspose{dims}d")(4, 6, 3, stride=2, groups=2, output_padding=1, padding=1)
    net = nn.Sequential(conv, getattr(nn, f"BatchNorm{dims}d")(6))
    plan, _ = assert_same(trained(net), torch.randn(2, 4, *(5, 4, 3)[:dims]))
    assert plan.counts == {BEFORE: 1}


class Padded(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(nn.functional.pad(x, (1, 0, 1, 0)), self.weight, self.bias)


class Rescaled(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


class Clamped(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).clamp(-1, 1)


@pytest.mark.parametrize(("cls", "folds"), [(Padded, True), (Rescaled, False), (Clamped, False)])
def test_convolutions_with_a_forward_of_their_own(cls, folds):
    torch.manual_seed(0)
    plan, _ = assert_same(trained(nn.Sequential(cls(3, 4, 3), nn.BatchNorm2d(4))), torch.randn(2, 3, 7, 5))
    assert plan.counts == ({BEFORE: 1} if folds else {"as it was": 1})


class Same(nn.BatchNorm2d):
    def forward(self, x):
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Bounded(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).clamp(-6, 6)


@pytest.mark.parametrize(("cls", "folds"), [(Same, True), (Bounded, False)])
def test_normalizations_with_a_forward_of_their_own(cls, folds):
    torch.manual_seed(0)
    plan, _ = assert_same(trained(nn.Sequential(nn.Conv2d(3, 4, 3), cls(4))), 9 * torch.randn(2, 3, 7, 5))
    assert plan.counts == ({BEFORE: 1} if folds else {"as it was": 1})


def test_a_hooked_standardized_convolution_becomes_plain_all_the_same():
    torch.manual_seed(0)
    net = trained(switch(pair(), "gn+ws"))
    net[0].register_forward_hook(hook)
    plan, folded = assert_same(net, torch.randn(2, 3, 6, 5))
    assert type(folded[0]) is nn.Conv2d
    assert {change.after for change in plan.changes} == {"Conv2d(3, 6, 3x3)", "group norm"}


def test_two_names_of_one_layer():
    net = pair()
    net.add_module("again", net[1])
    plan = plan_fold(trained(net))
    assert plan.changes == [] or plan.changes[0].names == ("1", "again")


class ConvRelu(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class ConvBounded(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).clamp(-6, 6)


@pytest.mark.parametrize("cls", [ConvRelu, ConvBounded])
def test_a_convolution_that_ends_with_more(cls):
    torch.manual_seed(0)
    plan, _ = assert_same(trained(nn.Sequential(cls(3, 4, 3), nn.BatchNorm2d(4))), 20 * torch.randn(2, 3, 6, 5))
    assert f"is a {cls.__name__}, which computes more than Conv2d" in plan.left[0].reason


class Central(nn.Module):
    """A central-difference convolution, which computes with its weight past its call; or, with `choice`, does so where
    no symbol goes.
    """

    def __init__(self, choice: bool) -> None:
        super().__init__()
        self.conv, self.bn, self.choice = layers.WSConv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), choice

    def forward(self, x):
        if self.choice and x.sum() == 7:
            return x
        return self.bn(self.conv(x) - F.conv2d(x, self.conv.weight.sum((2, 3), keepdim=True)))


class Held(Central):
    def forward(self, x):
        conv = self.conv
        if x.sum() == 7:
            return x
        return self.bn(conv(x)) + conv.weight.mean()


@pytest.mark.parametrize("model", [Central(False), Central(True), Held(True)], ids=["seen", "unseen", "held"])
def test_a_standardized_weight_that_is_read_stays(model):
    model, x = trained(model.double()), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(fold(model)(x), model(x), rtol=1e-10, atol=1e-10)
    assert type(fold(model).conv) is layers.WSConv2d
