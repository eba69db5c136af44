"""What answers of all tasks have in common: a picture on its way into a network."""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from switchnorm.data.augment.sizes import within
from switchnorm.data.preparation import Crop, Preparation
from switchnorm.data.resizing import Array, Pixelled, resize
from switchnorm.deploy.answering.files import AnswerFiles
from switchnorm.deploy.answering.setting import Setting
from switchnorm.deploy.answers import Answer
from switchnorm.deploy.description import Description
from switchnorm.errors import InputError, unknown


class Runs(Protocol):
    """A network as a function of arrays, see `switchnorm.deploy.runtime.Runtime`."""

    description: Description

    def __call__(self, images: Array) -> dict[str, Array]:
        """Images (N, C, h, w) to outputs by name."""


class Answering(ABC):
    """Answers for pictures.

    Args:
        runtime: the network.
        preparation: how pictures are shown to it.
        settings: some of `settings`, by name, in place of the description's.

    Raises:
        InputError: settings that the task does not have, or that cannot be.
    """

    #: What may be set, by name.
    settings: ClassVar[Mapping[str, Setting]] = {}

    def __init__(self, runtime: Runs, preparation: Preparation, settings: Mapping[str, Any]) -> None:
        self.runtime = runtime
        self.about = runtime.description
        self.preparation = _of_size(preparation, self.about)
        self.check(settings, self.about.task)
        defaults = {name: setting.default for name, setting in self.settings.items()}
        self.chosen: dict[str, Any] = {**defaults, **self.about.inference, **settings}
        self._warned = False

    @classmethod
    def check(cls, settings: Mapping[str, Any], owner: str) -> None:
        """Raise `InputError` for settings that the task, which is called its owner, does not have, or cannot be."""
        for name, value in settings.items():
            if name not in cls.settings:
                raise unknown(f"setting of {owner}", name, cls.settings)
            cls.settings[name].check(name, value)

    @abstractmethod
    def answer(self, picture: Pixelled) -> Answer:
        """What the network says about a picture, as the preparation takes it.

        Raises:
            InputError: a picture that the network does not take.
        """

    @property
    @abstractmethod
    def writes(self) -> type[AnswerFiles]:
        """What is written of answers; imported when it is asked for, since tables and pages take what reports do."""

    @abstractmethod
    def files(self, files: Sequence[Path], out: Path) -> AnswerFiles:
        """What writes answers for pictures into a folder."""

    def remarks(self, picture: Pixelled, answer: Answer) -> Iterator[str]:
        """What is to be said about the answer for a picture, as predicates: "is predicted in 4 parts"."""
        return iter(())

    def whole(self, picture: Pixelled) -> Array:
        """The one image (C, h, w) that a picture is shown as; raise `InputError` where there are several."""
        (part,) = self.preparation.parts(picture)
        if len(part.images) != 1:
            raise InputError(f"{self.about.task} sees a picture at one size, and it is shown at {len(part.images)}")
        return part.images[0]

    def run(self, images: Array) -> dict[str, Array]:
        """The network's outputs for images (N, C, h, w) uint8, of a size that it takes."""
        return self.runtime(self.preparation.normalized(images) if self.about.raw else np.ascontiguousarray(images))

    @property
    def fixed(self) -> tuple[int, int] | None:
        """Height and width of what the network takes, where it takes nothing else; sides that are open are 0."""
        about = self.about
        if about.size is None or {"height", "width"} <= set(about.dynamic):
            return None
        height, width = (
            0 if name in about.dynamic else side for name, side in zip(("height", "width"), about.size, strict=True)
        )
        return height, width

    def fitted(self, image: Array) -> tuple[Array, tuple[int, int]]:
        """An image (C, h, w) as large as the network takes it, and which part of it, from the upper left, is picture.

        Where that is another size it is shrunk if it is too large, and the mean colour fills the rest.
        """
        size = image.shape[1], image.shape[2]
        fixed = self.fixed
        if fixed is None:
            return image, size
        canvas = fixed[0] or size[0], fixed[1] or size[1]
        if canvas == size:
            return image, size
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the file takes pictures of {canvas[0]}x{canvas[1]} alone: others are resized to fit and padded, so "
                "that answers differ from the network's own; export it with dynamic height and width",
                stacklevel=2,
            )
        inside = within(size, canvas)
        filled = np.empty((len(image), *canvas), np.uint8)
        filled[:] = self._mean_color()[:, None, None]
        filled[:, : inside[0], : inside[1]] = resize(image, inside, self.preparation.interpolation)
        return filled, inside

    def _mean_color(self) -> Array:
        mean = np.asarray(self.preparation.mean) / self.preparation.scale
        return (mean[::-1] if self.preparation.order == "bgr" else mean).round().clip(0, 255).astype(np.uint8)


def output(found: Mapping[str, Array], name: str, axes: int) -> Array:
    """An output by name; raise `InputError` where the network does not give it, or gives it with other axes."""
    if name not in found:
        raise InputError(f"the network gives {', '.join(found) or 'nothing'}, and its task needs {name!r}")
    if found[name].ndim != axes:
        shape = tuple(found[name].shape)
        raise InputError(
            f"the network gives {name} of shape {shape}, and its task needs {axes} axes; it is for another"
        )
    return found[name]


def _of_size(preparation: Preparation, about: Description) -> Preparation:
    """The preparation for a file of another size than the network's own crops: these grow alike."""
    rule, size = preparation.rule, about.size
    if not isinstance(rule, Crop) or size is None or size[0] != size[1] or size[0] == rule.size:
        return preparation
    side = max(size[0], round(rule.side * size[0] / rule.size))
    return dataclasses.replace(preparation, rule=Crop(side, size[0]))
