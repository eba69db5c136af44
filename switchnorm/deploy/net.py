"""A network and what it says about pictures. Needs no torch, unless the network does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from switchnorm.config.task_spec import find_task, loaded, tasks
from switchnorm.data.files.picture_file import DamagedError
from switchnorm.data.files.remarks import Remarks, gathered
from switchnorm.data.preparation import Preparation
from switchnorm.data.resizing import Array, Pixelled
from switchnorm.deploy.answering.base import Answering, Runs
from switchnorm.deploy.answers import Answer
from switchnorm.deploy.description import RAW_TASK, Description
from switchnorm.deploy.given import PictureLike, found_pictures, is_path
from switchnorm.errors import InputError


class Answered(NamedTuple):
    """What became of a picture.

    Args:
        place: among all pictures, from 0.
        name: its file, or its place in words.
        picture: as it was read; None where it could not be.
        answer: None where there is none.
        failure: why, in words that name the picture; "" where there is an answer.
        remarks: what is to be said about the answer, in words that name the picture.
    """

    place: int
    name: str
    picture: Pixelled | None
    answer: Answer | None
    failure: str = ""
    remarks: tuple[str, ...] = ()


class Net:
    """A network that is ready to be asked, however it is run.

    Args:
        runtime: the network as a function of arrays, with its description.
        source: what it was opened from, for errors.
        preparation: how pictures are shown; None for the description's.

    Raises:
        InputError: the description has settings that its task does not have, or that cannot be.
    """

    def __init__(self, runtime: Runs, source: str, preparation: Preparation | None = None) -> None:
        self.runtime = runtime
        self.source = source
        self.preparation = runtime.description.preparation if preparation is None else preparation
        known = tasks().get(self.task)
        make: type[Answering] | None = None if known is None else loaded(known.answering)
        if make is not None:
            try:
                make.check(self.description.inference, self.task)
            except InputError as error:
                raise InputError(f"{source}: {error}") from error

    @property
    def description(self) -> Description:
        """What the network is."""
        return self.runtime.description

    @property
    def task(self) -> str:
        """What it was trained for."""
        return self.description.task

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return self.description.classes

    def __call__(self, images: Array) -> dict[str, Array]:
        """The network's outputs by name, as they are, for images (N, C, H, W) as it takes them."""
        return self.runtime(images)

    def predict(self, pictures: PictureLike | Iterable[PictureLike], **settings: Any) -> Any:
        """What the network says about pictures, shown to it as its own evaluation shows them.

        Args:
            pictures: a file, a picture of Pillow, an array (H, W, C) or (C, H, W) uint8; a folder; or many of these.
            **settings: of the task: `top` of classification, how many classes; `flip`, `window`, `overlap` and
                `scales` of segmentation; `score_threshold` and `detections` of detection.

        Returns:
            A `Classified`, `Segmented` or `Detected` for one picture, or a list of these for a folder or many.

        Raises:
            InputError: a picture that cannot be read or that the network does not take, settings that the task does
                not have, or a network of which nothing says how pictures are shown to it.
        """
        single = isinstance(pictures, Image.Image | np.ndarray) or (is_path(pictures) and not _is_folder(pictures))
        answers = []
        for found in self.answers(pictures, **settings):
            if found.answer is None:
                raise InputError(found.failure)
            for remark in found.remarks:
                warnings.warn(remark, stacklevel=2)
            answers.append(found.answer)
        return answers[0] if single else answers

    def answers(self, pictures: PictureLike | Iterable[PictureLike], **settings: Any) -> Iterator[Answered]:
        """As `predict`, picture by picture; one that cannot be read stops none of the others.

        What is unusual about files, colours that are lost, say, is warned of in a line for all.
        """
        answering = self.answering(settings)
        listed, left_out = found_pictures(pictures)
        for line in left_out:
            warnings.warn(line, stacklevel=2)
        return _saying(answering, listed)

    def answering(self, settings: Mapping[str, Any]) -> Answering:
        """What makes answers of pictures.

        Raises:
            InputError: as `predict`, of the network and the settings.
        """
        if self.task == RAW_TASK:
            raise InputError(f"{self.source} does not say what its outputs mean; call it with arrays, net(images)")
        make: type[Answering] | None = loaded(find_task(self.task).answering)
        if make is None:
            able = " or ".join(task.name for task in tasks().values() if task.answering is not None)
            raise InputError(f"predict answers for {able}, and {self.source} is for {self.task}; call net(images)")
        if self.preparation is None:
            raise InputError(
                f"nothing says how pictures are shown to {self.source}: its dataset has no `preparation`; call it with "
                "arrays, net(images)"
            )
        return make(self.runtime, self.preparation, settings)

    def __repr__(self) -> str:
        about = self.description
        network = "" if about.network is None else f" {about.network['name']}"
        norm = "" if about.norm is None else f", norm {about.norm}"
        return f"<Net {self.source}:{network} for {about.task}, {len(about.classes)} classes{norm}>"


def answered(answering: Answering, pictures: Sequence[PictureLike], noticed: Remarks) -> Iterator[Answered]:
    """What becomes of pictures, one after the other.

    Args:
        answering: what makes the answers.
        pictures: files, and pictures in memory.
        noticed: gets what is unusual about files.
    """
    for place, each in enumerate(pictures):
        name, picture = _name(each, place), None
        try:
            with gathered() as remarks:
                picture = _read(answering.preparation, each, name)
            noticed.add(remarks)
            answer = answering.answer(picture)
            said = tuple(f"{name} {remark}" for remark in answering.remarks(picture, answer))
        except DamagedError as error:
            yield Answered(place, name, picture, None, f"cannot read {error}")
        except InputError as error:
            reason = str(error)
            yield Answered(place, name, picture, None, reason if name in reason else f"{name}: {reason}")
        else:
            yield Answered(place, name, picture, answer, remarks=said)


def _saying(answering: Answering, pictures: Sequence[PictureLike]) -> Iterator[Answered]:
    noticed = Remarks("pictures", len(pictures))
    yield from answered(answering, pictures, noticed)
    noticed.say()


def _read(preparation: Preparation, picture: PictureLike, name: str) -> Pixelled:
    if is_path(picture):
        return preparation.read(os.fspath(picture))
    return preparation.taken(picture, name)


def _is_folder(value: Any) -> bool:
    return os.path.isdir(value)


def _name(picture: PictureLike, place: int) -> str:
    return os.fspath(picture) if is_path(picture) else f"picture {place}"
