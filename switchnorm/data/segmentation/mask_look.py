"""A quick look at some masks of a split, for what would make training or evaluation mean nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from switchnorm.data.files.pairs import Pairs
from switchnorm.data.loaders.damage import Damage
from switchnorm.data.segmentation.labels import IGNORED, in_words
from switchnorm.data.segmentation.legend import Legend
from switchnorm.errors import InputError

#: How many masks of a split are looked at, if these show what has to be there.
MOST = 16


@dataclass(frozen=True)
class MaskLook:
    """What was seen in masks of a split.

    Args:
        masks: how many could be read.
        whole: whether these are all of the split.
        labels: pixels by label; 255 is void.
        values: pixels by number, or by colour ("#804080").
        gray: how many are in red, green and blue, and were read by their numbers.
    """

    masks: int
    whole: bool
    labels: Mapping[int, int]
    values: Mapping[int | str, int]
    gray: int

    @property
    def classes(self) -> list[int]:
        """The labels of classes that were seen."""
        return sorted(label for label in self.labels if label != IGNORED)

    @property
    def numbers(self) -> list[int]:
        """The numbers that were seen."""
        return sorted(value for value in self.values if isinstance(value, int))

    def __str__(self) -> str:
        colors = sorted(value for value in self.values if isinstance(value, str))
        return in_words(self.numbers) if self.numbers else ", ".join(colors[:12])


def look_at_masks(pairs: Pairs, legend: Legend, needed: int) -> MaskLook:
    """Look at masks spread evenly over a split, and at all others until so many classes were seen.

    Args:
        pairs: of the split.
        legend: what the pixels of masks mean.
        needed: how many classes have to be there.

    Raises:
        InputError: as `Legend.labels`, or a damaged mask that may not be skipped.
    """
    damage, labels, values = Damage(skip=pairs.may_miss), Counter[int](), Counter[int | str]()
    masks = gray = 0
    for seen, index in enumerate(_spread(len(pairs))):
        if seen >= MOST and len(labels.keys() - {IGNORED}) >= needed:
            return MaskLook(masks, False, labels, values, gray)
        found = damage.read(lambda place: legend.look(pairs.masks[place]), index)
        if found is not None:
            labels.update(found.labels)
            values.update(found.values)
            masks, gray = masks + 1, gray + found.gray
    return MaskLook(masks, True, labels, values, gray)


def _spread(total: int) -> Iterator[int]:
    """All places, the first of them spread evenly."""
    first = min(MOST, total)
    early = [(2 * place + 1) * total // (2 * first) for place in range(first)]
    yield from early
    yield from sorted(set(range(total)) - set(early))


class MaskLooks:
    """Looks at the masks of a dataset's splits, each taken once.

    Args:
        legend: what the pixels of masks mean.
        remedy: what to do about masks that look so, void where classes should be.
    """

    def __init__(self, legend: Legend, remedy: Callable[[MaskLook], str]) -> None:
        self._legend = legend
        self._remedy = remedy
        self._taken: dict[str, MaskLook] = {}

    def check(self, split: str, pairs: Pairs) -> None:
        """Raise `InputError` for masks by which nothing can be trained, or evaluated, and as `look_at_masks`."""
        look, names = self._at(split, pairs), self._legend.names
        masks = f"the {look.masks} {'training' if split == 'train' else split} masks"
        if look.masks and not look.classes:
            raise InputError(
                f"every pixel of {masks} is void, which does not count: they hold {look}; {self._remedy(look)}"
            )
        if split != "train" or len(look.classes) != 1 or len(names) == 1:
            return
        alone = f"{masks} hold {look}, which is class {names[look.classes[0]]!r} alone"
        if IGNORED in look.labels:
            raise InputError(f"{alone} and void, which does not count; {self._remedy(look)}")
        raise InputError(f"{alone}; expected two of the {len(names)} classes")

    def remarks(self, pairs: Pairs) -> Iterator[str]:
        """What is unusual about the training masks, a sentence each; raises as `look_at_masks`."""
        look, names = self._at("train", pairs), self._legend.names
        if len(names) == 1:
            yield f"there is one class, {names[0]!r}, so that every prediction is right and nothing is learned"
        if look.gray:
            yield (
                f"{look.gray} of {look.masks} masks looked at are in red, green and blue, all the same, and are read "
                "by their numbers"
            )

    def _at(self, split: str, pairs: Pairs) -> MaskLook:
        if split not in self._taken:
            needed = min(2, len(self._legend.names)) if split == "train" else 1
            self._taken[split] = look_at_masks(pairs, self._legend, needed)
        return self._taken[split]
