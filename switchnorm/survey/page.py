"""What was found as a page: pictures as training sees them and as they are stored, and the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from switchnorm.data import Dataset
from switchnorm.data.files.shown import as_pictures
from switchnorm.errors import InputError
from switchnorm.files import check_page, write_file, writing
from switchnorm.report.common.document import document
from switchnorm.report.common.elements import note, section, table
from switchnorm.report.common.legends import colour_legend
from switchnorm.report.common.photos import photo, photo_grid
from switchnorm.survey.batches import first_batch
from switchnorm.survey.findings import Seen
from switchnorm.survey.quick import evenly
from switchnorm.survey.tables import class_table, split_table
from switchnorm.survey.whole import Survey
from switchnorm.survey.words import said, verdict
from switchnorm.tasks.drawing import Drawing, Drawn

#: Pictures of a training batch, of the first split and of the others.
_TRAINED, _FIRST, _OTHERS = 8, 24, 8


def write_page(name: str, survey: Survey, drawing: Drawing, out: Path, *, seed: int = 0, epochs: int = 1) -> Path:
    """Write the page; a reader sees the old one or the whole new one, never a part.

    Args:
        name: of the data.
        survey: what was found.
        drawing: draws its samples.
        out: the file.
        seed: of the training whose pictures are shown.
        epochs: that it has.

    Returns:
        The file.

    Raises:
        InputError: `out` is a folder or no name of a page.
    """
    check_page(out, "check.html")
    colours = drawing.colours()
    sections = (
        section("Findings", _findings(survey)),
        section("As training sees them", *_trained(drawing, colours, seed, epochs)),
        *(
            section(f"As they are stored: {one.summary.name}", *_stored(one, drawing, colours, count))
            for one, count in zip(survey.seen, (_FIRST, *[_OTHERS] * len(survey.seen)), strict=False)
        ),
        section("Classes", table(class_table(survey, colours))),
        section("Files and values", table(split_table(survey))),
    )
    text = document("switchnorm check", verdict(name, survey).partition(";")[0], _lede(survey), sections)
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, text)
    return out


def _lede(survey: Survey) -> str:
    splits = " and ".join(f"{one.summary.total:,} {one.summary.name}" for one in survey.seen)
    classes = len(survey.classes)
    return f"{splits} pictures in {classes:,} {'class' if classes == 1 else 'classes'}."


def _findings(survey: Survey) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in said(survey.findings)) or note("Nothing wrong or unusual.")


def _trained(drawing: Drawing, colours: dict[str, str], seed: int, epochs: int) -> Iterator[str]:
    try:
        shown = list(_first_batch(drawing, drawing.dataset, seed, epochs))
    except InputError as error:
        refused = drawing.dataset.refused  # then a split that cannot be read passes for one that is absent
        yield note(f"There are none to show: {refused[0] if refused else error}")
        return
    yield note("The beginning of the first epoch: cropped, resized and changed at random as the configuration says.")
    yield colour_legend(colours, "Colours of the classes") if colours else ""
    yield _grid(shown, "Training picture")


def _first_batch(drawing: Drawing, dataset: Dataset, seed: int, epochs: int) -> Iterator[Drawn]:
    loader = dataset.train_batches(batch_size=min(_TRAINED, dataset.train_size), seed=seed, epochs=epochs)
    images, targets = first_batch(loader)
    pictures = as_pictures(loader.pixels(images).numpy())
    return (drawing.trained(picture, target) for picture, target in zip(pictures, targets, strict=True))


def _stored(one: Seen, drawing: Drawing, colours: dict[str, str], count: int) -> Iterator[str]:
    split = one.split
    if split is None:
        return
    shown = []
    for index in evenly(len(split), count):
        try:
            shown.append(drawing.stored(split, index))
        except InputError:  # which the findings name
            continue
    if shown:
        yield note(f"{len(shown)} of {len(split):,}, evenly spread.")
        yield colour_legend(colours, "Colours of the classes") if colours else ""
        yield _grid(shown, f"{one.summary.name} picture")


def _grid(shown: Iterable[Drawn], kind: str) -> str:
    return photo_grid(
        photo(each.picture, each.caption, each.caption or f"{kind} {number}") for number, each in enumerate(shown, 1)
    )
