"""A traced program that refuses images of another size than the one it was traced with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Sized(nn.Module):
    """A program whose constants hold for one size; a trace itself has no checks of Python.

    Args:
        program: of TorchScript, of images (N, C, H, W).
        height, width: of the images; 0 for any.
    """

    def __init__(self, program: Any, height: int, width: int) -> None:
        super().__init__()
        self.program, self.height, self.width = program, height, width

    def forward(self, images: Tensor):
        """As of the program, for images of the size alone."""
        height, width = images.shape[2], images.shape[3]
        if (self.height > 0 and height != self.height) or (self.width > 0 and width != self.width):
            raise ValueError(
                f"images are {height}x{width}, and this program is for {self.height}x{self.width} (0: any)"
            )
        return self.program(images)


def sized(program: Any, height: int, width: int) -> Any:
    """A program of TorchScript that checks the size first; 0 for any."""
    return torch.jit.script(Sized(program, height, width)) if height or width else program
