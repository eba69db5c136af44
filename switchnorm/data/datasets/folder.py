"""Photographs in folders of classes, or named by lists."""

import functools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.datasets.from_files import COLORED, FromFiles
from switchnorm.data.datasets.options import (
    LARGEST_SIDE,
    check_between,
    check_choice,
    check_colors,
    check_count,
    check_interpolation,
    check_random_options,
    check_workers,
    colors_of,
    open_options,
)
from switchnorm.data.fingerprint import split_fingerprint
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import Views
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.listing import Listing, Paths
    from switchnorm.data.files.splits import Contents
    from switchnorm.data.files.surveyed import Surveyed
    from switchnorm.data.loaders.picture_batches import PictureBatches, TrainingPictureBatches
    from switchnorm.data.preparation import Preparation
    from switchnorm.models.pictures import Pictures

#: Of the pictures from which crops are cut where nothing says it.
SHORT_SIDE = 256


@dataclass(frozen=True)
class Folder(FromFiles):
    """Photographs in folders of classes, `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, or named by lists.

    The splits may also be called training, and validation or valid. The lists `train.txt` and `val.txt`, with a path
    and a label in each line, are sought in `root` and `root/meta`; where one is, it counts and not the folders. Either
    split may be absent as long as nobody asks for its batches.

    Or in WebDataset's shards, `train/*.tar` and `val/*.tar`, or `train-*.tar` and `val-*.tar` in `root`, which then may
    also be a URL that fsspec knows. A label is in a picture's `.cls`, or its class is the folder that it lies in.

    The defaults are what SSN's ImageNet networks were trained with, but for the lighting (the published code of Shao et
    al., "SSN: Learning sparse switchable normalization via SparsestMax", 2019).

    Args:
        root: the dataset's folder; of shards also a URL, as in s3://bucket/imagenet.
        train_list: list of the training pictures, if it is elsewhere.
        val_list: list of the validation pictures, if it is elsewhere.
        train_folder: folder of the training pictures, in `root` or absolute.
        val_folder: folder of the validation pictures, in `root` or absolute.
        size: side of the crops, in pixels.
        resize: shorter side of the pictures from which plain and validation crops are cut; null for that of `crop`, or
            else 256.
        crop: the same as the share of the shorter side that such a crop keeps, in [0.01, 1]: they are cut from pictures
            whose shorter side is floor(size / crop). null leaves it to `resize`.
        interpolation: how pictures are resized: nearest, bilinear, bicubic, lanczos, box or hamming; null for bilinear.
        mean: of each channel, for pixels in [0, 1], which is subtracted; null for ImageNet's, of other channels than
            red, green and blue its average over the three.
        std: their deviation, which divides; null for ImageNet's, likewise.
        bands: which bands of the files the network is shown, from 0, as in [0, 1, 4]; null for red, green and blue, to
            which other colours are converted, without alpha.
        range: the numbers that become black and white in pictures with more than 8 bits, as in [0, 4095], and in those
            of 8 bits where it lies in 0..255 and not in 0..1. null finds it in the training pictures, and a run keeps
            it.
        augment: change the training pictures at random; false crops them as validation does, whatever is set below.
        min_area: least share of a picture's area that a random crop shows, resized to `size`.
        plain_epochs: the last passes over the training pictures, in which crops are instead cut out of the picture
            resized to `resize`. As many as there are, or more, make all crops plain.
        plain_crop: whether these show a random place, or the centre.
        color_jitter: how far brightness, contrast and saturation may go from 1; 0.4 is 0.6 to 1.4.
        lighting: deviation of the random colour added along the principal components of ImageNet's colours, most of
            which is brightness; or published, what SN and SSN were trained with: deviation 0.1 and the components
            transposed, so that colours shift instead.
        rand_augment: how many operations RandAugment does to each training picture.
        magnitude: how strong they are, from 0 to 30.
        random_erasing: share of the training pictures that lose a random rectangle.
        on_damaged: stop at a picture that is missing or cannot be read, or skip it: training takes the next picture in
            its place, validation leaves it out, and both report how many there were.
        workers: processes that read pictures, per process that trains; null takes this machine's cores less one, 0
            reads in the training process.
    """

    root: str
    train_list: str | None = None
    val_list: str | None = None
    train_folder: str = "train"
    val_folder: str = "val"
    size: int = 224
    resize: int | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    bands: list[int] | None = None
    range: list[float] | None = None
    augment: bool = True
    min_area: float = 0.08
    plain_epochs: int = 5
    plain_crop: Literal["random", "centre"] = "random"
    color_jitter: float = 0.4
    lighting: float | Literal["published"] = 0.1
    rand_augment: int = 0
    magnitude: int = 9
    random_erasing: float = 0.0
    on_damaged: Literal["stop", "skip"] = "stop"
    workers: int | None = None

    places: ClassVar[tuple[str, ...]] = ("root", "train_list", "val_list", "train_folder", "val_folder")
    #: How many classes there must be; None is as many as there are.
    _num_classes: ClassVar[int | None] = None
    #: The classes of a run, which then number the labels, where `with_classes` has named them.
    _known: ClassVar[tuple[str, ...] | None] = None

    def __post_init__(self) -> None:
        check_count("size", self.size, 1)
        if self.crop is not None:
            check_between("crop", self.crop, 0.01, 1)
        if self.crop is not None and self.resize is not None:
            raise InputError(
                f"crop {self.crop} and resize {self.resize} say the same, the size from which crops are cut; set one "
                "of them to null"
            )
        check_count("resize", self.short_side, self.size, max(LARGEST_SIDE, self.size))
        check_interpolation(self.interpolation)
        self._check_pixels(self.interpolation)
        check_colors(self.mean, self.std, self.channels)
        if not 0 < self.min_area <= 1:
            raise InputError(f"min_area must be above 0 and at most 1, got {self.min_area}")
        check_count("plain_epochs", self.plain_epochs, 0, 2**31 - 1)
        check_choice("plain_crop", self.plain_crop, ("random", "centre"))
        check_between("color_jitter", self.color_jitter, 0, 1)
        if self.lighting != "published" and not (isinstance(self.lighting, int | float) and self.lighting >= 0):
            raise InputError(f"lighting must be a number of at least 0 or 'published', got {self.lighting!r}")
        if self.lighting != "published":
            check_between("lighting", self.lighting, 0, 10)
        check_random_options(self.augment, self.rand_augment, self.magnitude, self.random_erasing)
        if self.rand_augment and self.channels not in COLORED:
            raise InputError(f"rand_augment changes colours, and bands {self.bands} have none; set it to 0")
        check_choice("on_damaged", self.on_damaged, ("stop", "skip"))
        check_workers(self.workers)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of their folders, or the labels where nothing else names them."""
        return self._contents.names

    def with_classes(self, names: Sequence[str], colors: Sequence[str] | None = None) -> Dataset:
        """As of `Dataset`: labels of folders, and of lists that name folders, are mapped by name."""
        known = replace(self)
        # The one is not computed then, the other hides that of the class.
        vars(known).update(classes=tuple(names), _known=tuple(names))
        return known if known.classes == tuple(names) else super().with_classes(names, colors)

    def mapping(self) -> str:
        """As of `Dataset`."""
        return self._contents.mapping

    @property
    def short_side(self) -> int:
        """The shorter side of the pictures from which plain and validation crops are cut, in pixels."""
        if self.resize is not None:
            return self.resize
        return SHORT_SIDE if self.crop is None else math.floor(self.size / self.crop)

    @classmethod
    def options_for(
        cls, pictures: "Pictures", options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """As of `Dataset`: colours and interpolation, the side of crops, and how large pictures are before."""
        wanted = open_options({**colors_of(pictures, options), "interpolation": pictures.interpolation}, options)
        if pictures.size is None:
            return wanted
        size = options.get("size", cls.size) if "size" in given else pictures.size
        before = {"crop": pictures.crop, "resize": pictures.resized(size)}
        # Either of the two says how large, and null that the other does.
        decided = any(options.get(name) is not None for name in before)
        return {**wanted, "size": size, **({} if decided else before)}

    @property
    def train_size(self) -> int:
        """Number of training pictures."""
        return len(self._train)

    def train_name(self, index: int) -> str:
        """The path of a training picture: as its list has it, or below the folder of the training pictures."""
        return self._train.paths.name(index)

    def test_name(self, index: int) -> str:
        """The path of a test picture: as its list has it, or below the folder of the validation pictures."""
        return self._test.paths.name(index)

    def fingerprint(self) -> dict[str, Any]:
        """As of `Dataset`: the paths of the pictures below their folder, or as lists have them."""
        found = {"train": self._contents.train, "test": self._contents.test}
        return {
            split: split_fingerprint(listing.paths.names(), listing.labels.tolist(), self.num_classes)
            for split, listing in found.items()
            if listing is not None
        }

    def prepare(self) -> None:
        """Find the pictures.

        Raises:
            InputError: no root, neither split, listed pictures that are missing, or labels that do not fit.
        """
        self._contents  # noqa: B018 - it is read by being asked for

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """As of `Dataset`: what was left out, and classes without a test picture; and as of `FromFiles`."""
        return (*self._contents.unusual(training=training), *super().unusual(training=training))

    def surveyed(self) -> "tuple[Surveyed, ...]":
        """The training and the validation pictures, as far as they are here."""
        from switchnorm.data.files.picture_facts import SurveyedPictures  # as `Dataset` explains

        train, test = self._contents.train, self._contents.test
        skips, side = self.on_damaged == "skip", self.short_side
        listings = {"train": train, "val": test}
        return tuple(
            SurveyedPictures(name, listing, self._found_pixels, side, skips=skips)
            for name, listing in listings.items()
            if listing is not None
        )

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        share: Share = Share(),
    ) -> "TrainingPictureBatches":
        """The loader for training; see `TrainingPictureBatches` and `Dataset`. Without `epochs` no pass is plain."""
        from switchnorm.data.datasets.photographs import finish, normalization, training_crops  # as `Dataset` explains
        from switchnorm.data.loaders.picture_batches import TrainingPictureBatches
        from switchnorm.data.loaders.picture_readers import TrainingPictureReader

        passes = epochs
        if epochs is not None and steps is not None:
            passes = -(-epochs * steps // max(self.train_size // max(batch_size, 1), 1))
        reader = TrainingPictureReader(
            self._train.paths,
            self._train.labels,
            self.on_damaged == "skip",
            self._found_pixels,
            training_crops(self, passes, self._color_jitter),
            seed,
        )
        return TrainingPictureBatches(
            reader,
            normalization(self, share.device),
            finish(self),
            batch_size=batch_size,
            steps=steps,
            workers=self.workers,
            share=share,
        )

    def test_batches(
        self,
        *,
        batch_size: int,
        share: Share = Share(),
        views: Views = "centre",
    ) -> "PictureBatches":
        """The loader for evaluation; see `PictureBatches` and `Dataset`."""
        from switchnorm.data.datasets.photographs import evaluation_crops, normalization  # as `Dataset` explains
        from switchnorm.data.loaders.picture_batches import PictureBatches
        from switchnorm.data.loaders.picture_readers import EvaluationPictureReader

        if views not in ("centre", "flip", "ten"):
            raise InputError(f"views {views!r} is unknown; choose 'centre', 'flip' or 'ten'")
        if views == "ten" and self.short_side == self.size:
            raise InputError(f"views 'ten' needs pictures larger than the crops; set resize above {self.size}")
        skip, pixels, crops = self.on_damaged == "skip", self._found_pixels, evaluation_crops(self, views)
        reader = EvaluationPictureReader(self._test.paths, self._test.labels, skip, pixels, crops)
        return PictureBatches(
            reader,
            normalization(self, share.device),
            batch_size=batch_size,
            workers=self.workers,
            share=share,
        )

    @property
    def preparation(self) -> "Preparation":
        """As of `Dataset`."""
        from switchnorm.data.augment.normalization import color_statistics  # as `Dataset` explains
        from switchnorm.data.preparation import Crop, Preparation

        mean, std = color_statistics(self.mean, self.std, self.channels)
        return Preparation(Crop(self.short_side, self.size), mean, std, **self._read_as())

    def _left_out(self) -> list[str]:
        return [*super()._left_out(), *(["lighting"] if self.lighting and self.channels != 3 else [])]

    @property
    def _pictures(self) -> "Paths":
        return (self._contents.train or self._test).paths

    @property
    def _train(self) -> "Listing":
        listing = self._present(self._contents.train, "train", self.train_folder)
        self._contents.check_training()
        return listing

    @property
    def _test(self) -> "Listing":
        return self._present(self._contents.test, "val", self.val_folder)

    def _present(self, listing: "Listing | None", name: str, folder: str) -> "Listing":
        if listing is None:
            raise InputError(f"{Path(self.root) / folder} is missing, and so is a list {name}.txt in {self.root}")
        return listing

    @functools.cached_property
    def _contents(self) -> "Contents":
        """The training and the test pictures, and the names of the classes, read once."""
        # As `Dataset` explains.
        from switchnorm.data.files.splits import Split, agree, find_splits, numbered

        train, test = find_splits(
            self.root,
            Split("train", self.train_folder, self.train_list),
            Split("val", self.val_folder, self.val_list),
            may_miss=lambda: self._may_miss,
            refusals=self._refusals,
        )
        self._check_classes(train, test)
        if self._known is not None:
            return numbered(train, test, self._known)
        return agree(train, test, self._num_classes, self._refusals)

    def _check_classes(self, train: "Listing | None", test: "Listing | None") -> None:
        """Look at how the classes are called, before they are numbered."""
