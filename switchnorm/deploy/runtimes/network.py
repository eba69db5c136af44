"""A network of torch as a function of arrays, as the files of other formats are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from switchnorm.deploy.description import Description
from switchnorm.deploy.runtime import Runtime
from switchnorm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class NetworkRuntime(Runtime):
    """A network that torch runs, for pictures of any number and size.

    Args:
        network: takes normalized images (N, C, H, W).
        description: of the network.
        device: where it computes, as torch calls it.

    Attributes:
        network: as it was given, to be trained on, switched or looked at.
    """

    def __init__(self, network: nn.Module, description: Description, device: str = "cpu") -> None:
        from switchnorm.deploy.adapters import adapted

        self.network, self.device = network.to(device).eval(), device
        self._adapter = adapted(self.network, description)
        super().__init__(description, (), self._forward)

    def _forward(self, images: np.ndarray) -> Sequence[np.ndarray]:
        import torch

        if not self.description.raw:
            if self.description.preparation is None:
                raise InputError("nothing says how pictures are shown to this network; describe it as raw")
            images = self.description.preparation.normalized(images)
        dtype = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.float32)
        with torch.no_grad():
            found = self._adapter(torch.from_numpy(images).to(self.device, dtype))
        self.outputs = tuple(found)
        floating = (value.float() if value.is_floating_point() else value for value in found.values())
        return [value.cpu().numpy() for value in floating]
