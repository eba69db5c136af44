"""Pictures with boxes for training: a whole loader in one thread, against torchvision's reference pipeline."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from benchmarks.agreement import MismatchError
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from switchnorm.data import create_dataset
from switchnorm.data.augment.normalization import IMAGENET_MEAN, IMAGENET_STD
from switchnorm.data.detection.listed import Listed
from switchnorm.errors import InputError

BATCH_SIZE = 2
SEED = 0
LONGEST = 1333
#: Short sides: what COCO's detectors are trained at, and what a CPU can do.
SIDES = (800, 320)
OURS, REFERENCE = "switchnorm.data", "torchvision"
TARGET = 0.9
#: In levels of 255: resizing 8 bits rounds to a half after rows and after columns.
ROUNDING = 1.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    parser.add_argument("--root", required=True, help="folder of pictures with boxes in Pascal VOC's layout")
    parser.add_argument("--sides", nargs="+", type=int, default=list(SIDES), help="short sides (default: 800 320)")
    parser.add_argument("--rounds", type=int, default=7, help="epochs timed per pipeline (default: 7)")


def partial(options: argparse.Namespace) -> bool:
    """Whether the options differ from what belongs into the record."""
    return tuple(options.sides) != SIDES


def cases(options: argparse.Namespace) -> list[Case]:
    """An epoch of both pipelines at each size, after a look at what they make."""
    if options.rounds < 1:
        raise InputError(f"--rounds must be 1 or more, got {options.rounds}")
    for side in options.sides:
        _dataset(options.root, side).prepare()
    return [_case(options.root, side, options.rounds) for side in options.sides]


def _case(root: str, side: int, rounds: int) -> Case:
    pictures = _dataset(root, side).train_size
    if pictures < BATCH_SIZE:
        raise InputError(f"{root} has {pictures} training pictures; expected {BATCH_SIZE} at least")
    return Case(
        facts={"job": f"training batches of {BATCH_SIZE} pictures with boxes, one thread", "short_side": side},
        ways=functools.partial(_ways, root, side),
        pairs=(Pair(REFERENCE, OURS, at_least=TARGET, headline=True),),
        effort=Effort(fewest=rounds, most=rounds),
        amount=pictures // BATCH_SIZE * BATCH_SIZE,
        unit="images",
    )


def _dataset(root: str, side: int, **options: Any) -> Any:
    return create_dataset("voc", root=root, test_side=side, longest=LONGEST, workers=0, **options)


def _ways(root: str, side: int) -> dict[str, Way]:
    data = _dataset(root, side)
    ours = data.train_batches(batch_size=BATCH_SIZE, seed=SEED)
    reference = functools.partial(_reference_epoch, _reference(data._train), _shown(side))
    return {
        OURS: Way(_in_one_thread(lambda: _epoch(ours)), functools.partial(check, root, side)),
        REFERENCE: Way(_in_one_thread(reference)),
    }


def check(root: str, side: int) -> None:
    """Compare pictures and boxes of the first batch with the files, resized and normalized as floats.

    Raises:
        MismatchError: a pixel more than a level of 255 off, or a box more than a hundredth of a pixel.
    """
    data = _dataset(root, side, flip="none")
    listed = data._train
    batches = data.train_batches(batch_size=BATCH_SIZE, seed=SEED)
    index = batches.upcoming()
    images, targets = next(iter(batches))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for image, target, place in zip(images, targets, index, strict=True):
        height, width = target["size"].tolist()
        pixels = v2.functional.pil_to_tensor(Image.open(listed.paths[place]).convert("RGB")) / 255
        resized = F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]
        if (image[:, :height, :width] * std + mean - resized).abs().max() > ROUNDING / 255:
            raise MismatchError("pixels differ")
        before = pixels.shape[1:]
        factors = torch.tensor([width / before[1], height / before[0]]).repeat(2)
        if (listed.objects(place).boxes * factors - target["boxes"]).abs().max() > 0.01:
            raise MismatchError("boxes differ")


class _Pictures(Dataset[Any]):
    """Pictures of Pillow's with boxes in memory, through the transforms of torchvision's reference training."""

    def __init__(self, listed: Listed) -> None:
        self.paths = [listed.paths[place] for place in range(len(listed))]
        self.objects = [listed.objects(place) for place in range(len(listed))]
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomHorizontalFlip(0.5),
                v2.ToDtype(torch.float, scale=True),
                v2.SanitizeBoundingBoxes(),
                v2.ToPureTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        picture = Image.open(self.paths[index]).convert("RGB")
        objects = self.objects[index]
        boxes = tv_tensors.BoundingBoxes(objects.boxes, format="XYXY", canvas_size=(picture.height, picture.width))
        return self.transform(picture, {"boxes": boxes, "labels": objects.labels})


def _reference(listed: Listed) -> DataLoader[Any]:
    return DataLoader(_Pictures(listed), batch_size=BATCH_SIZE, shuffle=True, drop_last=True, collate_fn=_together)


def _together(samples: list[Any]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures and targets of a batch, each in a list."""
    return [picture for picture, _ in samples], [target for _, target in samples]


def _shown(side: int) -> GeneralizedRCNNTransform:
    """What torchvision's detectors do with pictures before their body sees them."""
    return GeneralizedRCNNTransform(side, LONGEST, list(IMAGENET_MEAN), list(IMAGENET_STD))


def _reference_epoch(batches: DataLoader[Any], shown: GeneralizedRCNNTransform) -> None:
    for images, targets in batches:
        shown(images, targets)


def _epoch(batches: Any) -> None:
    for _ in batches:
        pass


def _in_one_thread(call: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            call()
        finally:
            torch.set_num_threads(threads)

    return run
