"""torch.func, forward mode, vectorized derivatives and checkpointing, against loops, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from switchnorm.errors import InputError
from switchnorm.layers import has_batch_statistics
from tests.layers.modules import ModuleInfo, module_db

EVERY = pytest.mark.parametrize("info", module_db, ids=lambda info: info.name)
SOME = pytest.mark.parametrize(
    "info", [info for info in module_db if "2d" in info.name and "affine" not in info.name], ids=lambda info: info.name
)
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return (
        {name: p.detach().clone() for name, p in module.named_parameters()},
        {name: b.clone() for name, b in module.named_buffers()},
    )


def pure(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The forward pass, which every time begins with the same running statistics; a residual of all ones."""

    def call(x: Tensor) -> Tensor:
        other = copy.deepcopy(module)
        y: Tensor = other(x)
        return y

    return call


@MODES
@EVERY
def test_an_ensemble_moves_the_running_statistics_of_each(info: ModuleInfo, training: bool) -> None:
    modules = [info.module(training=training) for _ in range(2)]
    (x, *_) = info.inputs()
    stacked = torch.stack((x, 2 * x + 1))
    parameters, buffers = stack_module_state(modules)
    call = vmap(lambda p, b, x: functional_call(modules[0], (p, b), (x,)))
    y = call(parameters, buffers, stacked)
    torch.testing.assert_close(y, torch.stack([m(each) for m, each in zip(modules, stacked, strict=True)]))
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, torch.stack([dict(m.named_buffers())[name] for m in modules]))


@EVERY
def test_running_statistics_that_are_no_input_are_left_alone(info: ModuleInfo) -> None:
    module = info.module()
    (x, *_) = info.inputs()
    if not any(name == "running_mean" for name, _ in module.named_buffers()):
        torch.testing.assert_close(vmap(module)(x[None])[0], module(x))
        return
    before = copy.deepcopy({n: b for n, b in module.named_buffers() if n != "num_batches_tracked"})
    for call in (lambda: vmap(module)(torch.stack((x, x))), lambda: grad(lambda x: module(x).sum())(x)):
        with pytest.raises(InputError, match=r"running statistics of .* functional_call, or use eval") as error:
            call()
        assert "\n" not in str(error.value)
    after = {n: b for n, b in module.named_buffers() if n != "num_batches_tracked"}
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@MODES
@EVERY
def test_gradients_of_samples_and_of_functions(info: ModuleInfo, training: bool) -> None:
    module = info.module(training=training)
    (x, *_) = info.inputs()

    def loss(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, (p, b), (x,)).sin().sum()

    found, of_x = grad(loss, (0, 2))(*state(module), x)
    other = copy.deepcopy(module)
    leaf = x.clone().requires_grad_()
    other(leaf).sin().sum().backward()
    torch.testing.assert_close(of_x, leaf.grad)
    torch.testing.assert_close(found, {name: p.grad for name, p in other.named_parameters()})
    if not training or not has_batch_statistics(module):
        p, b = state(module)
        each = vmap(grad(loss), (None, None, 0))(p, b, x[:, None])
        loops = [grad(loss)(p, b, one[None]) for one in x]
        torch.testing.assert_close(each, {name: torch.stack([loop[name] for loop in loops]) for name in p})


@MODES
@SOME
def test_jacobians_and_hessians_agree_with_loops(info: ModuleInfo, training: bool) -> None:
    module = info.module(training=training)
    if info.still:
        module.momentum = 0.0  # type: ignore[assignment]
    x = info.inputs()[0][:2, :, :2].clone()
    call = pure(module)
    p, b = state(module)

    def functional(x: Tensor) -> Tensor:
        # Buffers that go through every transform with the input, and do not depend on it.
        zero = x.sum().isnan()
        follow = {n: v + zero.to(v.dtype) for n, v in b.items()}
        y: Tensor = functional_call(module, (p, follow), (x,))
        return y

    torch.manual_seed(1)
    loops: Any = torch.autograd.functional.jacobian(call, x)
    torch.testing.assert_close(torch.autograd.functional.jacobian(call, x, vectorize=True), loops)
    forward: Any = torch.autograd.functional.jacobian(call, x, vectorize=True, strategy="forward-mode")
    torch.testing.assert_close(forward, loops)
    torch.testing.assert_close(jacrev(functional)(x), loops)
    torch.testing.assert_close(jacfwd(functional)(x), loops)
    tangent = torch.randn_like(x)
    torch.testing.assert_close(jvp(functional, (x,), (tangent,))[1], torch.tensordot(loops, tangent, x.dim()))

    def scalar(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: of(x).sin().sum()

    second: Any = torch.autograd.functional.hessian(scalar(call), x)
    with info.second_gradients_at_once():
        torch.testing.assert_close(torch.autograd.functional.hessian(scalar(call), x, vectorize=True), second)
    torch.testing.assert_close(hessian(scalar(functional))(x), second)


@MODES
@EVERY
def test_many_gradients_at_once(info: ModuleInfo, training: bool) -> None:
    module = info.module(training=training)
    leaves = [x.requires_grad_() for x in info.inputs()]
    y = module(*leaves)
    inputs = [*leaves, *module.parameters()]
    dy = torch.randn(3, *y.shape, dtype=y.dtype)
    found = torch.autograd.grad(y, inputs, dy, is_grads_batched=True, retain_graph=True)
    assert not any(each.requires_grad for each in found)
    for k in range(3):
        one = torch.autograd.grad(y, inputs, dy[k], retain_graph=True)
        torch.testing.assert_close([each[k] for each in found], list(one))
    with info.second_gradients_at_once():
        graph = torch.autograd.grad(y, inputs, dy, is_grads_batched=True, create_graph=True)
        torch.testing.assert_close(list(graph), list(found))


@EVERY
def test_forward_mode_leaves_no_tangent_in_buffers(info: ModuleInfo) -> None:
    module = info.module()
    (x, *_) = info.inputs()
    with forward_ad.dual_level():
        module(forward_ad.make_dual(x, torch.randn_like(x)))
        for buffer in module.buffers():
            if buffer.is_floating_point():
                assert forward_ad.unpack_dual(buffer).tangent is None


@pytest.mark.parametrize("reentrant", [True, False])
@MODES
@EVERY
def test_checkpointing_changes_no_gradient(info: ModuleInfo, training: bool, reentrant: bool) -> None:
    module = info.module(training=training)
    found = []
    for way in (lambda m, x: m(x), lambda m, x: checkpoint(m, x, use_reentrant=reentrant)):
        other, x = (
            copy.deepcopy(module),
            info.inputs()[0] * 0 + torch.arange(info.inputs()[0].numel()).view(info.shape).cos(),
        )
        x = x.detach().requires_grad_()
        way(other, x).sin().sum().backward()
        found.append([x.grad, *(p.grad for p in other.parameters())])
    torch.testing.assert_close(*found)


@SOME
def test_parameters_with_two_names(info: ModuleInfo) -> None:
    first, second = info.module(), info.module()
    names = [name for name, _ in first.named_parameters()]
    for name in names:
        setattr(second, name, getattr(first, name))
    net = nn.Sequential(first, second) if info.norm is not None else nn.Sequential(first)
    (x, *_) = info.inputs()
    given = {f"0.{name}": torch.randn_like(p) for name, p in first.named_parameters()}
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    y = functional_call(net, (given, buffers), (x,))
    other = copy.deepcopy(net)
    other.load_state_dict(given, strict=False)
    torch.testing.assert_close(y, other(x))
