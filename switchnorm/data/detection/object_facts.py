"""What is seen of a picture with its objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.data.files.opening import sides
from switchnorm.data.files.picture_facts import digest, file_bytes, read_into, readable
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.files.surveyed import Facts, Remark, Surveyed

if TYPE_CHECKING:
    from switchnorm.data.detection.listed import Listed
    from switchnorm.data.detection.sizes import TrainingSizes

#: The areas, in pixels, from which on objects are medium and large (Lin et al., "Microsoft COCO", 2014).
MEDIUM, LARGE = 32**2, 96**2
#: Sides, in pixels, below which next to nothing of an object is left on detectors' finest maps, of stride 4.
_TINY = 4
#: The kinds of remarks on pictures with objects.
OTHER_SIZE, SIDEWAYS, EMPTY, TWICE = (
    "are of another size than their annotations state",
    "lie on their side by EXIF, and so do their boxes: they are taken as they are stored",
    "have no objects",
    "have an object twice, of one class and with one box",
)


class ObjectItem(NamedTuple):
    """A picture's file, the size that its boxes are for, and what is known of its objects.

    Args:
        path: of the picture.
        size: height and width.
        counts: objects by the number of their class from 0, crowds not counted.
        target: digest of boxes and labels.
        repeated: objects that are there again.
        crowds: objects that do not count.
    """

    path: str
    size: tuple[int, int]
    counts: dict[int, int]
    target: int
    repeated: int
    crowds: int


def look_at_objects(item: ObjectItem, pixels: Pixels, skips: bool) -> Facts:
    """What is seen of a picture with objects.

    Args:
        item: the picture.
        pixels: what it becomes.
        skips: whether training goes on without one that cannot be read.
    """
    facts = Facts(target=item.target, counts=item.counts)
    read_into(facts, item.path, pixels, skips)
    if facts.size is not None and facts.size != item.size:
        if facts.size[::-1] == item.size and facts.orientation >= 5:
            facts.remarks.append(Remark(SIDEWAYS))
        else:
            detail = f"{sides(facts.size)}, boxes are for {sides(item.size)}"
            facts.remarks.append(Remark(OTHER_SIZE, detail, wrong=not skips))
    if not item.counts:
        facts.remarks.append(Remark(EMPTY, f"{item.crowds} that do not count" if item.crowds else ""))
    if item.repeated:
        facts.remarks.append(Remark(TWICE, str(item.repeated) if item.repeated > 1 else ""))
    return facts


class SurveyedObjects(Surveyed):
    """Pictures with objects.

    Args:
        name, skips: as `Surveyed`.
        listed: the pictures with their objects.
        pixels: what pictures become.
        sizes: to which training resizes them; None for the split that it does not read.
    """

    unit: ClassVar[str] = "objects"
    targets: ClassVar[str] = "objects"

    def __init__(
        self, name: str, listed: Listed, pixels: Pixels, sizes: TrainingSizes | None, *, skips: bool = False
    ) -> None:
        super().__init__(name, skips=skips)
        self.listed = listed
        self.pixels = pixels
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.listed)

    @property
    def look(self) -> Callable[[Any], Facts]:
        """As `Surveyed`."""
        return partial(look_at_objects, pixels=self.pixels, skips=self.skips)

    def item(self, index: int) -> ObjectItem:
        """As `Surveyed`."""
        listed = self.listed
        start, end = listed.ends[index : index + 2].tolist()
        boxes, labels = listed.boxes[start:end].numpy(), listed.labels[start:end].numpy()
        crowd = listed.crowd[start:end].numpy()
        rows = np.concatenate([boxes, labels[:, None]], 1)
        found, counts = np.unique(labels[~crowd], return_counts=True)
        return ObjectItem(
            listed.paths[index],
            listed.size(index),
            dict(zip((found - 1).tolist(), counts.tolist(), strict=True)),
            digest(rows.tobytes()),
            len(rows) - len(np.unique(rows, axis=0)),
            int(crowd.sum()),
        )

    def title(self, index: int) -> str:
        """The path of the picture."""
        return self.listed.name(index)

    def place(self, index: int) -> str:
        """The whole path of the picture."""
        return self.listed.paths[index]

    def bytes_of(self, index: int) -> int:
        """The size of the file."""
        return file_bytes(self.listed.paths[index])

    def picture(self, index: int) -> Image.Image:
        """As `Surveyed`."""
        return readable(self.listed.paths[index], self.pixels)

    def stated(self) -> dict[str, str]:
        """As `Surveyed`: how many objects there are, how large, and on how many pictures."""
        listed = self.listed
        boxes, area = listed.boxes[~listed.crowd].numpy(), listed.area[~listed.crowd].numpy()
        found = {"objects": f"{len(boxes):,}"}
        if not len(boxes):
            return found
        counts = listed.counts.numpy()
        if crowds := int(listed.crowd.sum()):
            found["do not count"] = f"{crowds:,}"
        found["masks"] = "no" if listed.masks is None else "yes"
        found["without objects"] = f"{int((counts == 0).sum()):,}"
        found["objects a picture, 5/50/95 %"] = _spread(counts)
        shares = (area < MEDIUM).mean(), ((area >= MEDIUM) & (area < LARGE)).mean(), (area >= LARGE).mean()
        for name, share in zip(("small, to 32x32", "medium, to 96x96", "large"), shares, strict=True):
            found[name] = f"{100 * share:.1f} %"
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        found["side of boxes, 5/50/95 %"] = _spread(np.sqrt(width * height))
        found["width to height, 5/50/95 %"] = _spread(width / height, "{:.2f}")
        return found

    def about_sizes(self, sizes: np.ndarray[Any, Any]) -> Iterable[str]:
        """How many objects are tiny where training sees them."""
        if self.sizes is None or not len(self.listed.boxes):
            return
        listed = self.listed
        distinct, which = np.unique(listed.sizes.numpy(), axis=0, return_inverse=True)
        factors = np.array([self._factor((height, width)) for height, width in distinct.tolist()])[which.reshape(-1)]
        boxes = listed.boxes.numpy()
        of = np.repeat(np.arange(len(listed)), listed.ends.diff().numpy())
        tiny = int(((boxes[:, 2:] - boxes[:, :2]).min(1) * factors[of] < _TINY).sum())
        if tiny:
            yield f"{tiny:,} of {len(boxes):,} objects are narrower than {_TINY} pixels as training resizes them"

    def _factor(self, size: tuple[int, int]) -> float:
        """By how much training enlarges a picture at most, or with large-scale jitter by the factor 1."""
        from switchnorm.data.augment.sizes import fitted

        assert self.sizes is not None
        if self.sizes.crop is not None:
            return self.sizes.crop / max(size)
        return fitted(size, max(self.sizes.sides, default=None), self.sizes.longest)[0] / size[0]


def _spread(values: np.ndarray[Any, Any], form: str = "{:.0f}") -> str:
    """The 5th, 50th and 95th percentile."""
    return " / ".join(map(form.format, np.percentile(values, (5, 50, 95), method="nearest")))
