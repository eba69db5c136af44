"""Which pictures a split has, and which masks belong to them."""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.data.files.listing import NAMES, Paths
from switchnorm.data.files.opening import sides
from switchnorm.data.files.picture_file import DamagedError, MisfitError, picture_sizes, unreadable
from switchnorm.data.files.suffixes import NONE, Suffixes, fitting_prefixes, fitting_suffixes, suffix_beside
from switchnorm.data.files.walk import EXTENSIONS, Account, LeftOut, find_files, no_pictures
from switchnorm.errors import InputError
from switchnorm.text import canonical

#: The extensions of masks' names, in lower case.
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
#: Those of formats that would change labels.
_LOSSY = {
    ".jpg": "JPEG changes",
    ".jpeg": "JPEG changes",
    ".jfif": "JPEG changes",
    ".jp2": "JPEG 2000 may change",
    ".webp": "WebP may change",
    ".avif": "AVIF changes",
}

_PICTURES = "images"
_MASKS = ("annotations", "masks", "labels")


@dataclass(frozen=True)
class Pairs:
    """The pictures and the masks of a split.

    Args:
        source: the list, or the folder of the pictures; what errors name.
        pictures: their paths.
        masks: the paths of the masks, in the same order.
        stated: (N, 2) int64, the sizes that the list states; None where there is no list.
        left_out: what lies there and was not taken.
        may_miss: whether files may be missing or damaged.
    """

    source: Path
    pictures: Paths
    masks: Paths
    stated: Tensor | None = None
    left_out: tuple[LeftOut, ...] = ()
    may_miss: bool = False

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def distinct_sizes(self) -> list[tuple[int, int]]:
        """The different ones of `sizes`, each a height and a width."""
        return [(height, width) for height, width in self.sizes.unique(dim=0).tolist()]

    @functools.cached_property
    def sizes(self) -> Tensor:
        """(N, 2) int64: height and width of every picture the right way up, by the first bytes of the files.

        Where pictures may be damaged, one that is has the size of the next that is not, which training takes instead.

        Raises:
            InputError: a file that is no picture or has another size than the list states, or nothing else where files
                may be damaged.
        """
        sizes = [self._size(place) for place in range(len(self))]
        following = next((size for size in sizes if size is not None), None)
        if following is None:
            raise InputError(f"none of the {len(self)} pictures in {self.source} can be read")
        whole = []
        for size in reversed(sizes):
            following = following if size is None else size
            whole.append(following)
        return torch.tensor(whole[::-1])

    def _size(self, place: int) -> tuple[int, int] | None:
        try:
            return self.size(place)
        except DamagedError as error:
            if self.may_miss:
                return None
            raise unreadable(error) from error

    def size(self, place: int) -> tuple[int, int]:
        """Height and width of one picture the right way up.

        A list may state the size of the picture as it is stored, too, for not everything that writes lists turns
        pictures: either is taken.

        Raises:
            DamagedError: a file that is no picture, or has another size than the list states.
        """
        path = self.pictures[place]
        found = picture_sizes(path)
        if self.stated is not None and (stated := tuple(self.stated[place].tolist())) not in found:
            raise MisfitError(
                f"picture {path} is {sides(found.upright)}; expected {sides(stated)} as {self.source} states"
            )
        return found.upright


def find_folders(root: Path, split: str, suffixes: Suffixes = NONE, *, may_miss: bool = False) -> Pairs | None:
    """A split's pictures and masks, in the first of the layouts that is there; None where none is.

    Args:
        root: of the dataset.
        split: train, val or test.
        suffixes: what names end with; with one of masks they may also lie beside their pictures.
        may_miss: as `pair_up`.

    Raises:
        InputError: as `pair_up`; or pictures in a second place.
    """
    there = [pair for pair in _layouts(split) if (root / pair[0]).is_dir() and (root / pair[1]).is_dir()]
    if not there:
        beside = [root / place for place in _places(split) if (root / place).is_dir()]
        if beside and suffixes.mask:
            return pair_up(beside[0], beside[0], suffixes, may_miss=may_miss)
        for folder in beside if suffixes.named else []:
            ending = suffix_beside(_stems(folder, EXTENSIONS), _stems(folder, MASK_EXTENSIONS))
            if ending is not None:
                raise InputError(
                    f"{folder} holds pictures and beside them files of the same names and {ending!r}; if these are "
                    f"masks, set data.mask_suffix to {ending!r}"
                )
        return None
    pictures, masks = there[0]
    other = next((place for place, _ in there if place != pictures), None)
    if other is not None:
        raise InputError(f"{root} holds {split} pictures both in {pictures} and in {other}; take one of them away")
    pairs = pair_up(root / pictures, root / masks, suffixes, may_miss=may_miss)
    ignored = [LeftOut("other folders of masks", len(there) - 1, str(root / there[1][1]))] if there[1:] else []
    return dataclasses.replace(pairs, left_out=(*pairs.left_out, *ignored))


def layouts(split: str, beside: str = "") -> str:
    """The layouts that `find_folders` looks for, in words.

    Args:
        split: train, val or test.
        beside: what the names of masks end with that lie beside their pictures; "" for none.
    """
    name = NAMES[split][0]
    kinds = f"{', '.join(_MASKS[:-1])} or {_MASKS[-1]}"
    words = f"{name} with {name}annot, {name}_masks or {name}_labels, images/{name} with {kinds}/{name}, "
    same = f", {name} with masks *{beside} in it" if beside else ""
    return f"{words}{name}/images with {name}/({kinds}){same}"


def _layouts(split: str) -> list[tuple[str, str]]:
    names = NAMES[split]
    return [
        *((name, f"{name}{ending}") for name in names for ending in ("annot", "_masks", "_labels")),
        *((f"{_PICTURES}/{name}", f"{masks}/{name}") for name in names for masks in _MASKS),
        *((f"{name}/{_PICTURES}", f"{name}/{masks}") for name in names for masks in _MASKS),
    ]


def _places(split: str) -> list[str]:
    """Where pictures with masks beside them may be."""
    return [*NAMES[split], *(f"{_PICTURES}/{name}" for name in NAMES[split])]


def pair_up(pictures: Path, masks: Path, suffixes: Suffixes = NONE, *, may_miss: bool = False) -> Pairs:
    """Pictures and masks of the same name, at any depth of their folders.

    Args:
        pictures: folder of the pictures.
        masks: folder of the masks; where it is the same, the files that end with the suffix of masks are these.
        suffixes: what names end with before the extension; other files are ignored.
        may_miss: whether to go on with a picture without a mask, whose mask is then missing when it is read, and
            without what has no picture.

    Raises:
        InputError: no pictures, one without a mask or a mask without one, or two files of the same name.
    """
    account = Account()
    beside = suffixes.mask if masks == pictures else None
    of_pictures = _by_name(pictures, EXTENSIONS, suffixes.picture, account, beside)
    # Of the same folder everything is counted already.
    of_masks = _by_name(masks, MASK_EXTENSIONS, suffixes.mask, account if beside is None else Account())
    if not of_pictures:
        none = no_pictures(account.total(), f"*{suffixes.picture}" if suffixes.picture else "")
        raise InputError(f"{pictures} holds {none}{_advice(pictures, masks, suffixes)}")
    lonely = [name for name in of_masks if name not in of_pictures]
    without = [name for name in of_pictures if name not in of_masks]
    may_miss = may_miss and len(without) < len(of_pictures)
    if without and not may_miss:
        go_on = "; bring them, or set on_damaged to 'skip'" if len(without) < len(of_pictures) else ""
        raise InputError(
            f"{len(without)} of the {len(of_pictures)} pictures in {pictures} have no mask, the first is "
            f"{of_pictures[without[0]]}; expected {masks / without[0]}{suffixes.mask}.png"
            f"{_advice(pictures, masks, suffixes) or _instead(masks, without[0] + suffixes.mask) or go_on}"
        )
    if lonely and not may_miss:
        raise InputError(
            f"{len(lonely)} of the {len(of_masks)} masks in {masks} have no picture, the first is "
            f"{of_masks[lonely[0]]}; expected {pictures / lonely[0]}{suffixes.picture}.jpg or another picture"
        )
    for name in lonely:
        account.add("masks without a picture", str(masks / of_masks[name]))
    in_order = (of_masks.get(name, f"{name}{suffixes.mask}.png") for name in of_pictures)
    paths = Paths(pictures, of_pictures.values()), Paths(masks, in_order)
    return Pairs(pictures, *paths, left_out=account.total(), may_miss=may_miss)


def _by_name(
    folder: Path, extensions: tuple[str, ...], suffix: str, account: Account, without: str | None = None
) -> Mapping[str, str]:
    """The paths below a folder by what they are called without suffix and extension; of those `without` an ending."""
    found: dict[str, str] = {}
    below = find_files(folder, extensions)
    account.extend(below.left_out)
    for path in below.paths:
        file = os.path.relpath(path, folder)
        stem = canonical(os.path.splitext(file)[0])
        if without is not None and stem.endswith(without):
            continue
        if not stem.endswith(suffix):
            account.add(f"files whose names do not end with {suffix}", path)
            continue
        other = found.setdefault(stem[: len(stem) - len(suffix)], file)
        if other is not file:
            raise InputError(f"{folder} holds both {other} and {file}; expected one file of that name")
    return found


def _stems(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    """The names below a folder without extension."""
    paths = find_files(folder, extensions).paths
    return [canonical(os.path.splitext(os.path.relpath(path, folder))[0]) for path in paths]


def _advice(pictures: Path, masks: Path, suffixes: Suffixes) -> str:
    """Which endings would make the names fit, or how they begin otherwise, if any would."""
    named = _stems(pictures, EXTENSIONS), _stems(masks, MASK_EXTENSIONS)
    if pictures == masks:
        ending = suffix_beside(*named)
        fitting = None if ending is None else Suffixes(mask=ending)
    else:
        fitting = fitting_suffixes(*named)
        if fitting is None and (beginnings := fitting_prefixes(*named)) is not None:
            own, theirs = beginnings
            return f"; rename the masks, whose names begin with {theirs!r} where those of pictures begin with {own!r}"
    if fitting is None or (fitting.picture, fitting.mask) == (suffixes.picture, suffixes.mask):
        return ""
    return f"; set {fitting}" if suffixes.named else f"; their names fit with data.name masks, which can set {fitting}"


def _instead(folder: Path, stem: str) -> str:
    """What lies where a mask is expected and is none, if anything does."""
    for path in sorted(glob.glob(f"{glob.escape(str(folder / stem))}.*")):
        name, extension = os.path.basename(path), os.path.splitext(path)[1].lower()
        reason = f"{_LOSSY[extension]} labels" if extension in _LOSSY else "that is no file of a mask"
        return f"; {name} is there, but {reason}: save masks as PNG"
    return ""
