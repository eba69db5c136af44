"""What all that read pictures have in common: the file, and what becomes of an error in a worker process."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from switchnorm.errors import InputError

Asked = TypeVar("Asked")
Batch = TypeVar("Batch")


class DamagedError(Exception):
    """A picture that cannot be read; the message is its path and why."""


def read_picture(path: str) -> Image.Image:
    """The picture of a file in red, green and blue of 8 bits, whatever kind of file it is and whatever its name says.

    Raises:
        DamagedError: no such file, or not a whole picture.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode == "RGB":
                picture.load()
                return picture
            if picture.mode.startswith("I"):  # of 16 bits, which Pillow would cut off at 255
                picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
            return picture.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # the decoders of damaged files raise nearly anything
        reason = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise DamagedError(f"{path} ({reason})") from error


class Failure(NamedTuple):
    """What ended the reading. It is no exception, because those arrive from a worker with its traceback in the text."""

    message: str


class BatchReader(Dataset["Batch | Failure"], Generic[Asked, Batch]):
    """Reads batches: `Asked` says which, a plain tuple; `Batch` is what is read."""

    def __getitem__(self, request: Asked) -> Batch | Failure:
        try:
            return self.read(request)
        except InputError as error:
            return Failure(str(error))

    @abstractmethod
    def read(self, request: Asked) -> Batch:
        """The batch asked for; raises `InputError`."""
