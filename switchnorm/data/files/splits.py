"""The training and the validation pictures of a root folder, under labels that agree."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.classes import labels_among, lacking, listed, mapped, same
from switchnorm.data.files.listing import NAMES, Listing, read_folders, read_list
from switchnorm.data.files.members import is_url
from switchnorm.data.files.named import find_named, find_root, lacks
from switchnorm.data.files.refusals import RAISED, Refusals
from switchnorm.data.files.shards import find_shards, read_shards
from switchnorm.data.files.walk import folders_in, told
from switchnorm.errors import InputError, unknown
from switchnorm.text import canonical, expanded


@dataclass(frozen=True)
class Split:
    """Where one split's pictures may be.

    Args:
        name: "train" or "val".
        folder: of its pictures, in the root or absolute.
        list_file: the list that the user named, if any.
    """

    name: str
    folder: str
    list_file: str | None


def find_splits(
    name: Path | str, train: Split, test: Split, *, may_miss: Callable[[], bool], refusals: Refusals = RAISED
) -> tuple[Listing | None, Listing | None]:
    """The pictures of both splits, as `find_split`; at a URL those of shards.

    Args:
        name: of the dataset's folder, or a URL.
        train, test: as of `find_split`.
        may_miss: whether some pictures of a list, or shards, may be missing; it is asked each time.
        refusals: what becomes of a split that cannot be read.

    Raises:
        InputError: neither is there, or as `find_split`.
    """
    if is_url(str(name)):
        name = str(name)
        shards = [find_shards(name, split.name, split.folder) for split in (train, test)]
        if not any(shards):
            raise InputError(
                f"{name} has shards neither in {train.folder!r} and {test.folder!r} nor called train-*.tar and "
                "val-*.tar"
            )
        reads = [partial(_read_shards, name, each, may_miss) for each in shards]
    else:
        root = find_root(str(name))
        reads = [partial(_find_split, root, split, may_miss) for split in (train, test)]
    found = refusals.attempt(reads[0]), refusals.attempt(reads[1])
    if found == (None, None):
        raise refusals.nothing_left(lambda: _neither(find_root(str(name)), train, test))
    return found


def _neither(root: Path, train: Split, test: Split) -> InputError:
    there = listed(folders_in(root)[0])
    return lacks(
        str(root),
        f"{root} has neither folders {train.folder!r} and {test.folder!r} nor lists train.txt and val.txt"
        + (there and f"; it holds {there}: say which are the splits with train_folder and val_folder"),
    )


def _read_shards(name: str, shards: Sequence[str], may_miss: Callable[[], bool]) -> Listing | None:
    return read_shards(name, shards, may_miss=may_miss()) if shards else None


def _find_split(root: Path, split: Split, may_miss: Callable[[], bool]) -> Listing | None:
    return find_split(root, split, may_miss=may_miss())


def find_split(root: Path, split: Split, *, may_miss: bool) -> Listing | None:
    """A split's pictures: by the list that was named, by one of the published name, by folders of classes, or shards.

    Args:
        root: the dataset's folder.
        split: what is sought, under all the names that are usual (`NAMES`) unless another folder is named; its list in
            the root and in its folder `meta`.
        may_miss: whether some pictures of a list may be missing.

    Returns:
        None where there is neither a list nor a folder nor a shard.

    Raises:
        InputError: a list that was named and is not there, two that could be meant, or whatever is wrong with what is
            found.
    """
    names = NAMES[split.name] if split.folder == split.name else (split.folder,)
    folders = [root / expanded(f"{split.name}_folder", name) for name in names]
    folder = _only([place for place in folders if place.is_dir()], f"{split.name}_folder") or folders[0]
    if split.list_file is not None:
        found: Path | None = find_named(f"{split.name}_list", split.list_file, root)
    else:
        lists = ([place / f"{name}.txt" for name in NAMES[split.name]] for place in (root, root / "meta"))
        there = ([file for file in files if file.is_file()] for files in lists)
        found = next((_only(files, f"{split.name}_list") for files in there if files), None)
    if found is not None:
        return read_list(found, [folder, root, found.parent], may_miss=may_miss)
    if folder.is_dir() and folders_in(folder)[0]:
        return read_folders(folder)  # beside which the archives may lie that they were taken from
    if shards := find_shards(str(root), split.name, split.folder):
        return read_shards(str(folder if folder.is_dir() else root), shards, may_miss=may_miss)
    return read_folders(folder) if folder.is_dir() else None


def _only(places: list[Path], option: str) -> Path | None:
    """The one of some places; None where there is none."""
    if len(places) > 1:
        raise InputError(f"there are both {places[0]} and {places[1]}; name the one that counts as {option}")
    return places[0] if places else None


@dataclass(frozen=True)
class Contents:
    """What a dataset of photographs holds.

    Args:
        train: the training pictures, if there are any.
        test: the test pictures, if there are any.
        names: of the classes, which labels number.
        mapping: how labels of the test pictures became those of given classes, in a line; "" where they are the same.
        problem: why the training pictures cannot be trained on; "" where they can.
    """

    train: Listing | None
    test: Listing | None
    names: tuple[str, ...]
    mapping: str = ""
    problem: str = ""

    def check_training(self) -> None:
        """Raise `InputError` where the training pictures cannot be trained on."""
        if self.problem:
            raise InputError(self.problem)

    def unusual(self, *, training: bool) -> Iterator[str]:
        """What was left out, and classes without a test picture, a sentence each; about training too where asked."""
        splits = {"train": self.train if training else None, "val": self.test}
        yield from filter(None, (told(name, split.left_out) for name, split in splits.items() if split is not None))
        if self.test is None:
            return
        present = set(self.test.labels.tolist())
        absent = [name for label, name in enumerate(self.names) if label not in present]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            yield f"val has no picture of class {absent[0]!r}{more}"
        if training and self.train is not None and _read_from(self.train) == _read_from(self.test):
            yield f"val is the training pictures again: both are {self.train.source}"


def _read_from(listing: Listing) -> set[str]:
    return {os.path.realpath(place) for place in listing.paths.shards or (listing.source,)}


def agree(
    train: Listing | None, test: Listing | None, num_classes: int | None = None, refusals: Refusals = RAISED
) -> Contents:
    """The pictures under labels that agree, in the training pictures' numbering where these are there.

    Args:
        train: the training pictures.
        test: the test pictures.
        num_classes: how many classes there must be; None takes as many as there are.
        refusals: what becomes of classes without training pictures, and of pictures without one of the classes, which
            are left out otherwise.

    Returns:
        The pictures, and a name per class, a number where nothing names it.

    Raises:
        InputError: labels that leave a class without training pictures or are beyond the classes, classes of which only
            the test pictures know, or one class under two labels.
    """
    lead = train if train is not None else test
    assert lead is not None
    complete = train is not None or (lead.written and num_classes is None)
    count = _count(lead, num_classes, complete=complete, refusals=refusals)
    names = tuple(lead.names.get(label, str(label)) for label in range(count))
    if test is not None and test is not lead:
        labels = _same_labels(lead, test, count, refusals)
        test = _chosen(relabelled(test, labels), labels >= 0)
    return Contents(train, test, names)


def numbered(train: Listing | None, test: Listing | None, names: Sequence[str]) -> Contents:
    """The pictures under labels that number given classes. Test pictures may be of some of them alone.

    Args:
        train: the training pictures; what is wrong with them matters only to who trains.
        test: the test pictures.
        names: the classes.

    Raises:
        InputError: test pictures of another class, or with a label beyond the classes.
    """
    problem = ""
    if train is not None:
        try:
            train = relabelled(train, _labels_of(train, names)[0])
            _check_complete(train, names)
        except InputError as error:
            problem = str(error)
    said = ""
    if test is not None:
        labels, said = _labels_of(test, names)
        test = relabelled(test, labels)
    return Contents(train, test, tuple(names), said, problem)


def _labels_of(listing: Listing, names: Sequence[str]) -> tuple[Tensor, str]:
    """The labels of pictures among given classes, (N,) int64, and what is to be said about them."""
    present = listing.labels.unique().tolist()
    own = [listing.names[label] for label in present] if listing.names else []
    if listing.written and not set(map(canonical, own)) & set(map(canonical, names)):
        if present[-1] >= len(names):
            raise InputError(f"{listing.source} has label {present[-1]}; labels run from 0 to {len(names) - 1}")
        numbers = [str(label) for label in range(len(names))]
        why = f"its folders ({listed(own)}) are none of the run's classes" if own else "nothing names them"
        said = "" if same(numbers, names) else f"labels of {listing.source} are taken on trust: {why}"
        return listing.labels, said
    labels = labels_among(own, names, str(listing.source))
    table = torch.zeros(present[-1] + 1, dtype=torch.int64)
    table[present] = torch.tensor(labels)
    return table[listing.labels], mapped(dict(zip(present, own, strict=True)), names)


def _check_complete(train: Listing, names: Sequence[str]) -> None:
    """Raise `InputError` unless every class has a training picture."""
    if absent := lacking([names[label] for label in train.labels.unique().tolist()], names):
        raise InputError(f"{train.source} has no picture of {absent}; training needs some of each")


def relabelled(listing: Listing, labels: Tensor) -> Listing:
    """The listing with other labels."""
    return dataclasses.replace(listing, labels=labels)


def _chosen(listing: Listing, chosen: Tensor) -> Listing | None:
    """Some of the pictures, (N,) bool; None where it is none."""
    if chosen.all():
        return listing
    paths = listing.paths.chosen(chosen.nonzero()[:, 0].tolist())
    return dataclasses.replace(listing, paths=paths, labels=listing.labels[chosen]) if len(paths) else None


def _count(lead: Listing, num_classes: int | None, *, complete: bool, refusals: Refusals) -> int:
    """How many classes `lead` numbers; `complete` demands a picture of each."""
    present = lead.labels.unique().tolist()
    there = present[-1] + 1 if lead.written else len(lead.names)
    count = there if num_classes is None else num_classes
    if not lead.written and there != count:
        raise InputError(f"{lead.source} has {there} class folders, expected {count}")
    if there > count:
        raise InputError(f"{lead.source} has label {there - 1}; labels run from 0 to {count - 1}")
    absent = next((label for label, seen in enumerate([*present, None]) if label != seen), count)
    if complete and absent < count:
        name = f" ({lead.names[absent]})" if absent in lead.names else ""
        left_out = told("it", lead.left_out)
        refusals.refuse(
            InputError(
                f"{lead.source} has no picture of class {absent}{name}, of the classes 0 to {count - 1}"
                + (left_out and f"; {left_out}")
            )
        )
    return count


def _same_labels(train: Listing, test: Listing, count: int, refusals: Refusals) -> Tensor:
    """The test labels in the training pictures' numbering; -1 for those that were refused and have none."""
    label_of = {canonical(name): label for label, name in train.names.items()}
    if test.written:
        if int(test.labels.max()) >= count:
            refusals.refuse(
                InputError(f"{test.source} has label {int(test.labels.max())}; labels run from 0 to {count - 1}")
            )
        for label, name in test.names.items():
            theirs = label_of.get(canonical(name), label)
            if theirs != label:
                refusals.refuse(InputError(f"{test.source} gives {name!r} label {label}, but {train.source} {theirs}"))
        return torch.where(test.labels < count, test.labels, -1)
    if not label_of:
        refusals.refuse(
            InputError(f"{test.source} has class folders, but {train.source} names none; give val_list too")
        )
        return torch.full_like(test.labels, -1)
    present = test.labels.unique().tolist()
    for label in present:
        if canonical(test.names[label]) not in label_of:
            refusals.refuse(unknown(f"class of {test.source}", test.names[label], label_of))
    table = torch.zeros(len(test.names), dtype=torch.int64)
    for label in present:
        table[label] = label_of.get(canonical(test.names[label]), -1)
    return table[test.labels]
