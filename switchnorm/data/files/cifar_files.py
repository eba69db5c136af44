"""The official files of CIFAR-10 and CIFAR-100: finding them, and reading them as untrusted data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.errors import InputError
from switchnorm.unpickling import CONTAINERS, Maker, Program, StandIn, unpickle

if TYPE_CHECKING:  # and inside functions, because classes of datasets import this module: see `Dataset`
    import numpy as np
    from torch import Tensor

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One of the forms in which a CIFAR dataset is published.

    Args:
        title: what errors call it, for example "CIFAR-10's binary version".
        folder: the folder that its archive holds.
        train: names of the files with the training images.
        test: names of the files with the test images.
        read: reads one file: `read(path, title)` -> images (n, 3072) uint8, one label per image.
    """

    title: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Callable[[Path, str], tuple[np.ndarray, list[int]]]


def locate(root: Path, versions: Iterable[Version]) -> tuple[Version, Path] | None:
    """The first of `versions` that is present, with its folder: `root` itself, or that of the published name in it."""
    for version in versions:
        for folder in (root, root / version.folder):
            named = folder.name == version.folder and folder.is_dir()
            if named or any((folder / name).is_file() for name in version.train + version.test):
                return version, folder
    return None


def read_files(version: Version, folder: Path, names: Iterable[str], num_classes: int) -> tuple[Tensor, Tensor]:
    """Read the named files of a version, one after the other.

    Returns:
        Images (N, 3, 32, 32) uint8, labels (N,) int64.

    Raises:
        InputError: a file that is missing, truncated or foreign, or a label that is not in [0, num_classes).
    """
    import numpy as np
    import torch

    images: list[np.ndarray] = []
    labels: list[int] = []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing: {version.title} needs {', '.join(version.train + version.test)}")
        file_images, file_labels = version.read(path, version.title)
        _check_labels(path, file_labels, num_classes)
        images.append(file_images)
        labels.extend(file_labels)
    return torch.from_numpy(np.concatenate(images).reshape(-1, *_SHAPE)), torch.tensor(labels)


def read_binary(path: Path, title: str, *, label_bytes: int) -> tuple[np.ndarray, list[int]]:
    """Read records of `label_bytes` labels, of which the last is the one to learn, and 3,072 pixels.

    Raises:
        InputError: a file that cannot be read or is not a whole number of records, one at least.
    """
    import numpy as np

    size = label_bytes + _PIXELS
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if len(content) == 0 or len(content) % size:
        raise InputError(
            f"{path} is truncated or not {title}: it has {len(content)} bytes, expected whole records of {size} bytes"
        )
    records = content.reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1].tolist()


def read_pickle(path: Path, title: str, *, label_key: bytes) -> tuple[np.ndarray, list[int]]:
    """Read a pickled dictionary with b"data", (n, 3072) uint8, and `label_key`, a list of n integers.

    Raises:
        InputError: a file that cannot be read, holds anything else, or asks for code to run.
    """
    content = _unpickle(path, title)
    array = content.get(b"data") if isinstance(content, dict) else None
    data = array.rows if isinstance(array, _Array) else None
    if data is None or len(data) == 0:
        raise InputError(f"{path} is not {title}: expected images under 'data', (n, {_PIXELS}) uint8")
    labels = content.get(label_key)
    if not isinstance(labels, list) or len(labels) != len(data) or not all(type(label) is int for label in labels):
        raise InputError(f"{path} is not {title}: expected {len(data)} integers under '{label_key.decode()}'")
    return data, labels


def _check_labels(path: Path, labels: list[int], num_classes: int) -> None:
    for record, label in enumerate(labels):
        if not 0 <= label < num_classes:
            raise InputError(
                f"{path}: record {record} (the first is 0) has label {label}; labels run from 0 to {num_classes - 1}"
            )


class _Type(StandIn):
    """What a pickle says of the type of an array's entries."""

    def __init__(self, name: Any, *rest: object) -> None:
        self.name = name


class _Array(StandIn):
    """An array of numpy as its pickle describes it: `rows` are (n, 3072) uint8, or None where it is another."""

    def __init__(self, *parts: object) -> None:
        self.rows: np.ndarray | None = None

    def take(self, state: Any) -> None:
        """Take version, shape, type, order and bytes."""
        import numpy as np

        _version, shape, kind, by_columns, raw = state
        fits = isinstance(kind, _Type) and kind.name in ("u1", b"u1") and isinstance(raw, bytes) and len(shape) == 2
        if fits and type(shape[0]) is int and shape[1] == _PIXELS and len(raw) == shape[0] * _PIXELS:
            self.rows = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if by_columns else "C")


_NAMES = {
    **CONTAINERS,
    "numpy.ndarray": None,
    "numpy.dtype": Maker(_Type),
    # Where the official files seek it, and where numpy has it now.
    **{f"numpy.{core}.multiarray._reconstruct": Maker(_Array) for core in ("core", "_core")},
}


def _unpickle(path: Path, title: str) -> Any:
    try:
        with path.open("rb") as file:
            return unpickle(Program(file, path.stat().st_size), _NAMES, encoding="bytes")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a malformed pickle may raise nearly anything
        raise InputError(f"{path} is truncated or not {title}: {error}") from error
