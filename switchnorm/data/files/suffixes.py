"""What the names of pictures and of their masks end with, and which endings, or beginnings, would make names fit."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: What begins an ending.
_SEPARATORS = "_-. "
#: How many pictures the search for endings begins with.
_TRIED = 3


@dataclass(frozen=True)
class Suffixes:
    """What names end with before the extension.

    Args:
        picture: the names of pictures; files that end otherwise are ignored.
        mask: the names of masks, likewise.
        named: whether these are options of the dataset, which errors may name.
    """

    picture: str = ""
    mask: str = ""
    named: bool = False

    def __str__(self) -> str:
        options = {"picture_suffix": self.picture, "mask_suffix": self.mask}
        return " and ".join(f"data.{name} to {value!r}" for name, value in options.items() if value)


#: Names that fit as they are.
NONE = Suffixes()


def fitting_suffixes(pictures: Collection[str], masks: Collection[str]) -> Suffixes | None:
    """The endings without which most pictures have a mask; None where no endings do that.

    Args:
        pictures: names without extension.
        masks: likewise.
    """
    return next((each for each in _candidates(pictures, masks) if _fit(pictures, masks, each)), None)


def fitting_prefixes(pictures: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """The beginnings of pictures and masks without which most pictures have a mask; None where none do that."""
    found = fitting_suffixes(*([name[::-1] for name in names] for names in (pictures, masks)))
    return None if found is None else (found.picture[::-1], found.mask[::-1])


def suffix_beside(pictures: Collection[str], masks: Collection[str]) -> str | None:
    """The ending that names of some files of a folder have after those of the others; None where there is none.

    Args:
        pictures: the names of the folder's pictures without extension, masks among them.
        masks: of those that may be masks.
    """
    for suffixes in _candidates(pictures, masks):
        ending = suffixes.mask
        plain = {name for name in pictures if not name.endswith(ending)} if ending and not suffixes.picture else set()
        if plain and {name + ending for name in plain} == {name for name in masks if name.endswith(ending)}:
            return ending
    return None


def _candidates(pictures: Collection[str], masks: Collection[str]) -> Iterator[Suffixes]:
    """The endings of the first names after what each has in common with the masks of the most alike names."""
    tried = set()
    for picture in sorted(pictures)[:_TRIED]:
        alike = sorted(masks, key=lambda mask: (-len(_in_common(picture, mask)), len(mask)))
        for mask in alike[:_TRIED]:
            common = _in_common(picture, mask).rstrip(_SEPARATORS)
            found = Suffixes(picture[len(common) :], mask[len(common) :])
            if common and found not in tried:
                tried.add(found)
                yield found


def _in_common(one: str, other: str) -> str:
    """What two names begin with."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in same)


def _fit(pictures: Collection[str], masks: Collection[str], suffixes: Suffixes) -> bool:
    """Whether most names fit without these endings, and more than with them."""
    of_pictures, of_masks = (
        {name[: len(name) - len(suffix)] for name in names if name.endswith(suffix)}
        for names, suffix in ((pictures, suffixes.picture), (masks, suffixes.mask))
    )
    together = len(of_pictures & of_masks)
    return 2 * together >= max(len(pictures), len(masks)) and together > len(set(pictures) & set(masks))
