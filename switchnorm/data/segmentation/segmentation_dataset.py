"""What every dataset of pictures with masks offers."""

import functools
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from switchnorm.data.fingerprint import split_fingerprint
from switchnorm.data.loaders.share import Share
from switchnorm.data.segmentation.class_names import Color
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.shown_scenes import ShownScenes
from switchnorm.data.views import Views
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from switchnorm.data.files.listing import Paths
    from switchnorm.data.files.pairs import Pairs
    from switchnorm.data.files.surveyed import Surveyed
    from switchnorm.data.segmentation.legend import Legend
    from switchnorm.data.segmentation.mask_look import MaskLook, MaskLooks
    from switchnorm.data.segmentation.scene_batches import SceneBatches, TrainingMaps
    from switchnorm.data.segmentation.scene_readers import PairReader


@dataclass(frozen=True)
class SegmentationDataset(ShownScenes):
    """Pictures with masks, which name the class of every pixel; 255 in labels is what does not count.

    Either split may be absent as long as nobody asks for its batches. The options are those of `ShownScenes`.
    """

    task: ClassVar[str] = "segmentation"

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
    def _distinct_sizes(self) -> list[tuple[int, int]]:
        return self._train.distinct_sizes

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
        from switchnorm.data.files.named import lacks  # as `Dataset` explains

        splits = ("train", self.split)
        if all(self._splits[split] is None for split in splits):
            looked = "; ".join(f"for {split}: {self._looked_for(split)}" for split in splits)
            said = f"{self.root} has neither {splits[0]} nor {splits[1]} pictures with masks ({looked})"
            raise self._refusals.nothing_left(lambda: lacks(self.root, said))

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
        from switchnorm.data.augment.colors import Colors  # as `Dataset` explains
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
        from switchnorm.data.augment.colors import Colors  # as `Dataset` explains
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

        return find_folders(root, split, may_miss=self._may_miss)

    def _looked_for(self, split: str) -> str:
        """Where `_find` looks, in words."""
        from switchnorm.data.files.pairs import layouts  # as `Dataset` explains

        return layouts(split)

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
        attempt = self._refusals.attempt
        return {split: attempt(functools.partial(self._find, root, split)) for split in ("train", self.split)}
