"""What all formats have in common: the same targets, splits, classes and what is said of faults."""

import dataclasses
from pathlib import Path

import pytest
import torch

from switchnorm.data import Coco, Voc, Yolo
from switchnorm.data.detection.voc_file import read_voc
from switchnorm.errors import InputError
from tests.data.detection.formats import CLASSES, SHEETS, Sheet, Thing, sized, write_coco, write_voc, write_yolo
from tests.data.photos import photo, real_data

FORMATS = {"coco": (Coco, write_coco), "voc": (Voc, write_voc), "yolo": (Yolo, write_yolo)}


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


def dataset(form, root, splits=None, **options):
    kind, write = form
    write(root, splits)
    return kind(str(root), **{"workers": 0, **options})


def test_all_formats_give_the_same_targets(tmp_path):
    found = {}
    for name, form in FORMATS.items():
        data = dataset(form, tmp_path / name)
        data.prepare()
        assert data.classes == CLASSES
        found[name] = [data.test_target(index) for index in range(data.test_size)]
    for index, sheet in enumerate(SHEETS):
        boxes = torch.tensor([thing.box for thing in sheet.things], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([CLASSES.index(thing.name) + 1 for thing in sheet.things], dtype=torch.int64)
        for objects in (found[name][index] for name in FORMATS):
            torch.testing.assert_close(objects.boxes, boxes, rtol=0, atol=1e-5)
            assert torch.equal(objects.labels, labels)
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1).double()
            torch.testing.assert_close(objects.area, area, rtol=1e-5, atol=0)
            assert not objects.crowd.any()
            assert objects.masks is None


def test_ten_real_pictures_are_the_same_in_all_formats(tmp_path):
    root = real_data("bccd")
    files = sorted((root / "Annotations").glob("*.xml"))[:10]
    sheets = []
    for file in files:
        things = tuple(Thing(each.name, each.box) for each in read_voc(file).objects)
        sheets.append(Sheet(f"{file.stem}.jpg", sized(root / f"JPEGImages/{file.stem}.jpg"), things))
    names = tuple(sorted({thing.name for sheet in sheets for thing in sheet.things}))
    splits = {"train": tuple(sheets)}
    pictures = root / "JPEGImages"
    write_voc(tmp_path / "voc", splits, pictures)
    write_coco(tmp_path / "coco", splits, pictures, names)
    write_yolo(tmp_path / "yolo", splits, pictures, names)
    lists = [kind(str(tmp_path / name), workers=0)._train for name, (kind, _) in FORMATS.items()]
    assert sum(len(sheet.things) for sheet in sheets) > 100
    for index, sheet in enumerate(sheets):
        coco, voc, yolo = (listed.objects(index) for listed in lists)
        assert voc.boxes.tolist() == [list(thing.box) for thing in sheet.things]
        assert torch.equal(coco.boxes, voc.boxes)
        assert torch.equal(coco.area, voc.area)
        assert (yolo.boxes - voc.boxes).abs().max() < 1e-4
        assert coco.labels.tolist() == voc.labels.tolist() == yolo.labels.tolist()
        assert [names[label - 1] for label in voc.labels.tolist()] == [thing.name for thing in sheet.things]
        assert {listed.size(index) for listed in lists} == {(480, 640)}


def test_a_split_may_be_absent_and_is_missed_when_it_is_needed(tmp_path, form):
    data = dataset(form, tmp_path, {"train": SHEETS})
    data.prepare()
    assert data.train_size == 3
    assert set(data.fingerprint()) == {"train"}
    with pytest.raises(InputError, match="has no val pictures with objects; looked for"):
        data.test_batches(batch_size=1)


def test_an_empty_folder_says_what_was_looked_for(tmp_path, form):
    kind, _ = form
    data = kind(str(tmp_path), **({"names": ["a"]} if kind is Yolo else {}))
    with pytest.raises(InputError, match=r"has neither train nor val pictures with objects \(for train: .*; for val: "):
        data.prepare()


def test_a_root_that_is_not_there_is_named(tmp_path, form):
    kind, write = form
    write(tmp_path / "blood")
    data = kind(str(tmp_path / "bloot"))
    with pytest.raises(InputError, match="bloot' is not a folder; did you mean 'blood' beside it"):
        data.prepare()


def test_without_data_the_classes_are_those_of_the_benchmark(tmp_path):
    root = str(tmp_path / "nowhere")
    assert (len(Coco(root).classes), Coco(root).classes[0], Coco(root).classes[-1]) == (80, "person", "toothbrush")
    assert (len(Voc(root).classes), Voc(root).classes[0], Voc(root).classes[-1]) == (20, "aeroplane", "tvmonitor")
    with pytest.raises(InputError, match="is not a folder"):
        Yolo(root).classes  # noqa: B018


def box(*corners):
    return {"train": (Sheet("a.jpg", (40, 30), (Thing("cat", (1, 2, 9, 9)), Thing("cat", corners))),)}


@pytest.mark.parametrize(
    ("corners", "said", "kept"),
    [
        ((5, 5, 5, 9), "train leaves out boxes without area: 1", [[1, 2, 9, 9]]),
        ((9, 5, 4, 9), "train leaves out boxes without area: 1", [[1, 2, 9, 9]]),
        ((5, 5, 5 + 1e-7, 9), "train leaves out boxes without area: 1", [[1, 2, 9, 9]]),  # in float32
        ((41, 5, 45, 9), "train leaves out boxes outside of their pictures: 1", [[1, 2, 9, 9]]),
        ((-8, 5, -2, 9), "train leaves out boxes outside of their pictures: 1", [[1, 2, 9, 9]]),
        (
            (-3, 5, 44, 9),
            "train changes boxes that reach outside of their pictures and are cut off: 1",
            [[1, 2, 9, 9], [0, 5, 40, 9]],
        ),
    ],
)
def test_boxes_that_do_not_fit_are_counted(tmp_path, form, corners, said, kept):
    data = dataset(form, tmp_path, box(*corners))
    data.prepare()
    assert any(line.startswith(said) for line in data.unusual())
    boxes = data._train.objects(0).boxes
    torch.testing.assert_close(boxes, torch.tensor(kept, dtype=torch.float32), rtol=0, atol=1e-5)


def test_boxes_that_reach_outside_by_rounding_are_taken_in_silence(tmp_path, form):
    data = dataset(form, tmp_path, box(0, 0, 40.000001, 30.000001))
    data.prepare()
    assert not any("outside" in line for line in data.unusual())
    assert data._train.objects(0).boxes[1].tolist() == pytest.approx([0, 0, 40, 30], abs=1e-6)
    assert (data._train.objects(0).boxes[1] <= torch.tensor([40.0, 30, 40, 30])).all()


def test_some_classes_can_be_taken_in_an_order(tmp_path, form):
    data = dataset(form, tmp_path, names=["dog"])
    data.prepare()
    assert data.classes == ("dog",)
    assert data._train.objects(0).labels.tolist() == [1]
    assert data._train.counts.tolist() == [1, 0, 0]
    assert "train leaves out objects of other classes: 2" in data.unusual()[0]


def test_a_class_that_nobody_has_is_refused(tmp_path, form):
    data = dataset(form, tmp_path, names=["dog", "cet"])
    with pytest.raises(InputError, match="lacks: class 'cet' is unknown; did you mean 'cat'"):
        data.prepare()


@pytest.mark.parametrize("names", [[], ["a", ""], ["a", "a"]])
def test_names_that_are_none_are_refused(tmp_path, names):
    with pytest.raises(InputError, match="names"):
        Voc(str(tmp_path), names=names)


def test_a_run_knows_classes_by_name(tmp_path, form):
    data = dataset(form, tmp_path).with_classes(("fox", "dog", "cat"))
    data.prepare()
    assert data.classes == ("fox", "dog", "cat")
    assert data.test_target(0).labels.tolist() == [2, 3]
    assert data.mapping() == (
        "labels are mapped by name to the run's 3 classes (cat 0 -> 2); the data lacks 1 of the run's 3 classes (fox)"
    )
    assert "train" not in data._lists  # nothing needs it
    same = dataset(form, tmp_path / "same").with_classes(CLASSES)
    assert same.mapping() == ""


def test_of_the_classes_that_a_run_knows_some_can_be_taken(tmp_path, form):
    """Their labels stay the run's, and objects of the others are left out and counted."""
    data = dataset(form, tmp_path, names=["dog"]).with_classes(CLASSES)
    assert data.classes == CLASSES
    labels = data._train.labels.unique().tolist()
    assert [CLASSES[label - 1] for label in labels] == ["dog"]
    assert "train leaves out objects of other classes: " in data.unusual()[0]
    with pytest.raises(InputError, match=r"class of data\.names 'fox' is unknown; .*a run knows its classes by name"):
        dataset(form, tmp_path / "again", names=["fox", "dog"]).with_classes(CLASSES)


def test_a_class_that_a_run_does_not_know_is_refused(tmp_path, form):
    data = dataset(form, tmp_path).with_classes(("dog", "cot"))
    with pytest.raises(InputError, match=r"'cat' is unknown; did you mean 'cot'.*data\.names"):
        data.prepare()


def test_data_is_known_by_its_pictures_wherever_it_lies(tmp_path, form):
    one, other = (dataset(form, tmp_path / name).fingerprint() for name in ("one", "other"))
    assert one == other
    assert one["train"]["count"] == 3
    fewer = dataset(form, tmp_path / "fewer", {"train": SHEETS[:2], "val": SHEETS})
    assert fewer.fingerprint()["train"] != one["train"]


def test_pictures_have_names_and_ids(tmp_path, form):
    data = dataset(form, tmp_path)
    assert [data.test_name(index) for index in range(3)] == ["a", "b", "c"]
    assert Path(data.train_name(2)).name == "c.jpg"
    assert [data.test_id(index) for index in range(3)] == ([10, 11, 12] if isinstance(data, Coco) else [1, 2, 3])
    assert data.test_picture(1).size == SHEETS[1].size


def test_a_picture_of_another_size_is_found(tmp_path, form):
    data = dataset(form, tmp_path)
    data.prepare()
    for path in tmp_path.rglob("a.jpg"):
        photo(9, 41, 30).save(path)
    with pytest.raises(InputError, match=r"a\.jpg is 41x30; expected 40x30 as .* states; mend it"):
        data.test_picture(0)


def test_pictures_that_cannot_be_read_may_be_skipped(tmp_path, form):
    data = dataset(form, tmp_path)
    for path in tmp_path.rglob("b.jpg"):
        path.unlink()
    if isinstance(data, Yolo):  # which lists no pictures
        data.prepare()
        assert "train leaves out labels without a picture: 1" in data.unusual()[0]
        return
    with pytest.raises(InputError, match=r"missing, the first is .*b\.jpg; bring them, or set on_damaged to 'skip'"):
        data.prepare()
    skipping = dataclasses.replace(data, on_damaged="skip")
    skipping.prepare()
    assert skipping.train_size == (3 if isinstance(data, Coco) else 2)
