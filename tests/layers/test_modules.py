"""What PyTorch's own tests ask of its modules, asked of every layer of ours; see tests/layers/modules.py."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from switchnorm import InputError
from switchnorm.layers import has_batch_statistics
from switchnorm.ops import kernel
from tests.layers.modules import ModuleInfo, module_db
from tests.ops.definitions import laid_out

pytestmark = pytest.mark.usefixtures("poisoned")

EVERY = pytest.mark.parametrize("info", module_db, ids=lambda info: info.name)
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def function(module: nn.Module, names: list[str]) -> Callable[..., Tensor]:
    """The forward pass as a function of parameters and inputs that leaves no trace in the module."""

    def call(*tensors: Tensor) -> Tensor:
        parameters = dict(zip(names, tensors, strict=False))
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        y: Tensor = functional_call(module, (parameters, buffers), tensors[len(names) :])
        return y

    return call


def differentiable(info: ModuleInfo, training: bool) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    module = info.module(training=training)
    if info.still:
        module.momentum = 0.0  # type: ignore[assignment]
    names = [name for name, _ in module.named_parameters()]
    leaves = [p.detach().clone() for _, p in module.named_parameters()] + [*info.inputs()]
    return function(module, names), tuple(leaf.requires_grad_() for leaf in leaves)


def outcome(module: nn.Module, inputs: tuple[Tensor, ...], dy: Tensor | None = None) -> list[Tensor]:
    """Output, gradients of inputs and parameters, and buffers, of a copy."""
    module = copy.deepcopy(module)
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = module(*leaves)
    dy = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) if dy is None else dy
    y.backward(dy.to(y.dtype))
    grads = [leaf.grad for leaf in [*leaves, *module.parameters()]]
    return [y.detach(), *(grad for grad in grads if grad is not None), *module.buffers()]


@MODES
@EVERY
def test_forward_agrees_with_the_plain_path(info: ModuleInfo, training: bool) -> None:
    module, inputs = info.module(training=training), info.inputs()
    with kernel("reference"):
        expected = outcome(module, inputs)
    torch.testing.assert_close(outcome(module, inputs), expected, rtol=1e-9, atol=1e-9)


@MODES
@EVERY
def test_gradients_forward_backward_and_batched(info: ModuleInfo, training: bool) -> None:
    call, leaves = differentiable(info, training)
    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True, **checks)


@MODES
@EVERY
def test_second_gradients(info: ModuleInfo, training: bool) -> None:
    call, leaves = differentiable(info, training)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)
    # The batches of this check meet what old torch cannot do only where something follows the normalization.
    with info.second_gradients_at_once() if "activation" in info.options else nullcontext():
        assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True, check_batched_grad=True)


@EVERY
def test_factory_arguments(info: ModuleInfo) -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        module = info.make(**info.options, device="cpu", dtype=dtype)
        tensors = [*module.parameters(), *module.buffers()]
        assert {t.dtype for t in tensors} <= {dtype, torch.long}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        module = info.make(**info.options)
        assert {t.dtype for t in [*module.parameters(), *module.buffers()]} <= {torch.float64, torch.long}
        assert module(*info.inputs()).dtype == torch.float64
    finally:
        torch.set_default_dtype(before)


@MODES
@EVERY
def test_meta(info: ModuleInfo, training: bool) -> None:
    given = info.module_input(torch.float32, "meta")
    module = info.make(**given.constructor_input.kwargs).train(training)
    assert all(t.is_meta for t in [*module.parameters(), *module.buffers()])
    y = module(*given.forward_input.args)
    assert y.is_meta
    real = info.module(torch.float32, training)
    inputs = info.inputs(torch.float32)
    assert y.shape == real(*inputs).shape
    module.to_empty(device="cpu").load_state_dict(real.state_dict())
    torch.testing.assert_close(module(*inputs), real(*inputs))


@MODES
@EVERY
def test_copies_pickles_and_files(info: ModuleInfo, training: bool) -> None:
    module, inputs = info.module(training=training), info.inputs()
    module(*inputs)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    stored = torch.load(file, weights_only=False)
    expected = outcome(module, inputs)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), stored):
        assert repr(other) == repr(module)
        torch.testing.assert_close(outcome(other, inputs), expected, rtol=0, atol=0)
    fresh = info.make(**info.options, dtype=torch.float64).train(training)
    fresh.load_state_dict(module.state_dict())
    torch.testing.assert_close(outcome(fresh, inputs), expected, rtol=0, atol=0)


@EVERY
def test_repr_shows_what_is_not_the_default(info: ModuleInfo) -> None:
    text = repr(info.module())
    assert text.startswith(f"{type(info.module()).__name__}(")
    for name, value in info.options.items():
        assert f"{name}={value!r}" in text or info.norm is None or name in info.norm.flat


@pytest.mark.parametrize("layout", ["channels last", "transposed", "strided"])
@MODES
@EVERY
def test_inputs_laid_out_otherwise(info: ModuleInfo, training: bool, layout: str) -> None:
    module, inputs = info.module(training=training), info.inputs()
    other = tuple(laid_out(x, layout) for x in inputs)
    torch.testing.assert_close(outcome(module, other), outcome(module, inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4, 100, 90), (1, 4, 2, 3, 5)], ids=str)
@MODES
@EVERY
def test_the_memory_format_is_kept(
    info: ModuleInfo, training: bool, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    if len(shape) != len(info.shape) or info.norm is None:
        return
    form = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape, dtype=dtype).to(memory_format=form).requires_grad_()
    residual = [torch.randn_like(x)] if info.residual else []
    y = info.module(dtype, training)(x, *residual)
    assert y.is_contiguous(memory_format=form)
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert dx.is_contiguous(memory_format=form)


@EVERY
def test_evaluation_moves_nothing_and_differs_by_batch_statistics_alone(info: ModuleInfo) -> None:
    module, inputs = info.module(training=False), info.inputs()
    before = copy.deepcopy(module.state_dict())
    y = module(*inputs)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    if not has_batch_statistics(module):
        torch.testing.assert_close(module.train()(*inputs), y, rtol=0, atol=0)
        torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


@MODES
@EVERY
def test_conversion_of_dtype(info: ModuleInfo, training: bool) -> None:
    module, inputs = info.module(training=training), info.inputs()
    expected = copy.deepcopy(module)(*inputs)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15), (torch.float16, 2e-2)):
        other = copy.deepcopy(module).to(dtype)
        y = other(*(x.to(dtype) for x in inputs))
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


@MODES
@EVERY
def test_autocast_leaves_the_dtype_of_a_normalization(info: ModuleInfo, training: bool) -> None:
    if info.norm is None:
        return
    for dtype in (torch.float32, torch.bfloat16):
        module, inputs = info.module(torch.float32, training), info.inputs(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(*inputs).dtype == dtype


@MODES
@EVERY
def test_empty_batches_and_maps(info: ModuleInfo, training: bool) -> None:
    if info.norm is None:
        return
    module = info.module(training=training)
    before = copy.deepcopy(dict(module.named_buffers()))
    shapes = [(0, *info.shape[1:])] + ([(*info.shape[:-1], 0)] if len(info.shape) > 2 else [])
    for shape in shapes:
        inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in info.inputs()]
        y = module(*inputs)
        assert y.shape == shape
        y.sum().backward()
    if info.norm.name != "bn":  # PyTorch's own forgets a share of its statistics.
        torch.testing.assert_close(dict(module.named_buffers()), before, rtol=0, atol=0)


@EVERY
def test_errors_are_one_line(info: ModuleInfo) -> None:
    module, (x, *_) = info.module(), info.inputs()
    wrong: list[Any] = [x.to(torch.complex64), x.long(), [x]]
    fixed = info.norm is None or not info.norm.any_dims
    for given in [*wrong, x[..., None, None, None]] if fixed else wrong:
        with pytest.raises((ValueError, RuntimeError)) as error:
            module(given)
        assert str(error.value)
    for given in wrong:
        with pytest.raises(ValueError, match="must be a tensor of real numbers") as error:
            module(given)
        assert "\n" not in str(error.value)
    apart = [x.to_sparse(), torch.nested.as_nested_tensor(list(x)), x.to(torch.float32).to_mkldnn()]
    for given, kind in zip(apart, ("sparse_coo", "nested", "mkldnn"), strict=True):
        with pytest.raises(InputError, match=f"dense tensor, got a {kind} one"):
            module(given)
    with pytest.raises(InputError, match="got float8_e5m2"):
        module(x.to(torch.float8_e5m2))
