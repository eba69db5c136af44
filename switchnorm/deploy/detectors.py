"""Detectors in files: what a file gives, and when two sets of detections are the same.

A file holds the whole network with its suppression, and takes one picture of any size, which it pads itself. It gives

- "boxes" (D, 4): edges x1, y1, x2, y2 in pixels of the picture that it takes, within that;
- "labels" (D,): int64 from 1;
- "scores" (D,): in [0, 1], by falling score, each above the threshold of the run;
- "masks" (D, 28, 28), with a mask head: the probability of each place within its box, before it is pasted.

The thresholds and the number of detections are those that the network had when it was exported.

torch.export takes a dimension of one for a constant, so that programs (.pt2) refuse pictures of which a map would have
one row or column: of 64 pixels and less, and of detectors without proposals of 128.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from switchnorm.deploy.adapters import Adapter
from switchnorm.deploy.description import OF_DETECTORS, Description
from switchnorm.errors import InputError

Arrays = Mapping[str, np.ndarray]

#: Overlap from which two detections of a class may be the same one.
_SAME = 0.5
#: Of detections without a partner, how many may be explained by rounding, and how many not, over the number of all.
_EXPLAINED, _UNEXPLAINED = 0.1, 0.02
#: How far corners of the same box are apart at most, over the largest coordinate.
_PLACE = 1e-4
#: How far corners are apart at least, over the largest coordinate, for boxes to be two where most are nearer.
_OTHER = 1e-3
#: How far scores may be apart for rounding to decide which of them is let through.
_NEAR = 1e-3
#: Overlap from which rounding may decide which of two detections stays.
_OVERLAP = 0.3


class Detections(Adapter):
    """A detector, as a function of one picture while it is traced, and as it was trained otherwise.

    Args:
        network: has `one_picture`, as all of `create_model`.

    Raises:
        InputError: a detector of somebody else.
    """

    batches: ClassVar[bool] = False
    counts: ClassVar[bool] = True
    in_8_bits: ClassVar[str] = "8 bits hold no coordinates of boxes; leave int8 out, or take half"

    def __init__(self, network: nn.Module) -> None:
        if not finds_objects(network):
            raise InputError(
                f"{type(network).__name__} has no function of one picture that exporters follow; make the detector by "
                "switchnorm.create_model, as 'resnet50_fpn+faster_2fc' or torchvision's by its name, and load its "
                "weights there"
            )
        made: Any = network
        super().__init__(made.one_picture().eval())
        self.outputs: tuple[str, ...] = self.network.outputs  # type: ignore[assignment]

    @staticmethod
    def set_up(network: Any, about: Description) -> None:
        """As of `Adapter`: what the detector gives out, as `Detecting` asks for it."""
        for name, attribute in OF_DETECTORS.items():
            if name in about.inference:
                setattr(network, attribute, about.inference[name])
        if hasattr(network, "transform"):
            network.transform.paste = False  # masks become pixels one by one
            network.transform.edges = True  # as datasets have boxes, also where the network's have inclusive ends

    @property
    def smallest(self) -> int:
        """The smallest height and width of a picture."""
        return int(self.network.smallest)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As `Adapter`, of one image (1, C, H, W)."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return dict(zip(self.outputs, self.network(x), strict=True))
        detector: Any = self.network.network
        (found,) = detector([x[0]])
        masks = {"masks": found["masks"][:, 0]} if "masks" in found else {}
        return {**{name: found[name] for name in self.outputs if name != "masks"}, **masks}

    @staticmethod
    def error(found: Arrays, expected: Arrays) -> float:
        """As `Adapter`, see `apart`."""
        return apart(found, expected)


def finds_objects(network: nn.Module) -> bool:
    """Whether a network is a detector that can be exported."""
    return callable(getattr(network, "one_picture", None))


def apart(found: Arrays, expected: Arrays) -> float:
    """How far detections are from those expected: two sets, whatever their order.

    Each is paired with the one of its class that overlaps it most. Where numbers differ in their last bits, suppression
    and the cuts by score and number may choose otherwise between two that are nearly alike: one of ten detections at
    most may lack a partner where that explains it, one of fifty where nothing does.

    Args:
        found, expected: arrays as a file gives them.

    Returns:
        Of all pairs the largest difference of scores, of masks, and of boxes over the largest coordinate; infinite
        where too many have no partner, or arrays are of other shapes.
    """
    if set(expected) - set(found) or any(found[name].shape[1:] != value.shape[1:] for name, value in expected.items()):
        return math.inf
    overlap = np.maximum(
        overlaps(expected["boxes"], found["boxes"]), _coincide(expected["boxes"], found["boxes"]).astype(np.float64)
    )
    alike = expected["labels"][:, None] == found["labels"]
    pairs = _pairs(np.where(alike & (overlap >= _SAME), overlap, 0), expected["scores"], found["scores"])
    count = max(len(expected["boxes"]), len(found["boxes"]))
    pairs = _of_one(pairs, expected["boxes"], found["boxes"])
    alone = [
        _alone(expected["scores"], found["scores"], (alike * overlap).max(1, initial=0), [i for i, _ in pairs]),
        _alone(found["scores"], expected["scores"], (alike * overlap).max(0, initial=0), [j for _, j in pairs]),
    ]
    explained, unexplained = (max(counts) for counts in zip(*alone, strict=True))
    # Of a few detections one may be decided by rounding, but none may be missing without a reason.
    if explained + unexplained > max(1, _EXPLAINED * count) or unexplained > _UNEXPLAINED * count:
        return math.inf
    if not pairs:
        return 0.0
    ours, theirs = (np.array(places) for places in zip(*pairs, strict=True))
    largest = max(float(np.abs(expected["boxes"]).max()), 1.0)
    errors = [float(np.abs(expected["boxes"][ours].astype(np.float64) - found["boxes"][theirs]).max()) / largest]
    for name in expected.keys() - {"boxes", "labels"}:
        errors.append(float(np.abs(expected[name][ours].astype(np.float64) - found[name][theirs]).max(initial=0)))
    return max(errors)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4), edges -> (N, M)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _coincide(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which boxes (N, 4) and (M, 4) lie in one place, (N, M): also those without an area, which overlap nothing."""
    far = np.abs(first[:, None].astype(np.float64) - second).max(2, initial=0)
    return np.asarray(far <= _PLACE * max(float(np.abs(first).max(initial=0)), 1.0))


def _pairs(overlap: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Those that belong together, each in one pair: the best overlap by the nearest score first."""
    rows, columns = np.nonzero(overlap)
    value = overlap[rows, columns] - np.abs(first[rows].astype(np.float64) - second[columns])
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = set(), set()
    for place in np.argsort(-value, kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in used[0] and column not in used[1]:
            pairs.append((row, column))
            used[0].add(row)
            used[1].add(column)
    return pairs


def _of_one(pairs: list[tuple[int, int]], first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """The pairs without those whose boxes are much farther apart than most: suppression kept another of two there."""
    if not pairs:
        return pairs
    ours, theirs = (np.array(places) for places in zip(*pairs, strict=True))
    far = np.abs(first[ours].astype(np.float64) - second[theirs]).max(1) / max(float(np.abs(first).max()), 1.0)
    limit = max(_OTHER, 10 * float(np.median(far)))
    return [pair for pair, distance in zip(pairs, far.tolist(), strict=True) if distance <= limit]


def _alone(scores: np.ndarray, others: np.ndarray, overlap: np.ndarray, paired: list[int]) -> tuple[int, int]:
    """How many have no partner and rounding explains it, and how many for no reason.

    Args:
        scores: of these, (N,).
        others: scores of those on the other side.
        overlap: the largest with one of the same class on the other side, (N,).
        paired: places of those that have a partner.
    """
    rest = np.setdiff1d(np.arange(len(scores)), np.array(paired, dtype=np.int64))
    cut = min(scores.min(initial=1.0), others.min(initial=1.0)) + _NEAR
    explained = int(((scores[rest] <= cut) | (overlap[rest] >= _OVERLAP)).sum())
    return explained, len(rest) - explained
