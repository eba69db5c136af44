"""The forms of statistics against the plain formula, in eager mode and as they are exported."""

from __future__ import annotations

import pytest
import torch

from switchnorm.layers.evaluated import Mixture
from switchnorm.ops import normalize
from switchnorm.surgery.folding.forms import form
from switchnorm.surgery.folding.modules import Centred, GroupNorm
from switchnorm.surgery.folding.sizes import MapSize
from switchnorm.surgery.folding.tables import Tables

CHANNELS, EPS = 8, 1e-2
ALL = {"instance": 0.2, "layer": 0.3, "batch": 0.5}
MIXTURES = {
    "instance": ({"instance": 1.0}, {"instance": 1.0}),
    "layer": ({"layer": 1.0}, {"layer": 1.0}),
    "groups": ({"group:2": 1.0}, {"group:2": 1.0}),
    "mean of instance": ({"instance": 1.0}, {"batch": 1.0}),
    "mean of instance and batch": ({"instance": 0.4, "batch": 0.6}, {"batch": 1.0}),
    "mean of layer": ({"layer": 1.0}, {"batch": 1.0}),
    "variance of layer": ({"batch": 1.0}, {"layer": 1.0}),
    "variance of instance": ({"layer": 1.0}, {"instance": 1.0}),
    "all": (ALL, {"instance": 0.5, "layer": 0.25, "batch": 0.25}),
    "all and groups": (ALL, {"instance": 0.5, "group:4": 0.5}),
}
SHAPES = ((2, CHANNELS, 5, 7), (3, CHANNELS, 2, 2), (1, CHANNELS, 1, 1), (2, CHANNELS, 6), (2, CHANNELS, 3, 4, 2))


def mixture_of(name, unbiased, generator):
    mean, var = MIXTURES[name]
    draw = [torch.randn(CHANNELS, generator=generator, dtype=torch.float64) for _ in range(4)]
    weight, bias, running_mean, running_var = draw
    return Mixture(mean, var, (running_mean, running_var.square() + 0.1), EPS, weight, bias, unbiased, CHANNELS)


def plainly(mixture, x):
    """What a mixture computes, by the library's own formula."""
    statistics = [name for name in ("instance", "layer", "batch", "group:2", "group:4") if name in mixture.mean] + [
        name for name in mixture.var if name not in mixture.mean
    ]
    moments = (mixture.mean, mixture.var)
    shares = [torch.tensor([m.get(name, 0.0) for name in statistics], dtype=torch.float64) for m in moments]
    given = {"running": mixture.running, "unbiased": mixture.unbiased, "eps": mixture.eps}
    return normalize(x, statistics, *shares, mixture.weight, mixture.bias, **given).y


def taken(x, constant):
    """What the layer before makes of x."""
    if constant is None:
        return x
    centre, scale, shift = (t.view(-1, *[1] * (x.dim() - 2)) for t in (constant.centre, constant.scale, constant.shift))
    return (x - centre) * scale + shift


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("unbiased", [True, False])
def test_forms_compute_the_formula(name, unbiased):
    generator = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        mixture = mixture_of(name, unbiased, generator)
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 1
        expected = plainly(mixture, x)
        layouts = [x] if x.dim() != 4 else [x, x.to(memory_format=torch.channels_last)]
        for before in (False, True):
            for size in (None, MapSize(shape[2:], (9, 9))):
                found = form(mixture, before, size)
                assert before or found.constant is None
                for each in layouts:
                    for grad in (False, True):
                        with torch.set_grad_enabled(grad):
                            y = found.module(taken(each, found.constant))
                        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "size"),
    [("instance", MapSize((5, 7), (9, 9))), ("groups", None), ("mean of instance", None), ("all", None)],
)
def test_forms_are_exported_for_any_size(name, size):
    generator = torch.Generator().manual_seed(0)
    mixture = mixture_of(name, True, generator)
    module = form(mixture, False, size).module
    x = torch.randn(2, CHANNELS, 5, 7, generator=generator, dtype=torch.float64)
    sides = {} if size else {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch"), **sides},))
    for shape in ((3, CHANNELS, 5, 7), (4, CHANNELS, 6, 3)) if size is None else ((3, CHANNELS, 5, 7),):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(program.module()(x), plainly(mixture, x), rtol=1e-11, atol=1e-11)


def test_what_is_cheapest():
    generator = torch.Generator().manual_seed(0)
    of = {name: mixture_of(name, True, generator) for name in MIXTURES}
    # The factor n / (n - 1) is known where n is.
    assert isinstance(form(of["instance"], True, MapSize((5, 7), (9, 9))).module, GroupNorm)
    assert isinstance(form(of["instance"], True, None).module, Tables)
    assert isinstance(form(of["instance"], True, MapSize((1, 1), (9, 9))).module, Tables)
    assert isinstance(form(mixture_of("layer", False, generator), True, None).module, GroupNorm)
    centred = form(of["mean of instance"], True, None)
    assert isinstance(centred.module, Centred)
    assert centred.module.scale is None


def test_squares_about_the_running_mean_keep_their_digits():
    generator = torch.Generator().manual_seed(0)
    mixture = mixture_of("all", True, generator)
    far = torch.full_like(mixture.weight, 300.0)
    mixture = Mixture(mixture.mean, mixture.var, (far, far / 300), EPS, mixture.weight, mixture.bias, True, CHANNELS)
    x = torch.randn(2, CHANNELS, 16, 16, generator=generator, dtype=torch.float64) + 300
    found = form(mixture, True, None)
    y = found.module.float()(taken(x, found.constant).float())
    assert (y - plainly(mixture, x)).abs().max() < 2e-6


def test_half_precision_sums_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    for name in ("instance", "all"):
        mixture = mixture_of(name, True, generator)
        x = torch.randn(2, CHANNELS, 16, 16, generator=generator, dtype=torch.float64) * 200
        module = form(mixture, False, None).module.to(torch.bfloat16)
        y = module(x.to(torch.bfloat16))
        assert y.dtype == torch.bfloat16
        expected = plainly(mixture, x)
        assert (y - expected).abs().max() < 0.05 * expected.abs().max()


def test_no_samples_give_no_samples():
    module = form(mixture_of("all", True, torch.Generator().manual_seed(0)), False, None).module
    assert not [*module.parameters()]
    assert module(torch.zeros(0, CHANNELS, 3, 3, dtype=torch.float64)).shape == (0, CHANNELS, 3, 3)
