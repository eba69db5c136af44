"""What the files of a split say, before it is known which label each class has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from switchnorm.data.files.listing import Paths
from switchnorm.data.files.opening import sides
from switchnorm.data.files.picture_file import DamagedError, MisfitError, picture_sizes, unreadable
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.errors import InputError, unknown
from switchnorm.text import canonical

if TYPE_CHECKING:
    from switchnorm.data.detection.gathered import Gathered
    from switchnorm.data.detection.listed import Listed
    from switchnorm.data.files.walk import Account

#: Why objects are left out where the classes that are taken are named.
OTHER_CLASSES = "objects of other classes"


class Annotated(ABC):
    """The pictures of a split with objects of classes that have names."""

    #: What becomes of what training would stop at, and others can go on without.
    _refusals: Refusals = RAISED

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order that the files give them."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The number of each of `classes`, as the files have it: from 1 where they have none."""
        return tuple(range(1, len(self.classes) + 1))

    @property
    @abstractmethod
    def used(self) -> tuple[str, ...]:
        """Those of which there are objects."""

    @abstractmethod
    def listed(self, names: Sequence[str], *, others: bool) -> Listed:
        """The pictures with their objects; this is asked once.

        Args:
            names: of the classes, in the order of their labels from 1.
            others: whether objects of other classes are left out; otherwise there may be none.

        Raises:
            InputError: objects of other classes, or whatever is wrong with files.
        """

    def _labels(self, names: Sequence[str], source: Path, *, others: bool) -> dict[str, int]:
        """The label of each class by its name, as names are compared."""
        labels = {canonical(name): label for label, name in enumerate(names, 1)}
        for name in () if others else self.used:
            if canonical(name) not in labels:
                said = f"{unknown(f'class of {source}', name, names)}; data.names says which classes are taken"
                self._refusals.refuse(InputError(said))
        return labels


def pictures_of(
    wanted: Sequence[str],
    folder: Path,
    stated: Callable[[int], tuple[int, int] | None],
    source: Callable[[int], str],
    left_out: Account,
    *,
    may_miss: bool,
) -> tuple[list[int], Paths, np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """The pictures that can be read, by the heads of their files.

    Args:
        wanted: their paths below the folder.
        folder: of all.
        stated: the height and width that annotations state of each, by its place; None where they state nothing.
        source: the annotations of each, for errors.
        left_out: where those that cannot be read are counted.
        may_miss: whether there may be such.

    Returns:
        The places of those that are taken, their paths, and their sizes (N, 2): height and width as people see them, or
        as the file stores them where what is stated fits that alone.

    Raises:
        InputError: one that is no picture or has another size than is stated, or none that can be read.
    """
    taken: list[int] = []
    sizes: list[tuple[int, int]] = []
    for place, size in _sizes(wanted, folder, stated, source, left_out, may_miss):
        taken.append(place)
        sizes.append(size)
    if wanted and not taken:
        raise InputError(f"none of the {len(wanted)} pictures in {folder} can be read")
    return taken, Paths(folder, [wanted[place] for place in taken]), np.array(sizes, np.int64).reshape(-1, 2)


def _sizes(
    wanted: Sequence[str],
    folder: Path,
    stated: Callable[[int], tuple[int, int] | None],
    source: Callable[[int], str],
    left_out: Account,
    may_miss: bool,
) -> Iterator[tuple[int, tuple[int, int]]]:
    for place, name in enumerate(wanted):
        path = str(folder / name)
        try:
            found, said = picture_sizes(path), stated(place)
            if said is not None and said not in found:
                raise MisfitError(
                    f"picture {path} is {sides(found.upright)}; expected {sides(said)} as {source(place)} states"
                )
        except DamagedError as error:
            if not may_miss:
                raise unreadable(error) from error
            misfit = isinstance(error, MisfitError)
            left_out.add("pictures of another size than is stated" if misfit else "pictures that cannot be read", path)
            continue
        yield place, found.upright if said is None else said


def numbered(objects: Gathered, taken: Sequence[int], count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of each object, whose picture is one of `count`, its place among those taken; -1 for one that is not: (K,)."""
    places = np.full(count + 1, -1)
    places[list(taken)] = np.arange(len(taken))
    return places[objects.pictures()]


def label_table(labels: Mapping[str, int], names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The label of each of the names, 0 for one that is not taken: (C + 1,) int64, the last for none."""
    return np.array([*(labels.get(canonical(name), 0) for name in names), 0], np.int64)


def count_out(objects: Gathered, reason: str, out: np.ndarray[Any, Any]) -> None:
    """Count the objects that are left out, (K,) bool."""
    if out.any():
        objects.left_out.add(reason, objects.named(*objects.number(int(out.argmax()))), int(out.sum()))
