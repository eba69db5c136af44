"""Which path is taken, who may overrule it, and that no fallback is silent."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import switchnorm
from switchnorm.errors import InputError
from switchnorm.ops import KernelFallback, kernel, normalize
from switchnorm.ops.kernels import choice


@pytest.fixture(autouse=True)
def _warnings_anew() -> Iterator[None]:
    choice._warn.cache_clear()
    choice._from_environment.cache_clear()
    yield
    choice._warn.cache_clear()
    choice._from_environment.cache_clear()


def taken(x: Tensor) -> str:
    chosen = choice.choose(x)
    return "reference" if chosen is None else chosen.name


def run(x: Tensor) -> Tensor:
    return normalize(x, ("instance", "layer"), *[torch.tensor([0.5, 0.5], dtype=x.dtype)] * 2).y


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_cpu_takes_the_cpu_path(dtype: torch.dtype) -> None:
    assert taken(torch.randn(2, 4, 3, 3, dtype=dtype)) == "cpu"


@pytest.mark.usefixtures("fast_path")
def test_the_innermost_name_decides_and_ends_with_its_block() -> None:
    x = torch.randn(2, 4, 3, 3)
    with kernel("reference"):
        assert taken(x) == "reference"
        with kernel("cpu"):
            assert taken(x) == "cpu"
        assert taken(x) == "reference"
    assert taken(x) == "cpu"


@pytest.mark.usefixtures("fast_path")
def test_the_environment_decides_where_no_block_does(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 4, 3, 3)
    monkeypatch.setenv(choice.VARIABLE, "reference")
    assert taken(x) == "reference"
    with kernel("cpu"):
        assert taken(x) == "cpu"
    # It is looked at once in a program.
    monkeypatch.setenv(choice.VARIABLE, "cpp")
    assert taken(x) == "reference"
    choice._from_environment.cache_clear()
    with pytest.raises(InputError, match="kernel 'cpp' is unknown; did you mean 'cpu'"):
        run(x)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="kernel 'triton2' is unknown; did you mean 'triton'"), kernel("triton2"):
        pass


def test_a_fallback_says_so_once(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(choice, "load", lambda: "the compiled library is not installed")
    choice._load.cache_clear()
    try:
        found = [take(torch.randn(2, 4, 3, 3)) for take in (run, run, layer(), layer())]
    finally:
        choice._load.cache_clear()
    assert all(y.isfinite().all() for y in found)
    (told,) = [each for each in recwarn if each.category is KernelFallback]
    assert "reference instead of the kernel 'cpu': the compiled library is not installed" in str(told.message)


def test_triton_says_why_it_cannot_take_a_cpu_tensor() -> None:
    with kernel("triton"), pytest.warns(KernelFallback, match="instead of the kernel 'triton'"):
        run(torch.randn(2, 4, 3, 3))


def layer() -> torch.nn.Module:
    return switchnorm.SwitchNorm2d(4)


def test_what_compiles_or_transforms_sees_plain_operations_and_no_warning() -> None:
    x = torch.randn(2, 4, 3, 3)
    expected = run(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", KernelFallback)
        torch.testing.assert_close(torch.func.vmap(run)(x[None])[0], expected)
        gradient = torch.func.grad(lambda x: run(x).square().sum())(x)
        assert gradient.shape == x.shape
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(run(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
        torch.testing.assert_close(tangent, torch.zeros_like(x), rtol=0, atol=1e-5)  # a shift changes nothing
        traced = torch.jit.trace(run, x, check_trace=False)
        torch.testing.assert_close(traced(x), expected)
        module = layer().eval()
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
        assert run(x.to("meta")).is_meta


@pytest.mark.usefixtures("fast_path")
def test_the_choice_of_the_forward_pass_holds_for_the_backward_pass() -> None:
    """Whatever block encloses backward, and in whatever thread it runs."""
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    y = run(x)
    assert type(y.grad_fn).__name__ == "_NormalizeBackward"
    with kernel("reference"):
        y.sum().backward()
    assert x.grad is not None


def test_layers_can_be_copied_after_use() -> None:
    module = layer()
    x = torch.randn(2, 4, 3, 3)
    module(x).sum().backward()
    torch.testing.assert_close(copy.deepcopy(module)(x), module(x), rtol=0, atol=0)
