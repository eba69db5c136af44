"""Names of classes: when two are the same, and which label a class has in another numbering."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from switchnorm.errors import InputError, unknown
from switchnorm.text import canonical, read_text

_MOST = 1_000_000
_LONGEST = 100_000
_COLOR = re.compile("#[0-9a-f]{6}")
#: Classes that a line names.
_NAMED = 3

_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""
#: COCO's (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014) in the order of their numbers.
COCO = tuple(" ".join(name.split()) for name in _COCO.split(","))


class Classes(NamedTuple):
    """The classes of a run in the order of their labels.

    Args:
        names: what they are called.
        colors: "#rrggbb" of each where they are shown in colours of their own, else None.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...] | None = None

    def entries(self) -> dict[str, Any]:
        """What run.json and checkpoints hold: `classes`, and with colours `class_colors`."""
        colors = {} if self.colors is None else {"class_colors": list(self.colors)}
        return {"classes": list(self.names), **colors}


def classes_in(entries: Any, title: str) -> Classes | None:
    """The classes in the entries of run.json or of a checkpoint, which anybody may have written; None for none.

    Args:
        entries: a mapping.
        title: what an error calls the file.

    Raises:
        InputError: names that are no lines of text, or colours that are none or not as many.
    """
    names, colors = entries.get("classes"), entries.get("class_colors")
    if names is None:
        return None
    if not (isinstance(names, list) and 0 < len(names) <= _MOST and all(_is_name(name) for name in names)):
        raise InputError(f"{title} is damaged: expected a list of names, each a line of text, as classes")
    if colors is not None and not (
        isinstance(colors, list)
        and len(colors) == len(names)
        and all(isinstance(color, str) and _COLOR.fullmatch(color) for color in colors)
    ):
        raise InputError(f"{title} is damaged: expected a colour such as '#804080' for each class as class_colors")
    return Classes(tuple(names), None if colors is None else tuple(colors))


def names_in(file: Path, most: int = _MOST) -> tuple[str, ...]:
    """The lines of a file that names a class in each, without the spaces around.

    Args:
        file: text, as `switchnorm.text.read_text` reads it.
        most: how many classes there may be.

    Raises:
        InputError: a file that is missing or cannot be read, no classes or too many, or a line that names none.
    """
    try:
        text = read_text(file, str(file)).rstrip()
    except FileNotFoundError:
        raise InputError(f"{file} is missing; expected the name of a class in each line") from None
    names = tuple(map(str.strip, text.split("\n"))) if text else ()
    if not 1 <= len(names) <= most:
        raise InputError(f"{file} names {len(names)} classes; expected 1 to {most:,}, one in each line")
    if "" in names:
        raise InputError(
            f"{file}: line {names.index('') + 1} is empty; expected the name of another class in each line"
        )
    return names


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _LONGEST and name.isprintable()


def same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether these are the same classes under the same labels."""
    return [*map(canonical, one)] == [*map(canonical, other)]


def labels_among(names: Sequence[str], known: Sequence[str], source: str) -> tuple[int, ...]:
    """The label that each of the names has among the known classes.

    Args:
        names: of classes, any of them.
        known: all classes of a run, in the order of their labels.
        source: where the names are from.

    Raises:
        InputError: a name that is not among them, or names that are there twice and do not stand in the same order.
    """
    if same(names, known):
        return tuple(range(len(known)))
    label_of = {canonical(name): label for label, name in enumerate(known)}
    if len(label_of) < len(known):
        raise InputError(f"{source} has other classes than the run, two of which have one name; rename one of them")
    for name in names:
        if canonical(name) not in label_of:
            raise InputError(
                f"{unknown(f'class of {source}', name, known)}; a run knows its classes by name: give this one the "
                "name that it had when the run began, or train a new run"
            )
    return tuple(label_of[canonical(name)] for name in names)


def mapped(names: Mapping[int, str], known: Sequence[str]) -> str:
    """What is to be said about classes of the data that a run numbers otherwise, in a line; "" for nothing.

    Args:
        names: the classes that the data has, by the numbers that it gives them; all of them are known.
        known: the classes of the run.
    """
    labels = labels_among(list(names.values()), known, "the data")
    moved = [(name, here, there) for (here, name), there in zip(names.items(), labels, strict=True) if here != there]
    if not moved:
        return ""
    some = ", ".join(f"{name} {here} -> {there}" for name, here, there in moved[:_NAMED])
    return f"labels are mapped by name to the run's {len(known)} classes ({some}{_more(moved)})"


def lacking(names: Iterable[str], known: Sequence[str]) -> str:
    """Which classes of a run are not among some names, as in "1 of the run's 3 classes (cat)"; "" for none."""
    there = set(map(canonical, names))
    absent = [name for name in known if canonical(name) not in there]
    return f"{len(absent)} of the run's {len(known)} classes ({listed(absent)})" if absent else ""


def listed(names: Sequence[str]) -> str:
    """The first of some names, for a line."""
    return ", ".join(names[:_NAMED]) + _more(names)


def _more(names: Sequence[object]) -> str:
    return ", ..." if len(names) > _NAMED else ""
