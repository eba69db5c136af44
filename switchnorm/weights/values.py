"""What the numbers of a checkpoint must be before a network computes with them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from switchnorm.errors import InputError


def check_values(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Refuse entries that would load and make every result of the network wrong, or no number.

    Args:
        state: tensors by key.
        expected: the network's entries by the same keys, before anything is loaded; others of `state` do not matter.
        source: what to call the state in an error.

    Raises:
        InputError: no floating point numbers where the network has some, numbers that are not finite where the
            network's are, or a variance below 0; names the first such entry.
    """
    for key, ours in expected.items():
        if key not in state or not ours.is_floating_point():
            continue
        theirs = state[key]
        kind = str(theirs.dtype).removeprefix("torch.")
        if not theirs.is_floating_point() or theirs.element_size() < 2:
            raise InputError(f"{source}: {key} holds {kind}; expected float16, bfloat16, float32 or float64")
        if not theirs.isfinite().all() and ours.isfinite().all():
            count = int(theirs.isfinite().logical_not().sum())
            raise InputError(
                f"{source}: {key} holds {count} numbers that are not finite, of {theirs.numel()}; "
                "expected the weights of a training that did not diverge"
            )
        if key.endswith("running_var") and bool((theirs < 0).any()):
            raise InputError(f"{source}: {key} holds {float(theirs.min()):.4g}; a variance is at least 0")
