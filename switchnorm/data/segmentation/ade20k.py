"""ADE20K's scene parsing benchmark."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.pairs import Pairs

#: The 150 classes by the first of their names, in the order of the masks' numbers 1 to 150.
_CLASSES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table,
mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat,
fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter,
sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister,
escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name,
microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""

_LISTS = {"train": "training.odgt", "val": "validation.odgt"}


@dataclass(frozen=True)
class Ade20k(SegmentationDataset):
    """ADE20K's 150 classes of scene parsing (Zhou et al., "Scene parsing through ADE20K dataset", 2017).

    By the benchmark's lists, training.odgt and validation.odgt in `root`, whose paths count from there, from the list's
    folder or from the one above; where there is none, by the folders images/training and images/validation with
    annotations/training and annotations/validation. Masks number the classes from 1; 0 is unlabelled.

    The defaults are what the published networks were trained and evaluated with (CSAILVision's
    semantic-segmentation-pytorch, and SN's), whose output has an eighth of the resolution.

    Args:
        train_list: list of the training pictures, if it is elsewhere.
        val_list: list of the validation pictures, if it is elsewhere.
    """

    short_sides: list[int] = field(default_factory=lambda: [300, 375, 450, 525, 600])
    longest: int | None = 1000
    label_stride: int = 8
    test_sides: list[int] = field(default_factory=lambda: [450])
    train_list: str | None = None
    val_list: str | None = None

    classes: ClassVar[tuple[str, ...]] = tuple(_CLASSES.strip().replace("\n", " ").split(", "))
    numbering: ClassVar[Numbering] = Numbering(tuple(range(1, 151)), (0,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split != "val" and self.val_list is not None:
            raise InputError(
                f"val_list has no effect with split {self.split!r}; set split to 'val' or val_list to null"
            )

    def _find(self, root: Path, split: str) -> "Pairs | None":
        from switchnorm.data.files.odgt import read_odgt  # as `Dataset` explains

        named = {"train": self.train_list, "val": self.val_list}.get(split)
        if named is not None:
            file = Path(named).expanduser()
            places = [file] if file.is_absolute() else [file, root / file]
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                raise InputError(f"{split}_list {named!r} is not a file, neither here nor in {root}")
        else:
            found = root / _LISTS[split] if split in _LISTS else None
        if found is not None and found.is_file():
            return read_odgt(found, [root, found.parent, root.absolute().parent])
        return super()._find(root, split)

    def _looked_for(self, split: str) -> str:
        folders = super()._looked_for(split)
        return f"{_LISTS[split]}, {folders}" if split in _LISTS else folders
