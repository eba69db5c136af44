"""What every dataset of pictures with objects offers, whatever format these are written in."""

import functools
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from switchnorm.classes import labels_among, lacking, mapped
from switchnorm.classes import listed as listed_names
from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.detection.shown import PreparedPictures
from switchnorm.data.fingerprint import split_fingerprint
from switchnorm.errors import AbsentError, InputError, unknown
from switchnorm.text import canonical

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from PIL import Image

    from switchnorm.data.detection.annotated import Annotated
    from switchnorm.data.detection.listed import Listed
    from switchnorm.data.detection.objects import Objects
    from switchnorm.data.files.listing import Paths
    from switchnorm.data.files.surveyed import Surveyed

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class DetectionDataset(PreparedPictures):
    """Pictures with objects on them: boxes, classes, and masks where there are some.

    Either split may be absent as long as nobody asks for its batches. A file is read when its split is first asked for.

    Args:
        names: the classes that are taken, in the order of their labels; objects of others are left out, and counted.
            null takes all: those of the training pictures, in the order in which their files have them.
    """

    names: list[str] | None = None

    task: ClassVar[str] = "detection"
    #: The classes where there is no data that could say it, for a dry run.
    usual_classes: ClassVar[tuple[str, ...]] = ()
    #: Whether `with_classes` has named the classes, those of a run.
    _known: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names is None:
            return
        called = [canonical(name.strip()) for name in self.names]
        if not called or "" in called or len(called) > _MOST_CLASSES:
            raise InputError(f"names must be one name of a class at least, and none empty, got {self.names!r:.200}")
        twice = next((name for place, name in enumerate(called) if name in called[:place]), None)
        if twice is not None:
            raise InputError(f"names has {twice!r} twice; expected each class once")

    @abstractmethod
    def _find(self, root: Path, split: str) -> "Callable[[], Annotated] | None":
        """What reads a split; None where it is absent. Raises `InputError` for files among which nothing chooses."""

    @abstractmethod
    def _looked_for(self, split: str) -> str:
        """Where `_find` looks, in words."""

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of the option, or of the training pictures, or else of the test pictures."""
        if self.names is not None:
            return tuple(canonical(name.strip()) for name in self.names)
        present = self._present
        if not present:
            if self.usual_classes:
                return self.usual_classes
            raise self._absent("train")
        found = self._annotated(present[0]).classes
        if not found:
            raise InputError(f"the {present[0]} pictures in {self.root} have no objects, which would name the classes")
        return found

    @property
    def _present(self) -> list[str]:
        """The splits that are here, as far as `root` itself is."""
        try:
            found = self._found
        except AbsentError:
            if self.usual_classes and not self._known:
                return []
            raise
        return [split for split, read in found.items() if read is not None]

    def with_classes(self, names: Sequence[str], colors: Sequence[str] | None = None) -> Dataset:
        """As of `Dataset`: objects are labelled by the names of their classes; of `names` there may be fewer."""
        if self.names is not None:
            labels_among([name.strip() for name in self.names], names, "data.names")
        known = replace(self)
        # A cached property that is not computed then, and what hides an attribute of the class.
        vars(known).update(classes=tuple(names), _known=True)
        return known if known.classes == tuple(names) else super().with_classes(names, colors)

    def mapping(self) -> str:
        """As of `Dataset`."""
        self._test  # noqa: B018 - it is read by being asked for
        taken = set(map(canonical, self.classes))
        there = {place: name for place, name in enumerate(self._own_classes[self.split]) if canonical(name) in taken}
        absent = lacking(there.values(), self.classes)
        return "; ".join(filter(None, (mapped(there, self.classes), f"the data lacks {absent}" if absent else "")))

    def fingerprint(self) -> dict[str, Any]:
        """As of `Dataset`: the paths of the pictures, and a digest of the objects on them."""
        splits = {"train": "train", "test": self.split}
        there = {name: self._listed(split) for name, split in splits.items() if self._found[split] is not None}
        return {
            name: {**split_fingerprint(listed.paths.names()), "objects": listed.digest()}
            for name, listed in there.items()
        }

    def prepare(self) -> None:
        """Find the files and read those of the splits that are here, of a run whose classes are known the test's alone.

        Raises:
            InputError: no root, neither split, or whatever is wrong with files.
        """
        from switchnorm.data.files.named import lacks  # as `Dataset` explains

        splits = ("train", self.split)
        present = [split for split, read in self._found.items() if read is not None]
        if not present:
            looked = "; ".join(f"for {split}: {self._looked_for(split)}" for split in splits)
            said = f"{self.root} has neither {splits[0]} nor {splits[1]} pictures with objects ({looked})"
            raise self._refusals.nothing_left(lambda: lacks(self.root, said))
        for split in present:
            if split == self.split or not self._known or present == ["train"]:
                self._read_whole(split)
        if not any(self._found.values()):
            raise self._refusals.nothing_left(lambda: self._absent("train"))

    def _read_whole(self, split: str) -> None:
        """Read a split; where what is refused is gathered, one that cannot be read is absent from then on."""

        def read() -> "Listed":
            if self._refusals.lenient:
                self._read.pop(split, None)
                self._found[split] = self._find(find_root(self.root), split)
            return self._listed(split)

        from switchnorm.data.files.named import find_root  # as `Dataset` explains

        if self._refusals.attempt(read) is None:
            self._found[split] = None

    def surveyed(self) -> "tuple[Surveyed, ...]":
        """The training and the test pictures, as far as they are here."""
        from switchnorm.data.detection.object_facts import SurveyedObjects  # as `Dataset` explains

        sizes = {"train": self._training_sizes}
        return tuple(
            SurveyedObjects(
                split, self._listed(split), self._found_pixels, sizes.get(split), skips=self.on_damaged == "skip"
            )
            for split in self._present
        )

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """As of `Dataset`: what was left out and what was changed, and as of `FromFiles`."""
        splits = [split for split in self._present if training or split == self.split]
        said = [each for split in splits for each in self._said(split)]
        return (*said, *super().unusual(training=training))

    def _said(self, split: str) -> Iterator[str]:
        from switchnorm.data.files.walk import told  # as `Dataset` explains

        listed = self._listed(split)
        if left_out := told(split, listed.left_out):
            yield left_out
        if listed.changed:
            yield f"{split} changes {'; '.join(map(str, listed.changed))}"
        absent = set(range(len(self.classes))) - {label - 1 for label in listed.labels[~listed.crowd].unique().tolist()}
        if len(absent) == len(self.classes):
            yield f"{split}: none of the {len(listed)} pictures has an object that counts"
        elif absent:
            names = listed_names([self.classes[place] for place in sorted(absent)])
            yield f"{split} has no objects of {len(absent)} of the {len(self.classes)} classes ({names})"
        if crowds := int(listed.crowd.sum()):
            yield f"{split}: {crowds} of {len(listed.crowd)} {self._uncounted}, which are neither learned nor counted"
        if split == "train" and (dropped := int((listed.counts == 0).sum())) and self.empty == "drop":
            yield f"train leaves out pictures without objects: {dropped} of {len(listed)}"

    #: What objects that do not count are, after "3 of 100 objects".
    _uncounted: ClassVar[str] = "objects are crowds"

    def train_name(self, index: int) -> str:
        """The path of a training picture, below the folder of all or as its list has it."""
        return self._training.name(index)

    def test_name(self, index: int) -> str:
        """What the file of a test picture is called, without its folder and extension."""
        return Path(self._test.name(index)).stem

    def test_id(self, index: int) -> int:
        """The id of a test picture as COCO's files have it, or its number from 1."""
        return int(self._test.ids[index])

    @functools.cached_property
    def class_ids(self) -> tuple[int, ...]:
        """The number of each class as the test pictures' files have it, COCO's category ids; unused ones for others."""
        self._test  # noqa: B018 - it is read by being asked for
        own = dict(zip(map(canonical, self._own_classes[self.split]), self._own_ids[self.split], strict=True))
        others = itertools.count(max([len(self.classes), *own.values()]) + 1)
        known = [own.get(canonical(name)) for name in self.classes]
        return tuple(next(others) if number is None else number for number in known)

    def test_picture(self, index: int) -> "Image.Image":
        """A test picture as people are shown it, in red, green and blue."""
        from switchnorm.data.loaders.damage import read_one  # as `Dataset` explains
        from switchnorm.data.picture import shown

        return shown(read_one(lambda place: self._test.picture(place, self._found_pixels), index))

    def test_target(self, index: int) -> "Objects":
        """The objects on a test picture."""
        return self._test.objects(index)

    @property
    def _train(self) -> "Listed":
        return self._listed("train")

    @property
    def _test(self) -> "Listed":
        return self._listed(self.split)

    @property
    def _pictures(self) -> "Paths":
        return self._listed("train" if self._found["train"] is not None else self.split).paths

    def _listed(self, split: str) -> "Listed":
        """A split with the labels of `classes`; read once."""
        if split not in self._lists:
            names = self.classes
            found = self._annotated(split)
            if self.names is not None and split == "train":
                for name in map(str.strip, self.names):
                    if canonical(name) not in map(canonical, found.classes):
                        raise unknown(f"data.names has a class that {self.root} lacks: class", name, found.classes)
            if self.names is not None:
                # A run may know more classes than are taken here: these keep their labels, and no class is called "".
                taken = set(map(canonical, map(str.strip, self.names)))
                names = tuple(name if canonical(name) in taken else "" for name in names)
            self._lists[split] = found.listed(names, others=self.names is not None)
            del self._read[split]  # whose memory is no longer needed
        return self._lists[split]

    def _annotated(self, split: str) -> "Annotated":
        if split not in self._read:
            read = self._found[split]
            if read is None:
                raise self._absent(split)
            self._read[split] = read()
            self._own_classes[split] = self._read[split].classes
            self._own_ids[split] = self._read[split].class_ids
        return self._read[split]

    def _absent(self, split: str) -> InputError:
        from switchnorm.data.files.named import lacks  # as `Dataset` explains

        said = f"{self.root} has no {split} pictures with objects; looked for {self._looked_for(split)}"
        return lacks(self.root, said)

    @functools.cached_property
    def _found(self) -> "dict[str, Callable[[], Annotated] | None]":
        """What reads the training and the test pictures, found once."""
        from switchnorm.data.files.named import find_root  # as `Dataset` explains

        root = find_root(self.root)
        attempt = self._refusals.attempt
        return {split: attempt(functools.partial(self._find, root, split)) for split in ("train", self.split)}

    @functools.cached_property
    def _lists(self) -> "dict[str, Listed]":
        return {}

    @functools.cached_property
    def _read(self) -> "dict[str, Annotated]":
        """What was read and not listed yet."""
        return {}

    @functools.cached_property
    def _own_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of the splits that were read, as their files have them."""
        return {}

    @functools.cached_property
    def _own_ids(self) -> dict[str, tuple[int, ...]]:
        """The numbers of these classes."""
        return {}
