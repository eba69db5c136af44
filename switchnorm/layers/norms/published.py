"""Reading what the published layers of SN and SSN saved, and what other normalizers did."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor


def read_published(layer: Any, state_dict: dict[str, Any], prefix: str, published: tuple[str, ...]) -> None:
    """Bring entries in the published layout, (1, C, 1, 1) and (1, C, 1), without a counter, into ours.

    Args:
        layer: a `SwitchNorm`.
        state_dict, prefix: as `torch.nn.Module.load_state_dict` has them; entries are replaced.
        published: the statistics of the published layers.
    """
    for name in ("weight", "bias", "running_mean", "running_var"):
        saved = state_dict.get(prefix + name)
        if isinstance(saved, Tensor) and saved.dim() > 1 and saved.numel() == layer.num_features:
            state_dict[prefix + name] = saved.flatten()
    if layer.track_running_stats and prefix + "running_mean" in state_dict:
        state_dict.setdefault(prefix + "num_batches_tracked", torch.zeros((), dtype=torch.long))
    # The published 1d layer knows flat inputs alone, which have no instance statistic, and has no logit for it: one
    # so low that its importance is 0.
    if 2 in layer.input_dims and layer.statistics == published:
        for name in ("mean_weight", "var_weight"):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape == (2,):
                state_dict[prefix + name] = torch.cat((saved.new_full((1,), -1e4), saved))


def check_logits(state_dict: dict[str, Any], prefix: str) -> None:
    """Say that entries of a layer are another normalizer's: scale and running statistics, and no logits.

    `load_state_dict` with `strict=False` takes these, and what they were trained with is lost.
    """
    if prefix + "weight" not in state_dict and prefix + "running_mean" not in state_dict:
        return
    # Parametrized or pruned ones have longer names.
    if not any("mean_weight" in key or "var_weight" in key for key in state_dict if key.startswith(prefix)):
        warnings.warn(
            "weights without the logits of a layer that mixes statistics are another normalizer's, and what they "
            "compute is not kept: load them before switch, which keeps it",
            stacklevel=2,
        )
