"""What makes of a network for a task one whose outputs have the names that files give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from switchnorm.config.task_spec import loaded, tasks
from switchnorm.deploy.description import RAW_TASK, Description
from switchnorm.deploy.runtime import INPUT
from switchnorm.errors import InputError


class Adapter(nn.Module):
    """A network that takes normalized images (N, C, H, W) and returns named tensors.

    Args:
        network: whose outputs are named.

    Attributes:
        batches: whether it takes several images at once.
        counts: whether how much it gives depends on what is in the picture.
        in_8_bits: why its outputs cannot be computed in 8 bits; "" where they can.
    """

    batches: ClassVar[bool] = True
    counts: ClassVar[bool] = False
    in_8_bits: ClassVar[str] = ""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def smallest(self) -> int:
        """The smallest height and width of images, in pixels."""
        return 1

    @staticmethod
    def set_up(network: Any, about: Description) -> None:
        """Let a network be run as its description says; it has not been folded or adapted."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) float -> outputs by name."""
        raise NotImplementedError

    def check(self, found: Mapping[str, Any], about: Description) -> None:
        """Raise `InputError` where outputs, arrays by name, are none of a network as the description says it is."""

    @staticmethod
    def error(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
        """How far outputs are from those expected, arrays by name, over the largest of each output."""
        return max((_apart(found[name], value) for name, value in expected.items()), default=0.0)


class AsTheyAre(Adapter):
    """A tensor is "output"; those of dicts have their keys, and those of sequences their places."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As `Adapter`.

        Raises:
            InputError: the network returns something that is no tensor.
        """
        found = self.network(x)
        leaves = list(_leaves(found, ()))
        named = dict(leaves)
        if len(named) < len(leaves) or INPUT in named:
            names = [name for name, _ in leaves]
            twice = next(name for name in names if name == INPUT or names.count(name) > 1)
            what = "the input has" if twice == INPUT else "two outputs would have"
            raise InputError(f"the network returns {twice!r}, a name that {what} in the file; rename it")
        if not named:
            raise InputError(f"the network returns {type(found).__name__} without a tensor; a file holds tensors")
        return named


class Logits(Adapter):
    """A classifier gives "logits" (N, K), a network for segmentation (N, K, h, w) at its own resolution.

    What else it returns, as auxiliary classifiers, is of training.

    Attributes:
        dims: how many dimensions the logits have.
    """

    dims: ClassVar[int] = 2

    def check(self, found: Mapping[str, Any], about: Description) -> None:
        """As `Adapter`."""
        shape = found["logits"].shape
        if len(shape) != self.dims:
            wanted = "(N, K)" if self.dims == 2 else "(N, K, h, w)"
            raise InputError(f"the network returns logits {shape}, and the task {about.task!r} has {wanted}")
        if about.classes and shape[1] != len(about.classes):
            raise InputError(f"the network tells {shape[1]} classes apart, and {len(about.classes)} are described")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As `Adapter`.

        Raises:
            InputError: the network returns no logits.
        """
        found = self.network(x)
        if isinstance(found, Mapping):
            name = next((name for name in ("out", "logits") if name in found), None)
            if name is None and len(found) > 1:
                raise InputError(
                    f"the network returns {', '.join(map(str, found))}, and nothing says which of them is the logits; "
                    "call it 'logits'"
                )
            found = next(iter(found.values()), None) if name is None else found[name]
        if isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, Tensor):
            raise InputError(f"the network returns {type(found).__name__}; expected logits")
        return {"logits": found}


class PixelLogits(Logits):
    """As `Logits`, of each pixel."""

    dims = 4


def task_of(network: nn.Module) -> str:
    """The task of a network of which nobody has said one: detection where its outputs tell, and else "raw"."""
    from switchnorm.deploy.detectors import finds_objects

    return "detection" if finds_objects(network) else RAW_TASK


def set_up(network: nn.Module, about: Description) -> None:
    """Let a network be run as its description says, before it is folded and adapted."""
    _adapter_of(about).set_up(network, about)


def adapted(network: nn.Module, about: Description) -> Adapter:
    """The network as one whose outputs have the names of its task."""
    return _adapter_of(about)(network)


def _adapter_of(about: Description) -> type[Adapter]:
    """The adapter that the task names; its networks' outputs are as they are where it names none."""
    task = tasks().get(about.task)
    found: type[Adapter] | None = None if task is None else loaded(task.adapter)
    return AsTheyAre if found is None else found


def _leaves(found: Any, path: tuple[str, ...]) -> Any:
    if isinstance(found, Tensor):
        yield "_".join(path) or "output", found
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(found, tuple | list):
        for place, value in enumerate(found):
            yield from _leaves(value, (*(path or ("output",)), str(place)))
    elif found is not None:
        raise InputError(f"the network returns {type(found).__name__} among its outputs; a file holds tensors")


def _apart(found: Any, expected: Any) -> float:
    import numpy as np

    if found.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    if expected.dtype.kind in "biu":
        return float((found != expected).mean())
    largest = float(np.abs(expected).max())
    apart = float(np.abs(found.astype(np.float64) - expected).max())
    return apart / largest if largest > 0 else apart
