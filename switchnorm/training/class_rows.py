"""Rows of a classifier by the names of the classes: what a warm start takes of a network for other classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from switchnorm.classes import listed, same
from switchnorm.text import canonical
from switchnorm.weights.rows import Layout, layout_of


@dataclass(frozen=True)
class ClassRows:
    """The classes of the network that starts.

    Args:
        names: in the order of its labels.
        fixed: whether their order is the benchmark's, which files of others have too.
        other: builds the same network for another number of classes, which shows what belongs to each.
    """

    names: tuple[str, ...]
    fixed: bool
    other: Callable[[int], nn.Module]

    def layouts(self, ours: Mapping[str, Tensor]) -> dict[str, Layout]:
        """The entries of the network with rows for each class, and how these lie."""
        with torch.random.fork_rng(devices=[]):
            other = self.other(len(self.names) + 1).state_dict()
        count = len(self.names)
        found = {key: layout_of(key, ours, count, len(other[key]), count + 1) for key in _alike(ours, other)}
        return {key: layout for key, layout in found.items() if layout is not None}


@dataclass(frozen=True)
class TakenRows:
    """What was made of a file's rows.

    Args:
        entries: those with rows, as they are loaded, by the network's keys.
        left: the network's keys whose rows are all of other classes.
        said: a phrase about it; "" where nothing had to be done.
    """

    entries: Mapping[str, Tensor]
    left: frozenset[str] = frozenset()
    said: str = ""


def take_rows(
    rows: ClassRows,
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    named: Mapping[str, str],
    names: Sequence[str] | None,
) -> TakenRows:
    """Put the rows of a file under the labels that the network has for their classes.

    Args:
        rows: the classes of the network.
        theirs: the file's entries.
        ours: the network's entries.
        named: the file's key for each of the network's that it has.
        names: the classes of the file in the order of its labels; None where it does not say them.
    """
    if names is not None and same(names, rows.names):
        return TakenRows({})
    layouts = {key: layout for key, layout in rows.layouts(ours).items() if key in named}
    if names is None:
        fit = any(theirs[named[key]].shape == ours[key].shape for key in layouts)
        trusted = fit and not rows.fixed
        return TakenRows({}, said="the order of its classes is taken on trust, for it names none" if trusted else "")
    label_of = {canonical(name): label for label, name in enumerate(names)}
    pairs = [(label, label_of[canonical(name)]) for label, name in enumerate(rows.names) if canonical(name) in label_of]
    new = [name for name in rows.names if canonical(name) not in label_of]
    if not pairs:
        said = f"its classes are others ({listed(names)}), and the rows of these stay as they begin"
        return TakenRows({}, frozenset(layouts), said)
    entries = {}
    for key, layout in layouts.items():
        found, own = theirs[named[key]], ours[key]
        if found.shape == torch.Size([layout.rows(len(names)), *own.shape[1:]]):
            taken_rows, their_rows = layout.by_class(own).clone(), layout.by_class(found).to(own.dtype)
            taken_rows[: layout.background] = their_rows[: layout.background]
            here, there = (torch.tensor(labels) + layout.background for labels in zip(*pairs, strict=True))
            taken_rows[here] = their_rows[there]
            entries[key] = layout.flat(taken_rows)
    begun = f"; {len(new)} {'begins' if len(new) == 1 else 'begin'} anew ({listed(new)})" if new else ""
    taken = f"{len(pairs)} of {len(rows.names)} classes {'is' if len(pairs) == 1 else 'are'} taken over by name"
    return TakenRows(entries, said=taken + begun)


def _alike(ours: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The entries that differ in the number of their rows alone."""
    shared = [key for key in ours if key in other and ours[key].dim()]
    return [key for key in shared if ours[key].shape[1:] == other[key].shape[1:] and len(ours[key]) < len(other[key])]
