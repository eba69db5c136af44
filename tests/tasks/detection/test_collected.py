"""Detections of several processes give the scores of one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from switchnorm.data.detection import DetectionScene, Objects
from switchnorm.errors import InputError
from switchnorm.tasks.detection import collected as collected_module
from switchnorm.tasks.detection.average_precision import NOTHING_COUNTS, score
from switchnorm.tasks.detection.collected import Collected
from tests import processes
from tests.tasks.detection.pictures import tally

PICTURES, CLASSES = 9, 3


def scenes() -> list[tuple[DetectionScene, dict[str, torch.Tensor]]]:
    """Pictures, of which some have no objects, with detections at half their size."""
    draw = np.random.default_rng(0)
    made = []
    for index in range(PICTURES):
        one = tally(
            draw,
            index,
            classes=CLASSES,
            objects=index % 4,
            detections=5 * (index % 3),
            crowds=0.2,
            ties=True,
            masks=True,
        )
        truth = one.truth
        objects = Objects(*(torch.from_numpy(each) for each in truth[:4]), masks=truth.masks)
        height, width = one.size
        count = len(one.found.boxes)
        found = {
            "boxes": torch.from_numpy(one.found.boxes) / 2,
            "labels": torch.from_numpy(one.found.labels),
            "scores": torch.from_numpy(one.found.scores),
            "masks": torch.from_numpy(draw.uniform(0, 1, (count, 1, 14, 14)).astype(np.float32)),
        }
        made.append((DetectionScene(index, torch.zeros(3, height // 2, width // 2), one.size, objects), found))
    return made


def shares(world: int) -> list[list[int]]:
    """Uneven ones: the last process has no picture where there are three; and one picture is seen twice."""
    if world == 1:
        return [list(range(PICTURES))]
    if world == 2:
        return [[8, 1, 2], [0, 3, 4, 5, 6, 7, 8]]
    return [[5, 4, 3, 2, 1, 0], [6, 7, 8], []]


def collect(rank: int, world: int) -> dict[str, object]:
    collected = Collected(CLASSES)
    pictures = scenes()
    compared = 0

    def counting(*args: Any) -> Any:
        nonlocal compared
        compared += 1
        return score(*args)

    with patch.object(collected_module, "score", counting):
        refused = ""
        try:
            Collected(CLASSES).compute()
        except InputError as error:
            refused = str(error)
        for index in shares(world)[rank]:
            collected.update(*pictures[index])
        scores = collected.compute()
    assert scores.masks is not None
    return {
        "compared": compared,
        "refused": refused,
        "values": scores.values,
        "tables": [torch.from_numpy(each.precision) for each in (scores.boxes, scores.masks)],
        "pictures": [one.index for one in scores.tallies],
        "counts": [scores.objects.tolist(), scores.detections.tolist()],
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, object]:
    return collect(0, 1)


def test_what_is_collected(alone: dict[str, object]) -> None:
    assert alone["pictures"] == list(range(PICTURES))
    values = alone["values"]
    assert isinstance(values, dict)
    assert values["val_ap50"] > 0
    assert "val_mask_ap" in values


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_gives_the_same_bits(alone: dict[str, object], world: int, tmp_path: Path) -> None:
    for rank, found in enumerate(processes.run("tests.tasks.detection.test_collected", world, tmp_path)):
        assert found["values"] == alone["values"]
        assert found["refused"] == alone["refused"] == NOTHING_COUNTS
        assert found["compared"] == (2 if rank == 0 else 0), "by the first process, for all"
        assert found["pictures"] == (alone["pictures"] if rank == 0 else [])
        assert found["counts"] == alone["counts"]
        assert all(torch.equal(one, other) for one, other in zip(found["tables"], alone["tables"], strict=True))


def test_pictures_are_forgotten() -> None:
    collected = Collected(CLASSES)
    pictures = scenes()
    for each in pictures:
        collected.update(*each)
    first = collected.compute()
    collected.reset()
    for each in pictures[::-1]:
        found = collected.update(*each)
    assert found.boxes.shape == (len(pictures[0][1]["boxes"]), 4)
    assert collected.compute().values == first.values


if __name__ == "__main__":
    processes.process(collect)
