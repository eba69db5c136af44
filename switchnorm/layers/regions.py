"""Ghost batches of layers that see regions of pictures: how many regions each picture has is told before every pass."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from switchnorm.errors import InputError

_KEY = "switchnorm.regions"


class Regions:
    """The `ghost` of layers that see regions: statistics over all regions of so many consecutive pictures.

    What pools regions tells it with each call how many there are, and the layers behind that ask. Copies and pickles
    know the number of pictures and nothing of calls.

    Args:
        pictures: how many pictures a GPU would hold.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self._last: _Call | None = None
        # Those that a graph remembers, for gradient checkpointing runs layers again when it goes back.
        self._remembered: WeakSet[_Call] = WeakSet()

    def told(self, boxes: Sequence[Tensor] | Tensor | None, pictures: int, pooled: Tensor) -> None:
        """Take in a call of what pools regions.

        Args:
            boxes: those of each picture, (K_i, 4); or (K, 5) of all, which begin with the index of the picture and are
                in the order of pictures; None for what is neither.
            pictures: how many pictures there are, for boxes (K, 5).
            pooled: the regions, (K, C, *S).
        """
        self._last = call = _Call(boxes, pictures)
        if not torch.compiler.is_compiling() and pooled.grad_fn is not None:
            # As long as the graph lives, and no longer.
            metadata: Any = pooled.grad_fn.metadata
            metadata[_KEY] = call
            self._remembered.add(call)

    def sizes(self, x: Tensor) -> tuple[int, ...]:
        """The number of regions of each group of pictures, some of which may have none.

        Args:
            x: all regions, (K, C, *S).

        Raises:
            InputError: regions that are not those which were pooled last; or, where gradient checkpointing computes
                again, several passes with as many regions that differ in where they are.
        """
        counts = self._counts(x.shape[0])
        return tuple(sum(counts[at : at + self.pictures]) for at in range(0, len(counts), self.pictures))

    def _counts(self, total: int) -> tuple[int, ...]:
        call, task = self._last, _graph_task()
        told = -1 if call is None or torch.compiler.is_compiling() or task != -1 else call.thread
        if told != -1 and told != get_ident():
            raise InputError(
                "ghost batches by picture: another thread pooled regions last, as copies in torch.nn.DataParallel do; "
                "use DistributedDataParallel"
            )
        if task == -1 or (call is not None and call.task == task):
            if call is None or call.total != total:
                cut = "none were pooled before" if call is None else f"those that were pooled last are {call.total}"
                raise InputError(
                    f"ghost batches by picture go by the regions that were pooled last: a layer sees {total}, and {cut}"
                    "; call the module that pools before these layers, or ghost(model, None)"
                )
            return call.counts
        found = {call.counts for call in self._remembered if call.total == total}
        if len(found) != 1:
            raise InputError(
                f"gradient checkpointing computes a layer with {total} regions again, and {len(found)} divisions of "
                "these among pictures are known; put the pooling inside of what is checkpointed"
            )
        return found.pop()

    def __getstate__(self) -> dict[str, Any]:
        return {"pictures": self.pictures}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"{self.pictures} picture{'s' if self.pictures > 1 else ''}"


class _Call:
    """How many regions each picture has."""

    def __init__(self, boxes: Sequence[Tensor] | Tensor | None, pictures: int) -> None:
        self.task = _graph_task()
        self.thread = -1 if torch.compiler.is_compiling() else get_ident()
        self._pictures = pictures
        # Of boxes (K, 5) the first column is read when a layer asks, since on a GPU that waits for the device.
        self._indices: Tensor | None = None
        self._counts: tuple[int, ...] | None = None
        self.total = -1
        if isinstance(boxes, Tensor):
            self._indices, self.total = boxes.detach()[:, 0], boxes.shape[0]
        elif isinstance(boxes, Sequence):
            self._counts = tuple(each.shape[0] for each in boxes)
            self.total = sum(self._counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """By picture; `InputError` for boxes (K, 5) that are not in the order of pictures."""
        if self._counts is None:
            assert self._indices is not None
            of_pictures = self._indices.long()
            if bool((of_pictures.diff() < 0).any()):
                raise InputError(
                    "ghost batches by picture need boxes (K, 5) in the order of pictures, and their first column is in "
                    "none; sort them by it"
                )
            self._counts = tuple(of_pictures.bincount(minlength=self._pictures).tolist())
            self._indices = None
        return self._counts


def _graph_task() -> int:
    """Which backward pass this is within; -1 for none."""
    return -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()
