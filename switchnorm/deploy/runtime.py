"""A file as a function of arrays, whatever runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.description import KEY, Description
from switchnorm.errors import InputError
from switchnorm.text import from_json, last_line

if TYPE_CHECKING:
    import numpy as np

#: The entry of a file's metadata that names its outputs, in their order, where the format has no names.
OUTPUTS = "outputs"
#: What the input of every file is called.
INPUT = "images"


class Runtime:
    """A network in a file, run by whatever runs files of its format.

    Args:
        description: of the network, as the file holds it.
        outputs: names of what it gives, in order.
        run: from images to the outputs, in order.
    """

    def __init__(
        self, description: Description, outputs: Sequence[str], run: Callable[[np.ndarray], Sequence[np.ndarray]]
    ) -> None:
        self.description, self.outputs = description, tuple(outputs)
        self._run = run

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network.

        Args:
            images: (N, C, H, W), pixels as uint8, or normalized float32 where the description says raw.

        Returns:
            Its outputs by name; floating-point ones are float32.

        Raises:
            InputError: an array of another kind or shape than the file takes.
        """
        expected = "float32" if self.description.raw else "uint8"
        if getattr(images, "dtype", None) != expected or images.ndim != 4:
            found = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}".strip()
            raise InputError(f"images are {found}; this file takes {expected} (N, C, H, W)")
        self._check_size(images.shape)
        arrays = self._run(images)
        return dict(zip(self.outputs, arrays, strict=True))

    def _check_size(self, shape: tuple[int, ...]) -> None:
        """Raise `InputError` for a size that the file was not made for."""
        about = self.description
        fixed = [("height", shape[2], 0), ("width", shape[3], 1)]
        for name, given, place in fixed:
            if about.size is not None and name not in about.dynamic and given != about.size[place]:
                raise InputError(
                    f"images are {shape[2]}x{shape[3]}; this file takes {about.size[0]}x{about.size[1]}: resize them, "
                    "or export it with dynamic height and width"
                )
        if "batch" not in about.dynamic and shape[0] != 1:
            raise InputError(f"{shape[0]} images were given; this file takes one: export it with dynamic batch")


class FileRuntime(Runtime):
    """As `Runtime`, run by a library that may raise anything.

    Args:
        path: of the file, for errors.
        description, outputs, run: as of `Runtime`.
        said: what of an error to repeat.
    """

    def __init__(
        self,
        path: Path,
        description: Description,
        outputs: Sequence[str],
        run: Callable[[np.ndarray], Sequence[np.ndarray]],
        said: Callable[[BaseException], str] = last_line,
    ) -> None:
        def explained(images: np.ndarray) -> Sequence[np.ndarray]:
            try:
                return run(images)
            except Exception as error:
                raise InputError(f"{path} cannot run on images of {images.shape[2:]}: {said(error)}") from error

        super().__init__(description, outputs, explained)


def described(metadata: Mapping[str, str], title: str) -> tuple[Description, tuple[str, ...]]:
    """The description, and the names of the outputs where they are given, of a file's metadata.

    Raises:
        InputError: a file that no export of this library has written.
    """
    if KEY not in metadata:
        raise InputError(f"{title} does not say what it is; expected a file that `switchnorm export` has written")
    names: Any = from_json(metadata.get(OUTPUTS, "[]"), f"{title}: {OUTPUTS}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{title}: {OUTPUTS} is {json.dumps(names)!s:.80}; expected a list of names")
    return Description.from_json(metadata[KEY], title), tuple(names)
