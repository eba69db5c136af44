"""Normalizers by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, GroupNorm, Spec, norm_names, weight_standardized
from switchnorm.layers.norms.group import default_groups

NORMS = norm_names()
SPECS = [*NORMS, "gn:3", *(f"{norm}+ws" for norm in (*NORMS, "gn:3"))]


@pytest.mark.parametrize("text", SPECS)
def test_a_name_survives_parsing(text: str) -> None:
    spec = Spec.parse(text)
    assert str(spec) == text
    assert Spec.parse(str(spec)) == spec
    assert spec.ws == text.endswith("+ws")


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("text", SPECS)
def test_every_name_makes_a_layer_and_a_convolution(text: str, dims: int) -> None:
    spec = Spec.parse(text)
    conv = spec.conv(dims)(4, 6, 3, padding=1)
    assert type(conv) is (weight_standardized.WS_CONV if spec.ws else weight_standardized.CONV)[dims]
    x = torch.randn(3, 4, 5, 4, 3)[(..., *(0,) * (3 - dims))]
    for options in ({}, {"affine": False}, {"eps": 1e-3}):
        layer = spec.layer(6, dims, **options)
        y = layer(conv(x))
        assert y.shape == (3, 6, *x.shape[2:])
        assert y.isfinite().all()
        # Every normalizer removes the mean, that of its own pool.
        assert abs(y.mean()) < 1e-2 or spec.norm in ("sn", "ssn")
        assert layer.eps == options.get("eps", 1e-5)
        assert (layer.weight is None) == ("affine" in options)
    assert next(spec.layer(6, dims, dtype=torch.float64).parameters()).dtype == torch.float64
    assert next(spec.layer(6, dims, device="meta").parameters()).is_meta


def test_plain_norms_are_those_of_torch() -> None:
    x = torch.randn(3, 6, 5, 5)
    plain = {"gn:3": nn.GroupNorm(3, 6), "ln": nn.GroupNorm(1, 6), "in": nn.InstanceNorm2d(6), "bn": nn.BatchNorm2d(6)}
    for text, theirs in plain.items():
        ours = Spec.parse(text).layer(6)
        torch.testing.assert_close(ours(x), theirs(x))
        # This library's, which end with a residual and an activation where asked to.
        assert type(ours) in (GroupNorm, BatchNorm2d)
        assert ours.state_dict().keys() == theirs.state_dict().keys() or text == "in"


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (2, 1), (3, 1), (6, 3), (16, 8), (31, 1), (32, 16), (48, 24), (64, 32), (96, 32), (100, 25), (2048, 32)],
)
def test_default_groups(channels: int, groups: int) -> None:
    assert default_groups(channels) == groups
    assert Spec("gn").layer(channels).num_groups == groups
    assert Spec("in").layer(channels).num_groups == channels
    assert Spec("ln").layer(channels).num_groups == 1


ERRORS: list[tuple[str, str]] = [
    ("sm", "norm 'sm' is unknown; did you mean 'sn'?"),
    ("bnn", "did you mean 'bn'?"),
    ("sn+sw", "did you mean 'sn+ws'?"),
    ("sn+", "norm 'sn+' is unknown; did you mean 'sn+ws'?"),
    ("sn:4", "norm 'sn:4' is unknown; did you mean 'sn'?"),
    ("gn:", "did you mean 'gn'?"),
    ("", "norm '' is unknown; choose from bn, gn, in, ln, sn, ssn"),
    ("group norm", "choose from bn, gn, in, ln, sn, ssn"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_unknown_names(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Spec.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "nearest"), [("gn:4", "counts are 3 or 6"), ("gn:0", "count is 1"), ("gn:64", "count is 6")]
)
def test_groups_that_do_not_divide(text: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"do not divide 6 channels; the nearest group {nearest}"):
        Spec.parse(text).layer(6)


@pytest.mark.parametrize("text", NORMS)
def test_every_normalizer_keeps_dtype_and_memory_format(text: str) -> None:
    layer: Any = Spec.parse(text).layer(8)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.randn(3, 8, 5, 5).to(dtype).to(memory_format=torch.channels_last)
        for autocast in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = layer(x)
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=torch.channels_last)


def test_statistics_are_names_in_a_list_or_between_commas() -> None:
    sn, pair = Spec.parse("sn"), ("instance", "layer")
    assert sn.mixing(None) == sn
    assert sn.mixing(["instance", "layer"]).statistics == sn.mixing("instance, layer").statistics == pair
    assert sn.mixing(pair).layer(4).statistics == pair
    assert sn.mixing(pair).layer(4, statistics=("layer",)).statistics == ("layer",)


@pytest.mark.parametrize(
    ("norm", "statistics", "message"),
    [
        ("gn+ws", "layer", r"statistics are mixed by 'sn' and 'ssn', not by 'gn\+ws'; leave statistics out"),
        ("sn", 3, "statistics are names such as 'instance,layer', not 3"),
        ("sn", [1], r"statistics are names such as 'instance,layer', not \[1\]"),
    ],
)
def test_other_statistics_are_refused(norm: str, statistics: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Spec.parse(norm).mixing(statistics)
