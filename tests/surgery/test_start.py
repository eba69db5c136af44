"""What a switch keeps of what a network has learned."""

from __future__ import annotations

import copy
import functools
import warnings

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.surgery import SwitchWarning, calibrate, harden, plan_switch, set_radius, switch
from switchnorm.surgery.start import ALONE, GROWTH, INSTANCE, OTHER, has_learned
from tests.data.photos import imagenet_sample, real_data
from tests.surgery.nets import small_net

SOURCE, SPARSE = [INSTANCE, OTHER, 1 - INSTANCE - OTHER], [ALONE, ALONE, 1 - 2 * ALONE]


class Digits:
    """A small network that has learned the digits, with others of them to look at."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        data = load_digits()
        x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(data.target)
        order = torch.randperm(len(x))
        self.x, self.y, self.test, self.truth = x[order[400:]], y[order[400:]], x[order[:400]], y[order[:400]]
        layers: list[nn.Module] = []
        for i, o in ((1, 12), (12, 18), (18, 24)):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))
        optimizer = torch.optim.Adam(self.net.parameters(), 0.01)
        for step in range(66):
            k = slice(step % 22 * 64, step % 22 * 64 + 64)
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(self.x[k]), self.y[k]).backward()
            optimizer.step()

    @torch.no_grad()
    def accuracy(self, net: nn.Module) -> float:
        """In %."""
        return 100 * float((net.eval()(self.test).argmax(1) == self.truth).double().mean())


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def one_sample(unbiased: bool) -> tuple[nn.Sequential, Tensor]:
    """A Batch Norm whose running statistics are those of one sample, and the sample: all else follows exactly."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 5, 7) * torch.rand(8, 1, 1) * 3 + torch.randn(8, 1, 1)
    norm = nn.BatchNorm2d(8, eps=1e-3).eval()
    norm.running_mean.copy_(x.mean((0, 2, 3)))
    norm.running_var.copy_(x.flatten(2).var(2, correction=int(unbiased))[0])
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm), x


def seen(channels: int = 6) -> nn.BatchNorm2d:
    """A Batch Norm that has seen a batch."""
    norm = nn.BatchNorm2d(channels)
    norm(torch.randn(4, channels, 5, 3))
    return norm


def shares(layer: nn.Module) -> list[list[float]]:
    return [each.tolist() for each in layer.importance()]


@pytest.mark.parametrize("spec", ["sn", "ssn", "bn"])
def test_a_trained_network_keeps_what_it_knows(digits, spec):
    before = digits.accuracy(digits.net)
    assert before > 90
    net = switch(copy.deepcopy(digits.net), spec)
    assert digits.accuracy(net) >= before - (0 if spec == "bn" else 2)
    if spec != "bn":
        equal = switch(copy.deepcopy(digits.net), spec, start="equal")
        assert shares(equal[1]) == [pytest.approx([1 / 3] * 3)] * 2
        assert digits.accuracy(equal) < before - 5, "so that the start can be seen to matter"


def test_so_does_one_with_imagenet_weights():
    """At most one of 50 pictures is lost, where with equal importance all are."""
    net = timm.create_model("tf_efficientnet_lite0")
    net.load_state_dict(load_file(real_data("weights") / "tf_efficientnet_lite0.safetensors"))
    resize = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    folders = sorted((imagenet_sample() / "val").iterdir())[::20]
    pictures = [Image.open(next(folder.iterdir())).convert("RGB") for folder in folders]
    x = torch.stack([v2.functional.pil_to_tensor(resize(picture)) for picture in pictures]) / 127.5 - 1

    @torch.no_grad()
    def right(model: nn.Module) -> int:
        return int((model.eval()(x).argmax(1) == torch.arange(0, 1000, 20)).sum())

    before = right(net)
    assert before >= 40
    assert right(switch(copy.deepcopy(net), "bn")) == before
    assert right(switch(copy.deepcopy(net), "sn")) >= before - 1
    assert right(switch(copy.deepcopy(net), "ssn")) >= before - 1
    assert right(switch(copy.deepcopy(net), "ln")) >= before - 10, "by scale and shift alone"


def test_every_logit_of_a_kept_function_learns(digits):
    for spec in ("sn", "ssn"):
        gradients = []
        for start in ("source", "equal"):
            net = switch(copy.deepcopy(digits.net), spec, start=start).train()
            y = net(digits.x[:32])
            torch.manual_seed(1)
            y.backward(torch.randn_like(y))
            logits = [p for layer in net for p in (getattr(layer, n, None) for n in ("mean_weight", "var_weight"))]
            gradients.append(torch.stack([p.grad for p in logits if p is not None]).abs().mean(0))
        # Softmax has p (1 - p): 0.015, 0.09 and 0.10 here, 0.22 where all are equal, and 0.0066 for logits (0, 0, 5).
        assert (gradients[0] > gradients[1] / 40).all(), spec


@pytest.mark.parametrize("spec", ["ln", "gn:2", "gn:4", "in", "sn", "ssn"])
def test_scale_and_shift_make_up_for_the_average_of_other_statistics(spec):
    net, x = one_sample(unbiased=spec in ("sn", "ssn"))
    expected = net(x)
    net = switch(net, spec)
    if hasattr(net[0], "statistics"):
        assert shares(net[0]) == [pytest.approx(SOURCE if spec == "sn" else SPARSE, rel=1e-5)] * 2
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_and_back_again():
    net, x = one_sample(unbiased=True)
    expected = net(x)
    weight = net[0].weight
    for spec, options in (
        ("sn", {}),
        ("bn", {}),
        ("ssn", {"statistics": ("group:2", "batch")}),
        ("sn", {"statistics": ("layer", "batch", "instance")}),
        ("bn", {"eps": 0.1}),
    ):
        net = switch(net, spec, **options)
        assert net[0].weight is weight
        torch.testing.assert_close(net(x), expected, rtol=1e-3, atol=1e-3) if "eps" not in options else None


def test_a_channel_that_is_nearly_constant_is_not_blown_up():
    norm = seen(4)
    norm.running_mean.copy_(torch.tensor([0.0, 1, 2, 3]))
    norm.running_var.copy_(torch.tensor([1.0, 1, 1, 0]))
    x = norm.running_mean[None, :, None, None].expand(2, 4, 3, 3).clone() + torch.randn(2, 4, 3, 3)
    x[:, 3] = 3
    norm.eval()
    net = switch(copy.deepcopy(norm), "ln")
    assert net.weight[3] == GROWTH
    assert (net.weight[:3] < 3).all()
    torch.testing.assert_close(net(x)[:, 3], norm(x)[:, 3], rtol=0, atol=2)


def test_auto_is_source_for_layers_that_show_signs_of_training():
    fresh = [nn.BatchNorm2d(6), nn.GroupNorm(1, 6), nn.InstanceNorm2d(6, affine=True), nn.InstanceNorm2d(6)]
    nn.init.zeros_(fresh[1].weight)  # as residual blocks start
    nn.init.constant_(fresh[2].bias, 1e-4)
    loaded = nn.BatchNorm2d(6)
    loaded.running_var.fill_(2)
    trained = nn.GroupNorm(1, 6)
    nn.init.normal_(trained.weight)
    no_average = nn.BatchNorm2d(6, track_running_stats=False)
    nn.init.normal_(no_average.bias)
    learned = [seen(), loaded, trained, no_average, FrozenBatchNorm2d(6)]
    assert [has_learned(layer) for layer in [*fresh, *learned]] == [False] * 3 + [None] + [True] * 5
    for layer in fresh:
        assert shares(switch(copy.deepcopy(layer), "sn")) == [pytest.approx([1 / 3] * 3)] * 2
        assert max(shares(switch(layer, "ssn", start="source"))[0]) > 0.85
    for layer in learned:
        source = ("layer" if isinstance(layer, nn.GroupNorm) else "batch",)
        net = switch(copy.deepcopy(layer), "sn")
        assert net.statistics[int(net.mean_weight.argmax())] == source[0]
        assert shares(switch(layer, "ssn", start="equal")) == [pytest.approx([1 / 3] * 3)] * 2


def test_a_scale_that_an_initialisation_drew_is_no_sign():
    """As generative networks have it; running statistics that have seen something tell."""
    norm = nn.BatchNorm2d(6)
    nn.init.normal_(norm.weight, 1, 0.02)
    assert has_learned(norm) is False
    assert shares(switch(copy.deepcopy(norm), "sn")) == [pytest.approx([1 / 3] * 3)] * 2
    norm(torch.randn(4, 6, 5, 3))
    assert has_learned(norm) is True


def test_layers_that_show_nothing_go_by_the_others():
    def net(*norms: nn.Module) -> nn.Sequential:
        return nn.Sequential(*(part for norm in norms for part in (nn.Conv2d(6, 6, 1), norm)))

    def bare() -> nn.Module:
        return nn.InstanceNorm2d(6)

    for other, expected in ((seen(), 0.98), (nn.BatchNorm2d(6), 1 / 3)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            switched = switch(net(bare(), other), "sn")
        assert shares(switched[1])[0][0] == pytest.approx(expected, abs=0.01)
    alone = net(bare(), bare())
    plan = plan_switch(alone, "ssn")
    assert {change.function.partition(":")[0] for change in plan.changes} == {"not known whether it was trained"}
    with pytest.warns(SwitchWarning, match="whether 2 layers were trained, .*; start='source' keeps"):
        assert shares(switch(copy.deepcopy(alone), "ssn")[1]) == [pytest.approx([1 / 3] * 3)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spec, start in (("ssn", "source"), ("sn", "equal"), ("gn", "auto")):
            switch(copy.deepcopy(alone), spec, start=start)


def trained_with(norm: nn.Module) -> tuple[nn.Sequential, Tensor]:
    """A network that has learned something with a normalization, and inputs."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 3))
    x = torch.randn(40, 3, 9, 8) * 0.1 + 0.3
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for part in x.split(8):
        optimizer.zero_grad()
        (net(part) - 1).square().mean().backward()
        optimizer.step()
    return net.eval(), x


@pytest.mark.parametrize(
    ("spec", "options"),
    [("bn", {"eps": 1e-5}), (nn.BatchNorm2d, {}), ("ssn", {"eps": 0.3, "statistics": ("instance", "batch")})],
)
def test_scale_and_shift_make_up_for_another_eps(spec: object, options: dict[str, object]) -> None:
    net, x = trained_with(nn.BatchNorm2d(8, eps=0.05))
    expected = net(x)
    (change,) = plan_switch(net, spec, **options).changes
    assert change.function.endswith(", scale and shift fitted")
    switch(net, spec, **options)
    if hasattr(net[1], "set_importance"):
        net[1].set_importance([1e-9, 1 - 1e-9], [1e-9, 1 - 1e-9])
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_a_plan_says_kept_only_where_all_of_the_function_is():
    net, x = trained_with(nn.BatchNorm2d(8, eps=1e-3))

    def function(spec: object, model: nn.Module = net, **options: object) -> str:
        plan = plan_switch(copy.deepcopy(model), spec, **options)
        kept = plan.changes[0].function.startswith("kept")
        alike = torch.allclose(plan.apply().eval()(x), model.eval()(x), 1e-3, 1e-3)
        assert kept == alike, "as it says"
        return plan.changes[0].function

    assert function("bn") == "kept"
    without = functools.partial(nn.BatchNorm2d, affine=False, eps=1e-3)
    assert function(without) == "changes: without weight and bias"
    assert function(functools.partial(nn.BatchNorm2d, affine=False)) == (
        "changes: eps 1e-05 in place of 0.001, without weight and bias"
    )
    forgetful = functools.partial(BatchNorm2d, track_running_stats=False, eps=1e-3)
    assert function(forgetful) == "changes: statistics of each batch in place of running ones"
    groups, _ = trained_with(nn.GroupNorm(2, 8))
    assert function("gn:2", groups, eps=0.5) == "changes: eps 0.5 in place of 1e-05"
    assert function("gn:2", groups) == "kept"
    fresh = nn.Sequential(nn.BatchNorm2d(6))
    (change,) = plan_switch(fresh, "bn", eps=0.1).changes
    assert change.function == "nothing to keep"


def test_an_instance_norm_that_evaluates_by_running_statistics_is_taken_for_what_it_is():
    net, x = trained_with(nn.InstanceNorm2d(8, affine=True, track_running_stats=True))
    expected = net(x)

    def switched(spec: str) -> tuple[str, Tensor]:
        plan = plan_switch(copy.deepcopy(net), spec)
        (change,) = plan.changes
        return change.function, (plan.apply()(x) - expected).abs().max()

    function, off = switched("bn")
    assert function == "kept"
    assert off < 1e-5
    function, off = switched("sn")
    assert function == "kept nearly (88 % batch), scale and shift fitted"
    assert off < 0.5 * expected.std()
    function, off = switched("in")
    assert function == "changes: instance in place of batch"
    assert off > 0.1
    net[1].track_running_stats = False  # it normalizes by what it sees from now on
    assert plan_switch(net, "in").changes[0].function == "kept"


def test_what_the_source_is():
    def start(old: nn.Module, **options: object) -> dict[str, float]:
        layer = switch(old, "sn", start="source", **options)
        return dict(zip(layer.statistics, shares(layer)[1], strict=True))

    small = pytest.approx(ALONE, rel=1e-4)
    assert start(nn.InstanceNorm2d(8)) == {"instance": pytest.approx(0.987, abs=1e-3), "layer": small, "batch": small}
    assert start(nn.GroupNorm(1, 8))["layer"] == pytest.approx(0.987, abs=1e-3)
    assert start(nn.GroupNorm(8, 8))["instance"] == pytest.approx(0.987, abs=1e-3)
    mixed = start(nn.GroupNorm(4, 8), statistics=("group:2", "group:4", "batch"))
    assert mixed["group:4"] == pytest.approx(0.987, abs=1e-3)
    assert start(nn.GroupNorm(4, 8)) == dict.fromkeys(("instance", "layer", "batch"), pytest.approx(1 / 3))
    many = start(seen(8), statistics=("group:2", "group:4", "layer", "instance", "batch"))
    assert many["batch"] > 0.7, "the others share what is left"


def test_importance_is_carried_and_not_logits():
    sparse = SparseSwitchNorm2d(6)
    with torch.no_grad():
        sparse.mean_weight.copy_(torch.tensor([1.0, 0, 0]))
        sparse.var_weight.copy_(torch.tensor([0.5, 0.2, 0.3]))
    logits = sparse.mean_weight
    harden(sparse)
    for soft in (switch(copy.deepcopy(sparse), "sn"), switch(copy.deepcopy(sparse), "sn", start="source")):
        assert shares(soft)[0] == pytest.approx([1, 0, 0], abs=0.015)
        assert shares(soft)[1] == pytest.approx([0.5, 0.2, 0.3])
        assert min(shares(soft)[0]) > 0.006
    again = switch(soft, "ssn")
    assert shares(again)[1] == pytest.approx([0.5, 0.2, 0.3])
    assert [float(again.radius), int(again.mean_fixed)] == [0, 0]
    assert switch(sparse, "ssn", eps=0.1).mean_weight is logits, "the same importance of the same logits"
    assert int(switch(sparse, "ssn", eps=0.2).mean_fixed) == 1


def test_importance_of_the_statistics_in_common_is_carried():
    for old, spec in ((SwitchNorm2d(8), "sn"), (SparseSwitchNorm2d(8), "ssn"), (SwitchNorm2d(8), "ssn")):
        old.set_importance([0.6, 0.1, 0.3], [0.2, 0.4, 0.4])
        layer = switch(old, spec, statistics=("batch", "instance"))
        assert shares(layer) == [pytest.approx([1 / 3, 2 / 3]), pytest.approx([2 / 3, 1 / 3])]
        more = switch(layer, spec, statistics=("group:2", "instance", "batch"))
        assert shares(more)[0] == pytest.approx([ALONE, (1 - ALONE) * 2 / 3, (1 - ALONE) / 3], rel=1e-5)


def test_a_projection_around_another_centre_keeps_the_importance():
    old = SparseSwitchNorm2d(6)
    old.set_importance([0.7, 0.3, 0], [0.1, 0.2, 0.7])
    set_radius(old, 0.3)
    before = shares(old)
    new = switch(old, "ssn", centre="simplex")
    assert shares(new) == [pytest.approx(each, abs=1e-6) for each in before]
    assert float(new.radius) == pytest.approx(0.3)


def test_the_plan_says_what_becomes_of_the_function():
    def function(old: nn.Module, spec: object, **options: object) -> str:
        (change,) = plan_switch(old, spec, **options).changes
        return change.function

    assert function(seen(), "bn") == "kept"
    assert function(seen(), "sn") == "kept nearly (88 % batch), scale and shift fitted"
    assert function(seen(), "ssn") == "kept nearly (99 % batch), scale and shift fitted"
    assert function(seen(), "sn", start="equal") == "changes: equal importance"
    assert function(nn.BatchNorm2d(6), "sn") == "nothing to keep"
    assert function(seen(), "in") == "changes: instance in place of batch"
    assert function(seen(), "gn:2") == "changes: group:2 in place of batch, scale and shift fitted"
    assert function(nn.GroupNorm(6, 6), "in") == "kept"
    assert function(nn.GroupNorm(2, 6), functools.partial(nn.GroupNorm, 2)) == "kept"
    assert function(seen(), "ibn").startswith("not known: InstanceBatchNorm2d")
    unseen = "; calibrate it before evaluation"
    assert function(nn.GroupNorm(1, 6), "sn", start="source") == f"kept nearly (99 % layer){unseen}"
    assert function(nn.GroupNorm(2, 6), "sn", start="source").endswith(f"in place of group:2{unseen}")
    net = nn.Sequential(nn.Conv2d(3, 6, 3), seen(), nn.ReLU(), seen())
    plan = plan_switch(net, "sn+ws")
    assert [change.function for change in plan.changes if change.function] == [
        "changes: standardized weights",
        "kept nearly (88 % batch), scale and shift fitted",
    ]
    assert "kept nearly" in str(plan)
    assert "\ncalibrate(model, batches, like=before) brings layers whose function changes nearer" in str(plan)
    assert "calibrate(" not in str(plan_switch(nn.Sequential(seen()), "sn"))


def test_an_unknown_start_is_refused_before_anything_changes():
    net = small_net()
    for call in (switch, plan_switch):
        with pytest.raises(InputError, match="start 'sorce' is unknown; did you mean 'source'"):
            call(net, "sn", start="sorce")
    assert type(net[1]) is nn.BatchNorm2d


def test_scales_that_cannot_be_written_stay():
    tied = nn.Sequential(seen(), seen())
    tied[1].weight = tied[0].weight
    plain, inference = seen(), seen()
    plain.weight = plain.bias = None
    with torch.inference_mode():
        inference.weight = nn.Parameter(torch.ones(6))
    for net in (tied, nn.Sequential(plain), nn.Sequential(inference)):
        switch(net, "sn")
        assert max(shares(net[0])[0]) == pytest.approx(0.987, abs=1e-3)
    assert tied[0].weight is tied[1].weight
    assert torch.equal(tied[0].weight, torch.ones(6))
    for start in ("auto", "source"):
        meta = switch(nn.BatchNorm2d(6, device="meta"), "sn", start=start)
        assert meta.weight.device.type == "meta"


def test_half_precision_and_frozen_constants():
    old = FrozenBatchNorm2d(6)
    for buffer in old.buffers():
        buffer.copy_(torch.rand(6) + 0.5)
    new = switch(copy.deepcopy(old).half(), "sn").eval()
    assert {t.dtype for t in new.state_dict().values() if t.is_floating_point()} == {torch.float16}
    x = torch.randn(2, 6, 40, 40) * old.running_var.sqrt()[:, None, None] + old.running_mean[:, None, None]
    torch.testing.assert_close(new(x.half()).float(), old(x), rtol=0.1, atol=0.1)


def test_networks_of_one_s_own_start_equal_and_settings_leave_values():
    for name, norm in (("resnet18", "ssn"), ("cifar_resnet20", "sn"), ("timm:resnet10t", "sn")):
        made = switchnorm.create_model(name, norm=norm, num_classes=3)
        logits = [p for key, p in made.named_parameters() if key.endswith(("mean_weight", "var_weight"))]
        assert logits
        assert all(torch.equal(each, torch.ones(3)) for each in logits)
    for start in ("auto", "equal"):
        assert torch.equal(switch(nn.BatchNorm2d(6), "sn", start=start).var_weight, torch.ones(3))
    net = nn.Sequential(seen())
    before = copy.deepcopy(net.state_dict())
    switchnorm.sync(switchnorm.ghost(switchnorm.ghost(net, 2), None), True)
    assert type(net[0]) is BatchNorm2d
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_running_statistics_that_saw_nothing_need_calibration(digits):
    """A Group Norm's successor that mixes the batch evaluates by running statistics, which calibration gives."""
    old = switch(copy.deepcopy(digits.net), "ln")
    calibrate(old, digits.x.split(200), like=digits.net)
    before = digits.accuracy(old)
    net = switch(copy.deepcopy(old), "sn")
    calibrate(net, digits.x.split(200))
    assert digits.accuracy(net) > before - 4
