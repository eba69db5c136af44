"""What every dataset offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from switchnorm.classes import listed, same
from switchnorm.data.loaders.share import Share
from switchnorm.data.views import Views
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from switchnorm.data.files.picture_file import Pixels
    from switchnorm.data.files.surveyed import Surveyed
    from switchnorm.data.loaders.loader import Loader, TrainingLoader
    from switchnorm.data.picture import Picture
    from switchnorm.data.preparation import Preparation
    from switchnorm.models.pictures import Pictures


class Dataset(ABC):
    """A labelled image dataset by name. Constructing one reads nothing; `prepare` does, or the first use of the data.

    A subclass is a dataclass whose fields are its options, because its signature is the schema of the configuration.

    A wrong option is reported before torch is imported, which takes seconds. So the modules of this library's
    datasets import torch, numpy, Pillow and torchvision inside methods, and for annotations under TYPE_CHECKING. They
    quote these annotations and do without `from __future__ import annotations`, which would make text of the fields'
    types too: to evaluate that, jsonargparse imports all that is under TYPE_CHECKING.
    """

    #: What the labels are for: "classification", a label for each image, or "segmentation", one for each pixel.
    task: ClassVar[str] = "classification"
    #: How many test samples the benchmark has that published results are about; None where there is none. What is read
    #: may be fewer, and such a result is none of the benchmark's.
    benchmark_size: ClassVar[int | None] = None
    #: The options that say where the data lies, which `switchnorm train --resume` may change.
    places: ClassVar[tuple[str, ...]] = ("root",)

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels; some datasets are read to know them."""

    @property
    def fixed_classes(self) -> bool:
        """Whether the classes are the same whatever the data holds, so that no label can ever mean another one."""
        return isinstance(getattr(type(self), "classes", None), tuple)

    def with_classes(self, names: Sequence[str], colors: Sequence[str] | None = None) -> Dataset:
        """This dataset as a run knows it: labels number `names`, and nothing is read to know them.

        Data that numbers its classes otherwise is mapped by their names when it is read. This method stands for
        datasets that cannot do so, and lets them pass where their own classes are these.

        Args:
            names: the classes of the run, in the order of its labels.
            colors: "#rrggbb" of each, where the dataset has colours.

        Raises:
            InputError: other classes, or the same in another order.
        """
        own = self.classes
        if same(own, names):
            return self
        other = next((label for label, pair in enumerate(zip(own, names, strict=False)) if not same(*zip(pair))), 0)
        kind = type(self).__name__
        raise InputError(
            f"{kind} has {len(own)} classes ({listed(own[other:])} from {other} on), and the run {len(names)} "
            f"({listed(names[other:])}); take the data that the run was trained with, or let {kind}.with_classes map "
            "its labels by name"
        )

    def mapping(self) -> str:
        """How labels of the test data became those of `with_classes`, in a line; "" where nothing had to be done.

        The data may be read for it.
        """
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """What the data is known by when a run is resumed, see `switchnorm.data.fingerprint`: of "train" and "test".

        It depends on names and counts alone, and not on where the data lies; a split that is absent is missing.
        """
        return {"train": {"count": self.train_size}}

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of an image."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Side of the square training images, in pixels."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the largest training image, in pixels."""
        return self.size, self.size

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Number of training samples."""

    def test_name(self, index: int) -> str:
        """What a test sample is called, by its place in the order of `test_batches`: its file's name where it has one.

        The data may be read for it. Two samples may have the same name.
        """
        return str(index)

    def looked_at(self) -> Dataset:
        """This dataset for who looks at all of it: what training would stop at before it opens a file is in `refused`.

        This method stands for datasets that cannot go on then.
        """
        return self

    @property
    def refused(self) -> tuple[str, ...]:
        """Of a dataset that is `looked_at`, at what training would stop as it finds files and reads lists, so far."""
        return ()

    def surveyed(self) -> tuple[Surveyed, ...]:
        """The splits that are here, to be looked at sample by sample; none where samples come from batches alone."""
        return ()

    @property
    def pixels(self) -> Pixels:
        """What the files of other pictures become before they are `shown`."""
        from switchnorm.data.files.picture_file import Pixels  # as the class explains

        return Pixels()

    def shown(self, picture: Picture) -> Tensor:
        """Any picture as evaluation shows it to a network, in the view "centre": float32 (C, H, W), normalized.

        Prediction asks for it where labels are of whole images; no data is read.

        Args:
            picture: as `read_picture` makes it with `pixels`.

        Raises:
            InputError: the dataset has neither this method of its own nor a `preparation`.
        """
        import torch  # as the class explains

        from switchnorm.data.picture import pixelled

        try:
            preparation = self.preparation
        except InputError:
            kind = type(self).__name__
            raise InputError(f"{kind} does not say how other pictures are shown; give it a method `shown`") from None
        (image,), _ = preparation.prepare(pixelled(picture))
        return torch.from_numpy(preparation.normalized(image))

    @property
    def preparation(self) -> Preparation:
        """How evaluation shows other pictures to a network, as data that travels with a network; no data is read."""
        raise InputError(
            f"{type(self).__name__} does not say as data how pictures are shown; give it a property `preparation`, a "
            "switchnorm.data.preparation.Preparation"
        )

    def train_name(self, index: int) -> str:
        """What a training sample is called, by its place in the stored order; as `test_name`."""
        return str(index)

    @classmethod
    def options_for(
        cls, pictures: Pictures, options: Mapping[str, Any], given: Container[str], *, pretrained: bool
    ) -> dict[str, Any]:
        """What to set so that the pictures are those that a network expects, as far as the options leave it open.

        Args:
            pictures: what the network expects.
            options: of the dataset, as they are; null leaves open.
            given: which of them somebody has set.
            pretrained: whether the network has weights that were trained on such pictures.

        Returns:
            Options and their values; none where the pictures are the dataset's own affair.
        """
        return {}

    def found_options(self) -> dict[str, Any]:
        """Options that are null and that the data decides, as a run writes them down; the data may be read for it."""
        return {}

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """What is unusual about the data as it was found, a sentence each: files that are left out, say, and why.

        Args:
            training: whether that is about the training samples too, or about the test samples alone.

        Raises:
            InputError: as `prepare`.
        """
        return ()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @abstractmethod
    def prepare(self) -> None:
        """Read the data, or find it and see what is there, so that whatever is wrong shows now.

        Raises:
            InputError: data that is missing, damaged or foreign. It is a `switchnorm.errors.AbsentError` where nothing
                is here at all: a dry run goes on with noise.
        """

    def check_training(self) -> None:
        """Raise `InputError` for data by which nothing can be learned, although all of it is whole.

        One class for whole pictures is such: any network is right about all of them, untrained.
        """
        if self.task != "classification" or self.num_classes > 1:
            return
        root = getattr(self, "root", None)
        where = "the data" if root is None else f"root {str(root)!r}"
        advice = "" if root is None else "; is that the right folder, and no level above or below it?"
        raise InputError(
            f"{where} has one class, {self.classes[0]!r}, so that nothing can be learned; expected two at least{advice}"
        )

    @abstractmethod
    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        share: Share = Share(),
    ) -> TrainingLoader:
        """The loader for training: normalized images, float32 (N, C, H, W), and labels, int64 (N,).

        Args:
            batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
            seed: determines order and augmentation.
            epochs: how many the run has, for what changes towards its end; None if unknown.
            steps: batches of an epoch, a window in the endless sequence of passes; None is one pass over the data.
            share: what of each batch this process gets, and where.

        Raises:
            InputError: no training samples, a batch that they or the processes do not fit, or no steps.
        """

    @abstractmethod
    def test_batches(
        self,
        *,
        batch_size: int,
        share: Share = Share(),
        views: Views = "centre",
    ) -> Loader:
        """The loader for evaluation: every test sample once, in order; shares as `Loader`.

        Args:
            batch_size: samples per batch, all processes together; the last batch may hold fewer.
            share: what of each batch this process gets, and where.
            views: see `Views`; with several views images are (N, V, C, H, W).

        Raises:
            InputError: no test samples, views that these pictures do not have, or processes that do not fit.
        """
