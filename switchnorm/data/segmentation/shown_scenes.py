"""How datasets of pictures with masks show them to a network: the options, and what becomes of any picture."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from switchnorm.data.datasets.any_size import AnySize
from switchnorm.data.datasets.options import (
    check_between,
    check_choice,
    check_colors,
    check_count,
    check_interpolation,
    check_scale,
    check_sides,
    check_workers,
    colors_of,
    open_options,
)
from switchnorm.data.interpolation import Interpolation
from switchnorm.data.segmentation.mask_options import check_crop, check_multiple
from switchnorm.data.segmentation.scene import Scene
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    import numpy as np

    from switchnorm.data.augment.colors import Colors
    from switchnorm.data.picture import Picture
    from switchnorm.data.preparation import EvaluationSizes, Preparation
    from switchnorm.data.preparation.tiling import Resize
    from switchnorm.data.segmentation.sizes import TrainingSizes
    from switchnorm.models.pictures import Pictures


@dataclass(frozen=True)
class ShownScenes(AnySize):
    """The options of every dataset of pictures with masks, and how it shows pictures to a network.

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

    def scene(self, picture: "Picture") -> Scene:
        """Any picture as evaluation passes it to the network: `Scene` number 0, without target, on the CPU.

        Args:
            picture: as `read_picture` makes it with the dataset's `pixels`, or Pillow's of any mode.
        """
        from switchnorm.data.picture import pixelled, rgb  # as `Dataset` explains

        images, size = self.preparation.prepare(pixelled(rgb(picture)))
        return self._scene(images, size)

    @property
    def preparation(self) -> "Preparation":
        """As of `Dataset`."""
        from switchnorm.data.augment.colors import normalization_of  # as `Dataset` explains
        from switchnorm.data.preparation import Preparation, ShortSides

        rule = ShortSides(tuple(self.test_sides), self.longest, self.multiple, self.test_resize)
        chosen = normalization_of(self.colors, self.mean, self.std, self.channels)
        return Preparation(rule, **chosen, **self._read_as())

    def _scene(self, images: "Sequence[np.ndarray[Any, Any]]", size: tuple[int, int]) -> Scene:
        """Images, (C, h, w) uint8, as the network is shown them."""
        import torch  # as `Dataset` explains

        colors = self._colors
        return Scene(0, tuple(colors(torch.from_numpy(image)) for image in images), size, None)

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
        from switchnorm.data.preparation import EvaluationSizes  # as `Dataset` explains

        return EvaluationSizes(tuple(self.test_sides), self.longest, self.multiple)

    @property
    def _test_resize(self) -> "Resize":
        """How evaluation resizes: the interpolation, or "plain"."""
        return "plain" if self.test_resize == "plain" else self.interpolation or "bilinear"

    @property
    def _colors(self) -> "Colors":
        """How pixels are normalized on the CPU."""
        from switchnorm.data.augment.colors import Colors  # as `Dataset` explains

        return Colors(self.colors, mean=self.mean, std=self.std, channels=self.channels)
