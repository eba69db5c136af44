"""What a file says of a network, whoever has written it."""

from __future__ import annotations

import json

import pytest

from switchnorm.data.preparation import Crop, Preparation
from switchnorm.deploy.description import Description, rounded
from switchnorm.errors import InputError

FULL = Description(
    task="segmentation",
    classes=("sky", "ground"),
    colors=("#0000ff", "#804000"),
    network={"name": "resnet18+c1", "norm": "sn"},
    norm="sn",
    layers=rounded({"sn1": {"mean": {"instance": 1 / 3, "batch": 2 / 3}, "var": {"instance": 0, "batch": 1}}}),
    preparation=Preparation(Crop(20, 16), (1.0, 2.0, 3.0), (4.0, 5.0, 6.1)),
    inference={"flip": True, "window": None, "overlap": 0.33},
    numbers=(0, 7, 255),
    results={"val_mean_iou": 0.5},
    claim={"mean_iou": 41.0, "source": "a paper"},
    dynamic=("batch", "height", "width"),
    size=(16, 24),
    folded=True,
    source="run streets, best",
)


def test_a_description_comes_back_as_it_was():
    assert Description.from_json(FULL.to_json(), "it") == FULL
    assert Description.from_json(Description().to_json(), "it") == Description()
    assert FULL.layers["sn1"]["mean"]["instance"] == 0.333333


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "it has a description of format 2, and switchnorm .* knows 1; install a newer switchnorm"),
        ({"format": "1"}, "it: format is '1'; expected 1"),
        ({"clases": []}, "entry of it 'clases' is unknown; did you mean 'classes'"),
        ({"classes": "sky"}, "it: classes is 'sky'; expected a list of names"),
        ({"classes": ["a\nb", "c"]}, "it is damaged: expected a list of names, each a line of text"),
        ({"colors": ["#0000ff"]}, "it is damaged: expected a colour such as '#804080' for each class"),
        ({"numbers": [0, 7]}, "it: numbers are 2; expected one for each class, and one for the rest"),
        ({"numbers": [0, 7, 99999]}, "it: numbers is"),
        ({"size": [16]}, r"it: size is \[16\]; expected height and width in pixels"),
        ({"raw": 1}, "it: raw is 1; expected true or false"),
        ({"dynamic": ["batch", "heigth"]}, "dynamic dimension 'heigth' is unknown; did you mean 'height'"),
        ({"results": {"val": "good"}}, "it: results, val is 'good'; expected a number"),
        ({"layers": {"sn1": []}}, r"it: layers is \[\]; expected entries by name"),
        ({"preparation": []}, "it: preparation is list; expected entries by name"),
        ({"task": None}, "it: task is None; expected text"),
        ({"network": {"norm": "sn"}}, "the network in it is damaged: name is None"),
    ],
)
def test_what_is_wrong_with_one_is_named_in_a_line(change, message):
    with pytest.raises(InputError, match=message) as error:
        Description.from_json(json.dumps({**FULL.to_dict(), **change}), "it")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"task": "raw"}', '{"format": 1, "format": 1}', "[" * 99 + "]" * 99])
def test_other_texts_are_no_descriptions(text):
    with pytest.raises(InputError, match=r"^it "):
        Description.from_json(text, "it")
