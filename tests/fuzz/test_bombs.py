"""Files that ask for much get nothing: each is refused in a line, within the memory and time of its size."""

from __future__ import annotations

import os
import struct
import zipfile

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.data.detection.voc_file import read_voc
from switchnorm.data.files.cifar_files import read_pickle
from switchnorm.errors import InputError
from switchnorm.recipes import shipped_file
from switchnorm.runs.run import load_run
from switchnorm.weights import read_state
from tests.fuzz.bombs import CHECKPOINTS, COCO, IMAGES, RECIPES, VOC, packed, state, tensor
from tests.fuzz.kinds import read_coco_file, read_run, write_run
from tests.fuzz.watch import REFUSED, outcome


def refused(read, path, content: bytes) -> None:
    path.write_bytes(content)
    size = len(content)
    del content
    assert outcome(lambda: read(path), size)[0] == REFUSED


@pytest.mark.parametrize("bomb", CHECKPOINTS)
def test_checkpoints(tmp_path, bomb):
    refused(read_state, tmp_path / "x", CHECKPOINTS[bomb]())


@pytest.mark.parametrize("bomb", IMAGES)
def test_images(tmp_path, bomb):
    refused(lambda path: read_pickle(path, "CIFAR-10", label_key=b"labels"), tmp_path / "x", IMAGES[bomb])


@pytest.mark.parametrize("bomb", RECIPES)
def test_recipes(tmp_path, bomb):
    refused(read_config, tmp_path / "r.yaml", RECIPES[bomb])


@pytest.mark.parametrize("bomb", COCO)
def test_files_of_objects(tmp_path, bomb):
    (tmp_path / "1.jpg").touch()
    refused(read_coco_file, tmp_path / "x.json", COCO[bomb])


@pytest.mark.parametrize("bomb", VOC)
def test_annotations(tmp_path, bomb):
    refused(read_voc, tmp_path / "x.xml", VOC[bomb])


@pytest.mark.parametrize("value", ["[" * 3000, "&a [*a]", "{a: " * 3000, "- " * 3000, "!!bool maybe"])
@pytest.mark.parametrize("key", ["--schedule.milestones", "--model.options.x", "--train.epochs", "--label"])
def test_values_of_flags_are_read_or_refused(key, value):
    outcome(lambda: read_config(shipped_file("digits/resnet9"), [f"{key}={value}"]), len(value))
    outcome(lambda: read_config(shipped_file("digits/resnet9"), [key, value]), len(value))


def test_what_is_no_bomb_is_read(tmp_path):
    (tmp_path / "x").write_bytes(packed(state(tensor(3, 2, 2)), struct.pack("<3f", 1, 2, 3)))
    assert read_state(tmp_path / "x")["a"].tolist() == [1, 3]
    (tmp_path / "x").write_bytes(packed(state(tensor(1, 5, 0)), struct.pack("<f", 1), method=zipfile.ZIP_DEFLATED))
    assert torch.equal(read_state(tmp_path / "x")["a"], torch.ones(5))


NESTED = '{"a": ' + "[" * 3000
RUN_FILES = {
    "nested brackets": ("run.json", NESTED),
    "a key that is set twice": ("run.json", '{"seconds": 1, "seconds": 2}'),
    "a word for a time": ("run.json", '{"seconds": "x"}'),
    "a time that is infinite": ("run.json", '{"seconds": 1e999}'),
    "a number of 5,000 digits": ("run.json", '{"processes": ' + "9" * 5000 + "}"),
    "half a surrogate pair": ("run.json", '{"name": "\\ud800"}'),
    "numbers of processes": ("run.json", '{"processes": [1]}'),
    "no text": ("metrics.csv", "\0\1\2"),
    "two columns of one name": ("metrics.csv", "epoch,epoch\n1,2\n"),
    "an epoch twice": ("metrics.csv", "epoch,step\n1,2\n1,3\n"),
    "an epoch of digits that are none": ("metrics.csv", "epoch,step\n²,2\n"),
    "an epoch and a half": ("metrics.csv", "epoch,step\n1.5,2\n"),
    "a score of 95": ("metrics.csv", "epoch,val_mean_iou\n1,95\n"),
    "a negative importance": ("importance.csv", "epoch,layer,moment,statistic,importance\n1,a,mean,layer,-0.5\n"),
    "an importance twice": ("importance.csv", "epoch,layer,moment,statistic,importance\n" + "1,a,mean,layer,0.5\n" * 2),
    "nested YAML": ("config.yaml", "model: {name: a}\nx: " + "[" * 3000),
    "an alias in itself": ("config.yaml", "model: {name: a}\nx: &a [*a]"),
    "a section without keys": ("config.yaml", "model: {name: a}\ntrain: 3"),
    "a batch of none": ("config.yaml", "model: {name: a}\ntrain: {batch_size: 0}"),
    "a dataset that is a list": ("config.yaml", "model: {name: a}\ndata: {name: [a]}"),
    "plugins that are a number": ("config.yaml", "model: {name: a}\ntask: mine\nplugins: 7"),
    "pixels by the billion digits": ("classes.csv", "epoch,class,iou,accuracy,pixels\n1,a,0,0," + "9" * 400 + "\n"),
    "pictures that are text": ("examples/examples.json", '{"epoch": 1, "classes": [], "pictures": "a"}'),
    "a picture by a path": (
        "examples/examples.json",
        '{"epoch": 1, "classes": [], "pictures": [{"name": "../a", "accuracy": 1, "mean_iou": 1}]}',
    ),
}


@pytest.mark.parametrize("damage", RUN_FILES)
def test_files_of_a_run_that_somebody_touched_are_named(tmp_path, damage):
    name, text = RUN_FILES[damage]
    run = write_run(tmp_path)
    (run / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_run(run)
    assert str(run / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "run.json", "metrics.csv", "importance.csv", "classes.csv", "confusion.csv", "examples/a.jpg"],
)
def test_a_report_follows_no_link_out_of_a_run(tmp_path, name):
    run = write_run(tmp_path)
    (run / name).rename(tmp_path / "secret")
    (run / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=r"is a link to .*secret, out of the run"):
        read_run(run)


def test_links_within_a_run_and_to_a_run_are_followed(tmp_path):
    run = write_run(tmp_path)
    (run / "metrics.csv").rename(run / "there.csv")
    (run / "metrics.csv").symlink_to("there.csv")
    (tmp_path / "link").symlink_to(run)
    read_run(tmp_path / "link")


def test_what_never_ends_is_not_read(tmp_path):
    run = write_run(tmp_path)
    (run / "metrics.csv").unlink()
    os.mkfifo(run / "metrics.csv")
    with pytest.raises(InputError, match=r"metrics\.csv is no file"):
        load_run(run)
