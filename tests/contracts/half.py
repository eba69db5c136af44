"""The smallest normalizer that a user may register: a class, and nothing said of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Norm, register


class Half(nn.Module):
    """Instance statistics for the first half of the channels, a Batch Normalization inside for the others."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = channels
        self.eps = eps
        self.first = channels // 2
        self.batch = nn.BatchNorm1d(channels - self.first, eps)

    def forward(self, x: Tensor) -> Tensor:
        rest = x[:, self.first :]
        normalized = self.batch(rest.flatten(2) if x.dim() > 2 else rest).view_as(rest)
        if x.dim() == 2 or self.first == 0:
            return torch.cat((x[:, : self.first], normalized), 1)
        return torch.cat((F.instance_norm(x[:, : self.first], eps=self.eps), normalized), 1)


HALF = Norm("half", layers={1: Half, 2: Half, 3: Half})


@pytest.fixture
def half(own_registry: None) -> Norm:
    """`Half`, registered for one test."""
    return register(HALF)
