"""The objects on pictures, in pixels of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from switchnorm.data.resizing import Pixelled, extent
from switchnorm.deploy.answering.base import Answering, output
from switchnorm.deploy.answers import Detected, Masks
from switchnorm.errors import InputError


class Detecting(Answering):
    """Answers with boxes, and masks where the network has some.

    Settings: `score_threshold`, below which nothing is given out, which a file may only raise, and `detections`, how
    many of a picture at most.
    """

    settings: ClassVar[Mapping[str, Any]] = {"score_threshold": 0.0, "detections": None}

    def answer(self, picture: Pixelled) -> Detected:
        """As of `Answering`."""
        (part,) = self.preparation.parts(picture)
        image, (height, width) = self.fitted(part.images[0])
        found = self.run(image[None])
        boxes, scores = (output(found, name).astype(np.float32) for name in ("boxes", "scores"))
        labels = output(found, "labels").astype(np.int64)
        size = extent(picture)
        kept = np.isfinite(boxes).all(1) & np.isfinite(scores)
        dropped = int((~kept).sum())
        kept &= scores >= self.chosen["score_threshold"]
        places = np.flatnonzero(kept)[: self.chosen["detections"]]
        names = self.about.classes
        if len(labels) and not (labels.min() >= 1 and labels.max() <= len(names)):
            raise InputError(f"the network found label {labels.max()}, and its description names {len(names)} classes")
        scale = np.array([size[1] / width, size[0] / height] * 2, np.float32)
        limit = np.array([size[1], size[0]] * 2, np.float32)
        boxes = np.minimum(np.maximum(boxes[places] * scale, 0), limit)
        masks = None
        if "masks" in found:
            shares = found["masks"].astype(np.float32)
            masks = Masks(shares.reshape(len(shares), *shares.shape[-2:])[places], boxes, size)
        named = tuple(names[label - 1] for label in labels[places].tolist())
        return Detected(boxes, labels[places], named, scores[places], masks, size, names, dropped)
