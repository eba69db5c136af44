"""How the published detectors were evaluated."""

from __future__ import annotations

from torch import nn

from switchnorm.errors import InputError


def published_eval(model: nn.Module) -> nn.Module:
    """Put a network into evaluation as the published code does where it was fine-tuned with its first stage frozen.

    There SwitchNorm_Detection's `train` reaches the stages that are not frozen alone, so the normalizations of
    `body.layer1` ("res2") never leave training mode: they take the statistics of the picture that is tested, and move
    their running statistics with it, as they do here. Of the published networks R-50-FPN Faster SN (8,2) was
    evaluated so; in those without a batch statistic it changes nothing.

    Args:
        model: the network, in place; every later `eval()` does the same until `model.published_eval` is False.

    Raises:
        InputError: another network.
    """
    if not hasattr(model, "published_eval"):
        raise InputError(f"{type(model).__name__} is no two-stage detector of this library; leave published_eval out")
    model.published_eval = True  # type: ignore[assignment]
    return model.eval()
