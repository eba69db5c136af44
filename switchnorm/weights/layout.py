"""The two layouts of a state dict: ours, as PyTorch's own layers have it, and that of the published SN and SSN code.

| | ours | published, d spatial dimensions | published, flat |
|---|---|---|---|
| `weight`, `bias` | (C,) | (1, C, 1, ..., 1), d + 2 dimensions | (1, C) |
| `running_mean`, `running_var` | (C,) | (1, C, 1) | (1, C) |
| `num_batches_tracked` | a counter | none | none |
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_AFFINE, _RUNNING = ("weight", "bias"), ("running_mean", "running_var")


def switchable_prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """What precedes the entries of each SN and SSN layer: "layer1.0.sn1." and so on, in the state's order."""
    prefixes = [key.removesuffix("mean_weight") for key in state if key.endswith("mean_weight")]
    return [prefix for prefix in prefixes if f"{prefix}var_weight" in state]


def to_ours(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """`state` in our layout, whichever it has, and the keys whose shape changed."""
    reshaped = [key for key in _per_channel(state) if state[key].dim() > 1 and _is_row(state[key])]
    return {key: value.flatten() if key in set(reshaped) else value for key, value in state.items()}, reshaped


def to_published(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """`state`, in our layout, in the published one, and the keys that it has no place for.

    Args:
        state: tensors by key.
        shapes: of entries that differ from the table above.
    """
    shapes = {**published_shapes(state), **(shapes or {})}
    dropped = [key for prefix in switchable_prefixes(state) if (key := f"{prefix}num_batches_tracked") in state]
    kept = {key: value for key, value in state.items() if key not in set(dropped)}
    return {key: value.reshape(shapes[key]) if key in shapes else value for key, value in kept.items()}, dropped


def published_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The published shape of every entry that is (C,) in ours.

    How many spatial dimensions a network has is told by its convolutions. A layer is flat that has running statistics
    but two logits: flat inputs have no instance statistic.
    """
    per_channel = _per_channel(state)
    others = (value.dim() for key, value in state.items() if key.endswith("weight") and key not in per_channel)
    dims = max((dim - 2 for dim in others if dim > 2), default=0)
    found: dict[str, tuple[int, ...]] = {}
    for key, prefix in per_channel.items():
        channels = state[key].numel()
        flat = dims == 0 or (f"{prefix}running_mean" in state and state[f"{prefix}mean_weight"].numel() == 2)
        if flat:
            found[key] = (1, channels)
        elif key.removeprefix(prefix) in _RUNNING:
            found[key] = (1, channels, 1)
        else:
            found[key] = (1, channels, *(1,) * dims)
    return found


def _per_channel(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The entries of SN and SSN layers with a number per channel, and each one's prefix."""
    names = [(prefix, name) for prefix in switchable_prefixes(state) for name in _AFFINE + _RUNNING]
    return {prefix + name: prefix for prefix, name in names if prefix + name in state}


def _is_row(value: Tensor) -> bool:
    """Whether the shape is (1, C, 1, ...)."""
    return value.shape[0] == 1 and value.numel() == value.shape[1]
