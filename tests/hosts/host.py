"""What a host is: a model of another library that `switch` is tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Samples in a batch: two ghosts of two.
SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Host:
    """A model that somebody else wrote, in a size that a CPU trains in a second.

    Attributes:
        name: the library's name of it.
        build: the model with random weights.
        inputs: arguments of its forward pass in training, by position or by name, for `SAMPLES` samples.
        evaluated: those in evaluation; `inputs` by default.
        why: for a normalizer of `normalizers.py` that cannot be, the words by which it is refused.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Sequence[Any] | Mapping[str, Any]]
    evaluated: Callable[[], Sequence[Any] | Mapping[str, Any]] | None = None
    why: Mapping[str, str] = field(default_factory=dict)

    def run(self, model: nn.Module) -> list[Tensor]:
        """One forward pass, in the model's mode; all floating-point tensors of the output."""
        make = self.inputs if model.training or self.evaluated is None else self.evaluated
        torch.manual_seed(1)  # the inputs, and what is random in the forward pass
        given = make()
        output = model(**given) if isinstance(given, Mapping) else model(*given)
        return [tensor for tensor in tensors(output) if tensor.is_floating_point()]


def images(side: int = 32, channels: int = 3, dims: int = 2) -> Callable[[], tuple[Tensor]]:
    """Pictures (`SAMPLES`, channels, side, ...) as the only argument."""
    return lambda: (torch.randn(SAMPLES, channels, *(side,) * dims),)


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of an output: a tensor, or dictionaries, sequences and data classes of outputs."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from tensors(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from tensors(part)
    elif is_dataclass(output):
        yield from tensors([getattr(output, each.name) for each in fields(output)])
