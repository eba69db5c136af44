"""Which pictures a split has, and which masks belong to them."""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.data.files.listing import EXTENSIONS, NAMES, Paths
from switchnorm.data.files.walk import Account, LeftOut, find_files, same_name
from switchnorm.errors import InputError

#: The extensions of masks' names, in lower case; lossy formats (JPEG) would change labels.
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff")

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
    """

    source: Path
    pictures: Paths
    masks: Paths
    stated: Tensor | None = None
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def distinct_sizes(self) -> list[tuple[int, int]]:
        """The different ones of `sizes`, each a height and a width."""
        return [(height, width) for height, width in self.sizes.unique(dim=0).tolist()]

    @functools.cached_property
    def sizes(self) -> Tensor:
        """(N, 2) int64: height and width of every picture, by the list or by the first bytes of the files.

        Raises:
            InputError: a file that is no picture.
        """
        if self.stated is not None:
            return self.stated
        return torch.tensor([_size(self.pictures[place]) for place in range(len(self))])


def _size(path: str) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except Exception as error:  # the decoders of damaged files raise nearly anything
        raise InputError(f"cannot read {path} ({' '.join(str(error).split())})") from error


def find_folders(root: Path, split: str) -> Pairs | None:
    """A split's pictures and masks, in the first of the layouts that is there; None where none is.

    Raises:
        InputError: as `pair_up`; or pictures in a second place.
    """
    there = [pair for pair in _layouts(split) if (root / pair[0]).is_dir() and (root / pair[1]).is_dir()]
    if not there:
        return None
    pictures, masks = there[0]
    other = next((place for place, _ in there if place != pictures), None)
    if other is not None:
        raise InputError(f"{root} holds {split} pictures both in {pictures} and in {other}; take one of them away")
    pairs = pair_up(root / pictures, root / masks)
    ignored = [LeftOut("other folders of masks", len(there) - 1, str(root / there[1][1]))] if there[1:] else []
    return dataclasses.replace(pairs, left_out=(*pairs.left_out, *ignored))


def layouts(split: str) -> str:
    """The layouts that `find_folders` looks for, in words."""
    name = NAMES[split][0]
    kinds = f"{', '.join(_MASKS[:-1])} or {_MASKS[-1]}"
    return f"{name} with {name}annot, images/{name} with {kinds}/{name}, {name}/images with {name}/({kinds})"


def _layouts(split: str) -> list[tuple[str, str]]:
    names = NAMES[split]
    return [
        *((name, f"{name}annot") for name in names),
        *((f"{_PICTURES}/{name}", f"{masks}/{name}") for name in names for masks in _MASKS),
        *((f"{name}/{_PICTURES}", f"{name}/{masks}") for name in names for masks in _MASKS),
    ]


def pair_up(pictures: Path, masks: Path, picture_suffix: str = "", mask_suffix: str = "") -> Pairs:
    """Pictures and masks of the same name, at any depth of their folders.

    Args:
        pictures: folder of the pictures.
        masks: folder of the masks.
        picture_suffix: what the names of the pictures end with before the extension; other files are ignored.
        mask_suffix: the same for the masks.

    Raises:
        InputError: no pictures, one without a mask or a mask without one, or two files of the same name.
    """
    account = Account()
    of_pictures = _by_name(pictures, EXTENSIONS, picture_suffix, account)
    of_masks = _by_name(masks, MASK_EXTENSIONS, mask_suffix, account)
    if not of_pictures:
        what = f" *{picture_suffix}" if picture_suffix else ""
        raise InputError(f"{pictures} holds no pictures{what} ({' '.join(EXTENSIONS)})")
    without = [name for name in of_pictures if name not in of_masks]
    if without:
        raise InputError(
            f"{len(without)} of the {len(of_pictures)} pictures in {pictures} have no mask, the first is "
            f"{of_pictures[without[0]]}; expected {masks / without[0]}{mask_suffix}.png"
        )
    without = [name for name in of_masks if name not in of_pictures]
    if without:
        raise InputError(
            f"{len(without)} of the {len(of_masks)} masks in {masks} have no picture, the first is "
            f"{of_masks[without[0]]}; expected {pictures / without[0]}{picture_suffix}.jpg or another picture"
        )
    in_order = (of_masks[name] for name in of_pictures)
    paths = Paths(pictures, of_pictures.values()), Paths(masks, in_order)
    return Pairs(pictures, *paths, left_out=account.total())


def _by_name(folder: Path, extensions: tuple[str, ...], suffix: str, account: Account) -> dict[str, str]:
    """The paths below a folder by what they are called without suffix and extension."""
    found: dict[str, str] = {}
    below = find_files(folder, extensions)
    account.extend(below.left_out)
    for path in below.paths:
        file = os.path.relpath(path, folder)
        stem = same_name(os.path.splitext(file)[0])
        if not stem.endswith(suffix):
            account.add(f"files whose names do not end with {suffix}", path)
            continue
        other = found.setdefault(stem[: len(stem) - len(suffix)], file)
        if other is not file:
            raise InputError(f"{folder} holds both {other} and {file}; expected one file of that name")
    return found
