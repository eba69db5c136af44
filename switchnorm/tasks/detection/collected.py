"""Detections of many pictures, over all processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor

from switchnorm.data.detection import DetectionScene
from switchnorm.errors import InputError
from switchnorm.tasks.detection.average_precision import Scores, Tally, score
from switchnorm.tasks.detection.found import Found, Truth, in_original


class Collected:
    """Keeps what a detector finds on pictures beside what is there, until it is compared.

    Args:
        num_classes: C, without the background.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._tallies: list[Tally] = []

    def update(self, scene: DetectionScene, detections: Mapping[str, Tensor]) -> Found:
        """Keep a picture.

        Args:
            scene: what the network was shown; its objects are known.
            detections: what the network found there, as `in_original` takes it.

        Returns:
            The same in pixels of the original.
        """
        assert scene.objects is not None
        found = in_original(scene, detections)
        self._tallies.append(Tally(scene.index, scene.size, Truth.of(scene.objects), found))
        return found

    def compute(self) -> Scores:
        """The scores of the pictures of all processes: the same bits for any number of them; every process must call.

        The first process alone has the pictures of all and compares them; the others are told the scores, without
        pictures.

        Raises:
            InputError: no object counts; in every process.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return score(self._tallies, self.num_classes)
        first = dist.get_rank() == 0
        shares: list[list[Tally]] | None = [[] for _ in range(dist.get_world_size())] if first else None
        dist.gather_object(self._tallies, shares)
        answer: list[Scores | InputError | None] = [None]
        scores: Scores | None = None
        if shares is not None:
            try:
                scores = score(_once(shares), self.num_classes)
                answer = [dataclasses.replace(scores, tallies=())]
            except InputError as error:
                answer = [error]
        dist.broadcast_object_list(answer)
        (told,) = answer
        if isinstance(told, InputError):
            raise told
        assert told is not None
        return told if scores is None else scores

    def reset(self) -> None:
        """Forget all pictures."""
        self._tallies = []


def _once(shares: list[list[Tally]]) -> list[Tally]:
    """Each picture once, though several processes may have seen it."""
    return list({tally.index: tally for share in shares for tally in share}.values())
