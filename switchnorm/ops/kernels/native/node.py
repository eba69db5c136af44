"""Both directions by the compiled library, one call each, with as little Python around them as can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops.kernels.base import ALL, CHANGED, PassGradients, Tables, check_devices, check_lengths
from switchnorm.ops.kernels.native.library import BACKWARD, DTYPES, FORWARD, KEEPS, LEARNS, NEEDS_INPUT, Library, check
from switchnorm.ops.kernels.native.plan import Plan, plan
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.ops.projection import GIVEN, Call, Final, Moved
from switchnorm.ops.statistics import Table

#: What a new table in float64 is made from, which takes half the time of naming the dtype.
_WIDE = torch.empty(0, dtype=torch.float64, device="cpu")


class NativePass:
    """A `WholePass`."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def forward(
        self, call: Call, x: Tensor, tables: Tables, residual: Tensor | None, moved: Moved | None, keeps: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None, tuple[Plan, int]]:
        """Normalize, in one call. Tensors of other devices or lengths than x needs raise `InputError`."""
        channels = x.shape[1]
        mean_logits, var_logits, final, weight, bias, used = tables
        if not _readable(mean_logits, var_logits, weight, bias, len(call.statistics), channels):
            mean_logits, var_logits = _pair(x, "logits", len(call.statistics), mean_logits, var_logits)
            weight, bias = _pair(x, "scale and shift", channels, weight, bias)
        used_mean, used_var = (None, None) if used is None else _used(x, used)
        mean_fixed, var_fixed, radius = (None, None, None) if final is None else _final(x, final)
        moved_mean, moved_var, counter, share = moved or (None, None, None, 0.0)
        running = used_mean if moved_mean is None else moved_mean
        this = plan(
            call,
            x.shape,
            x.is_contiguous(),
            x.dtype,
            used is not None,
            _dtype(mean_logits, var_logits),
            _dtype(radius),
            _dtype(weight, bias),
            _dtype(running),
        )
        flags, learns = this.flags, 0
        saved = batch = None
        if keeps:
            saved = _WIDE.new_empty(this.saved)
            flags |= KEEPS
            if (mean_logits is not None and mean_logits.requires_grad) or (
                var_logits is not None and var_logits.requires_grad
            ):
                learns = LEARNS
                flags |= LEARNS
        if this.batch and moved is None:
            batch = x.new_empty((2, channels), dtype=accumulation_dtype(x.dtype))
        y = torch.empty_like(x)
        library = self.library
        status = library.forward(
            this.packed
            + FORWARD.pack(
                library.parallel,
                library.team,
                torch.get_num_threads(),
                flags,
                x.data_ptr(),
                0 if weight is None else weight.data_ptr(),
                0 if bias is None else bias.data_ptr(),
                0 if used_mean is None else used_mean.data_ptr(),
                0 if used_var is None else used_var.data_ptr(),
                y.data_ptr(),
                0 if saved is None else saved.data_ptr(),
                0 if residual is None else residual.data_ptr(),
                0 if mean_logits is None else mean_logits.data_ptr(),
                0 if var_logits is None else var_logits.data_ptr(),
                0 if radius is None else radius.data_ptr(),
                0 if mean_fixed is None else mean_fixed.data_ptr(),
                0 if var_fixed is None else var_fixed.data_ptr(),
                0 if batch is None else batch.data_ptr(),
                0 if batch is None else batch[1].data_ptr(),
                0 if moved_mean is None else moved_mean.data_ptr(),
                0 if moved_var is None else moved_var.data_ptr(),
                0 if counter is None else counter.data_ptr(),
                share,
            )
        )
        if status:
            check(status)
        return y, saved, batch, (this, learns)

    def backward(
        self,
        call: Call,
        notes: tuple[Plan, int],
        dy: Tensor,
        x: Tensor,
        y: Tensor | None,
        saved: Tensor,
        tables: Tables,
        wanted: Sequence[bool] = ALL,
    ) -> PassGradients:
        """All gradients, in one call."""
        of_x, of_mean, of_var, of_weight, of_bias = wanted
        this, learns = notes
        kept = saved.is_cpu and saved.dtype is torch.float64 and saved.numel() == this.saved
        if not kept or x.shape != this.shape or not x.is_cpu:
            raise RuntimeError(CHANGED)
        saved = saved.contiguous()
        mean_logits, var_logits, _, weight, bias, used = tables
        if not _readable(mean_logits, var_logits, weight, bias, len(call.statistics), x.shape[1]):
            mean_logits, var_logits = _pair(x, "logits", len(call.statistics), mean_logits, var_logits)
            weight, bias = _pair(x, "scale and shift", x.shape[1], weight, bias)
        used_mean, used_var = (None, None) if used is None else _used(x, used)
        importance, affine, running = _dtype(mean_logits, var_logits), _dtype(weight, bias), _dtype(used_mean)
        if (
            x.is_contiguous() is not this.contiguous
            or x.dtype is not this.dtype
            or importance is not this.of_importance
            or affine is not this.of_affine
            or (used_mean is not None and running is not this.of_running)
        ):
            # Hooks of saved tensors, as `torch.autograd.graph.save_on_cpu`, may give back another layout, and
            # `Module.to` parameters of another dtype.
            others = (used is not None, importance, torch.float32, affine, running)
            this = plan(call, x.shape, x.is_contiguous(), x.dtype, *others)
        flags = this.flags if not of_x else this.flags | NEEDS_INPUT
        if call.projection == GIVEN:
            # Where importance is the caller's own, one of 0 has a gradient as any other.
            flags |= learns
        dx = torch.empty_like(x) if of_x else None
        dz = None if y is None else torch.empty_like(x)
        mean_grad = torch.empty_like(mean_logits) if of_mean and mean_logits is not None else None
        var_grad = torch.empty_like(var_logits) if of_var and var_logits is not None else None
        weight_grad = torch.empty_like(weight) if of_weight and weight is not None else None
        bias_grad = torch.empty_like(bias) if of_bias and bias is not None else None
        library = self.library
        status = library.backward(
            this.packed
            + BACKWARD.pack(
                library.parallel,
                library.team,
                torch.get_num_threads(),
                flags,
                x.data_ptr(),
                0 if weight is None else weight.data_ptr(),
                0 if bias is None else bias.data_ptr(),
                0 if used_mean is None else used_mean.data_ptr(),
                0 if used_var is None else used_var.data_ptr(),
                0 if y is None else y.data_ptr(),
                saved.data_ptr(),
                dy.data_ptr(),
                0 if dx is None else dx.data_ptr(),
                0 if dz is None else dz.data_ptr(),
                0 if weight_grad is None else weight_grad.data_ptr(),
                0 if bias_grad is None else bias_grad.data_ptr(),
                0 if mean_grad is None else mean_grad.data_ptr(),
                0 if var_grad is None else var_grad.data_ptr(),
            )
        )
        if status:
            check(status)
        return dx, mean_grad, var_grad, weight_grad, bias_grad, dz


def _readable(
    mean_logits: Tensor | None,
    var_logits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    logits: int,
    channels: int,
) -> bool:
    """Whether all four are there, and the library can read them at their addresses as they are."""
    if mean_logits is None or var_logits is None or weight is None or bias is None:
        return False
    return (
        mean_logits.numel() == logits
        and var_logits.numel() == logits
        and weight.numel() == channels
        and bias.numel() == channels
        and mean_logits.dtype is var_logits.dtype
        and weight.dtype is bias.dtype
        and mean_logits.dtype in DTYPES
        and weight.dtype in DTYPES
        and mean_logits.is_cpu
        and var_logits.is_cpu
        and weight.is_cpu
        and bias.is_cpu
    )


def _used(x: Tensor, used: Table) -> Table:
    """Running statistics as the library can read them."""
    mean, var = used
    numbers, dtype = x.shape[1], mean.dtype
    if mean.numel() == var.numel() == numbers and dtype is var.dtype and dtype in DTYPES and mean.is_cpu and var.is_cpu:
        return used
    return _pair(x, "running statistics", numbers, mean, var)  # type: ignore[return-value]


def _pair(
    x: Tensor, kind: str, numbers: int, a: Tensor | None, b: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Two tables, either of which may be missing, as the library can read them: in memory, in one dtype that it has.

    Raises:
        InputError: of another length or device.
    """
    given = [t for t in (a, b) if t is not None]
    if not given:
        return None, None
    check_devices(x, *given)
    check_lengths(kind, numbers, a, b)
    dtype = torch.promote_types(given[0].dtype, given[-1].dtype)
    dtype = dtype if dtype in DTYPES else torch.float64
    a, b = (None if t is None else t.to(dtype).contiguous() for t in (a, b))
    return a, b


def _final(x: Tensor, final: Final) -> Final:
    """SparsestMax's choices and radius as the library reads them."""
    mean_fixed, var_fixed, radius = final
    if not (mean_fixed.is_cpu and var_fixed.is_cpu and radius.is_cpu):
        check_devices(x, *final)
    if mean_fixed.dtype is not torch.int64 or var_fixed.dtype is not torch.int64:
        mean_fixed, var_fixed = (mean_fixed > 0).long(), (var_fixed > 0).long()
    if mean_fixed.numel() != 1 or var_fixed.numel() != 1 or radius.numel() != 1:
        raise InputError("a choice that is final, and a radius, are single numbers")
    return mean_fixed, var_fixed, radius if radius.dtype in DTYPES else radius.double()


def _dtype(*tables: Tensor | None) -> torch.dtype:
    for t in tables:
        if t is not None:
            return t.dtype
    return torch.float32
