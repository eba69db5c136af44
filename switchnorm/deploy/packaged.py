"""A network as files hold it: 8-bit pictures in, named outputs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.deploy.pools import AnySizePools
from switchnorm.errors import InputError

#: From what a network returns to named tensors.
Answer = Callable[[Any], Mapping[str, Tensor]]


class Packaged(nn.Module):
    """A network that takes 8-bit pictures, or normalized ones, and gives a tuple of tensors.

    Args:
        network: takes normalized images (N, C, H, W).
        outputs: names of what `answer` finds, in the order in which they are given out.
        answer: names what the network returns.
        scale, shift: C numbers each, with which pixels become what the network takes; None to give it images as they
            are.
        any_size: whether adaptive pooling is computed in a way that holds at any size of the maps.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        outputs: Sequence[str],
        answer: Answer,
        scale: Sequence[float] | None = None,
        shift: Sequence[float] | None = None,
        *,
        any_size: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.outputs, self.any_size = tuple(outputs), any_size
        self._answer = answer
        self.raw = scale is None or shift is None
        for name, values in (("scale", scale), ("shift", shift)):
            table = torch.tensor([] if values is None else values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, table, persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) -> the outputs, in order; floating-point ones are float32."""
        x = images if self.raw else images.float() * self.scale + self.shift
        dtype = next((each.dtype for each in self.network.parameters() if each.is_floating_point()), torch.float32)
        with AnySizePools() if self.any_size else contextlib.nullcontext():
            found = self._answer(self.network(x.to(dtype)))
        return tuple(_plain(found[name]) for name in self.outputs)


def _plain(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16, torch.float64) else x


def answers(task: str) -> Answer:
    """What names the outputs of a network for a task."""
    return _NAMED.get(task, as_they_are)


def as_they_are(found: Any) -> dict[str, Tensor]:
    """A tensor as "output"; those of dicts by their keys, and of sequences by their places.

    Raises:
        InputError: something that is no tensor.
    """
    named = dict(_leaves(found, ()))
    if not named:
        raise InputError(f"the network returns {type(found).__name__} without a tensor; a file holds tensors")
    return named


def logits(found: Any) -> dict[str, Tensor]:
    """The logits of a classifier, (N, K), or of a network for segmentation, (N, K, h, w); what else comes is left."""
    if isinstance(found, Mapping):
        found = found.get("out", found.get("logits", next(iter(found.values()), None)))
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise InputError(f"the network returns {type(found).__name__}; expected logits")
    return {"logits": found}


def _leaves(found: Any, path: tuple[str, ...]) -> Any:
    if isinstance(found, Tensor):
        yield "_".join(path) or "output", found
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(found, (tuple, list)):
        for place, value in enumerate(found):
            yield from _leaves(value, (*(path or ("output",)), str(place)))
    elif found is not None:
        raise InputError(f"the network returns {type(found).__name__} among its outputs; a file holds tensors")


_NAMED: Mapping[str, Answer] = {"classification": logits, "segmentation": logits}
