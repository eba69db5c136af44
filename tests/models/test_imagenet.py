import json
from itertools import product
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

import switchnorm
from switchnorm import surgery
from switchnorm.errors import InputError
from switchnorm.models.blocks import PreActivationBlock, ResidualBlock

RECORDS = Path(__file__).parents[1] / "golden"


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def unlabelled(key: str) -> str:
    """The key in a network whose normalizations are called bn."""
    return ".".join("bn" + part[2:] if part.startswith("sn") else part for part in key.split("."))


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *product(["resnetv1sn18", "resnetv2sn18", "l_resnet18"], ["bn", "gn", "sn", "ssn", "gn+ws"]),
        *product(["l_resnext50", "resnetv2sn50"], ["bn", "ssn+ws"]),
        *product(["resnetv1ssn18"], [None, "in", "ln", "gn:8", "ssn+ws"]),
    ],
)
def test_every_network_takes_every_norm(name, norm):
    model = switchnorm.create_model(name, norm=norm, num_classes=7)
    assert model.training
    with torch.no_grad():
        for logits in (model(torch.randn(2, 3, 64, 64)), model.eval()(torch.randn(1, 3, 33, 47))):
            assert logits.shape == (len(logits), 7)
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["resnetv1sn18", "resnetv2sn18", "resnetv2ssn50", "l_resnext50"])
def test_a_step_of_training_lowers_the_loss(name):
    model = switchnorm.create_model(name, num_classes=4, dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    before = F.cross_entropy(model(images), labels)
    before.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    optimizer.step()
    assert F.cross_entropy(model(images), labels) < before


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        *product(["resnetv1sn"], [18, 34, 50, 101, 152]),
        ("resnetv1ssn", 34),
        *product(["l_resnet"], [18, 34, 50, 101, 152]),
    ],
)
def test_with_batch_norm_the_layout_is_that_of_he_et_al(name, depth):
    with torch.device("meta"):
        ours = switchnorm.create_model(f"{name}{depth}", norm="bn")
        theirs = torchvision.models.get_model(f"resnet{depth}")
    assert {unlabelled(key): shape for key, shape in shapes(ours).items()} == shapes(theirs)


@pytest.mark.parametrize(
    ("depth", "blocks", "width", "groups"),
    [
        *((50, [3, 4, 6, 3], *shape) for shape in ((4, 32), (8, 16), (5, 3), (64, 1), (1, 1))),
        (101, [3, 4, 23, 3], 4, 32),
        (152, [3, 8, 36, 3], 4, 32),
    ],
)
def test_with_batch_norm_the_layout_is_that_of_xie_et_al(depth, blocks, width, groups):
    """Which bearpaw/pytorch-classification's resnext50, resnext101 and resnext152 have as well."""
    options = {} if (width, groups) == (4, 32) else {"base_width": width, "cardinality": groups}
    with torch.device("meta"):
        ours = switchnorm.create_model(f"l_resnext{depth}", norm="bn", **options)
        theirs = torchvision.models.ResNet(Bottleneck, blocks, groups=groups, width_per_group=width)
        named = switchnorm.create_model(f"resnet{depth}", groups=groups, width_per_group=width)
    assert shapes(ours) == shapes(theirs) == shapes(named)
    inner = ours.layer3[0].conv2
    assert (inner.out_channels, inner.groups) == (256 * width // 64 * groups, groups)


@pytest.mark.parametrize(
    ("name", "norm", "count"),
    [
        # Computed once by joe-siyuan-qiao/pytorch-classification's models/imagenet/resnext.py.
        ("l_resnext50", "gn+ws", 25028904),
        ("l_resnext152", "gn+ws", 59951400),
        ("l_resnext50", "bn", 25028904),
    ],
)
def test_sizes_of_the_published_networks(name, norm, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in switchnorm.create_model(name, norm=norm).parameters()) == count


def perturbed(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model, so that no scale is 1 and no statistic 0; variances stay positive."""
    state = model.state_dict()
    for value in state.values():
        if value.is_floating_point() and value.dim() == 1:
            value.add_(torch.rand_like(value), alpha=0.1)
    return state


@pytest.mark.parametrize(
    ("name", "builder"),
    [("resnetv1sn18", "resnet18"), ("resnetv1sn50", "resnet50"), ("l_resnext50", "resnext50_32x4d")],
)
def test_with_batch_norm_it_computes_what_torchvision_does(name, builder):
    theirs = torchvision.models.get_model(builder, num_classes=5).eval()
    ours = switchnorm.create_model(name, norm="bn", num_classes=5).eval()
    state = perturbed(theirs)
    ours.load_state_dict({key: state[unlabelled(key)] for key in ours.state_dict()})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def timm_key(key: str) -> str:
    """timm's key for a parameter of our stages."""
    stage, block, *rest = key.split(".")
    rest[0] = rest[0].replace("sn", "norm")
    rest[0] = "downsample.conv" if rest[0] == "downsample" else rest[0]
    return ".".join((str(int(stage[-1]) - 1), "blocks", block, *rest))


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_pre_activated_stages_are_those_of_timm(depth):
    with torch.device("meta"):
        theirs = timm.create_model(f"resnetv2_{depth}").stages
        ours = switchnorm.create_model(f"resnetv2sn{depth}", norm="bn")
    stages = {key: shape for key, shape in shapes(ours).items() if key.startswith("layer")}
    assert {timm_key(key): shape for key, shape in stages.items()} == shapes(theirs)
    if depth > 50:
        return
    theirs, ours = theirs.to_empty(device="cpu").eval(), ours.to_empty(device="cpu").eval()
    for key, value in theirs.state_dict().items():
        torch.nn.init.uniform_(value, 0.5, 1) if "norm" in key and value.is_floating_point() else None
        torch.nn.init.normal_(value, std=0.05) if value.dim() > 1 else None
    ours_stages = nn.ModuleDict({f"layer{i}": getattr(ours, f"layer{i}") for i in range(1, 5)})
    state = theirs.state_dict()
    ours_stages.load_state_dict({key: state[timm_key(key)] for key in ours_stages.state_dict()})
    x = torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        expected = theirs(x)
        found = ours.layer4(ours.layer3(ours.layer2(ours.layer1(x))))
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_all_names_share_one_layout_and_differ_in_the_norm_alone():
    def names(name: str, norm: str | None) -> set[str]:
        with torch.device("meta"):
            return {key for key, _ in switchnorm.create_model(name, norm=norm).named_modules()}

    assert names("resnetv1sn50", None) == names("resnetv1ssn50", None) == names("resnetv1sn50", "gn+ws")
    assert names("resnetv2sn50", None) == names("resnetv2ssn50", None) == names("resnetv2sn50", "bn")
    assert names("l_resnet50", None) == names("l_resnet50", "ssn") == names("l_resnext50", None)


@pytest.mark.parametrize("statistics", [("instance", "layer"), ["instance", "layer"], "instance,layer"])
@pytest.mark.parametrize("name", ["resnetv1sn18", "resnetv1ssn50", "resnetv2sn18"])
def test_published_keys_without_the_batch_statistic(name, statistics):
    with torch.device("meta"):
        model = switchnorm.create_model(name, statistics=statistics)
    published = json.loads((RECORDS / f"{name}.keys.json").read_text())
    expected = {key for key in published if "running_" not in key}
    assert set(model.state_dict()) == expected
    mixing = {tuple(v.shape) for k, v in model.state_dict().items() if k.endswith(("mean_weight", "var_weight"))}
    assert mixing == {(2,)}


def test_without_the_batch_statistic_a_sample_is_alone_in_training_too():
    model = switchnorm.create_model("resnetv1sn18", statistics="instance,layer", dropout=0.0)
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[:1], model(x[:1]), atol=1e-5, rtol=1e-5)


def last_scales(model: nn.Module) -> Tensor:
    return torch.cat([block.pair(-1)[1].weight for block in model.modules() if isinstance(block, ResidualBlock)])


@pytest.mark.parametrize(("name", "zero"), [("resnetv1sn18", True), ("resnetv1ssn18", True), ("l_resnet18", False)])
def test_last_gamma(name, zero):
    assert (last_scales(switchnorm.create_model(name)) == (0 if zero else 1)).all()
    assert (last_scales(switchnorm.create_model(name, last_gamma=not zero)) == (1 if zero else 0)).all()


def test_with_last_gamma_a_block_begins_as_its_shortcut():
    block = switchnorm.create_model("resnetv1sn18").layer1[1]
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(block(x), x.relu())


def test_other_scales_and_shifts_begin_as_usual():
    model = switchnorm.create_model("resnetv2sn18")
    norms = [m for m in model.modules() if isinstance(m, switchnorm.SwitchNorm2d)]
    assert len(norms) == 18
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize(
    "name", ["resnetv1sn18", "resnetv1ssn18", "resnetv2sn18", "resnetv2ssn18", "l_resnet18", "l_resnext50"]
)
def test_dropout_as_published_unless_given(name):
    with torch.device("meta"):
        assert switchnorm.create_model(name).dropout.p == (0.0 if name.startswith("l_") else 0.5)
        assert switchnorm.create_model(name, dropout=0.2).dropout.p == 0.2


@pytest.mark.parametrize("name", ["resnetv1sn18", "resnetv2sn18"])
def test_dropout_acts_on_the_features_in_training_alone(name):
    model = switchnorm.create_model(name, norm="gn", dropout=1.0)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x)[0], model.fc.bias)
        assert not torch.equal(model.eval()(x)[0], model.fc.bias)


def test_convolutions_start_by_what_leaves_them():
    for name in ("resnetv1sn18", "l_resnext50"):
        for module in switchnorm.create_model(name).modules():
            if isinstance(module, nn.Conv2d):
                expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
                # Five times what a deviation of so many numbers deviates.
                assert abs(float(module.weight.detach().std()) / expected - 1) < 5 / (2 * module.weight.numel()) ** 0.5


def test_the_stem_of_ssn_pads_its_pooling_at_the_end_alone():
    x = torch.arange(49.0).reshape(1, 1, 7, 7).repeat(1, 64, 1, 1)
    with torch.device("meta"):
        sn, ssn, v2 = (switchnorm.create_model(n).maxpool for n in ("resnetv1sn18", "resnetv1ssn18", "resnetv2ssn18"))
    assert sn(x)[0, 0, 0].tolist() == v2(x)[0, 0, 0].tolist() == [8, 10, 12, 13]
    assert ssn(x)[0, 0, 0].tolist() == [16, 18, 20]
    assert ssn(x[..., :6])[0, 0, 0].tolist() == [16, 18, 19]


def test_a_pre_activated_shortcut_is_rectified_only_where_it_is_projected():
    layer = switchnorm.create_model("resnetv2sn18", norm="bn").eval().layer2
    first, second = layer
    assert isinstance(first, PreActivationBlock)
    for block in layer:
        nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        projected = first(x)
        torch.testing.assert_close(projected, first.downsample(first.sn1(x).relu()))
        assert torch.equal(second(projected), projected)


@pytest.mark.parametrize(("name", "fused", "left"), [("resnetv1sn18", 17, 3), ("resnetv2sn18", 18, 0)])
def test_fusing_keeps_what_the_network_computes(name, fused, left):
    model = switchnorm.create_model(name, num_classes=5).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
        plan = surgery.plan_fuse(model)
        assert (len(plan.changes), len(plan.left)) == (fused, left)
        torch.testing.assert_close(plan.apply()(x), before, atol=1e-5, rtol=1e-5)


def test_switching_one_of_these_gives_the_other():
    switched = surgery.switch(switchnorm.create_model("resnetv2sn18"), "bn")
    built = switchnorm.create_model("resnetv2sn18", norm="bn")
    assert repr(switched) == repr(built)
    assert shapes(switched) == shapes(built)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnetv1sn42"}, "depth 42 has no layout; the nearest valid depth is 34"),
        ({"name": "resnetv2ssn1000"}, "depth 1000 has no layout; the nearest valid depth is 152"),
        ({"name": "l_resnext18"}, "depth 18 has no layout; the nearest valid depth is 50"),
        ({"name": "l_resnext34", "cardinality": 1}, "depth 34 has no layout; the nearest valid depth is 50"),
        ({"name": "l_resnext50", "cardinality": 0}, "cardinality 0 is impossible; the nearest valid number is 1"),
        ({"name": "l_resnext50", "base_width": -4}, "base_width -4 is impossible; the nearest valid number is 1"),
        ({"name": "l_resnext50", "base_width": 4.5}, "option 'base_width' of 'l_resnext50' takes a int, got 4.5"),
        ({"name": "l_resnext50", "cardinality": True}, "option 'cardinality' of 'l_resnext50' takes a int, got True"),
        (
            {"name": "l_resnext50", "base_with": 4},
            "option of 'l_resnext50' 'base_with' is unknown; did you mean 'base_width'",
        ),
        (
            {"name": "resnetv1sn18", "dropuot": 0.2},
            "option of 'resnetv1sn18' 'dropuot' is unknown; did you mean 'dropout'?",
        ),
        ({"name": "resnetv1sn18", "dropout": "half"}, "option 'dropout' of 'resnetv1sn18' takes a float, got 'half'"),
        ({"name": "resnetv1sn18", "dropout": 2}, "model 'resnetv1sn18' cannot be built with dropout=2: dropout prob"),
        ({"name": "resnetv1sn18", "last_gamma": "no"}, "option 'last_gamma' of 'resnetv1sn18' takes a bool, got 'no'"),
        ({"name": "resnetv2sn18", "last_gamma": True}, "option of 'resnetv2sn18' 'last_gamma' is unknown"),
        ({"name": "resnetv1sn18", "groups": 2}, "option of 'resnetv1sn18' 'groups' is unknown"),
        ({"name": "resnetv1sn18", "statistics": "instance,layr"}, "statistic 'layr' is unknown; did you mean 'layer'?"),
        ({"name": "resnetv1sn18", "statistics": []}, "statistics is empty; choose from"),
        ({"name": "resnetv1sn18", "statistics": 3}, "statistics are names such as 'instance,layer', not 3"),
        (
            {"name": "l_resnet50", "statistics": "layer"},
            "mixed by 'sn' and 'ssn', not by 'gn+ws'; leave statistics out",
        ),
    ],
)
def test_what_makes_no_network_is_named(arguments, message):
    with pytest.raises(InputError) as caught:
        switchnorm.create_model(**arguments)
    assert message in str(caught.value)
