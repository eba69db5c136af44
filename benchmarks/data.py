"""CIFAR batches for training: whole batches of tensors, against one PIL image at a time in a DataLoader."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable

import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.agreement import TOLERANCES, MismatchError, require_agreement
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from switchnorm.data import Cifar10, Samples, TrainingBatches
from switchnorm.data.augment.crop_and_flip import crop_and_flip, crop_offsets, flips
from switchnorm.data.counter import permutation
from switchnorm.errors import InputError

BATCH_SIZE = 128
PADDING = 4
SEED = 0
TARGET = 10.0
OURS = "switchnorm.data"
#: Numbers of workers of the usual pipeline; the fewer the faster on some machines.
USUAL = {f"DataLoader, {workers} workers": workers for workers in (0, 2)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's own flags."""
    parser.add_argument("--root", help="folder of CIFAR-10; without it, random pictures of the same number and shape")
    parser.add_argument("--rounds", type=int, default=7, help="epochs timed per pipeline (default: 7)")


def partial(options: argparse.Namespace) -> bool:
    """Whether the pictures are not the real ones, which belong into the record."""
    return options.root is None


def cases(options: argparse.Namespace) -> list[Case]:
    """An epoch of both pipelines, after a look at what they make."""
    if options.rounds < 1:
        raise InputError(f"--rounds must be 1 or more, got {options.rounds}")
    samples = Cifar10(options.root).samples[0] if options.root else _random_samples()
    pictures = "real" if options.root else "random"
    return [
        Case(
            facts={"job": f"CIFAR-10 training batches of {BATCH_SIZE}", "pictures": pictures},
            ways=functools.partial(_ways, samples),
            pairs=tuple(Pair(name, OURS, at_least=TARGET, headline=True) for name in USUAL),
            effort=Effort(fewest=options.rounds, most=options.rounds),
            amount=len(our_batches(samples)) * BATCH_SIZE,
            unit="images",
        )
    ]


def _ways(samples: Samples) -> dict[str, Way]:
    ways = {OURS: Way(functools.partial(_epoch, our_batches(samples)), functools.partial(check, samples))}
    for name, workers in USUAL.items():
        ways[name] = Way(functools.partial(_epoch, usual(samples, workers)))
    return ways


def check(samples: Samples) -> None:
    """Compare the first batch with the same crops and flips made by torchvision, image by image.

    Raises:
        MismatchError: a pixel or label that differs.
    """
    images, labels = next(iter(our_batches(samples)))
    index = permutation(SEED, 0, len(samples))[:BATCH_SIZE]
    top, left = crop_offsets(SEED, 0, index, PADDING)
    windows = zip(index.tolist(), top.tolist(), left.tolist(), flips(SEED, 0, index).tolist(), strict=True)
    expected = torch.stack([_reference(samples, *window) for window in windows])
    require_agreement({"images": images}, {"images": expected.double()}, TOLERANCES[torch.float32])
    if not torch.equal(labels, samples.labels[index]):
        raise MismatchError("labels differ")


def our_batches(samples: Samples) -> TrainingBatches:
    """What switchnorm trains on."""
    return TrainingBatches(samples, batch_size=BATCH_SIZE, seed=SEED, augment=crop_and_flip)


def usual(samples: Samples, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """The pipeline of most published CIFAR code."""
    steps = [
        transforms.RandomCrop(32, padding=PADDING),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(*_unit_statistics(samples)),
    ]
    return DataLoader(
        _Pictures(samples, transforms.Compose(steps)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,  # starting them is not part of an epoch
    )


class _Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 keeps them: (H, W, C) arrays, a PIL image on demand."""

    def __init__(self, samples: Samples, transform: transforms.Compose) -> None:
        self.images = samples.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = samples.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def _reference(samples: Samples, index: int, top: int, left: int, flip: bool) -> Tensor:
    picture = TF.pad(TF.to_pil_image(samples.images[index]), [PADDING])
    picture = TF.crop(picture, top, left, 32, 32)
    picture = TF.hflip(picture) if flip else picture
    return TF.normalize(TF.to_tensor(picture), *_unit_statistics(samples))


def _unit_statistics(samples: Samples) -> tuple[list[float], list[float]]:
    """Mean and deviation for torchvision, whose pixels end at 1 and not at 255."""
    return [value / 255 for value in samples.mean], [value / 255 for value in samples.std]


def _random_samples() -> Samples:
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (50_000,), generator=generator)
    mean, std = (tuple(255 * value for value in values) for values in (Cifar10.own_mean, Cifar10.own_std))
    return Samples(images, labels, mean, std)


def _epoch(batches: Iterable[object]) -> None:
    for _ in batches:
        pass
