"""A small network, its state in the published layout, and how states and files are compared."""

import hashlib
import importlib

import torch
from torch import nn

from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d

#: The module; its function has the same name.
TABLE = importlib.import_module("switchnorm.weights.published")


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def same(state, expected) -> None:
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert (state[key].shape, state[key].dtype) == (value.shape, value.dtype), key
        assert torch.equal(state[key], value), key


def small(norm: str = "ssn", statistics=("instance", "layer", "batch")) -> nn.Module:
    layer = {"sn": SwitchNorm2d, "ssn": SparseSwitchNorm2d}[norm]
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer(4, statistics), nn.Conv2d(4, 5, 1), layer(5, statistics))


def small_state(**options):
    """The small network's state in the published layout."""
    state = small(**options).state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
        if key[0] in "13" and value.dim() == 1 and len(value) > 3:
            state[key] = value.reshape(1, -1, 1) if "running" in key else value.reshape(1, -1, 1, 1)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
