"""Masks by which nothing can be trained, which are refused before training with what would mend them."""

import numpy as np
import pytest
from PIL import Image

from tests.data.segmentation.mapped import SIZES, dataset, labels_of, refused, write_root


def binary(tmp_path, numbers=(0, 255), names="background\nroad\n", **sizes):
    """Masks of two numbers."""
    root = write_root(tmp_path, numbers=(numbers[0], numbers[0], numbers[1]), **sizes)
    (root / "classes.txt").write_text(names)
    return root


def train(root, **options):
    return dataset(root, **options).train_batches(batch_size=1, seed=0)


def test_black_and_white_masks_name_the_map_that_mends_them(tmp_path):
    root = binary(tmp_path)
    refused(
        "^the 11 training masks hold 0, 255, which is class 'background' alone and void, which does not count; if they "
        "are classes, set data.values to {0: background, 255: road}$",
        lambda: train(root),
    )
    batches = train(root, values={0: "background", 255: "road"})
    assert set().union(*(labels.unique().tolist() for _, labels in batches)) == {0, 1, 255}  # 255: beside pictures


def test_void_that_should_be_several_classes(tmp_path):
    root = binary(tmp_path)
    refused(
        "^every pixel of the 11 training masks is void, which does not count: they hold 0, 255; if they are classes, "
        "set data.values to {0: background, 255: road}$",
        lambda: train(root, first_label=1),
    )
    refused(
        "^every pixel of the 5 val masks is void, .*set data.values to {0: background, 255: road}$",
        lambda: dataset(root, first_label=1).test_batches(batch_size=1),
    )
    dataset(root).test_batches(batch_size=1)  # may hold one class: it is small
    refused(
        "hold 7, 9; data.values says which class each number is$",
        lambda: train(binary(tmp_path / "b", (7, 9)), values={0: "background", 1: "road", 7: None, 9: None}),
    )


def test_a_single_class_without_void(tmp_path):
    root = binary(tmp_path, (1, 1))
    refused(
        "^the 11 training masks hold 1, which is class 'road' alone; expected two of the 2 classes", lambda: train(root)
    )


def test_that_there_is_one_class_is_said(tmp_path):
    root = write_root(tmp_path, numbers=(0, 1, 255))
    train(root)
    (root / "classes.txt").write_text("thing\n")
    (said,) = dataset(root, ignore=[1, 255]).unusual()
    assert said == "there is one class, 'thing', so that every prediction is right and nothing is learned"
    assert dataset(write_root(tmp_path / "b")).unusual() == ()


@pytest.mark.parametrize("late", [False, True])
def test_all_masks_are_read_before_any_are_refused(tmp_path, late):
    root = binary(tmp_path, train=SIZES * 3)
    if late:
        mask = labels_of(0, SIZES[31 % len(SIZES)])
        Image.fromarray(np.minimum(mask, 1)).save(root / "trainannot/31.png")
        train(root)
    else:
        refused("^the 33 training masks hold 0, 255, which is class 'background' alone", lambda: train(root))


def test_a_mask_that_means_nothing_shows_before_training(tmp_path):
    root = write_root(tmp_path, numbers=(0, 1, 7))
    refused(r"mask .*/trainannot/\d+.png has 7 in row .*; expected the numbers 0 to 2", lambda: train(root))
