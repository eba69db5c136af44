"""Segmentation networks fused, in ghost batches, synchronised and exported."""

import pytest
import torch

import switchnorm
from switchnorm import surgery
from tests.models.segmentation.names import NAME


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
