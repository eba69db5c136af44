"""Switchable Normalization (SN).

Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers.arguments import GhostLike, check_dtype, check_ghost
from switchnorm.layers.evaluated import (
    OWN_BATCH,
    Evaluated,
    Mixture,
    affine_of,
    batch_normalization,
    dims_of,
    eps_of,
    exact,
)
from switchnorm.layers.folding import plain_eps
from switchnorm.layers.norms.at_once import at_once
from switchnorm.layers.norms.published import check_logits, read_published
from switchnorm.layers.norms.trained import check_training, count_pass
from switchnorm.layers.printing import changed_arguments
from switchnorm.layers.registry import Norm, register
from switchnorm.layers.running import RunningStatistics, Sync, parts_of_batch, process_group, update_running
from switchnorm.layers.unbatched import is_one_sample, one_sample
from switchnorm.ops import normalize
from switchnorm.ops.importance import softmax_importance
from switchnorm.ops.moments import accumulation_dtype, cast
from switchnorm.ops.normalize import Activation, check_activation, check_group
from switchnorm.ops.projection import BY_SOFTMAX, Projection, members
from switchnorm.ops.statistics import Table, check_statistics

SWITCHABLE = ("instance", "layer", "batch")


class SwitchNorm(RunningStatistics):
    """What the layers for 1, 2 and 3 spatial dimensions share; use `SwitchNorm1d`, `2d` or `3d`.

    Every layer learns how much of each statistic it uses: softmax of `mean_weight` mixes the means, softmax of
    `var_weight` the variances.

    Args:
        num_features: C.
        statistics: any non-empty choice of "instance", "layer", "batch" and "group:G".
        eps: added to the variance.
        momentum: share of the new batch in the running statistics; None averages over all batches since the last reset.
        affine: whether to learn `weight` and `bias`, (C,).
        track_running_stats: whether to keep running statistics for evaluation; without them evaluation uses those of
            its own batch.
        ghost: samples per group over which batch statistics are taken in training, as that many samples per GPU give;
            or the sizes of consecutive groups, any of which may be 0; None takes the whole batch.
        sync: whether batch statistics in training span all processes (or those of the given process group).
        activation: "relu" to end with it, in the same pass over memory; None ends with the normalization.
        device, dtype: of parameters and buffers.

    Attributes:
        mean_weight, var_weight: (K,) logits in the order of `statistics`.
        running_mean, running_var: (C,) buffers, `num_batches_tracked`: a counter, with the batch statistic.

    Raises:
        InputError: a statistic that is unknown, given twice, or whose groups do not divide the channels; `ghost`
            below 1 or together with `sync`; an unknown activation; other arguments that are no such numbers; in
            `forward`, an input of other dimensions or channels, another number of samples than `ghost` has, or a
            residual of another shape.
    """

    activation: Activation | None = None
    #: Training passes that were counted, see `trained`.
    _passes = 0
    #: Attributes that say what became of this very layer, which a copy does not have.
    _own_history: ClassVar[tuple[str, ...]] = ("_passes",)

    def __init__(
        self,
        num_features: int,
        statistics: Sequence[str] = SWITCHABLE,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        ghost: GhostLike = None,
        sync: Sync = False,
        activation: Activation | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.statistics = check_statistics(statistics, num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = "batch" in self.statistics and track_running_stats
        self.ghost = check_ghost(ghost, sync)
        self.sync = sync
        check_activation(activation)
        self.activation = activation
        factory: dict[str, Any] = {"device": device, "dtype": check_dtype(dtype)}
        k = len(self.statistics)
        self.weight = nn.Parameter(torch.empty(num_features, **factory)) if affine else None
        self.bias = nn.Parameter(torch.empty(num_features, **factory)) if affine else None
        self.mean_weight = nn.Parameter(torch.empty(k, **factory))
        self.var_weight = nn.Parameter(torch.empty(k, **factory))
        self._track(num_features if self.track_running_stats else None, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Equal importance of all statistics, scale 1, shift 0, and no running statistics."""
        nn.init.ones_(self.mean_weight)
        nn.init.ones_(self.var_weight)
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)
        self.reset_running_stats()

    def importance(self) -> tuple[Tensor, Tensor]:
        """The weights of the statistics in the mean and in the variance: two (K,) tensors, each summing to 1.

        Logits that `fully_shard` has spread over processes are gathered; all of these must call.
        """
        dtype = accumulation_dtype(self.mean_weight.dtype)
        return self._project(*(cast(whole(weight), dtype) for weight in (self.mean_weight, self.var_weight)))

    @torch.no_grad()
    def set_importance(self, mean: Sequence[float], var: Sequence[float]) -> None:
        """Choose the logits so that `importance()` is what is given; their mean is 1, as that of a fresh layer's.

        Args:
            mean, var: K numbers above 0 that sum to 1.

        Raises:
            InputError: other numbers; before anything has changed.
        """
        of_mean, of_var = self._shares("mean", mean), self._shares("var", var)
        if min(*of_mean, *of_var) <= 0:
            raise InputError(
                "importance of 0 is the limit of softmax and no logit's; the nearest valid number is small"
            )
        for logits, shares in ((self.mean_weight, of_mean), (self.var_weight, of_var)):
            logits.copy_(1 + shares.log() - shares.log().mean())

    def _shares(self, moment: str, importance: Sequence[float]) -> Tensor:
        """(K,) in float64; raise `InputError` for what is no point of the simplex."""
        try:
            shares = [float(share) for share in importance]
        except (TypeError, ValueError):
            shares = []
        k = len(self.statistics)
        if len(shares) != k or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-4:
            given = " ".join(repr(shares or importance).split())
            raise InputError(f"importance of {moment} must be {k} numbers that sum to 1, got {given:.60}")
        return torch.tensor(shares, dtype=torch.float64, device="cpu")

    def _importance(self, kept: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Importance among the statistics with the indices `kept` alone."""
        dtype = accumulation_dtype(self.mean_weight.dtype)
        logits = [cast(weight, dtype) for weight in (self.mean_weight, self.var_weight)]
        if len(kept) < len(self.statistics):
            logits = [torch.stack([each[k] for k in kept]) for each in logits]
        return self._project(*logits)

    def _project(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Importance for the logits (K,) of mean and variance."""
        return softmax_importance(mean, var)

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """activation(norm(input) + residual), keeping shape, dtype and memory format of input (N, C, *S).

        Args:
            input: what is normalized.
            residual: of input's shape, added after normalizing.
            activation: "relu", or None for the layer's own.
        """
        if is_one_sample(self, input):
            return one_sample(self, input, residual, activation)
        self._check_input(input)
        compiling = torch.compiler.is_compiling()
        if not compiling:
            self._before_pass(input)
        # A flat input has no instance statistic: the others share its importance.
        statistics = members(self.statistics, input.dim() == 2)
        if len(statistics) < 2:
            self._check_statistic(input, statistics)
        running = None
        if not self.training:
            running = self._running()
        ghost, group = parts_of_batch(self, input), process_group(self.sync) if self.training else None
        activation = activation or self.activation
        if group is None and not compiling:
            if running is not None and len(statistics) == len(self.statistics) > 1 and self._batch_alone():
                affine, eps = (self.weight, self.bias), plain_eps(self)
                return normalize(
                    input,
                    ("batch",),
                    None,
                    None,
                    *affine,
                    eps=eps,
                    running=running,
                    residual=residual,
                    activation=activation,
                ).y
            whole = at_once(self, input, statistics, running, ghost, residual, activation)
            if whole is not None:
                return whole
        mean_importance, var_importance = self._importance([self.statistics.index(name) for name in statistics])
        y, batch_mean, batch_var = normalize(
            input,
            statistics,
            mean_importance,
            var_importance,
            self.weight,
            self.bias,
            eps=plain_eps(self),
            running=running,
            ghost=ghost,
            group=group,
            residual=residual,
            activation=activation,
        )
        # An empty batch says nothing, unless other processes filled it.
        informative = input.numel() > 0 or group is not None
        if (
            informative
            and self.training
            and self.track_running_stats
            and batch_mean is not None
            and batch_var is not None
        ):
            update_running(self, batch_mean, batch_var, ghost, empty=input.numel() == 0)
        return y

    def _check_statistic(self, x: Tensor, statistics: tuple[str, ...]) -> None:
        """Raise `InputError` for an input without the only statistic, or of single values for it in training."""
        if not statistics:
            raise InputError(
                f"input {tuple(x.shape)} has no instance statistic; add 'layer' or 'batch' to the statistics"
            )
        if self.training and self.statistics == ("instance",):
            check_group(x, self.num_features)

    def _running(self) -> Table | None:
        """The running mean and variance."""
        held: Any = self._buffers  # an attribute of a module costs a small layer as much as a whole check
        mean, var = held.get("running_mean"), held.get("running_var")
        if mean is None or var is None:
            mean, var = self.running_mean, self.running_var
        return None if mean is None or var is None else (mean, var)

    def _projection(self) -> Projection | None:
        """What `_project` does, as kernels know it; None where a subclass does something else."""
        return BY_SOFTMAX if type(self)._project is SwitchNorm._project else None

    def _batch_alone(self) -> bool:
        """Whether in evaluation no other statistic has any importance, as far as that is known without waiting."""
        return False

    def _before_pass(self, x: Tensor) -> None:
        """Keep an eye on how the layer is trained."""
        if self.training:
            if self._passes < 2 and torch.is_grad_enabled():
                count_pass(self)
        elif self._passes == 2:
            check_training(self)

    def _save_to_state_dict(self, *args: Any) -> None:
        if self._passes == 2:
            check_training(self)
        super()._save_to_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self._own_history}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        read_published(self, state_dict, prefix, SWITCHABLE)
        check_logits(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        """Arguments that differ from their defaults, after the channels and statistics."""
        first = f"{self.num_features}, statistics={self.statistics}, eps={self.eps}, momentum={self.momentum}"
        running = ("track_running_stats",) if "batch" in self.statistics else ()
        return first + changed_arguments(self, "affine", *running, "ghost", "sync", "activation")


class SwitchNorm1d(SwitchNorm):
    """Switchable Normalization of (N, C), without the instance statistic, or (N, C, L); arguments as `SwitchNorm`."""

    input_dims = (2, 3)


class SwitchNorm2d(SwitchNorm):
    """Switchable Normalization of (N, C, H, W); arguments as `SwitchNorm`."""

    input_dims = (4,)


class SwitchNorm3d(SwitchNorm):
    """Switchable Normalization of (N, C, D, H, W); arguments as `SwitchNorm`."""

    input_dims = (5,)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be a share of one (`DTensor`); then every process must call."""
    gather = getattr(tensor, "full_tensor", None)
    found: Tensor = tensor if gather is None else gather()
    return found


def mixture(layer: SwitchNorm) -> Evaluated | str:
    """What a layer computes in evaluation; why that is not known where it takes a batch statistic and tracks none."""
    mean, var = (
        {name: share for name, share in zip(layer.statistics, exact(each).tolist(), strict=True) if share > 0}
        for each in layer.importance()
    )
    tracked = layer.running_mean is not None and layer.running_var is not None
    if "batch" in {*mean, *var} and not tracked:
        return OWN_BATCH
    if {*mean, *var} == {"batch"}:
        return batch_normalization(layer)
    running = None
    if layer.running_mean is not None and layer.running_var is not None:
        running = (exact(layer.running_mean), exact(layer.running_var))
    weight, bias = affine_of(layer, layer.num_features)
    found = Mixture(mean, var, running, eps_of(layer), weight, bias, True, layer.num_features)
    return Evaluated(layer.num_features, None, found, dims_of(layer), layer.activation)


def uses_batch(layer: SwitchNorm) -> bool:
    """Whether a layer mixes the batch statistic."""
    return "batch" in layer.statistics


register(
    Norm(
        "sn",
        {1: SwitchNorm1d, 2: SwitchNorm2d, 3: SwitchNorm3d},
        batch_statistics=uses_batch,
        ghost=True,
        sync=True,
        calibrate=True,
        mixes=True,
        fuses=True,
        evaluates=mixture,
        flat={"statistics": ("layer", "batch")},
        color="#a65bf0",
        order=4,
    )
)
