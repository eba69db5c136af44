"""Average precision against pycocotools, which is a witness here and nowhere else."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from switchnorm.errors import InputError
from switchnorm.tasks.detection.average_precision import AveragePrecision, Scores, Tally, score
from switchnorm.tasks.detection.columns import METRICS, STATS
from switchnorm.tasks.detection.found import Found, Truth
from tests.tasks.detection.pictures import tally

SIZE = (120, 160)


def witness(tallies: list[Tally], classes: int, kind: str) -> COCOeval:
    """What pycocotools makes of the same pictures."""
    images = [{"id": each.index, "height": each.size[0], "width": each.size[1]} for each in tallies]
    truth, found = [], []
    for each in tallies:
        for place, (x1, y1, x2, y2) in enumerate(each.truth.boxes.astype(np.float64).tolist()):
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": each.index,
                    "category_id": int(each.truth.labels[place]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(each.truth.area[place]),
                    "iscrowd": int(each.truth.crowd[place]),
                }
            )
            if kind == "segm":
                truth[-1]["segmentation"] = copy.deepcopy(each.truth.masks[place])
        for place, (x1, y1, x2, y2) in enumerate(each.found.boxes.astype(np.float64).tolist()):
            found.append(
                {
                    "image_id": each.index,
                    "category_id": int(each.found.labels[place]),
                    "score": float(each.found.scores[place]),
                }
            )
            if kind == "segm":
                found[-1]["segmentation"] = copy.deepcopy(each.found.masks[place])
            else:
                found[-1]["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO()
        categories = [{"id": label} for label in range(1, classes + 1)]
        there.dataset = {"images": images, "categories": categories, "annotations": truth}
        there.createIndex()
        given = there.loadRes(found) if found else COCO()
        if not found:
            given.dataset = {"images": images, "categories": categories, "annotations": []}
            given.createIndex()
        evaluation = COCOeval(there, given, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def check(found: AveragePrecision, expected: COCOeval) -> None:
    stats = np.where(np.isnan(found.stats), -1, found.stats)
    np.testing.assert_allclose(stats, expected.stats, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.precision, expected.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.recall, expected.eval["recall"])
    np.testing.assert_array_equal(found.scores, expected.eval["scores"])


def random_set(seed: int, pictures: int = 12, **options) -> list[Tally]:
    """Pictures of which some have no objects, some no detections, and one has neither."""
    draw = np.random.default_rng(seed)
    counts = [
        (int(draw.integers(1, 9)) * (place % 6 not in (3, 5)), int(draw.integers(1, 15)) * (place % 6 not in (4, 5)))
        for place in range(pictures)
    ]
    return [
        tally(draw, index, objects=objects, detections=detections, **options)
        for index, (objects, detections) in enumerate(counts)
    ]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("crowds", [0.0, 0.3])
@pytest.mark.parametrize("masks", [False, True])
def test_equals_pycocotools(masks: bool, crowds: float, ties: bool) -> None:
    tallies = random_set(1, classes=4, masks=masks, crowds=crowds, ties=ties)
    found = score(tallies, 4)
    check(found.boxes, witness(tallies, 4, "bbox"))
    assert (found.masks is not None) == masks
    if found.masks is not None:
        check(found.masks, witness(tallies, 4, "segm"))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(1, 5),
    pictures=st.integers(1, 6),
    crowds=st.sampled_from([0.0, 0.5]),
    ties=st.booleans(),
)
def test_equals_pycocotools_on_any_boxes(seed: int, classes: int, pictures: int, crowds: float, ties: bool) -> None:
    tallies = random_set(seed, pictures, classes=classes, crowds=crowds, ties=ties)
    if not any((~each.truth.crowd).any() for each in tallies):
        with pytest.raises(InputError, match="no object of the test pictures counts"):
            score(tallies, classes)
    else:
        check(score(tallies, classes).boxes, witness(tallies, classes, "bbox"))


def test_more_than_a_hundred_detections_of_a_class() -> None:
    draw = np.random.default_rng(5)
    tallies = [tally(draw, index, classes=1, objects=60, detections=150) for index in range(2)]
    check(score(tallies, 1).boxes, witness(tallies, 1, "bbox"))


def test_no_detections_at_all() -> None:
    draw = np.random.default_rng(2)
    tallies = [tally(draw, index, classes=2, objects=3, detections=0) for index in range(3)]
    found = score(tallies, 2)
    check(found.boxes, witness(tallies, 2, "bbox"))
    assert found.values["val_ap"] == 0
    assert found.detections.tolist() == [0, 0]
    assert np.isnan(found.boxes.thresholds(0.5)).all()


def test_a_class_without_objects_is_in_no_mean() -> None:
    draw = np.random.default_rng(3)
    tallies = [tally(draw, index, classes=2, objects=4, detections=6) for index in range(4)]
    found, wider = score(tallies, 2), score(tallies, 3)
    check(wider.boxes, witness(tallies, 3, "bbox"))
    np.testing.assert_array_equal(found.boxes.stats, wider.boxes.stats)
    assert np.isnan(wider.boxes.of_classes()[2])
    assert np.isnan(wider.boxes.recall_of_classes[2])
    assert np.isnan(wider.boxes.curves(0.5)[2]).all()


def test_classes_and_curves_are_those_of_the_tables() -> None:
    tallies = random_set(7, 20, classes=3, masks=True)
    found = score(tallies, 3)
    for kind, iou_type in ((found.boxes, "bbox"), (found.masks, "segm")):
        assert kind is not None
        for label in (1, 2, 3):
            alone = witness(_of_class(tallies, label), 3, iou_type)
            ap, ap50, ap75, *_, recall = *alone.stats[:3], alone.stats[8]
            assert kind.of_classes()[label - 1] == pytest.approx(ap, abs=1e-12)
            assert kind.of_classes(0.5)[label - 1] == pytest.approx(ap50, abs=1e-12)
            assert kind.of_classes(0.75)[label - 1] == pytest.approx(ap75, abs=1e-12)
            assert kind.recall_of_classes[label - 1] == pytest.approx(recall, abs=1e-12)
        assert kind.curves().mean() == pytest.approx(kind.stats[0], abs=1e-12)
        assert kind.curves(0.5).mean() == pytest.approx(kind.stats[1], abs=1e-12)


def _of_class(tallies: list[Tally], label: int) -> list[Tally]:
    chosen = []
    for each in tallies:
        wanted = each.truth.labels == label
        truth = Truth(
            each.truth.boxes[wanted],
            each.truth.labels[wanted],
            each.truth.area[wanted],
            each.truth.crowd[wanted],
            tuple(mask for mask, own in zip(each.truth.masks, wanted, strict=True) if own),
        )
        chosen.append(each._replace(truth=truth, found=each.found.chosen(each.found.labels == label)))
    return chosen


def test_the_score_at_a_recall_reaches_it() -> None:
    tallies = random_set(8, 20, classes=1)
    found = score(tallies, 1)
    thresholds = found.boxes.thresholds(0.5)[0]
    reached = int(np.isfinite(thresholds).sum())
    assert 20 < reached <= 101
    assert (np.diff(thresholds[:reached]) <= 0).all()
    for place in (10, reached - 1):
        kept = [each._replace(found=each.found.chosen(each.found.scores >= thresholds[place])) for each in tallies]
        fewer = [each._replace(found=each.found.chosen(each.found.scores > thresholds[place])) for each in tallies]
        at_50 = [score(some, 1).boxes.recall[0, 0, 0, -1] for some in (kept, fewer)]
        assert at_50[0] >= place / 100 > at_50[1]


def test_order_of_pictures_changes_nothing() -> None:
    tallies = random_set(9, classes=3, ties=True)
    found, shuffled = score(tallies, 3), score(tallies[::-1], 3)
    np.testing.assert_array_equal(found.boxes.precision, shuffled.boxes.precision)
    np.testing.assert_array_equal(found.boxes.stats, shuffled.boxes.stats)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    score(random_set(1, classes=2, masks=True), 2)
    assert capfd.readouterr() == ("", "")


def test_masks_stay_as_they_are() -> None:
    tallies = random_set(4, 3, classes=2, masks=True)
    before = copy.deepcopy(tallies)
    score(tallies, 2)
    assert [each.truth.masks for each in tallies] == [each.truth.masks for each in before]
    assert [each.found.masks for each in tallies] == [each.found.masks for each in before]


def test_values_have_the_columns_that_there_are() -> None:
    draw = np.random.default_rng(0)
    truth = Truth(np.array([[0, 0, 10, 10]], np.float32), np.array([1]), np.array([100.0]), np.array([False]), None)
    small = [Tally(0, SIZE, truth, tally(draw, 0, classes=1, objects=0, detections=3).found)]
    values = score(small, 1).values
    assert set(values) == {f"val_{stat}" for stat, _ in STATS if "medium" not in stat and "large" not in stat}
    both = score(random_set(1, 30, classes=2, masks=True, size=(200, 260)), 2).values
    assert set(both) == {metric.column for metric in METRICS}


def test_masks_are_not_compared_where_the_data_has_none() -> None:
    draw = np.random.default_rng(6)
    given = tally(draw, 0, classes=1, objects=2, detections=2, masks=True)
    assert score([given], 1).masks is not None
    assert score([given._replace(truth=given.truth._replace(masks=None))], 1).masks is None
    empty = tally(draw, 1, classes=1, objects=0, detections=0, masks=True)
    found = score([given, empty._replace(truth=empty.truth._replace(masks=None))], 1)
    assert isinstance(found, Scores)
    assert found.masks is not None


def test_a_crowd_alone_is_refused() -> None:
    draw = np.random.default_rng(0)
    crowd = tally(draw, 0, classes=1, objects=2, detections=1, crowds=1.0)
    with pytest.raises(InputError, match="no object of the test pictures counts; expected one at least"):
        score([crowd], 1)


def test_chosen_keeps_masks_beside_their_boxes() -> None:
    found = tally(np.random.default_rng(0), 0, classes=2, objects=3, detections=4, masks=True).found
    some = found.chosen(np.array([3, 1]))
    assert isinstance(some, Found)
    assert some.masks == (found.masks[3], found.masks[1])
    np.testing.assert_array_equal(some.boxes, found.boxes[[3, 1]])
