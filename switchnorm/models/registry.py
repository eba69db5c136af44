"""Networks by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from functools import partial

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers import Spec
from switchnorm.models.cifar.resnet import CifarResNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"cifar_resnet{depth}": partial(CifarResNet, depth) for depth in (20, 32, 44, 56, 110)},
    "digits_resnet9": partial(CifarResNet, 8, in_channels=1, embedding=128),
}


def create_model(name: str, *, norm: str = "bn", conv: str = "", num_classes: int = 10) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: one of `list_models()`.
        norm: "bn", "gn", "gn:G", "in", "ln", "sn" or "ssn"; with "+ws" for weight-standardized convolutions.
        conv: "ws" means the same as "+ws" behind the norm; "" leaves convolutions to the norm's name.
        num_classes: the number of logits.

    Raises:
        InputError: an unknown name, norm or conv, with the nearest valid one.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    if num_classes < 1:
        raise InputError(f"num_classes {num_classes} is impossible; the nearest valid number is 1")
    return MODELS[name](norm=parse_norm(norm, conv), num_classes=num_classes)


def parse_norm(norm: str, conv: str = "") -> Spec:
    """The `Spec` that `norm` and `conv` name together; raise `InputError` with the nearest valid name."""
    if conv not in ("", "ws"):
        raise unknown("conv", conv, ("ws",))
    return Spec.parse(norm if not conv or norm.endswith("+ws") else f"{norm}+ws")


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows and that match a glob, for example "cifar*"; a list, possibly empty."""
    return fnmatch.filter(MODELS, pattern)
