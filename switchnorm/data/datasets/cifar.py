"""CIFAR-10 and CIFAR-100 from their official files, downloaded when they are not there."""

import functools
import tempfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from switchnorm.data.datasets.memory import InMemory
from switchnorm.data.datasets.options import check_choice, check_colors, check_random_options, colors_of, open_options
from switchnorm.data.files.cifar_files import Version, locate, read_binary, read_files, read_pickle
from switchnorm.errors import InputError
from switchnorm.text import expanded

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.augment.chain import Augment
    from switchnorm.data.loaders.memory_batches import Samples
    from switchnorm.models.pictures import Pictures

_CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


#: Sides that pictures may have, the published one first.
SIZES = (32, 16, 8)


@dataclass(frozen=True)
class _Cifar(InMemory):
    """What the two datasets share: where they are sought, and what is done to the pictures.

    Args:
        root: folder of the official binary or Python files, or the folder above it; they are downloaded into it when
            they are absent. None is ~/.cache/switchnorm.
        size: side of the pictures in pixels: 32 as published, or 16 or 8, to which blocks of 2x2 or 4x4 are averaged.
        augment: crop and flip the training images at random; false leaves them as they are.
        rand_augment: how many operations RandAugment does to each training image after that.
        magnitude: how strong they are, from 0 to 30.
        random_erasing: share of the training images that lose a random rectangle.
        mean: of red, green and blue, for pixels in [0, 1], which is subtracted; null for that of the training set.
        std: their deviation, which divides; null for that of the training set.
    """

    root: str | None = None
    size: int = SIZES[0]
    augment: bool = True
    rand_augment: int = 0
    magnitude: int = 9
    random_erasing: float = 0.0
    mean: list[float] | None = None
    std: list[float] | None = None

    channels: ClassVar[int] = 3
    benchmark_size: ClassVar[int | None] = 10_000

    #: The name of the dataset, and that of torchvision's class, which downloads it.
    title: ClassVar[str]
    torchvision_name: ClassVar[str]
    #: The published forms, the preferred one first; the last is what torchvision downloads.
    versions: ClassVar[tuple[Version, ...]]
    #: Published mean and deviation of the training set's channels, for pixels in [0, 1].
    own_mean: ClassVar[tuple[float, ...]]
    own_std: ClassVar[tuple[float, ...]]

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            nearest = min(SIZES, key=lambda size: abs(size - self.size))
            raise InputError(f"size {self.size} is none that pictures of 32 x 32 average to; the nearest is {nearest}")
        check_random_options(self.augment, self.rand_augment, self.magnitude, self.random_erasing)
        check_colors(self.mean, self.std, self.channels)

    def load(self) -> "tuple[Samples, Samples]":
        """Read the training and the test files, downloading them first when there are none.

        Raises:
            InputError: no files and no download, or files that are missing, truncated or foreign.
        """
        from switchnorm.data.augment.shrink import shrink  # as `Dataset` explains
        from switchnorm.data.loaders.memory_batches import Samples

        version, folder = self._find()
        mean, std = self.colors()
        train, test = (
            Samples(shrink(images, self.size), labels, mean, std)
            for images, labels in (
                read_files(version, folder, files, self.num_classes) for files in (version.train, version.test)
            )
        )
        return train, test

    @classmethod
    def options_for(
        cls, pictures: "Pictures", options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """As of `Dataset`: the colours, if there are weights that were trained with them."""
        return open_options(colors_of(pictures, options), options) if pretrained else {}

    def colors(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """As of `InMemory`, known without the data."""
        mean, std = self._statistics()
        chosen = mean if self.mean is None else self.mean, std if self.std is None else self.std
        return tuple(255 * value for value in chosen[0]), tuple(255 * value for value in chosen[1])

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the training set."""
        return self.own_mean, self.own_std

    def augmentation(self) -> "Augment | None":
        """The published recipe: 4 black pixels on each side (of 32), a random crop of the original size, a flip."""
        from switchnorm.data.augment.chain import chain  # as `Dataset` explains
        from switchnorm.data.augment.crop_and_flip import crop_and_flip

        crop = functools.partial(crop_and_flip, padding=self.size // 8)
        return chain(crop, self._policy()) if self.augment else None

    def finish(self) -> "Augment | None":
        """Random erasing."""
        from switchnorm.data.augment.erasing import erase  # as `Dataset` explains

        return functools.partial(erase, probability=self.random_erasing) if self.random_erasing else None

    def _policy(self) -> "Augment | None":
        if not self.rand_augment:
            return None
        from switchnorm.data.augment.policy import rand_augment  # torchvision, which takes seconds to import

        return functools.partial(rand_augment, operations=self.rand_augment, magnitude=self.magnitude)

    @property
    def folder(self) -> Path:
        """The folder in which the files are sought, and into which they are downloaded."""
        return Path.home() / ".cache" / "switchnorm" if self.root is None else expanded("root", self.root)

    def _find(self) -> tuple[Version, Path]:
        found = locate(self.folder, self.versions)
        if found is None:
            self._download(self.folder)
            found = self.versions[-1], self.folder / self.versions[-1].folder
        return found

    def _download(self, root: Path) -> None:
        from http.client import HTTPException

        try:
            _download(self.torchvision_name, root, self.versions[-1].folder)
        except (OSError, RuntimeError, HTTPException) as error:
            folders = " or ".join(version.folder for version in self.versions)
            raise InputError(
                f"{self.title} is not in {root} (sought: {folders}), and downloading it failed: {error}"
            ) from error


def _download(torchvision_name: str, root: Path, folder: str) -> None:
    """Download beside `root / folder` and rename into place, so that no killed or concurrent download leaves a half."""
    import torchvision.datasets

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="download-") as temporary:
        getattr(torchvision.datasets, torchvision_name)(temporary, download=True)
        try:
            (Path(temporary) / folder).rename(root / folder)
        except OSError:
            if not (root / folder).is_dir():  # where it is one, another process was faster
                raise


class Cifar10(_Cifar):
    """CIFAR-10: 50,000 training and 10,000 test photographs of 32 x 32 pixels in 10 classes; options as `_Cifar`."""

    title: ClassVar[str] = "CIFAR-10"
    torchvision_name: ClassVar[str] = "CIFAR10"
    versions: ClassVar[tuple[Version, ...]] = (
        Version(
            title="CIFAR-10's binary version",
            folder="cifar-10-batches-bin",
            train=tuple(f"{name}.bin" for name in _CIFAR10_TRAIN),
            test=("test_batch.bin",),
            read=functools.partial(read_binary, label_bytes=1),
        ),
        Version(
            title="CIFAR-10's Python version",
            folder="cifar-10-batches-py",
            train=_CIFAR10_TRAIN,
            test=("test_batch",),
            read=functools.partial(read_pickle, label_key=b"labels"),
        ),
    )
    own_mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    own_std: ClassVar[tuple[float, ...]] = (0.2023, 0.1994, 0.2010)
    classes: ClassVar[tuple[str, ...]] = tuple(_CIFAR10_CLASSES.split())


@dataclass(frozen=True)
class Cifar100(_Cifar):
    """CIFAR-100: as many photographs as CIFAR-10 has, in 100 classes (the fine labels); options as `_Cifar`, and one.

    Args:
        normalization: by CIFAR-100's own mean and deviation, or by cifar10's, as bearpaw/pytorch-classification does.
    """

    normalization: Literal["own", "cifar10"] = "own"

    title: ClassVar[str] = "CIFAR-100"
    torchvision_name: ClassVar[str] = "CIFAR100"
    versions: ClassVar[tuple[Version, ...]] = (
        Version(
            title="CIFAR-100's binary version",
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            read=functools.partial(read_binary, label_bytes=2),
        ),
        Version(
            title="CIFAR-100's Python version",
            folder="cifar-100-python",
            train=("train",),
            test=("test",),
            read=functools.partial(read_pickle, label_key=b"fine_labels"),
        ),
    )
    own_mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4867, 0.4408)
    own_std: ClassVar[tuple[float, ...]] = (0.2675, 0.2565, 0.2761)
    classes: ClassVar[tuple[str, ...]] = tuple(_CIFAR100_CLASSES.split())

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("normalization", self.normalization, ("own", "cifar10"))
        if self.normalization != "own" and not (self.mean is None and self.std is None):
            raise InputError(
                f"normalization {self.normalization!r} is a mean and deviation, and so are mean and std; set "
                "normalization to 'own', or leave them out"
            )

    @classmethod
    def options_for(
        cls, pictures: "Pictures", options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """As of `Dataset`: the colours, unless `normalization` says them."""
        chosen = options.get("normalization", "own") != "own"
        return {} if chosen else super().options_for(pictures, options, given, pretrained=pretrained)

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return super()._statistics() if self.normalization == "own" else (Cifar10.own_mean, Cifar10.own_std)
