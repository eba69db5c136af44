"""Counting the layers that took over an activation."""

from __future__ import annotations

import pytest

from switchnorm import layers


@pytest.fixture
def fused_calls(monkeypatch):
    """How many layers ended with ReLU, and how many of these added a residual."""
    calls = []
    for cls in layers.registry.find("bn").layers[2], layers.SwitchNorm2d, layers.GroupNorm:
        own = cls.forward

        def spy(self, x, residual=None, activation=None, own=own):
            if activation:
                calls.append(residual is not None)
            return own(self, x, residual, activation)

        monkeypatch.setattr(cls, "forward", spy)
    return calls
