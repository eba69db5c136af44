"""The objects of a split as they are read, one after the other, checked together."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.mask_writing import MaskWriter
from switchnorm.data.detection.masks import StoredMasks
from switchnorm.data.files.listing import Paths
from switchnorm.data.files.opening import sides
from switchnorm.data.files.walk import Account
from switchnorm.errors import InputError

Array = np.ndarray[Any, Any]

#: How far, in pixels, a box may reach outside of its picture by rounding alone.
_ROUNDING = 0.01


class Gathered:
    """Takes objects in any order of their pictures.

    Args:
        named: says what an object is called in errors, by the number of its picture and its own, as they were added.
        masks: whether masks are kept.

    Attributes:
        left_out: what is not taken.
        changed: what is taken otherwise than it is written.
    """

    def __init__(self, named: Callable[[int, int], str], *, masks: bool) -> None:
        self.named = named
        self.left_out, self.changed = Account(), Account()
        self._masks = MaskWriter() if masks else None
        self._pictures, self._labels, self._numbers = array("q"), array("q"), array("q")
        self._boxes, self._areas, self._crowds = array("d"), array("d"), array("b")

    def __len__(self) -> int:
        return len(self._labels)

    def add(
        self,
        picture: int,
        number: int,
        box: Sequence[float],
        label: int,
        *,
        area: float = np.nan,
        crowd: bool = False,
        outlines: Sequence[Sequence[float]] = (),
        runs: bytes = b"",
    ) -> None:
        """Add an object.

        Args:
            picture: a number of its picture.
            number: of the object: its line, id or place in the file.
            box: x1, y1, x2, y2, edges.
            label: of its class, in any numbering.
            area: in pixels, where the file says it.
            crowd: as `Objects`.
            outlines: of its mask, x and y in turn.
            runs: of its mask, compressed; of the size of the picture.

        Raises:
            InputError: what are no numbers.
        """
        what = "a box that is not four numbers"
        try:
            self._boxes.extend(box)
            what = f"area {area!r:.40}; expected a number of pixels"
            self._areas.append(area)
            what = ""
            if self._masks is not None and runs:
                self._masks.add_runs(runs)
            elif self._masks is not None:
                self._masks.add_outlines(outlines, box)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self.named(picture, number)} has {what or error}") from error
        self._pictures.append(picture)
        self._numbers.append(number)
        self._labels.append(label)
        self._crowds.append(crowd)

    def pictures(self) -> Array:
        """(K,) int64: the numbers of the objects' pictures, as they were added."""
        return np.array(self._pictures, np.int64)

    def labels(self) -> Array:
        """(K,) int64, as they were added."""
        return np.array(self._labels, np.int64)

    def numbers(self) -> Array:
        """(K,) int64: the numbers of the objects, as they were added."""
        return np.array(self._numbers, np.int64)

    def number(self, place: int) -> tuple[int, int]:
        """The numbers of an object's picture and its own."""
        return self._pictures[place], self._numbers[place]

    def listed(
        self, source: Path, paths: Paths, ids: Array, sizes: Array, pictures: Array, labels: Array, *, may_miss: bool
    ) -> Listed:
        """All pictures with those objects that have an area on them.

        Args:
            source, paths: as `Listed`.
            ids: (N,), as `Listed`.
            sizes: (N, 2) height and width.
            pictures: (K,) int64: of each object its picture among the N; -1 for one that is not taken.
            labels: (K,) int64, from 1; 0 for an object that is not taken.
            may_miss: as `Listed`.

        Raises:
            InputError: boxes or areas that are no finite numbers, or negative areas.
        """
        boxes, area, crowd = self._finite(), np.array(self._areas), np.array(self._crowds, bool)
        stored = self._stored()
        if stored is not None:
            self._check_reach(sizes, pictures)
        kept, boxes = self._within(boxes, sizes, pictures, (pictures >= 0) & (labels > 0))
        self._refuse(kept[np.isinf(area[kept]) | (area[kept] < 0)], "an area that is none")
        order = kept[np.argsort(pictures[kept], kind="stable")]
        counts = np.bincount(pictures[order], minlength=len(sizes))
        found = boxes[order]
        masks = None if stored is None else stored.taken(torch.from_numpy(order))
        area = _areas(area[order], found, masks, sizes[pictures[order]])
        self._count(self.changed, "objects of area 0, which count as small", order[area == 0])
        if masks is not None:
            empty = order[masks.without_pixels(sizes[pictures[order]])]
            self._count(self.changed, "objects whose mask has no pixel, for which training takes the box", empty)
        return Listed(
            source,
            paths,
            torch.from_numpy(ids),
            torch.from_numpy(sizes),
            torch.from_numpy(np.concatenate([[0], counts.cumsum()])),
            torch.from_numpy(found.astype(np.float32)),
            torch.from_numpy(labels[order]),
            torch.from_numpy(area),
            torch.from_numpy(crowd[order]),
            masks,
            self.left_out.total(),
            self.changed.total(),
            may_miss,
        )

    def _finite(self) -> Array:
        """All boxes, (K, 4)."""
        boxes = np.array(self._boxes).reshape(-1, 4)
        self._refuse(np.flatnonzero(~np.isfinite(boxes).all(1)), "a box of numbers that are not finite")
        return boxes

    def _refuse(self, places: Array, what: str) -> None:
        if len(places):
            raise InputError(f"{self.named(*self.number(int(places[0])))} has {what}")

    def _stored(self) -> StoredMasks | None:
        writer = self._masks
        if writer is None:
            return None
        try:
            stored = writer.finish()
        except ValueError as error:
            raise InputError(f"among the objects up to {self.named(*self.number(len(self) - 1))}: {error}") from error
        if stored is not None:
            self._count(self.left_out, "outlines of fewer than three points", writer.short)
            self._count(self.changed, "objects without a mask, which take their box as one", writer.boxes)
        return stored

    def _check_reach(self, sizes: Array, pictures: Array) -> None:
        """Refuse outlines that reach a whole picture beyond theirs, which would take memory without end to draw."""
        assert self._masks is not None
        reach = self._masks.reach()
        beyond = (pictures >= 0) & (reach > 2 * sizes.max(1, initial=1)[np.maximum(pictures, 0)])
        if beyond.any():
            place = int(beyond.argmax())
            raise InputError(
                f"{self.named(*self.number(place))} has an outline that reaches {reach[place]:g} pixels from the "
                f"corner of a picture of {sides(sizes[pictures[place]])}"
            )

    def _within(self, boxes: Array, sizes: Array, pictures: Array, taken: Array) -> tuple[Array, Array]:
        """Which of the objects that are taken have an area on their picture, (M,) int64; and all boxes, cut to it."""
        ends = sizes[np.where(taken, pictures, 0)][:, ::-1] if len(sizes) else np.zeros((len(boxes), 2))
        cut = np.concatenate([np.clip(boxes[:, :2], 0, ends), np.clip(boxes[:, 2:], 0, ends)], 1)
        outside = taken & _flat(cut) & ~_flat(boxes)
        # In float32, as boxes are kept, a side of 1e-9 pixels is none.
        empty = taken & ~outside & (_flat(boxes) | _flat(cut.astype(np.float32)))
        self._count(self.left_out, "boxes without area", np.flatnonzero(empty))
        self._count(self.left_out, "boxes outside of their pictures", np.flatnonzero(outside))
        taken = taken & ~empty & ~outside
        moved = taken & (np.abs(cut - boxes) > _ROUNDING).any(1)
        self._count(self.changed, "boxes that reach outside of their pictures and are cut off", np.flatnonzero(moved))
        return np.flatnonzero(taken), cut

    def _count(self, account: Account, reason: str, places: Sequence[int] | Array) -> None:
        if len(places):
            account.add(reason, self.named(*self.number(int(places[0]))), len(places))


def _flat(boxes: Array) -> Array:
    """(K,) bool: which boxes, (K, 4), have no width or no height."""
    x1, y1, x2, y2 = boxes.T
    found: Array = (x2 <= x1) | (y2 <= y1)
    return found


def _areas(stated: Array, boxes: Array, masks: StoredMasks | None, sizes: Array) -> Array:
    """The areas that files state, and of others those of the masks, or else of the boxes; (K,) float64."""
    area = np.where(np.isnan(stated), (boxes[:, 2:] - boxes[:, :2]).prod(1), stated)
    if masks is not None:
        from faster_coco_eval.core import mask

        for place in np.flatnonzero(np.isnan(stated)).tolist():
            height, width = sizes[place].tolist()
            area[place] = mask.area(masks.rle(place, (height, width)))
    return area
