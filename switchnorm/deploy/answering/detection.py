"""The objects on pictures, in pixels of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from switchnorm.config.ranges import Range
from switchnorm.data.preparation import Preparation, ShortSide
from switchnorm.data.resizing import Array, Pixelled, extent
from switchnorm.deploy.answering.base import Answering, Runs, output
from switchnorm.deploy.answering.setting import Setting
from switchnorm.deploy.answers import Answer, Detected, Masks
from switchnorm.deploy.description import OF_DETECTORS
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.answering.box_files import BoxFiles


class Detecting(Answering):
    """Answers with boxes, and masks where the network has some.

    Settings: `score_threshold`, below which nothing is given out; `nms_threshold`, above which overlapping detections
    of a class are one; `detections`, how many of a picture at most; `shown`, the score from which they are drawn; and
    `side`, the short side of the pictures that the network is shown. A file has the first three in itself, so that
    there the first may only rise, the second stays, and the third only falls.
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "score_threshold": Setting(None, float, Range(0, most=1)),
        "nms_threshold": Setting(None, float, Range(0, most=1)),
        "detections": Setting(None, int, Range(1, most=100_000)),
        "shown": Setting(0.5, float, Range(0, most=1)),
        "side": Setting(None, int, Range(1, most=2**15)),
    }

    def __init__(self, runtime: Runs, preparation: Preparation, settings: Mapping[str, Any]) -> None:
        super().__init__(runtime, preparation, settings)
        network = getattr(runtime, "network", None)  # which torch runs: of a run, or of a file of weights
        if network is None:
            self._check_fixed(settings)
        else:
            for name, attribute in OF_DETECTORS.items():
                value = self.about.inference.get(name) if self.chosen[name] is None else self.chosen[name]
                if value is not None:
                    setattr(network, attribute, value)
        side = self.chosen["side"]
        if side is not None:
            if not isinstance(self.preparation.rule, ShortSide):
                raise InputError("side is for a network of pictures of any size; leave it out")
            rule = dataclasses.replace(self.preparation.rule, side=side)
            self.preparation = dataclasses.replace(self.preparation, rule=rule)

    @property
    def writes(self) -> type[BoxFiles]:
        """As of `Answering`."""
        from switchnorm.deploy.answering.box_files import BoxFiles  # as `Answering` explains

        return BoxFiles

    def files(self, files: Sequence[Path], out: Path) -> BoxFiles:
        """As of `Answering`."""
        return self.writes(files, out, self.about.classes, self.chosen["shown"])

    def remarks(self, picture: Pixelled, answer: Answer) -> Iterator[str]:
        """As of `Answering`: what is no number."""
        if isinstance(answer, Detected) and answer.dropped:
            yield (
                f"has {answer.dropped} detections that are left out, for their boxes or scores are not finite numbers"
            )

    def answer(self, picture: Pixelled) -> Detected:
        """As of `Answering`."""
        image, (height, width) = self.fitted(self.whole(picture))
        found = self.run(image[None])
        boxes, scores = output(found, "boxes", 2).astype(np.float32), output(found, "scores", 1).astype(np.float32)
        labels = output(found, "labels", 1).astype(np.int64)
        names, size = self.about.classes, extent(picture)
        kept = np.isfinite(boxes).all(1) & np.isfinite(scores)
        dropped = int((~kept).sum())
        places = np.flatnonzero(kept & (scores >= (self.chosen["score_threshold"] or 0)))[: self.chosen["detections"]]
        labels, scores = labels[places], scores[places]
        if len(labels) and not (labels.min() >= 1 and labels.max() <= len(names)):
            raise InputError(f"the network found label {labels.max()}, and its description names {len(names)} classes")
        boxes = _in_original(boxes[places], size, (height, width))
        masks = None
        if "masks" in found:
            shares = found["masks"].astype(np.float32)
            masks = Masks(shares.reshape(len(shares), *shares.shape[-2:])[places], boxes, size)
        named = tuple(names[label - 1] for label in labels.tolist())
        return Detected(boxes, labels, named, scores, masks, size, names, dropped)

    def _check_fixed(self, settings: Mapping[str, Any]) -> None:
        """Raise `InputError` for what a file does otherwise whatever is asked."""
        within = self.about.inference
        for name, allowed in (
            ("score_threshold", lambda asked, own: asked >= own),
            ("nms_threshold", lambda asked, own: asked == own),
            ("detections", lambda asked, own: asked <= own),
        ):
            asked, own = settings.get(name), within.get(name)
            if asked is not None and own is not None and not allowed(asked, own):
                raise InputError(f"{name} is {own} in the file, which cannot become {asked}; export it with that")


def _in_original(boxes: Array, size: tuple[int, int], shown: tuple[int, int]) -> Array:
    """Boxes (D, 4) in what the network was shown, as edges within the original."""
    scale = np.array([size[1] / shown[1], size[0] / shown[0]] * 2, np.float32)
    limit = np.array([size[1], size[0]] * 2, np.float32)
    return np.minimum(np.maximum(boxes * scale, 0), limit)
