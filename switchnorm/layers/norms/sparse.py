"""Sparse Switchable Normalization (SSN).

Shao et al., "SSN: Learning Sparse Switchable Normalization via SparsestMax", CVPR 2019.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from switchnorm.errors import InputError, unknown
from switchnorm.layers.norms.averaged import Averaged
from switchnorm.layers.norms.decided import Decision, batch_alone
from switchnorm.layers.norms.switch import SwitchNorm, mixture, uses_batch
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.ops.importance import sparse_importance
from switchnorm.ops.kernels.choice import needs_plain_operations
from switchnorm.ops.moments import map_size
from switchnorm.ops.projection import SPARSE, Projection
from switchnorm.ops.simplex import CENTRES, check_radius, interior

_SINGLE = (
    "a {} is trained on maps of a single value, whose instance variance is 0: if it chooses that, differences grow up "
    "to {:.0f} times and training may diverge; use larger maps, or statistics without 'instance'"
)

_APART = (
    "logits of mean and variance differ, and a {} with tied=True has one choice for both: it takes their mean, and a "
    "final choice only where both had the same"
)

#: What a statistic without importance gets when a choice is opened again.
REOPENED = 0.01


class SparseSwitchNorm(Averaged, SwitchNorm):
    """What the sparse layers share; use `SparseSwitchNorm1d`, `2d` or `3d`.

    As `SwitchNorm`, with sparsestmax in place of softmax: while the radius grows from 0 to 1 during training, each
    importance becomes one-hot. `switchnorm.SparseSchedule`, or whoever trains, sets the radius and calls `harden`
    between steps; `forward` does neither.

    In evaluation, where no gradient is needed, a layer that chose the batch statistic alone is a Batch Norm and
    computes no other. On CUDA, in inference mode, it does not notice what is written through `Tensor.data`: call
    `eval()` after that.

    A deep copy whose logits or radius are written from outside, as averages of weights are, has the radius and the
    final choices of the layer it was copied from (see `averaged`). It goes its own way once it is trained itself or its
    radius is set.

    Args:
        centre: where SparsestMax's ball lies, see `switchnorm.ops.sparsestmax`. The default is what the published
            layers and checkpoints compute.
        tied: whether mean and variance have one and the same importance: that of the mean of both logits, which then
            move alike. A layer that ends by one statistic is folded away far more often, see `switchnorm.fold`.
        *args, **kwargs: those of `SwitchNorm`.

    Attributes:
        radius: buffer (1,), the radius in use, 0 at first.
        mean_fixed, var_fixed: buffers (1,), 1 where a choice is final. A final choice receives a gradient of zero.
    """

    #: On the class, for pickles of layers that did not have it.
    tied = False
    _radius_given = False
    _single_seen = False
    _own_history = (*SwitchNorm._own_history, "_radius_given", "_single_seen", "_decision")
    #: What evaluation saw, see `decided`.
    _decision: ClassVar[Decision | None] = None

    def __init__(
        self, *args: Any, centre: Literal["simplex", "support"] = "support", tied: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tied = tied
        if centre not in CENTRES:
            raise unknown("centre", centre, CENTRES)
        self.centre = centre
        self.register_buffer("radius", torch.zeros_like(self.mean_weight[:1]).detach())
        for name in ("mean_fixed", "var_fixed"):
            self.register_buffer(name, torch.zeros(1, dtype=torch.long, device=self.mean_weight.device))
        # Those that are None go last: torch.export counts them, and would look for the others too far on.
        buffers = self._buffers
        buffers.update({name: buffers.pop(name) for name in [*buffers] if buffers[name] is None})

    def reset_parameters(self) -> None:
        """As `SwitchNorm.reset_parameters`; the radius is 0 again and no choice final."""
        with self._rewritten():
            super().reset_parameters()
            for name in ("radius", "mean_fixed", "var_fixed"):
                if name in self._buffers:
                    getattr(self, name).zero_()

    def set_radius(self, radius: float) -> None:
        """Set SparsestMax's radius; raise `InputError` outside [0, 1]."""
        check_radius(radius)
        self._leave()
        self._radius_given = True
        self.radius.fill_(radius)
        self._lead()

    @torch.no_grad()
    def set_importance(self, mean: Sequence[float], var: Sequence[float]) -> None:
        """Choose the logits so that `importance()` is what is given, and let no choice be final.

        Points inside of SparsestMax's ball cannot be had: there the importance becomes what is nearest outside.

        Args:
            mean, var: K numbers from 0 to 1 that sum to 1. Where one is 0 its logit receives no gradient.

        Raises:
            InputError: other numbers, or different ones where the layer is `tied`; before anything has changed.
        """
        of_mean, of_var = self._shares("mean", mean), self._shares("var", var)
        if self.tied and not torch.equal(of_mean, of_var):
            raise InputError(
                f"a {type(self).__name__} with tied=True has one importance for mean and variance, got "
                f"{of_mean.tolist()} and {of_var.tolist()}; the nearest is their mean, twice"
            )
        self._leave()
        for logits, shares in ((self.mean_weight, of_mean), (self.var_weight, of_var)):
            logits.copy_(shares)
        self.mean_fixed.zero_()
        self.var_fixed.zero_()

    @torch.no_grad()
    def harden(self) -> bool:
        """Make every importance that has become one-hot final; return whether both are.

        The choice replaces the logits, as in the published checkpoints. A layer that also takes flat inputs keeps its
        logits where it chose instance, since these inputs have no such statistic and use the rest.

        Waits for the device.
        """
        self._follow()
        instance = [2 in self.input_dims and name == "instance" for name in self.statistics]
        for importance, logits, fixed in zip(
            self.importance(), (self.mean_weight, self.var_weight), (self.mean_fixed, self.var_fixed), strict=True
        ):
            if not fixed and importance.max() == 1 and not instance[int(importance.argmax())]:
                logits.copy_(_spread(importance, logits))
                fixed.fill_(1)
        self._remember()
        self._lead()
        return bool(self.mean_fixed and self.var_fixed)

    @torch.no_grad()
    def unharden(self) -> bool:
        """Let the layer choose again; return whether a choice was final.

        No choice is final any more, the radius is 0, and the logits are the importance that the layer had, brought into
        the simplex where it was on its border: a statistic without importance gets `REOPENED`, so that every logit
        receives a gradient. Setting the radius makes the layer sparse again; at its full size a choice could not move.

        Waits for the device.
        """
        final = bool(self.mean_fixed) or bool(self.var_fixed)
        inside = [interior(each.tolist(), REOPENED) for each in self.importance()]
        self.set_radius(0)
        self.set_importance(*inside)
        return final

    def _before_pass(self, x: Tensor) -> None:
        """Also say what maps of a single value do to a layer that chooses their variance, which is 0."""
        if self._origin is None and (self._passes == 2) == self.training and (x.shape[-1] > 1 or not self.training):
            return  # as in most passes, and a small layer feels what is asked of all
        single = self.training and not self._single_seen and x.dim() > 2 and map_size(x) == 1
        if single and len(self.statistics) > 1 and not (x.is_meta or needs_plain_operations(x, self.var_fixed)):
            self._single_seen = True
            if "instance" in self.statistics and not self.var_fixed and self.var_weight.requires_grad:
                # Of our own line, so that by Python's default all layers together say it once.
                warnings.warn(_SINGLE.format(type(self).__name__, self.eps**-0.5), stacklevel=1)
        super()._before_pass(x)

    def _project(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        held: Any = self._buffers  # past the attributes, which follow: whoever comes here has done so
        if self.tied:
            mean = var = (mean + var) / 2
        return sparse_importance(mean, var, held["mean_fixed"], held["var_fixed"], held["radius"], self.centre)

    def _projection(self) -> Projection | None:
        if type(self)._project is not SparseSwitchNorm._project:
            return None
        held: Any = self._buffers
        return Projection(SPARSE[self.centre], (held["mean_fixed"], held["var_fixed"], held["radius"]), self.tied)

    def _batch_alone(self) -> bool:
        return batch_alone(self)

    def train(self, mode: bool = True) -> Any:
        """As `torch.nn.Module.train`; also where the mode stays, evaluation looks at the importance anew."""
        self.__dict__.pop("_decision", None)
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._tie()

    @torch.no_grad()
    def _tie(self) -> None:
        """Let one choice be what was read as two, and say so."""
        mean, var = (self._parameters.get(name) for name in ("mean_weight", "var_weight"))  # not of computed logits
        fixed: Any = self._buffers
        if not self.tied or mean is None or var is None or mean.is_meta or hasattr(mean, "placements"):
            return
        alike = torch.equal(mean, var)
        if alike and torch.equal(fixed["mean_fixed"], fixed["var_fixed"]):
            return
        if not alike:
            warnings.warn(_APART.format(type(self).__name__), stacklevel=1)
        final = bool(fixed["mean_fixed"] and fixed["var_fixed"]) and bool(mean.argmax() == var.argmax())
        middle = (mean + var) / 2
        with self._rewritten():
            for logits in (mean, var):
                logits.copy_(middle)
            for name in ("mean_fixed", "var_fixed"):
                fixed[name].fill_(final)

    def extra_repr(self) -> str:
        """As `SwitchNorm`, the centre, and whether it is tied."""
        return f"{super().extra_repr()}, centre={self.centre!r}{changed_arguments(self, 'tied')}"


class SparseSwitchNorm1d(SparseSwitchNorm):
    """Sparse Switchable Normalization of (N, C), without the instance statistic, or (N, C, L)."""

    input_dims = (2, 3)


class SparseSwitchNorm2d(SparseSwitchNorm):
    """Sparse Switchable Normalization of (N, C, H, W)."""

    input_dims = (4,)


class SparseSwitchNorm3d(SparseSwitchNorm):
    """Sparse Switchable Normalization of (N, C, D, H, W)."""

    input_dims = (5,)


def _spread(tensor: Tensor, like: Any) -> Tensor:
    """A tensor that every process has, spread over them as `like` is, if it is."""
    if not hasattr(like, "placements"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.dtype), like.device_mesh, like.placements)


register(
    Norm(
        "ssn",
        {1: SparseSwitchNorm1d, 2: SparseSwitchNorm2d, 3: SparseSwitchNorm3d},
        batch_statistics=uses_batch,
        ghost=True,
        sync=True,
        calibrate=True,
        mixes=True,
        sparse=True,
        fuses=True,
        evaluates=mixture,
        flat={"statistics": ("layer", "batch")},
        color="#7a7410",
        order=5,
    )
)
