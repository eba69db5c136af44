"""Lists of annotated pictures as ADE20K's scene parsing benchmark has them: one JSON object in each line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from switchnorm.data.files.listing import Paths, find_listed, read_lines
from switchnorm.data.files.pairs import Pairs
from switchnorm.errors import InputError
from switchnorm.text import from_json

# Of a picture, in pixels: what JPEG can have.
_LONGEST_SIDE = 65_535
_EXAMPLE = '{"fpath_img": "images/a.jpg", "fpath_segm": "annotations/a.png", "width": 683, "height": 512}'


def read_odgt(file: Path, folders: Sequence[Path], *, may_miss: bool = False) -> Pairs:
    """The pictures and masks that a list names.

    Args:
        file: the list.
        folders: below which the paths may lie; that where the fewest are missing counts.
        may_miss: whether files may be missing, as long as one is there.

    Raises:
        InputError: a list that cannot be read or is empty, a line that does not say what it must, or files that are
            missing.
    """
    entries = [_parse(file, number, line) for number, line in enumerate(read_lines(file), 1) if line.strip()]
    if not entries:
        raise InputError(f"{file} is empty; expected {_EXAMPLE} in each line")
    names = [name for entry in entries for name in entry[:2]]
    names, folder = find_listed(names, folders, file, "pictures and masks", may_miss=may_miss)
    sizes = torch.tensor([entry[2:] for entry in entries])
    return Pairs(file, Paths(folder, names[::2]), Paths(folder, names[1::2]), sizes, may_miss=may_miss)


def _parse(file: Path, number: int, line: str) -> tuple[str, str, int, int]:
    """Picture, mask, height and width."""
    try:
        entry = from_json(line, f"{file}: line {number}")
    except InputError:
        entry = None
    if not isinstance(entry, dict):
        raise InputError(f"{file}: line {number} is no JSON object, got {line[:80]!r}; expected {_EXAMPLE}")
    for key, kind in (("fpath_img", str), ("fpath_segm", str), ("width", int), ("height", int)):
        value = entry.get(key)
        if key not in entry:
            raise InputError(f"{file}: line {number} lacks {key!r}; expected {_EXAMPLE}")
        if not isinstance(value, kind) or not value or (isinstance(value, int) and not 1 <= value <= _LONGEST_SIDE):
            raise InputError(f"{file}: line {number} has {key} {value!r:.80}; expected {_EXAMPLE}")
    return entry["fpath_img"], entry["fpath_segm"], entry["height"], entry["width"]
