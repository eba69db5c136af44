"""A network of torch as a function of arrays, as the files of other formats are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from switchnorm.deploy.description import Description
from switchnorm.deploy.runtime import Runtime
from switchnorm.errors import InputError
from switchnorm.text import first_line

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class NetworkRuntime(Runtime):
    """A network that torch runs, for pictures of any number and size.

    Args:
        network: takes normalized images (N, C, H, W).
        description: of the network.
        device: where it computes, as torch calls it; "auto" is the fastest here.
        autocast: the 16-bit numbers that it computes with where these are safe, "bf16" or "16"; "" for its own.

    Raises:
        InputError: no such device here.

    Attributes:
        network: as it was given, to be trained on, switched or looked at.
    """

    def __init__(self, network: nn.Module, description: Description, device: str = "cpu", autocast: str = "") -> None:
        from switchnorm.deploy.adapters import adapted, set_up

        self.device = _device(device)
        self.network = network.to(self.device).eval()
        self._autocast = autocast
        set_up(self.network, description)
        self._adapter = adapted(self.network, description)
        super().__init__(description, (), self._forward)

    def _forward(self, images: np.ndarray) -> Sequence[np.ndarray]:
        import torch

        if not self.description.raw:
            if self.description.preparation is None:
                raise InputError("nothing says how pictures are shown to this network; describe it as raw")
            images = self.description.preparation.normalized(images)
        dtype = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.float32)
        kind = {"bf16": torch.bfloat16, "16": torch.float16}.get(self._autocast)
        with torch.no_grad(), torch.autocast(torch.device(self.device).type, kind, enabled=kind is not None):
            try:
                found = self._adapter(torch.from_numpy(images).to(self.device, dtype))
            except InputError:
                raise
            except (RuntimeError, ValueError, AssertionError) as error:  # how networks refuse a shape
                what = f"pictures (channels, height, width) = {tuple(images.shape[1:])}"
                raise InputError(f"the network takes no {what}: {first_line(error)}") from error
        self.outputs = tuple(found)
        floating = (value.float() if value.is_floating_point() else value for value in found.values())
        return [value.cpu().numpy() for value in floating]


def _device(name: str) -> str:
    """The device of that name, as torch calls its kind and place."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next((each for each, there in available.items() if there), "cpu")
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if not available.get(kind, kind == "cpu"):
        able = [each for each, there in available.items() if there]
        raise InputError(f"device {name!r} is not available here; choose from {', '.join(['cpu', 'auto', *able])}")
    return name
