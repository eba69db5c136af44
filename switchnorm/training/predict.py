"""Masks of pictures that nobody labelled, by the network of a segmentation run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image, ImageOps
from torch import Tensor

from switchnorm.data import create_dataset
from switchnorm.data.files.listing import pictures_below
from switchnorm.data.files.picture_file import DamagedError, read_picture
from switchnorm.data.segmentation import Scene, SegmentationDataset
from switchnorm.data.segmentation.palette import overlay, written_mask
from switchnorm.errors import InputError
from switchnorm.training.build import build_model, check_device, check_task, make_task
from switchnorm.training.config import Config
from switchnorm.training.images import write_image
from switchnorm.training.trainer import make_trainer, world_size
from switchnorm.weights import load_state, read_state


def predict_pictures(config: Config, checkpoint: Path, pictures: Sequence[Path], out: Path) -> int:
    """Write NAME.png and NAME_overlay.jpg for each picture NAME.*.

    Pictures are turned as their EXIF data says, like everybody who shows them does.

    Args:
        config: of the run.
        checkpoint: of the run.
        pictures: files, and folders of which every picture is taken.
        out: the folder to write to; files of these names are replaced, but none of the pictures.

    Returns:
        How many pictures there were.

    Raises:
        InputError: a run of another task, a picture that is missing, damaged, shares its name with another or would be
            replaced, or a checkpoint of another network. The masks of the pictures before a damaged one are there.
    """
    if config.task != "segmentation":
        raise InputError(f"predict writes masks, and this run is one of {config.task}; expected one of segmentation")
    if world_size() > 1:
        raise InputError("predict takes one process; start it without torchrun")
    files = _found(pictures)
    _check_apart(files, out)
    check_device(config)
    check_task(config)
    dataset = create_dataset(**config.data)
    assert isinstance(dataset, SegmentationDataset)
    model = build_model(config, dataset.num_classes)
    load_state(model, read_state(checkpoint), f"checkpoint {str(checkpoint)!r}")
    task = make_task(config, model, dataset.num_classes)
    out.mkdir(parents=True, exist_ok=True)
    writer = _MaskWriter(files, dataset, out)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with make_trainer(config.train, callbacks=[writer], **options) as trainer:
        trainer.predict(task, _Scenes(files, dataset), return_predictions=False)
    return len(files)


def _found(places: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders; all of different stems."""
    files: dict[str, Path] = {}
    for place in places:
        inside = [Path(path) for path in pictures_below(place)] if place.is_dir() else [place]
        if not inside:
            raise InputError(f"folder {str(place)!r} holds no pictures")
        for file in inside:
            if not file.is_file():
                raise InputError(f"picture {str(file)!r} is missing; expected a file or a folder of files")
            other = files.setdefault(file.stem, file)
            if other.resolve() != file.resolve():
                raise InputError(f"{str(other)!r} and {str(file)!r} would share the mask {file.stem}.png; rename one")
    return list(files.values())


def _check_apart(files: Sequence[Path], out: Path) -> None:
    """Raise `InputError` if a picture would be replaced by somebody's mask or overlay."""
    own = {file.resolve() for file in files}
    replaced = next((path for file in files for path in _written(file, out) if path.resolve() in own), None)
    if replaced is not None:
        raise InputError(
            f"picture {str(replaced)!r} would be replaced; write to another folder than its own with --out"
        )


def _written(file: Path, out: Path) -> tuple[Path, Path]:
    """Where the mask of a picture goes, and the overlay."""
    return out / f"{file.stem}.png", out / f"{file.stem}_overlay.jpg"


def _read(file: Path) -> Image.Image:
    """A picture as it is to be shown: cameras that were held upright store it lying, and say so in the file."""
    try:
        return ImageOps.exif_transpose(read_picture(str(file)))
    except DamagedError as error:
        raise InputError(f"cannot read {error}") from error


class _Scenes:
    """The pictures one by one, as the network is asked about them."""

    def __init__(self, files: Sequence[Path], dataset: SegmentationDataset) -> None:
        self.files = files
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[list[Scene]]:
        for index, file in enumerate(self.files):
            yield [self.dataset.scene(_read(file))._replace(index=index)]


class _MaskWriter(pl.Callback):
    """Writes each answer as it comes."""

    def __init__(self, files: Sequence[Path], dataset: SegmentationDataset, out: Path) -> None:
        self.files = files
        self.dataset = dataset
        self.out = out

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: list[tuple[int, Tensor]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the masks and overlays of a batch."""
        for index, labels in outputs:
            file = self.files[index]
            mask, shown = _written(file, self.out)
            write_image(shown, overlay(_read(file), labels, self.dataset.palette), quality=90)
            write_image(mask, written_mask(labels, self.dataset))
