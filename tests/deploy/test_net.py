"""What a file of anybody may say of its network, and what becomes of pictures in memory."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from switchnorm.data.preparation import Crop, Preparation, ShortSides
from switchnorm.deploy.description import Description
from switchnorm.deploy.net import Net
from switchnorm.deploy.runtime import Runtime
from switchnorm.errors import InputError

PREPARATION = Preparation(Crop(8, 8), (1.0,) * 3, (2.0,) * 3)
TWICE = Preparation(ShortSides((32, 64), None, 32), (1.0,) * 3, (2.0,) * 3)


def net(task="classification", shape=(1, 2), preparation=PREPARATION, **inference):
    """A network whose logits are zeros of a shape."""
    about = Description(task, ("a", "b"), preparation=preparation, inference=inference)
    return Net(Runtime(about, ("logits",), lambda images: [np.zeros(shape, np.float32)]), "net.onnx")


@pytest.mark.parametrize(
    ("task", "inference", "message"),
    [
        ("segmentation", {"flip": "no"}, "net.onnx: flip is 'no'; expected True or False"),
        ("segmentation", {"window": "abc"}, "net.onnx: window is 'abc'; expected a whole number"),
        ("segmentation", {"overlap": None}, "overlap is None; expected a number"),
        ("segmentation", {"scales": 40}, r"scales is 40; expected a list of whole numbers, as in \[360, 480\]"),
        ("segmentation", {"flp": True}, "setting of segmentation 'flp' is unknown; did you mean 'flip'"),
        ("detection", {"score_threshold": "x"}, "score_threshold is 'x'; expected a number"),
        ("detection", {"detections": -1}, "detections must be at least 1, got -1"),
        ("detection", {"detections": 1.5}, "detections is 1.5; expected a whole number"),
        ("classification", {"top": True}, "top is True; expected a whole number"),
    ],
)
def test_settings_of_a_file_and_of_a_caller_are_checked_alike(task, inference, message):
    with pytest.raises(InputError, match=message):
        net(task, **inference)
    with pytest.raises(InputError, match=message.removeprefix("net.onnx: ")):
        net(task).predict(np.zeros((8, 8, 3), np.uint8), **inference)


@pytest.mark.parametrize(
    ("task", "shape", "preparation", "message"),
    [
        ("segmentation", (1, 2), TWICE, r"logits of shape \(1, 2\), and its task needs 4 axes; it is for another"),
        ("classification", (1, 2, 4, 4), PREPARATION, "its task needs 2 axes"),
        ("classification", (1, 2), TWICE, "classification sees a picture at one size, and it is shown at 2"),
    ],
)
def test_a_network_of_another_task_than_its_file_says_is_refused(task, shape, preparation, message):
    with pytest.raises(InputError, match=message):
        net(task, shape, preparation).predict(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "crop", "side": 8, "size": 8193}, "size is 8193; expected a whole number, 1 to 8192"),
        ({"kind": "short_side", "side": 32769, "longest": None}, "expected a whole number, 1 to 32768"),
    ],
)
def test_no_file_asks_for_pictures_beyond_memory(rule, message):
    with pytest.raises(InputError, match=message):
        Preparation.from_dict({"rule": rule, "mean": [1], "std": [1]}, "theirs")


def test_a_picture_in_memory_is_taken_as_its_file_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 200, (9, 9, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    network, picture = net(), Image.open(tmp_path / "a.png")
    for given in (tmp_path / "a.png", picture):
        with pytest.warns(UserWarning, match="1 of 1 pictures have transparent pixels"):
            network.predict(given)
    picture.close()
    with pytest.raises(InputError, match="cannot read picture 0"):
        network.predict(picture)


def test_bytes_are_stretched_in_memory_as_in_a_file(tmp_path):
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    picture.save(tmp_path / "a.png")
    shown = Preparation(Crop(8, 8), (1.0,) * 3, (2.0,) * 3, range=(0, 191))
    read, taken = shown.read(str(tmp_path / "a.png")), shown.taken(picture)
    assert np.array_equal(np.asarray(read), np.asarray(taken))
    assert np.asarray(taken).max() == 255
