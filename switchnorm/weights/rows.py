"""How classes lie in the rows of a classifier's or a detector's entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How the classes lie in an entry's rows.

    Args:
        groups: how many rows each class has.
        background: how many rows, in each group, come before those of the classes: of a detector's background.
        outer: whether the groups are one after another, each of all classes, as in convolutions of several anchors; or
            the rows of each class together, as the four numbers of a box are in linear layers.
    """

    groups: int
    background: int
    outer: bool

    def rows(self, classes: int) -> int:
        """How many there are."""
        return self.groups * (self.background + classes)

    def by_class(self, value: Tensor) -> Tensor:
        """(rows, ...) -> (background + classes, groups, ...), a view where it can be one."""
        if self.outer:
            return value.unflatten(0, (self.groups, -1)).transpose(0, 1)
        return value.unflatten(0, (-1, self.groups))

    def flat(self, value: Tensor) -> Tensor:
        """The inverse of `by_class`."""
        return (value.transpose(0, 1) if self.outer else value).flatten(0, 1).contiguous()


def layout_of(key: str, state: Mapping[str, Tensor], classes: int, rows: int, others: int) -> Layout | None:
    """How the classes lie in an entry, by how many rows it has for another number of classes; None where they do not.

    Args:
        key: of the entry.
        state: tensors by key.
        classes: that it has rows for.
        rows: how many the entry has in a network for others.
        others: how many classes that network has.
    """
    value = state[key]
    groups, rest = divmod(rows - len(value), others - classes)  # both are negative where the others are fewer
    if groups < 1 or rest:
        return None
    background, rest = divmod(len(value), groups)
    background -= classes
    if rest or background not in (0, 1):
        return None
    weight = state.get(f"{key.rpartition('.')[0]}.weight", value)
    return Layout(groups, background, outer=weight.dim() > 2)
