"""ADE20K's scene parsing benchmark."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from switchnorm.data.files.named import find_named
from switchnorm.data.segmentation.class_names import Color, split_color
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.pairs import Pairs

#: The 150 classes by the first of their names, in the order of the masks' numbers 1 to 150, with the colours in which
#: they are commonly shown (color150.mat of CSAILVision/semantic-segmentation-pytorch); road and skyscraper share one.
_CLASSES = """
wall #787878, building #b47878, sky #06e6e6, floor #503232, tree #04c803, ceiling #787850, road #8c8c8c, bed #cc05ff,
windowpane #e6e6e6, grass #04fa07, cabinet #e005ff, sidewalk #ebff07, person #96053d, earth #787846, door #08ff33,
table #ff0652, mountain #8fff8c, plant #ccff04, curtain #ff3307, chair #cc4603, car #0066c8, water #3de6fa,
painting #ff0633, sofa #0b66ff, shelf #ff0747, house #ff09e0, sea #0907e6, mirror #dcdcdc, rug #ff095c, field #7009ff,
armchair #08ffd6, seat #07ffe0, fence #ffb806, desk #0aff47, rock #ff290a, wardrobe #07ffff, lamp #e0ff08,
bathtub #6608ff, railing #ff3d06, cushion #ffc207, base #ff7a08, box #00ff14, column #ff0829, signboard #ff0599,
chest of drawers #0633ff, counter #eb0cff, sand #a09614, sink #00a3ff, skyscraper #8c8c8c, fireplace #fa0a0f,
refrigerator #14ff00, grandstand #1fff00, path #ff1f00, stairs #ffe000, runway #99ff00, case #0000ff,
pool table #ff4700, pillow #00ebff, screen door #00adff, stairway #1f00ff, river #0bc8c8, bridge #ff5200,
bookcase #00fff5, blind #003dff, coffee table #00ff70, toilet #00ff85, flower #ff0000, book #ffa300, hill #ff6600,
bench #c2ff00, countertop #008fff, stove #33ff00, palm #0052ff, kitchen island #00ff29, computer #00ffad,
swivel chair #0a00ff, boat #adff00, bar #00ff99, arcade machine #ff5c00, hovel #ff00ff, bus #ff00f5, towel #ff0066,
light #ffad00, truck #ff0014, tower #ffb8b8, chandelier #001fff, awning #00ff3d, streetlight #0047ff, booth #ff00cc,
television receiver #00ffc2, airplane #00ff52, dirt track #000aff, apparel #0070ff, pole #3300ff, land #00c2ff,
bannister #007aff, escalator #00ffa3, ottoman #ff9900, bottle #00ff0a, buffet #ff7000, poster #8fff00, stage #5200ff,
van #a3ff00, ship #ffeb00, fountain #08b8aa, conveyer belt #8500ff, canopy #00ff5c, washer #b800ff, plaything #ff001f,
swimming pool #00b8ff, stool #00d6ff, barrel #ff0070, basket #5cff00, waterfall #00e0ff, tent #70e0ff, bag #46b8a0,
minibike #a300ff, cradle #9900ff, oven #47ff00, ball #ff00a3, food #ffcc00, step #ff008f, tank #00ffeb,
trade name #85ff00, microwave #ff00eb, pot #f500ff, animal #ff007a, bicycle #fff500, lake #0abed4, dishwasher #d6ff00,
screen #00ccff, blanket #1400ff, sculpture #ffff00, hood #0099ff, sconce #0029ff, vase #00ffcc, traffic light #2900ff,
tray #29ff00, ashcan #ad00ff, fan #00f5ff, pier #4700ff, crt screen #7a00ff, plate #00ffb8, monitor #005cff,
bulletin board #b8ff00, shower #0085ff, radiator #ffd600, glass #19c2c2, clock #66ff00, flag #5c00ff
"""
_COLORS = dict(split_color(entry) for entry in _CLASSES.replace("\n", " ").split(","))


@dataclass(frozen=True)
class Ade20k(SegmentationDataset):
    """ADE20K's 150 classes of scene parsing (Zhou et al., "Scene parsing through ADE20K dataset", 2017).

    By the benchmark's lists in `root`, training.odgt or train.odgt and validation.odgt or val.odgt, whose paths count
    from there, from the list's folder or from the one above `root`; where there is none, by the folders images/training
    and images/validation with annotations/training and annotations/validation. Masks number the classes from 1; 0 is
    unlabelled.

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

    places: ClassVar[tuple[str, ...]] = ("root", "train_list", "val_list")
    classes: ClassVar[tuple[str, ...]] = tuple(_COLORS)
    benchmark_size: ClassVar[int | None] = 2_000  # of split val
    class_colors: ClassVar[tuple[Color, ...]] = tuple(color for color in _COLORS.values() if color is not None)
    numbering: ClassVar[Numbering] = Numbering(tuple(range(1, 151)), (0,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split != "val" and self.val_list is not None:
            raise InputError(
                f"val_list has no effect with split {self.split!r}; set split to 'val' or val_list to null"
            )

    def _find(self, root: Path, split: str) -> "Pairs | None":
        from switchnorm.data.files.odgt import read_odgt  # as `Dataset` explains

        found = self._list(root, split)
        if found is None:
            return super()._find(root, split)
        folders = [root, found.parent, root.absolute().parent]
        return read_odgt(found, folders, may_miss=self._may_miss)

    def _list(self, root: Path, split: str) -> Path | None:
        """The list of a split: the one that was named, or the one of a published name; None where none is there."""
        named = {"train": self.train_list, "val": self.val_list}.get(split)
        if named is not None:
            return find_named(f"{split}_list", named, root)
        there = [name for name in _list_names(split) if (root / name).is_file()]
        if len(there) > 1:
            advice = "take one away" if split == "test" else f"name one as {split}_list"
            raise InputError(f"{root} holds both {there[0]} and {there[1]}; {advice}")
        return root / there[0] if there else None

    def _looked_for(self, split: str) -> str:
        named = [] if split == "test" else [f"what {split}_list names"]
        return ", ".join([*_list_names(split), *named, super()._looked_for(split)])


def _list_names(split: str) -> list[str]:
    """What a split's list is called: "training.odgt" by the benchmark's framework, "train.odgt" by SN's."""
    from switchnorm.data.files.listing import NAMES  # as `Dataset` explains

    return [f"{name}.odgt" for name in NAMES[split]]
