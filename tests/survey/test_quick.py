"""A moment's look before a training."""

import pytest
from PIL import Image

from switchnorm.data import Folder, Masks
from switchnorm.errors import InputError
from switchnorm.survey import quick
from switchnorm.survey.quick import evenly, quick_look, sample
from tests.data.photos import truncate
from tests.training.scenes import VOID


def folder(root, **options):
    return Folder(str(root), **{"size": 16, "resize": 20, **options})


def masks(root):
    return Masks(str(root), ignore=[VOID])


def test_samples_are_spread_evenly_and_the_same_each_time():
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(3, 9) == [0, 1, 2]
    assert evenly(0, 9) == []


@pytest.mark.parametrize(("size", "count"), [(10, 128), (1 << 19, 64), (1 << 30, 8)])
def test_large_files_are_fewer(monkeypatch, photos, size, count):
    (split, _) = folder(photos).surveyed()
    monkeypatch.setattr(type(split), "__len__", lambda self: 1000)
    monkeypatch.setattr(split, "bytes_of", lambda index: size)
    assert len(sample(split)) == count


def test_nothing_is_said_of_data_as_it_should_be(photos, scenes):
    assert quick_look(folder(photos)) == ()
    assert quick_look(masks(scenes)) == ()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_picture_is_refused_with_its_path(photos, split):
    truncate(photos / split / "dog/1.jpg")
    with pytest.raises(
        InputError, match=r"a .* picture cannot be read: .*; mend it, or set data.on_damaged to"
    ) as caught:
        quick_look(folder(photos))
    assert f"{photos}/{split}/dog/1.jpg (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_said_where_training_goes_on(photos):
    truncate(photos / "train/dog/1.jpg")
    (line,) = quick_look(folder(photos, on_damaged="skip"))
    assert line.startswith("train: 1 of 12 pictures cannot be read: dog/1.jpg (")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"no"), r"a val picture has a mask that cannot be read: .*val01\.png \("),
        (lambda path: Image.new("L", (9, 9)).save(path), r"of another size: .*val01\.png \(9x9, its picture 56x40\)"),
        (
            lambda path: Image.new("L", (56, 40), 77).save(path),
            r"^mask .*/val01\.png has 77 in row 0, .*\. `switchn",
        ),
    ],
)
def test_validation_masks_are_looked_at_too(scenes, spoil, message):
    spoil(scenes / "valannot/val01.png")
    with pytest.raises(InputError, match=message):
        quick_look(masks(scenes))


def test_a_part_says_that_it_is_one(photos, monkeypatch):
    monkeypatch.setattr(quick, "_SAMPLES", 4)
    monkeypatch.setattr(quick, "_FEW", 4)
    assert quick_look(folder(photos, resize=90)) == (
        "train: 4 of 4 are enlarged: their shorter side is below 90",
        "val: 4 of 4 are enlarged: their shorter side is below 90",
    )


def test_there_are_few_lines(monkeypatch, photos):
    monkeypatch.setattr(quick, "findings", lambda *found: [quick_finding(number) for number in range(9)])
    lines = quick_look(folder(photos))
    assert lines == (*map(str, range(5)), "and 4 more remarks; `switchnorm check` shows all")


def test_all_is_said_that_the_dataset_says_of_itself(monkeypatch, photos):
    truncate(photos / "train/dog/1.jpg")
    lines = tuple(map(str, range(7)))
    monkeypatch.setattr(Folder, "unusual", lambda self: lines)
    data = folder(photos, on_damaged="skip", resize=90)
    assert quick_look(data) == (*lines, "and 3 more remarks; `switchnorm check` shows all")


def test_what_skipping_does_not_help_is_not_told_to_skip(photos):
    with pytest.raises(
        InputError, match=r"does not fit the configuration: .* \(has 3 bands, .* last is 2\)\. `switchnorm"
    ):
        quick_look(folder(photos, bands=[7], color_jitter=0, lighting=0))


def quick_finding(number):
    from switchnorm.survey.findings import Finding

    return Finding(str(number))
