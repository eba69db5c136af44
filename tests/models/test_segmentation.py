"""Networks for semantic segmentation: the published records, plain references of each part, and the contract."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import switchnorm
from switchnorm import surgery
from switchnorm.errors import InputError
from switchnorm.layers import Spec, WSConv2d
from switchnorm.models.segmentation import FAMILIES
from switchnorm.models.segmentation.decoders import C1, PyramidPooling, UPerNet
from switchnorm.models.segmentation.encoder import Encoder
from switchnorm.surgery.graph import wire
from switchnorm.weights import load_published
from tests import golden

RECORDS = Path(__file__).parents[1] / "golden"
PUBLISHED = "ade_resnet50_dilated8_c1_bilinear_deepsup"
NAME = "resnet50_dilated8+c1_bilinear_deepsup"
#: A pairing of each decoder, with the smallest encoder.
DECODERS = ("c1_bilinear", "c1_bilinear_deepsup", "ppm_bilinear", "ppm_bilinear_deepsup", "upernet", "upernet_lite")


def perturbed(model: nn.Module) -> nn.Module:
    """The model, so that no scale is 1 and no statistic 0; variances stay positive."""
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.add_(torch.rand_like(value), alpha=0.2)
    return model


# --- the published records ---


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, Tensor], nn.Module]:
    """The record's state, and a network without it."""
    keys = json.loads((RECORDS / f"{PUBLISHED}.keys.json").read_text())
    with torch.device("meta"):
        model = switchnorm.create_model(NAME, norm="sn")
    return golden.state_dict(keys), model.to_empty(device="cpu")


def save(state: dict[str, Tensor], part: str, folder: Path) -> Path:
    """A file of one part of a network, as it was published."""
    file = folder / f"{part}.pth"
    torch.save({k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}, file)
    return file


@pytest.mark.parametrize("files", ["one", "pair"])
def test_published_checkpoints_give_the_published_numbers(files, published, tmp_path):
    state, model = published
    for value in model.state_dict().values():
        value.fill_(0)
    if files == "pair":
        load_published(model, save(state, "encoder", tmp_path), save(state, "decoder", tmp_path))
    else:
        torch.save(state, tmp_path / "whole.pth")
        load_published(model, tmp_path / "whole.pth")
    for file in tmp_path.iterdir():
        file.unlink()  # pytest keeps its folders for a while, and these files are large.
    loss, test = (np.load(RECORDS / f"{PUBLISHED}_{part}.npz") for part in ("loss", "probabilities"))
    assert sum(p.numel() for p in model.parameters()) == loss["parameters"] == test["parameters"]
    model.eval()
    model.decoder.training = True  # The record has both branches in evaluation mode.
    with torch.no_grad():
        logits = model(golden.images(int(loss["batch"]), int(loss["size"])))
        alone = model.eval()(golden.images(int(test["batch"]), int(test["size"])))
    for name, record in (("out", "log_probabilities"), ("aux", "log_probabilities_deep_supervision")):
        expected = torch.from_numpy(loss[record])
        found = logits[name].log_softmax(1)
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert list(alone) == ["out"]
    found = F.interpolate(alone["out"], (90, 110), mode="bilinear", align_corners=False).softmax(1)[..., ::2, ::2]
    recorded = test["probabilities_90x110_half"]
    # Half precision rounds by half a unit in the last place.
    allowed = np.spacing(recorded).astype(np.float64) / 2 + 1e-5 * float(recorded.max())
    assert (np.abs(found.double().numpy() - recorded) <= allowed).all()


def test_keys_are_the_published_ones_in_their_order(published):
    state, model = published
    ours = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert ours == list(state)


@pytest.mark.parametrize(
    ("decoder", "keys"),
    [
        (
            "ppm_bilinear_deepsup",
            "ppm.0.1.weight ppm.3.2.bias cbr_deepsup.0.weight cbr_deepsup.1.weight conv_last.0.weight "
            "conv_last.1.weight conv_last.4.weight conv_last.4.bias conv_last_deepsup.weight",
        ),
        (
            "upernet",
            "ppm_conv.0.0.weight ppm_conv.3.1.bias ppm_last_conv.0.weight ppm_last_conv.1.weight fpn_in.0.0.weight "
            "fpn_in.2.1.weight fpn_out.0.0.0.weight fpn_out.2.0.1.bias conv_last.0.0.weight conv_last.0.1.weight "
            "conv_last.1.weight conv_last.1.bias",
        ),
    ],
)
def test_decoders_have_the_published_keys(decoder, keys):
    with torch.device("meta"):
        state = switchnorm.create_model(f"resnet50+{decoder}", norm="sn").state_dict()
    assert {f"decoder.{key}" for key in keys.split()} <= set(state)
    if decoder == "upernet":
        shapes = {key: tuple(state[f"decoder.{key}.weight"].shape) for key in ("ppm_last_conv.0", "fpn_in.2.0")}
        assert shapes == {"ppm_last_conv.0": (512, 2048 + 4 * 512, 3, 3), "fpn_in.2.0": (512, 1024, 1, 1)}


# --- plain references ---


@pytest.mark.parametrize(("stride", "replaced"), [(32, (False,) * 3), (16, (0, 0, 1)), (8, (0, 1, 1))])
def test_encoders_compute_what_torchvision_s_dilated_networks_do(stride, replaced):
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[bool(each) for each in replaced])
    state = perturbed(theirs).eval().state_dict()
    ours = Encoder(50, stride, Spec("bn")).eval()
    ours.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    x = torch.randn(1, 3, 65, 49)
    with torch.no_grad():
        maps = ours(x)
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for found, layer in zip(maps, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
            y = layer(y)
            torch.testing.assert_close(found, y, atol=1e-5 * float(y.abs().max()), rtol=0)
    assert maps[3].shape == (1, 2048, -(-65 // stride), -(-49 // stride))


def test_dilation_in_blocks_of_two_convolutions():
    # The strided convolution keeps half of its stage's dilation, and only that one.
    encoder = Encoder(18, 8, Spec("bn"))
    for stage, expected in (
        (encoder.layer2, [1, 1, 1, 1]),
        (encoder.layer3, [1, 2, 2, 2]),
        (encoder.layer4, [2, 4, 4, 4]),
    ):
        convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert [conv.dilation[0] for conv in convs] == [conv.padding[0] for conv in convs] == expected
    assert [m.stride for m in encoder.layer4.modules() if isinstance(m, nn.Conv2d)] == [(1, 1)] * 5


CHANNELS = (6, 8, 12, 20)


def stage_maps(dilated: bool) -> list[Tensor]:
    sides = [(9, 11), (5, 6), (5, 6), (5, 6)] if dilated else [(18, 22), (9, 11), (5, 6), (3, 3)]
    return [torch.randn(2, channels, *side) for channels, side in zip(CHANNELS, sides, strict=True)]


class Plain:
    """Functions of a decoder's state, with running statistics."""

    def __init__(self, decoder: nn.Module) -> None:
        self.state = decoder.state_dict()

    def layer(self, conv: str, norm: str, x: Tensor) -> Tensor:
        """Convolution without bias, Batch Norm, ReLU."""
        weight = self.state[f"{conv}.weight"]
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            self.state[f"{norm}.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
        )
        return torch.relu((y - mean) / torch.sqrt(var + 1e-5) * scale + shift)

    def classifier(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def bilinear(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def averaged(x: Tensor, side: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, side)


def plain_c1(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    return {
        "out": net.classifier("conv_last", net.layer("cbr.0", "cbr.1", maps[3])),
        "aux": net.classifier("conv_last_deepsup", net.layer("cbr_deepsup.0", "cbr_deepsup.1", maps[2])),
    }


def plain_pyramid_pooling(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    last = maps[3]
    parts = [last]
    for i, side in enumerate((1, 2, 3, 6)):
        parts.append(bilinear(net.layer(f"ppm.{i}.1", f"ppm.{i}.2", averaged(last, side)), last))
    y = net.layer("conv_last.0", "conv_last.1", torch.cat(parts, 1))
    supervised = net.layer("cbr_deepsup.0", "cbr_deepsup.1", maps[2])
    return {"out": net.classifier("conv_last.4", y), "aux": net.classifier("conv_last_deepsup", supervised)}


def plain_upernet(net: Plain, maps: list[Tensor]) -> dict[str, Tensor]:
    last = maps[3]
    parts = [last]
    for i, side in enumerate((1, 2, 3, 6)):
        parts.append(net.layer(f"ppm_conv.{i}.0", f"ppm_conv.{i}.1", bilinear(averaged(last, side), last)))
    top = net.layer("ppm_last_conv.0", "ppm_last_conv.1", torch.cat(parts, 1))
    outs = {3: top}
    for i in (2, 1, 0):
        top = net.layer(f"fpn_in.{i}.0", f"fpn_in.{i}.1", maps[i]) + bilinear(top, maps[i])
        outs[i] = net.layer(f"fpn_out.{i}.0.0", f"fpn_out.{i}.0.1", top)
    y = torch.cat([outs[0], *(bilinear(outs[i], outs[0]) for i in (1, 2, 3))], 1)
    return {"out": net.classifier("conv_last.1", net.layer("conv_last.0.0", "conv_last.0.1", y))}


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize(
    ("build", "plain"),
    [
        (lambda: C1(CHANNELS, Spec("bn"), 7, deep_supervision=True), plain_c1),
        (
            lambda: PyramidPooling(CHANNELS, Spec("bn"), 7, deep_supervision=True, dropout=0.1),
            plain_pyramid_pooling,
        ),
        (lambda: UPerNet(CHANNELS, Spec("bn"), 7, width=16), plain_upernet),
    ],
    ids=["c1", "ppm", "upernet"],
)
def test_decoders_compute_what_plain_functions_do(build, plain, dilated):
    decoder, maps = perturbed(build()).eval(), stage_maps(dilated)
    expected = plain(Plain(decoder), maps)
    with torch.no_grad():
        assert list(decoder(maps)) == ["out"]
        decoder.training = True  # Its normalizations and dropout stay in evaluation mode.
        found = decoder(maps)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5 * float(value.abs().max()), rtol=0)
    assert found["out"].shape[2:] == maps[0 if isinstance(decoder, UPerNet) else 3].shape[2:]


# --- the contract ---


def test_every_pairing_is_listed():
    listed = [name for family in FAMILIES for name in family.names]
    encoders = [f"resnet{d}{s}" for d in (18, 34, 50, 101, 152) for s in ("", "_dilated16", "_dilated8")]
    assert sorted(listed) == sorted(f"{encoder}+{decoder}" for encoder, decoder in product(encoders, DECODERS))
    assert switchnorm.list_models("resnet34_dilated8+*") == [f"resnet34_dilated8+{decoder}" for decoder in DECODERS]


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_encoders_have_the_layout_of_torchvision_s_networks(depth):
    with torch.device("meta"):
        ours = switchnorm.create_model(f"resnet{depth}_dilated8+c1_bilinear").encoder.state_dict()
        theirs = torchvision.models.get_model(f"resnet{depth}").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stride", ["", "_dilated16", "_dilated8"])
def test_logits_are_at_the_decoder_s_own_size(stride, decoder):
    with torch.device("meta"):
        model = switchnorm.create_model(f"resnet18{stride}+{decoder}", norm="gn", num_classes=5)
        logits = model(torch.empty(2, 3, 70, 100))
        reduced = 4 if decoder.startswith("upernet") else int(stride.removeprefix("_dilated") or 32)
        expected = {"out": (2, 5, -(-70 // reduced), -(-100 // reduced))}
        if decoder.endswith("_deepsup"):
            expected["aux"] = (2, 5, *model.encoder(torch.empty(2, 3, 70, 100))[2].shape[2:])
        assert {name: tuple(value.shape) for name, value in logits.items()} == expected
        assert list(model.eval()(torch.empty(1, 3, 70, 100))) == ["out"]


#: Every norm with two samples, and with one where statistics allow it.
GEOMETRIES = [
    *product(["c1_bilinear_deepsup", "ppm_bilinear_deepsup"], ["bn", "gn", "ln", "in", "sn", "ssn", "ssn+ws"], [2]),
    *product(["ppm_bilinear_deepsup"], ["gn", "ln", "in", "sn", "ssn", "gn+ws"], [1]),
    *product(["upernet_lite"], ["bn", "sn", "ssn+ws", "gn"], [2]),
    *product(["upernet_lite"], ["sn", "ssn", "ln"], [1]),
]


@pytest.mark.parametrize(("decoder", "norm", "samples"), GEOMETRIES)
def test_every_norm_trains_in_encoder_and_decoder_and_nothing_is_nan(decoder, norm, samples):
    model = switchnorm.create_model(f"resnet18+{decoder}", norm=norm, num_classes=4)
    logits = model(torch.randn(samples, 3, 32, 32))  # Whose last map is a single pixel.
    losses = [F.cross_entropy(y, torch.zeros(samples, *y.shape[2:], dtype=torch.long)) for y in logits.values()]
    torch.stack(losses).sum().backward()
    assert all(loss.isfinite() for loss in losses)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 32, 32))["out"].isfinite().all()


def test_batch_norm_of_a_single_picture_is_refused_where_it_is_pooled_to_a_pixel():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear", norm="bn")
    with pytest.raises(
        InputError, match=r"more than one element per channel, got input \(1, 512, 1, 1\); use 2 or more"
    ):
        model(torch.randn(1, 3, 64, 64))
    assert model.eval()(torch.randn(1, 3, 64, 64))["out"].isfinite().all()


def test_evaluation_does_no_work_for_the_deep_supervision():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear_deepsup", norm="gn", num_classes=3)
    calls = []
    model.decoder.cbr_deepsup.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        model.eval()(x)
        assert calls == []
        model.train()(x)
    assert calls == [1]


@pytest.mark.parametrize("decoder", DECODERS)
def test_standardized_are_the_convolutions_that_feed_a_normalization(decoder):
    with torch.device("meta"):
        model = switchnorm.create_model(f"resnet18+{decoder}", norm="gn+ws")
        switched = surgery.switch(switchnorm.create_model(f"resnet18+{decoder}", norm="bn"), "gn+ws")
    wiring = wire(model)
    assert wiring.method == "tracing"
    standardized = {m for m in model.modules() if isinstance(m, WSConv2d)}
    assert standardized == set(wiring.feeds)
    plain = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m not in standardized]
    assert plain
    assert all(name.startswith("decoder.conv_last") for name in plain)
    assert repr(switched) == repr(model)


@pytest.mark.parametrize(
    ("norm", "label"), [(None, "bn"), ("gn", "bn"), ("ln+ws", "bn"), ("sn", "sn"), ("ssn", "sn"), ("sn+ws", "sn")]
)
def test_normalizations_are_called_as_published(norm, label):
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18_dilated8+c1_bilinear", norm=norm)
    keys = set(model.state_dict())
    assert {
        f"encoder.{label}1.weight",
        f"encoder.layer1.0.{label}2.weight",
        "encoder.layer2.0.downsample.1.weight",
    } <= keys
    assert not [key for key in keys if f".{'bn' if label == 'sn' else 'sn'}1." in key]
    assert "decoder.conv_last.weight" in keys
    assert "encoder.fc.weight" not in keys
    assert model.decoder.conv_last.out_channels == 150


def test_the_statistics_that_are_asked_for_are_mixed_everywhere():
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18+upernet", norm="sn", statistics="instance,layer")
    assert {m.statistics for m in model.modules() if isinstance(m, switchnorm.SwitchNorm2d)} == {("instance", "layer")}


@pytest.mark.parametrize("decoder", ["c1_bilinear", "ppm_bilinear_deepsup", "upernet_lite"])
def test_convolutions_start_as_published(decoder):
    model = switchnorm.create_model(f"resnet18+{decoder}", num_classes=20)
    for key, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            channels = module.in_channels if key.startswith("decoder.") else module.out_channels
            expected = (2 / (module.kernel_size[0] ** 2 * channels)) ** 0.5
            # Five times what a deviation of so many numbers deviates.
            tolerance = 5 / (2 * module.weight.numel()) ** 0.5
            assert abs(float(module.weight.detach().std()) / expected - 1) < tolerance, key
            assert module.bias is None or not module.bias.any(), key


def test_dropout_as_published_unless_given():
    with torch.device("meta"):
        for options, expected in (({}, [0.1, 0.1]), ({"dropout": 0.3}, [0.3, 0.3])):
            model = switchnorm.create_model("resnet18+ppm_bilinear_deepsup", **options)
            assert [m.p for m in model.modules() if isinstance(m, nn.Dropout2d)] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet50_dilated4+upernet"}, "output stride 4 is impossible; the nearest valid stride is 8"),
        ({"name": "resnet50_dilated0+ppm_bilinear"}, "output stride 0 is impossible; the nearest valid stride is 8"),
        ({"name": "resnet50_dilated20+upernet"}, "output stride 20 is impossible; the nearest valid stride is 16"),
        ({"name": "resnet42+c1_bilinear"}, "depth 42 has no layout; the nearest valid depth is 34"),
        (
            {"name": "resnet50+c1_bilinar"},
            "model 'resnet50+c1_bilinar' is unknown; did you mean 'resnet50+c1_bilinear'?",
        ),
        ({"name": "resnet50+upernet_deepsup"}, "model 'resnet50+upernet_deepsup' is unknown; did you mean"),
        (
            {"name": "resnet50+c1_bilinear", "dropout": 0.1},
            "model 'resnet50+c1_bilinear' takes no options, got 'dropout'",
        ),
        (
            {"name": "resnet50+ppm_bilinear", "dropout": "x"},
            "option 'dropout' of 'resnet50+ppm_bilinear' takes a float",
        ),
        ({"name": "resnet18+ppm_bilinear", "dropout": 2}, "cannot be built with dropout=2: dropout prob"),
        ({"name": "resnet18+upernet", "norm": "gn:48"}, "48 groups do not divide 64 channels"),
    ],
)
def test_what_makes_no_network_is_named(arguments, message):
    with torch.device("meta"), pytest.raises(InputError) as caught:
        switchnorm.create_model(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- surgery ---


@pytest.mark.parametrize(
    ("name", "fused", "left"),
    [("resnet18_dilated8+ppm_bilinear_deepsup", 23, 3), ("resnet18+upernet", 29, 3), (NAME, 51, 4)],
)
def test_what_is_fused(name, fused, left):
    with torch.device("meta"):
        plan = surgery.plan_fuse(switchnorm.create_model(name, norm="sn"))
    assert (len(plan.changes), len(plan.left)) == (fused, left)
    assert {row.reason for row in plan.left} == {"no ReLU follows"}


def test_fusing_keeps_what_the_network_computes():
    model = switchnorm.create_model("resnet18_dilated8+c1_bilinear_deepsup", norm="sn", num_classes=3)
    x = torch.randn(2, 3, 40, 48)
    with torch.no_grad():
        before = model(x)
        after = surgery.fuse(model)(x)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-5)


def test_importances_follow_the_depth():
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18+upernet", norm="sn")
    layers = [row.layer for row in surgery.importance(model.to_empty(device="cpu"))]
    runs: list[str] = []
    hooks = [
        m.register_forward_hook(lambda *_, name=name: runs.append(name))
        for name, m in model.named_modules()
        if isinstance(m, switchnorm.SwitchNorm2d)
    ]
    model.to("meta")(torch.empty(2, 3, 32, 32, device="meta"))
    assert len(layers) == len(runs) == len(hooks)
    assert layers[0] == "encoder.sn1"
    assert layers[-1] == "decoder.conv_last.0.1"
    # Blocks define a shortcut last and the pyramid is defined upside down; nothing else is out of place.
    order = [layers.index(name) for name in runs if "downsample" not in name and "fpn" not in name]
    assert order == sorted(order)


def test_ghost_batches_are_batches_of_their_own():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear", norm="bn", num_classes=3, dropout=0.0)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        parts = [model(part)["out"] for part in x.split(2)]
        together = surgery.ghost(model, 2)(x)["out"]
    torch.testing.assert_close(together, torch.cat(parts), atol=1e-4, rtol=1e-4)


def test_statistics_can_be_synchronised_in_encoder_and_decoder():
    with torch.device("meta"):
        model = surgery.sync(switchnorm.create_model("resnet18+upernet_lite", norm="sn"))
    assert {m.sync for m in model.modules() if isinstance(m, switchnorm.SwitchNorm2d)} == {True}


def test_an_exported_network_computes_the_same():
    model = switchnorm.create_model("resnet18_dilated8+ppm_bilinear_deepsup", norm="bn", num_classes=3).eval()
    x = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        exported = torch.export.export(model, (x,)).module()(x)
        expected = model(x)
    assert list(exported) == ["out"]
    torch.testing.assert_close(exported["out"], expected["out"], atol=1e-6, rtol=1e-6)
