"""What the writers of all formats are given: a network that is ready to leave."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from switchnorm.deploy.description import KEY, Description
from switchnorm.deploy.packaged import Packaged
from switchnorm.deploy.runtime import OUTPUTS
from switchnorm.surgery.folding.tables import Tables

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Job:
    """A network on its way into a file.

    Args:
        source: the network as it was given; not to be changed.
        network: folded where the format holds it so, and packaged: images (N, C, H, W) to a tuple of tensors.
        example: images that it is traced with.
        dynamic: which of "batch", "height" and "width" stay open.
        description: of the network.
        checksum: of its weights before folding, SHA-256.
        half: whether to compute, or at least to keep weights, in 16-bit floating point.
        calibration: pictures by which 8-bit scales are chosen, arrays (1, C, H, W) as the file takes them; None for a
            file of floating-point numbers.
    """

    source: nn.Module
    network: Packaged
    example: Tensor
    dynamic: tuple[str, ...]
    description: Description
    checksum: str
    half: bool = False
    calibration: Sequence[np.ndarray] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self.network.outputs

    def in_half(self) -> Job:
        """This job with a network of 16-bit floating point numbers, where that is asked for."""
        if not self.half:
            return self
        network = copy.deepcopy(self.network)
        network.network.half()
        for module in network.modules():
            if isinstance(module, Tables):  # statistics, which it computes in 32 bits whatever it is given
                module.float()
        return replace(self, network=network)

    def metadata(self) -> dict[str, str]:
        """What the file says of itself: the description whole, and what others look for by plain names."""
        about = self.description
        found = {
            KEY: about.to_json(),
            OUTPUTS: json.dumps(list(self.outputs)),
            "task": about.task,
            "names": json.dumps(list(about.classes)),
            "weights_sha256": self.checksum,
        }
        if about.size is not None:
            found["size"] = json.dumps(list(about.size))
        if about.preparation is not None:
            found |= {name: json.dumps(list(getattr(about.preparation, name))) for name in ("mean", "std")}
        return found
