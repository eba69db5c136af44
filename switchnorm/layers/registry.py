"""Normalizers by name: the one table that networks, surgery and the command line read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from switchnorm.layers.group_norm import GroupNorm
from switchnorm.layers.sparse_switch_norm import SparseSwitchNorm1d, SparseSwitchNorm2d, SparseSwitchNorm3d
from switchnorm.layers.switch_norm import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from switchnorm.layers.weight_standardized import WSConv1d, WSConv2d, WSConv3d
from switchnorm.ops.statistics import check_groups

BATCH = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}
SWITCH = {1: SwitchNorm1d, 2: SwitchNorm2d, 3: SwitchNorm3d}
SPARSE = {1: SparseSwitchNorm1d, 2: SparseSwitchNorm2d, 3: SparseSwitchNorm3d}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WS_CONV = {1: WSConv1d, 2: WSConv2d, 3: WSConv3d}

NORMS = ("bn", "gn", "in", "ln", "sn", "ssn")


@dataclass(frozen=True)
class Spec:
    """A normalization by name, taken apart.

    Attributes:
        norm: one of `NORMS`.
        groups: of "gn:G"; None where the number of channels decides.
        ws: whether convolutions that feed a normalization standardize their weights.
        statistics: what "sn" and "ssn" mix; None for what the layer does by itself.
    """

    norm: str
    groups: int | None = None
    ws: bool = False
    statistics: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read "sn", "gn:16", "gn+ws", ...; raise `InputError` with the nearest valid name otherwise."""
        name, plus, suffix = text.partition("+")
        if plus and suffix != "ws":
            raise unknown("norm", text, [f"{norm}+ws" for norm in NORMS])
        groups = re.fullmatch(r"gn:(\d+)", name)
        norm = "gn" if groups else name
        if norm not in NORMS:
            raise unknown("norm", text, [norm + plus + suffix for norm in NORMS])
        return cls(norm, int(groups[1]) if groups else None, bool(plus))

    def __str__(self) -> str:
        groups = "" if self.groups is None else f":{self.groups}"
        return f"{self.norm}{groups}{'+ws' if self.ws else ''}"

    def layer(self, channels: int, dims: int = 2, **options: Any) -> nn.Module:
        """A fresh normalization layer.

        Args:
            channels: C.
            dims: spatial dimensions, 1 to 3.
            options: arguments of the layer; `affine`, `eps`, `activation`, `device` and `dtype` are understood by every
                normalizer.

        Raises:
            InputError: groups that do not divide the channels.
        """
        if self.statistics is not None:
            options = {"statistics": self.statistics, **options}
        if self.norm == "bn":
            return BATCH[dims](channels, **options)
        if self.norm == "sn":
            return SWITCH[dims](channels, **options)
        if self.norm == "ssn":
            return SPARSE[dims](channels, **options)
        return GroupNorm(self.group_count(channels), channels, **options)

    def group_count(self, channels: int) -> int:
        """How many groups "gn", "in" and "ln" make of `channels` channels."""
        if self.norm == "in":
            return channels
        if self.norm == "ln":
            return 1
        if self.groups is not None:
            return check_groups(self.groups, channels)
        return default_groups(channels)

    def mixing(self, statistics: Sequence[str] | str | None) -> Spec:
        """This normalization on other statistics.

        Args:
            statistics: names, or one string with commas between them; None for those that it has.

        Raises:
            InputError: statistics for a normalization that mixes none, or that are no names.
        """
        if statistics is None:
            return self
        if self.norm not in ("sn", "ssn"):
            raise InputError(f"statistics are mixed by 'sn' and 'ssn', not by '{self}'; leave statistics out")
        names = statistics.split(",") if isinstance(statistics, str) else statistics
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise InputError(f"statistics are names such as 'instance,layer', not {statistics!r}")
        return replace(self, statistics=tuple(name.strip() for name in names))

    def conv(self, dims: int = 2) -> Callable[..., nn.Module]:
        """The class of a convolution that feeds this normalization."""
        return (WS_CONV if self.ws else CONV)[dims]


def default_groups(channels: int) -> int:
    """Group Norm's 32 groups, or the largest count below that divides the channels into groups of two or more."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)
