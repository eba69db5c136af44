"""Every file of examples/ trains in seconds and ends sparse."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from torch import nn

from switchnorm import importance
from switchnorm.layers import SparseSwitchNorm2d

FOLDER = Path(__file__).parents[2] / "examples"

#: Those that need nothing but what the package itself needs, and what its tests need.
PLAIN = ("plain_loop", "torchvision_reference", "lightning_module", "timm_train")
OTHERS = ("accelerate_loop", "huggingface_trainer", "ultralytics_yolo")
NAMES = [*PLAIN, *(pytest.param(name, marks=pytest.mark.hosts) for name in OTHERS)]


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> nn.Module:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(folder)
    model: nn.Module = importlib.import_module(name).main(arguments)
    return model


@pytest.mark.filterwarnings("ignore")  # other libraries' own
@pytest.mark.parametrize("name", NAMES)
def test_it_ends_sparse_and_says_what_each_layer_chose(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run(name, tmp_path, monkeypatch)
    said = capsys.readouterr().out
    layers = {key: layer for key, layer in model.named_modules() if isinstance(layer, SparseSwitchNorm2d)}
    assert layers
    assert all(layer.radius == 1 for layer in layers.values())
    rows = importance(model)
    assert [row.layer for row in rows] == list(layers)
    assert all(f"{row.layer} {row.statistics} {row.mean} {row.var}" in said for row in rows)
    # What never had a gradient has nothing to choose by: heads of a detector for sizes that no box has.
    still_open = {row.layer for row in rows if not row.frozen}
    assert all(_never_moved(layers[key]) for key in still_open)
    assert not still_open or name == "ultralytics_yolo"
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def _never_moved(layer: SparseSwitchNorm2d) -> bool:
    return any(bool((logits == logits[0]).all()) for logits in (layer.mean_weight, layer.var_weight))


def test_every_example_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*PLAIN, *OTHERS, "pictures"}


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_it_is_short(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 75
