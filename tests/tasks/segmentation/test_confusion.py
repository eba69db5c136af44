"""The scores of segmentation, against the benchmark's own and against counting by hand."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from switchnorm.data.segmentation import IGNORED
from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.confusion import ConfusionMatrix, Scores, confusion

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "ade20k_sample_metrics.json").read_text())


def ade20k_sample():
    """(name, predicted, truth) of the three real annotations; skips where they are not here."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("SWITCHNORM_DATA", beside)) / "ade20k_sample" / "annotations"
    if not folder.is_dir():
        pytest.skip(f"no annotations in {folder}; SWITCHNORM_DATA names the folder two above")
    for name in GOLDEN["pixel_accuracy_per_image"]:
        (path,) = folder.rglob(f"{name}.png")
        annotation = np.asarray(Image.open(path)).astype(np.int64)  # 0 unlabelled, 1..150
        rolled = np.roll(annotation, (7, 13), axis=(0, 1))
        predicted = np.where(rolled == 0, 1, rolled) - 1
        truth = np.where(annotation == 0, IGNORED, annotation - 1)
        yield name, torch.from_numpy(predicted).byte(), torch.from_numpy(truth).byte()


def test_the_benchmarks_numbers_on_real_annotations():
    counted = ConfusionMatrix(150)
    for name, predicted, truth in ade20k_sample():
        counted.update(predicted, truth)
        alone = Scores(confusion(predicted.long(), truth.long(), 150))
        assert alone.pixel_accuracy == GOLDEN["pixel_accuracy_per_image"][name]
    scores = Scores(counted.compute())
    assert scores.intersection.tolist() == GOLDEN["intersection"]
    assert scores.union.tolist() == GOLDEN["union"]
    assert scores.pixel_accuracy == GOLDEN["pixel_accuracy"]
    # The last digits are those of the order in which 150 quotients are added.
    assert scores.mean_iou == pytest.approx(GOLDEN["mean_iou_over_all_150"], rel=1e-12)
    assert scores.mean_iou_present == pytest.approx(GOLDEN["mean_iou_over_classes_with_union"], rel=1e-12)
    assert scores.overall == pytest.approx((GOLDEN["pixel_accuracy"] + GOLDEN["mean_iou_over_all_150"]) / 2, rel=1e-12)


def test_scores_of_a_matrix_that_fits_on_a_page():
    # Class 2 is never met, class 3 only predicted.
    scores = Scores(torch.tensor([[6, 1, 0, 1], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert scores.pixels.tolist() == [8, 2, 0, 0]
    assert scores.union.tolist() == [10, 3, 0, 1]
    torch.testing.assert_close(scores.iou, torch.tensor([0.6, 0, math.nan, 0]).double(), equal_nan=True)
    torch.testing.assert_close(scores.accuracy, torch.tensor([0.75, 0, math.nan, math.nan]).double(), equal_nan=True)
    assert scores.mean_iou == pytest.approx(0.15)
    assert scores.mean_iou_present == pytest.approx(0.2)
    assert scores.pixel_accuracy == pytest.approx(0.6)
    assert scores.overall == pytest.approx(0.375)


def test_nothing_counted_is_no_score():
    scores = Scores(torch.zeros(3, 3, dtype=torch.int64))
    assert scores.mean_iou == 0
    assert math.isnan(scores.mean_iou_present)
    assert math.isnan(scores.pixel_accuracy)


@given(st.integers(1, 255), st.integers(0, 300), st.sampled_from([torch.uint8, torch.int64]), st.randoms())
def test_every_pixel_is_counted_where_it_belongs(classes, pixels, dtype, random):
    predicted = [random.randrange(classes) for _ in range(pixels)]
    truth = [random.choice([random.randrange(classes), IGNORED]) for _ in range(pixels)]
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    for p, t in zip(predicted, truth, strict=True):
        if t != IGNORED:
            expected[t, p] += 1
    found = confusion(torch.tensor(predicted, dtype=dtype), torch.tensor(truth, dtype=dtype), classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(InputError, match="label 11 is no class: of 11, the last is 10; 255 is void"):
        confusion(torch.zeros(2, dtype=torch.uint8), torch.tensor([0, 11], dtype=torch.uint8), 11)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([3, 1], [0, 1], "prediction 3 is no class: of 3, the last is 2"),
        ([-1, 1], [0, 1], "prediction -1 is no class"),
        ([255, 1], [255, 1], "prediction 255 is no class"),
        ([0, 1], [-1, 1], "label -1 is no class"),
        ([0, 1], [1, 300], "label 300 is no class: of 3, the last is 2; 255 is void"),
    ],
)
def test_what_lies_beyond_the_table_is_refused(predicted, truth, message):
    with pytest.raises(InputError, match=message):
        confusion(torch.tensor(predicted), torch.tensor(truth), 3)


def test_counts_of_processes_are_summed_beyond_what_floats_hold():
    one, other = ConfusionMatrix(2), ConfusionMatrix(2)
    one.matrix += 2**53
    other.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, IGNORED]))
    reduce = one._reductions["matrix"]
    total = reduce(torch.stack([one.matrix, other.matrix]))  # as torchmetrics does with what it gathered
    assert total.tolist() == [[2**53 + 1, 2**53], [2**53, 2**53 + 1]]


def test_determinism_costs_no_memory():
    torch.use_deterministic_algorithms(True)
    try:
        pixels = torch.zeros(2_000_000, dtype=torch.uint8)
        assert confusion(pixels, pixels, 150)[0, 0] == 2_000_000  # torchmetrics' own would take 360 GB
    finally:
        torch.use_deterministic_algorithms(False)
