"""Labels of pixels as masks and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from switchnorm.data.resizing import Pixelled
from switchnorm.deploy.answering.files import AnswerFiles, seen
from switchnorm.deploy.answers import Answer, Segmented
from switchnorm.tasks.images import write_image


class MaskFiles(AnswerFiles):
    """Writes NAME.png and NAME_overlay.jpg for each picture NAME.*."""

    title: ClassVar[str] = "masks and overlays"
    noun: ClassVar[str] = "mask"

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """Where the mask of a picture goes, and the overlay."""
        return out / f"{file.stem}.png", out / f"{file.stem}_overlay.jpg"

    def add(self, place: int, picture: Pixelled, answer: Answer) -> None:
        """Write a picture's mask and overlay."""
        assert isinstance(answer, Segmented)
        mask, beside = self.written(self.files[place], self.out)
        write_image(beside, answer.overlay(seen(picture)), quality=90)
        write_image(mask, answer.mask())

    def finish(self) -> list[str]:
        """Nothing is left to write."""
        return []
