"""A network as files hold it: 8-bit pictures in, named outputs out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from switchnorm.data.preparation import Preparation
from switchnorm.deploy.pools import AnySizePools


class Packaged(nn.Module):
    """A network that takes 8-bit pictures, or normalized ones, and gives a tuple of tensors.

    Args:
        network: takes normalized images (N, C, H, W), and returns named tensors.
        outputs: names of these, in the order in which they are given out.
        preparation: how pixels become what the network takes; None to give it images as they are.
        any_size: whether adaptive averages are computed in a way that holds at any size of the maps.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        outputs: Sequence[str],
        preparation: Preparation | None = None,
        *,
        any_size: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.outputs, self.any_size = tuple(outputs), any_size
        self.raw, self.flipped = preparation is None, False
        if preparation is not None:
            self.flipped = preparation.order == "bgr"
            deviation = torch.tensor(preparation.std).view(-1, 1, 1)
            mean = torch.tensor(preparation.mean).view(-1, 1, 1)
            self.register_buffer("scale", preparation.scale / deviation, persistent=False)
            self.register_buffer("shift", -mean / deviation, persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) -> the outputs, in order; floating-point ones are float32."""
        found = self.named(images)
        return tuple(found[name] for name in self.outputs)

    def named(self, images: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> all that the network returns, by name."""
        x = images if self.raw else self._normalized(images)
        dtype = next((each.dtype for each in self.network.parameters() if each.is_floating_point()), torch.float32)
        with AnySizePools(averages=self.any_size):
            found = self.network(x.to(dtype))
        return {name: _plain(value) for name, value in found.items()}

    def _normalized(self, images: Tensor) -> Tensor:
        colors = images.flip(1) if self.flipped else images
        return colors.to(self.scale.dtype) * self.scale + self.shift


def _plain(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
