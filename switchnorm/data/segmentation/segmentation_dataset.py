"""What every dataset of pictures with masks offers."""

import functools
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from switchnorm.data.datasets.from_files import FromFiles
from switchnorm.data.datasets.options import (
    check_between,
    check_choice,
    check_colors,
    check_count,
    check_interpolation,
    check_workers,
    colors_of,
    open_options,
)
from switchnorm.data.fingerprint import split_fingerprint
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.loaders.share import Share
from switchnorm.data.segmentation.class_names import Color
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.mask_options import check_crop, check_multiple, check_scale, check_sides
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.views import Views
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from switchnorm.data.files.listing import Paths
    from switchnorm.data.files.pairs import Pairs
    from switchnorm.data.files.surveyed import Surveyed
    from switchnorm.data.picture import Picture
    from switchnorm.data.segmentation.colors import Colors
    from switchnorm.data.segmentation.legend import Legend
    from switchnorm.data.segmentation.mask_look import MaskLook, MaskLooks
    from switchnorm.data.segmentation.scene_batches import SceneBatches, TrainingMaps
    from switchnorm.data.segmentation.scene_readers import PairReader, Resize
    from switchnorm.data.segmentation.sizes import EvaluationSizes, TrainingSizes
    from switchnorm.data.segmentation.tiles import Tile, Tiling
    from switchnorm.models.pictures import Pictures


@dataclass(frozen=True)
class SegmentationDataset(FromFiles):
    """Pictures with masks, which name the class of every pixel; 255 in labels is what does not count.

    Either split may be absent as long as nobody asks for its batches.

    Args:
        root: the dataset's folder.
        split: what is evaluated: val or test.
        short_sides: sides in pixels, of which each training batch draws one: its pictures are resized until their short
            side is that long. [] keeps their sizes.
        longest: the longest side, in pixels, that pictures are resized to, in training before `scale`; null for no
            bound.
        scale: least and greatest random factor by which each training picture is resized besides; null for none.
        crop: height and width of a random window of each training picture, both multiples of `multiple`; where the
            picture is smaller the rest is the mean colour, and does not count. null takes whole pictures.
        flip: whether one half of the training pictures is mirrored.
        color_jitter: how far brightness, contrast and saturation may go from 1 in training; 0.4 is 0.6 to 1.4.
        label_stride: every how many pixels there is a label in training, along both sides.
        multiple: of which the sides of pictures are multiples as the network sees them: padded in training, resized in
            evaluation; itself one of `label_stride`.
        colors: rgb, red, green and blue less ImageNet's mean over its deviation; or published, blue, green and red in
            0..255 less (102.9801, 115.9465, 122.7717), as the published segmentation networks were trained with.
        test_sides: the short sides to which evaluation resizes every picture, in pixels. [] is its own size.
        test_resize: how evaluation resizes: antialiased, as training does; or plain, between the nearest pixels alone,
            as OpenCV does and with it the published evaluation of ADE20K.
        interpolation: how pictures are resized: nearest, bilinear, bicubic, lanczos, box or hamming; null for bilinear.
            Masks take the nearest pixel.
        mean: of each channel, for pixels in [0, 1], which is subtracted; null for ImageNet's, of other channels than
            red, green and blue its average over the three.
        std: their deviation, which divides; null for ImageNet's, likewise.
        bands: which bands of the files the network is shown, from 0, as in [0, 1, 4]; null for red, green and blue, to
            which other colours are converted, without alpha.
        range: the numbers that become black and white in pictures with more than 8 bits, as in [0, 4095], and in those
            of 8 bits where it lies in 0..255 and not in 0..1. null finds it in the training pictures, and a run keeps
            it.
        on_damaged: stop at a picture or mask that is missing, cannot be read or does not fit the other in size, or skip
            both: training takes the next picture in its place, validation leaves it out, and both report how many there
            were. A mask with numbers or colours that mean nothing stops in any case.
        workers: processes that read pictures, per process that trains; null takes this machine's cores less one, 0
            reads in the training process.
    """

    root: str
    split: Literal["val", "test"] = "val"
    short_sides: list[int] = field(default_factory=list)
    longest: int | None = None
    scale: list[float] | None = None
    crop: list[int] | None = None
    flip: bool = True
    color_jitter: float = 0.0
    label_stride: int = 1
    multiple: int = 8
    colors: Literal["rgb", "published"] = "rgb"
    test_sides: list[int] = field(default_factory=list)
    test_resize: Literal["antialiased", "plain"] = "antialiased"
    interpolation: Interpolation | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    bands: list[int] | None = None
    range: list[float] | None = None
    on_damaged: Literal["stop", "skip"] = "stop"
    workers: int | None = None

    task: ClassVar[str] = "segmentation"

    def __post_init__(self) -> None:
        check_choice("split", self.split, ("val", "test"))
        check_choice("colors", self.colors, ("rgb", "published"))
        check_choice("test_resize", self.test_resize, ("antialiased", "plain"))
        check_interpolation(self.interpolation)
        self._check_pixels(self.interpolation)
        check_colors(self.mean, self.std, self.channels)
        if self.colors == "published" and not (self.mean is None and self.std is None):
            raise InputError("colors 'published' has its own mean and deviation; leave mean and std out, or take 'rgb'")
        if self.colors == "published" and self.channels != 3:
            raise InputError(f"colors 'published' are three, and bands {self.bands} are {self.channels}; take 'rgb'")
        if self.test_resize == "plain" and self.interpolation not in (None, "bilinear"):
            raise InputError(
                f"test_resize 'plain' is bilinear, which {self.interpolation!r} is not; set interpolation to null, or "
                "test_resize to 'antialiased'"
            )
        if self.longest is not None:
            check_count("longest", self.longest, 1)
        check_sides("short_sides", self.short_sides, self.longest)
        check_sides("test_sides", self.test_sides, self.longest)
        check_between("color_jitter", self.color_jitter, 0, 1)
        check_multiple(self.multiple, self.label_stride)
        check_scale(self.scale)
        check_crop(self.crop, self.multiple)
        check_choice("on_damaged", self.on_damaged, ("stop", "skip"))
        check_workers(self.workers)

    @classmethod
    def options_for(
        cls, pictures: "Pictures", options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """As of `Dataset`: the colours, unless they are published, and the interpolation, unless it is plain."""
        wanted = {} if options.get("colors") == "published" else colors_of(pictures, options)
        if options.get("test_resize") != "plain":
            wanted["interpolation"] = pictures.interpolation
        return open_options(wanted, options)

    @property
    @abstractmethod
    def numbering(self) -> Numbering:
        """How masks number the classes, in the order of their labels."""

    @property
    def _as_found(self) -> "SegmentationDataset":
        """The dataset as its own files number the classes, which a run may know in another order."""
        return self

    @property
    def _known_labels(self) -> tuple[int, ...] | None:
        """The label that a run has for each class of `_as_found`; None where it has the same."""
        return None

    def _check_training(self) -> None:
        """Raise `InputError` where the masks that are there lack classes to train on."""

    @property
    def legend(self) -> "Legend":
        """What the pixels of masks mean."""
        from switchnorm.data.segmentation.legend import Legend  # as `Dataset` explains

        return Legend(self.numbering, self.classes)

    @property
    def class_colors(self) -> tuple[Color, ...] | None:
        """The colour of each class where the dataset has its own; None lets `palette` choose."""
        return None

    @property
    def palette(self) -> "np.ndarray[Any, Any]":
        """The colour of each class, its own or one that differs from all others: (K, 3) uint8."""
        import numpy as np  # as `Dataset` explains

        from switchnorm.data.segmentation.palette import distinct_colors

        colors = self.class_colors
        return distinct_colors(self.num_classes) if colors is None else np.array(colors, np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the largest training batch; the sizes of all pictures are read to know it.

        Where there are no training pictures it is that of pictures 640 wide and 480 high, for a dry run with noise.
        """
        try:
            sizes = self._train.distinct_sizes
        except InputError:
            sizes = [(480, 640)]
        return self._training_sizes.largest(sizes)

    @property
    def size(self) -> int:
        """The longer side of `shape`."""
        return max(self.shape)

    @property
    def train_size(self) -> int:
        """Number of training pictures."""
        return len(self._train)

    @property
    def test_size(self) -> int:
        """Number of test pictures."""
        return len(self._test)

    def fingerprint(self) -> dict[str, Any]:
        """As of `Dataset`: the paths of the pictures and masks below their folders, or as lists have them."""
        return {
            name: split_fingerprint(map("\t".join, zip(pairs.pictures.names(), pairs.masks.names(), strict=True)))
            for name, pairs in (("train", self._splits["train"]), ("test", self._splits[self.split]))
            if pairs is not None
        }

    def prepare(self) -> None:
        """Find the pictures and masks; none is opened.

        Raises:
            InputError: no root, neither split, pictures without masks or the other way round, or a list that names
                what is not there.
        """
        splits = ("train", self.split)
        if all(self._splits[split] is None for split in splits):
            looked = "; ".join(f"for {split}: {self._looked_for(split)}" for split in splits)
            raise InputError(f"{self.root} has neither {splits[0]} nor {splits[1]} pictures with masks ({looked})")

    def surveyed(self) -> "tuple[Surveyed, ...]":
        """The training and the test pictures with their masks, as far as they are here."""
        from switchnorm.data.segmentation.pair_facts import SurveyedPairs  # as `Dataset` explains

        sizes = {"train": self._training_sizes}
        return tuple(
            SurveyedPairs(
                split, pairs, self.legend, self._found_pixels, sizes.get(split), skips=self.on_damaged == "skip"
            )
            for split, pairs in self._splits.items()
            if pairs is not None
        )

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """As of `Dataset`: what was left out, what is odd about the training masks, and as of `FromFiles`."""
        from switchnorm.data.files.walk import told  # as `Dataset` explains

        splits = ("train", self.split) if training else (self.split,)
        found = {split: pairs for split in splits if (pairs := self._splits[split]) is not None}
        said = filter(None, (told(split, pairs.left_out) for split, pairs in found.items()))
        odd = self._looks.remarks(found["train"]) if "train" in found else ()
        return (*said, *odd, *super().unusual(training=training))

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        share: Share = Share(),
    ) -> "TrainingMaps":
        """The loader for training; see `TrainingMaps` and `Dataset`. Nothing depends on `epochs`.

        Raises:
            InputError: masks that hold no class, or one of several alone.
        """
        from switchnorm.data.segmentation.colors import Colors  # as `Dataset` explains
        from switchnorm.data.segmentation.scene_batches import TrainingMaps
        from switchnorm.data.segmentation.scene_readers import CropReader

        self._check_training()
        reader = CropReader(
            self._pair_reader(self._train),
            self._training_sizes,
            self.flip,
            self._color_jitter,
            self.label_stride,
            seed,
            self.interpolation or "bilinear",
        )
        self._looks.check("train", self._train)
        return TrainingMaps(
            reader,
            Colors(self.colors, share.device, mean=self.mean, std=self.std, channels=self.channels),
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
    ) -> "SceneBatches":
        """The loader for evaluation; see `SceneBatches` and `Dataset`.

        Raises:
            InputError: views besides "centre": sizes are options here, and prediction makes the mirror images; or
                masks that hold no class.
        """
        from switchnorm.data.segmentation.colors import Colors  # as `Dataset` explains
        from switchnorm.data.segmentation.scene_batches import SceneBatches
        from switchnorm.data.segmentation.scene_readers import SceneReader

        if views != "centre":
            raise InputError(
                f"views {views!r} is not possible here; pictures with masks have 'centre', at `test_sides`"
            )
        reader = self._test_reader
        self._looks.check(self.split, self._test)
        return SceneBatches(
            SceneReader(reader, self._test_sizes, self._test_resize),
            Colors(self.colors, share.device, mean=self.mean, std=self.std, channels=self.channels),
            batch_size=batch_size,
            workers=self.workers,
            share=share,
        )

    def scene(self, picture: "Picture") -> Scene:
        """Any picture as evaluation passes it to the network: `Scene` number 0, without target, on the CPU.

        Args:
            picture: as `read_picture` makes it with the dataset's `pixels`, or Pillow's of any mode.
        """
        from PIL import Image  # as `Dataset` explains

        from switchnorm.data.picture import size_of
        from switchnorm.data.segmentation.scene_readers import make_scene

        shown = picture.convert("RGB") if isinstance(picture, Image.Image) else picture
        sizes = self._test_sizes(size_of(shown))
        return _normalized(make_scene(0, shown, None, sizes, self._test_resize), self._colors)

    def tiling(self, size: tuple[int, int]) -> "Tiling":
        """How a picture of a height and width is predicted, see `tiles`."""
        from switchnorm.data.segmentation.tiles import Tiling  # as `Dataset` explains

        return Tiling.of(size, self._test_sizes)

    def tiles(self, picture: "Picture") -> "Iterator[Tile]":
        """Any picture as `scene`, in parts where it is large, see `Tiling`."""
        from switchnorm.data.picture import size_of  # as `Dataset` explains

        for tile in self.tiling(size_of(picture)).tiles(picture, self._test_resize):
            yield tile._replace(scene=_normalized(tile.scene, self._colors))

    def train_name(self, index: int) -> str:
        """The path of a training picture, below its folder or as its list has it."""
        return self._train.pictures.name(index)

    def test_name(self, index: int) -> str:
        """What the file of a test picture is called, without its folder and extension."""
        return Path(self._test.pictures[index]).stem

    def test_picture(self, index: int) -> "Image.Image":
        """A test picture as people are shown it, in red, green and blue."""
        from switchnorm.data.loaders.damage import read_one  # as `Dataset` explains
        from switchnorm.data.picture import shown

        return shown(read_one(self._test_reader.picture, index))

    def test_target(self, index: int) -> "Tensor":
        """The labels of a test picture: (H, W) uint8."""
        from switchnorm.data.loaders.damage import read_one  # as `Dataset` explains

        return read_one(self._test_reader.labels, index)

    def _find(self, root: Path, split: str) -> "Pairs | None":
        """A split's pictures and masks; None where it is absent."""
        from switchnorm.data.files.pairs import find_folders  # as `Dataset` explains

        return find_folders(root, split, may_miss=self.on_damaged == "skip")

    def _looked_for(self, split: str) -> str:
        """Where `_find` looks, in words."""
        from switchnorm.data.files.pairs import layouts  # as `Dataset` explains

        return layouts(split)

    @property
    def _training_sizes(self) -> "TrainingSizes":
        from switchnorm.data.segmentation.sizes import TrainingSizes  # as `Dataset` explains

        scale, crop = self.scale, self.crop
        return TrainingSizes(
            tuple(self.short_sides),
            self.longest,
            None if scale is None else (scale[0], scale[1]),
            None if crop is None else (crop[0], crop[1]),
            self.multiple,
        )

    @property
    def _test_sizes(self) -> "EvaluationSizes":
        from switchnorm.data.segmentation.sizes import EvaluationSizes  # as `Dataset` explains

        return EvaluationSizes(tuple(self.test_sides), self.longest, self.multiple)

    @property
    def _test_resize(self) -> "Resize":
        """How evaluation resizes: the interpolation, or "plain"."""
        return "plain" if self.test_resize == "plain" else self.interpolation or "bilinear"

    @property
    def _colors(self) -> "Colors":
        """How pixels are normalized on the CPU."""
        from switchnorm.data.segmentation.colors import Colors  # as `Dataset` explains

        return Colors(self.colors, mean=self.mean, std=self.std, channels=self.channels)

    @functools.cached_property
    def _test_reader(self) -> "PairReader":
        return self._pair_reader(self._test)

    def _pair_reader(self, pairs: "Pairs") -> "PairReader":
        from switchnorm.data.segmentation.scene_readers import PairReader  # as `Dataset` explains

        return PairReader(pairs, self._as_found.legend, self._found_pixels, self._known_labels)

    @property
    def _pictures(self) -> "Paths":
        train = self._splits["train"]
        return (train or self._test).pictures

    @functools.cached_property
    def _looks(self) -> "MaskLooks":
        from switchnorm.data.segmentation.mask_look import MaskLooks  # as `Dataset` explains

        return MaskLooks(self._as_found.legend, self._remedy)

    def _remedy(self, look: "MaskLook") -> str:
        """What to do about masks that hold void where classes should be."""
        return f"expected {self._as_found.numbering}"

    @property
    def _train(self) -> "Pairs":
        return self._present("train")

    @property
    def _test(self) -> "Pairs":
        return self._present(self.split)

    def _present(self, split: str) -> "Pairs":
        pairs = self._splits[split]
        if pairs is None:
            raise InputError(f"{self.root} has no {split} pictures with masks; looked for {self._looked_for(split)}")
        return pairs

    @functools.cached_property
    def _splits(self) -> "dict[str, Pairs | None]":
        """The training and the test pictures, found once."""
        from switchnorm.data.files.named import find_root  # as `Dataset` explains

        root = find_root(self.root)
        return {split: self._find(root, split) for split in ("train", self.split)}


def _normalized(scene: Scene, colors: "Colors") -> Scene:
    return scene._replace(pictures=tuple(colors(pixels) for pixels in scene.pictures))
