"""docs/tutorial.ipynb: its cells run, with fewer steps, and what it shows is what it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import switchnorm
from tests import pages
from tests.data.photos import real_data

PAGE = "docs/tutorial.ipynb"


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that somebody has who ran all cells; with ImageNet's weights where they are at hand."""
    try:
        weights = f"checkpoint_path={str(real_data('weights') / 'tf_efficientnet_lite0.safetensors')!r}"
    except pytest.skip.Exception:
        weights = "pretrained=False"
    shorter = {"pretrained=True": weights, "steps = 100": "steps = 6", "[-300:]": "[-100:]"}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("tutorial"))
        names = pages.execute(PAGE, {}, shorter)
        names["folder"] = Path.cwd()
    return names


def test_the_networks_are_three_of_the_same_weights(after: dict[str, Any]) -> None:
    kinds = {name: type(network.bn1) for name, network in after["networks"].items()}
    assert issubclass(kinds["SN"], switchnorm.SwitchNorm2d)
    assert issubclass(kinds["SSN"], switchnorm.SparseSwitchNorm2d)
    assert issubclass(kinds["BN"], nn.BatchNorm2d)
    assert all(layer.ghost == 2 for layer in after["network"].modules() if hasattr(layer, "radius"))


def test_ssn_has_chosen_and_is_folded_away(after: dict[str, Any]) -> None:
    assert all(row.frozen for row in switchnorm.importance(after["network"]))
    assert not switchnorm.importance(after["folded"])
    assert after["difference"] < 1e-3


def test_the_file_answers_as_the_network(after: dict[str, Any]) -> None:
    # What the file is asked about: the picture as a PNG has it, which to a hardly trained network can be another digit.
    asked = ((after["pictures"][-1:] + 1) * 127.5).byte() / 127.5 - 1
    with torch.no_grad():
        best = after["network"](asked).argmax().item()
    assert after["answer"].best == str(best)
    assert (after["folder"] / "digits.onnx").is_file()


def test_what_it_shows_was_printed_by_its_cells_in_their_order() -> None:
    cells = [cell for cell in json.loads(pages.read(PAGE))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    said = "".join("".join(output.get("text", ())) for cell in cells for output in cell["outputs"])
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    scores = dict(re.findall(r"^(\w+) +([\d.]+) % of 300 test pictures$", said, re.MULTILINE))
    assert scores.keys() == {"BN", "SN", "SSN"}
    assert min(map(float, scores.values())) > 50
