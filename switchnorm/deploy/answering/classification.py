"""The classes of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from switchnorm.config.ranges import Range
from switchnorm.data.resizing import Pixelled
from switchnorm.deploy.answering.base import Answering, output
from switchnorm.deploy.answering.setting import Setting
from switchnorm.deploy.answers import Classified
from switchnorm.deploy.arrays import precise, softmax
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.answering.class_files import ClassFiles


class Classifying(Answering):
    """Answers with probabilities; setting `top` asks for so many classes, None for all."""

    settings: ClassVar[Mapping[str, Setting]] = {"top": Setting(None, int, Range(1))}

    @property
    def writes(self) -> type[ClassFiles]:
        """As of `Answering`."""
        from switchnorm.deploy.answering.class_files import ClassFiles  # as `Answering` explains

        return ClassFiles

    def files(self, files: Sequence[Path], out: Path) -> ClassFiles:
        """As of `Answering`."""
        return self.writes(files, out, len(self.about.classes))

    def answer(self, picture: Pixelled) -> Classified:
        """As of `Answering`."""
        logits = output(self.run(self.whole(picture)[None]), "logits", 2)[0]
        names = self.about.classes or tuple(map(str, range(len(logits))))
        if len(names) != len(logits):
            raise InputError(f"the network gives {len(logits)} logits, and its description names {len(names)} classes")
        shares = softmax(precise(logits))
        order = np.argsort(-shares, kind="stable")[: self.chosen["top"]]
        return Classified(tuple(names[label] for label in order), order.astype(np.int64), shares[order])
