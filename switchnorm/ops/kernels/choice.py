"""Which path a normalization takes: the one place that decides, and the way to overrule it."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from switchnorm.errors import unknown
from switchnorm.ops.kernels.base import Kernel, first_line
from switchnorm.ops.kernels.native.library import load

KERNELS = ("reference", "cpu", "triton", "torch")

#: The environment variable that overrules the choice for a whole program.
VARIABLE = "SWITCHNORM_KERNEL"

#: What is no subclass with operations of its own.
_PLAIN = {Tensor, Parameter, type(None)}

#: Set while autograd's own vmap runs.
_VMAP: Any = torch._C._parse_dispatch_key("VmapMode")  # parsing costs a small layer more than asking

_forced: ContextVar[str | None] = ContextVar("switchnorm_kernel", default=None)


class KernelFallback(UserWarning):
    """A fast path could not be taken, and the reference was."""


@contextlib.contextmanager
def kernel(name: str) -> Iterator[None]:
    """Take one path for everything inside: "reference", "cpu", "triton" or "torch"; the reference where it cannot be.

    Without it, the environment variable SWITCHNORM_KERNEL decides, which is looked at once, and without that the
    device: "cpu", the compiled library, on a CPU where it is installed, "triton" on CUDA where Triton is installed and
    can compile. "torch" is PyTorch's own kernels: Batch, Group, Layer and Instance Normalization without ghost batches
    and other processes have one, and take it wherever it is fast and exact. Under torch.compile, torch.export and
    torch.func, in forward-mode differentiation and for tensor subclasses these four are always PyTorch's operations and
    everything else is the reference, which second derivatives take too.

    Raises:
        InputError: an unknown name.
    """
    token = _forced.set(_known(name))
    try:
        yield
    finally:
        _forced.reset(token)


def choose(*tensors: Tensor | None) -> Kernel | None:
    """The fast path for a call with these tensors, the input first; None for the reference.

    Warns:
        KernelFallback: once for every reason, where a fast path was asked for, or is the device's usual one, but cannot
            be taken.
    """
    x: Any = tensors[0]
    # First, for torch.compile complains of what is cached, and torch 2.8's traces no context variable.
    if x.is_meta or needs_plain_operations(*tensors):
        return None
    name = _overruling() or ("cpu" if x.is_cpu else "triton" if x.is_cuda else "reference")
    if name == "reference":
        return None
    chosen = _load(name)
    if isinstance(chosen, str):
        reason = chosen
    else:
        found = chosen.refusal(x)
        if found is None:
            return chosen
        reason = found
    _warn(f"taking the plain PyTorch reference instead of the kernel {name!r}: {reason}")
    return None


def always(x: Tensor) -> bool:
    """What is so for every input."""
    return True


def takes_torch(
    x: Tensor, *, fast: Callable[[Tensor], bool] = always, exact: Callable[[Tensor], bool] = always
) -> bool:
    """Whether a normalization that PyTorch has too takes PyTorch's own kernel.

    Args:
        x: the input. Small networks feel what is asked of each layer, so that parameters are not looked at.
        fast: tells whether that kernel is faster than a fast path, if there is one.
        exact: tells whether it is as exact as the reference for an input, which it may read.
    """
    if needs_plain_operations(x) or x.is_meta:
        return True
    forced = _overruling()
    if forced is not None:
        return forced == "torch"
    return exact(x) and (fast(x) or choose(x) is None)


def needs_plain_operations(*tensors: Tensor | None) -> bool:
    """Whether the call is compiled, traced or transformed, or a tensor is of a subclass, or not in memory as it is.

    All need plain operations.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or is_in_torch_dispatch_mode()
        or not _PLAIN.issuperset(map(type, tensors))
    ):
        return True
    for t in tensors:
        # A view of numbers with the other sign, or zeros without memory.
        if t is not None and (t.is_neg() or t._is_zerotensor()):
            return True
    # The level is -1 outside of forward-mode differentiation, so that most programs never look at tangents.
    if forward_ad._current_level < 0:
        return False
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def needs_plain_gradient(*grads: Tensor | None) -> bool:
    """Whether a backward pass with these gradients is itself differentiated, or run for many of them by vmap.

    That happens to graphs that a fast path recorded: by `create_graph`, `is_grads_batched`, or `vectorize` of
    torch.autograd.functional.
    """
    if torch.is_grad_enabled() or needs_plain_operations(*grads):
        return True
    # Autograd's own vmap is an older one than torch.func's, and no transform of it.
    return bool(torch._C._dispatch_tls_is_dispatch_key_included(_VMAP))


def _overruling() -> str | None:
    return _forced.get() or _from_environment()


def _known(name: str) -> str:
    if name not in KERNELS:
        raise unknown("kernel", name, KERNELS)
    return name


@functools.cache
def _from_environment() -> str | None:
    # Asked once: to look it up costs a small layer a twentieth of its time.
    value = os.environ.get(VARIABLE)
    return _known(value) if value else None


@functools.cache
def _load(name: str) -> Kernel | str:
    """The kernel of that name, or why there is none here."""
    if name == "cpu":
        from switchnorm.ops.kernels.native.kernel import NativeKernel

        library = load()
        return library if isinstance(library, str) else NativeKernel(library)
    if name == "torch":
        return "it has none for this"
    try:
        from switchnorm.ops.kernels.triton import TritonKernel
    except ImportError as error:
        return f"Triton is not installed ({error})"
    except Exception as error:
        return f"importing Triton ended with {first_line(error)}"
    return TritonKernel()


@functools.cache
def _warn(message: str) -> None:
    warnings.warn(message, KernelFallback, stacklevel=4)
