"""Every registered normalizer and task is trained, interrupted, resumed, evaluated and reported."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import nn

from switchnorm.config import task_spec
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.layers import Norm, norm_names, register, registry
from switchnorm.report import write
from switchnorm.runs.folder import RunFolder
from switchnorm.training import fit
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import resume, start
from switchnorm.training.words import evaluation
from tests.training.scenes import write_scenes

pytestmark = pytest.mark.usefixtures("own_registry")

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


class Half(nn.Module):
    """Halves its input: the least that a normalizer can be."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


def digits(folder: Path, *flags: str, **changes: Any) -> Config:
    """Two epochs of three steps."""
    content = {
        "model": {"name": "digits_resnet9"},
        "data": {"name": "digits"},
        "train": {"epochs": 2, "epoch_steps": 3, "batch_size": 64, "eval_batch_size": 360, "device": "cpu"},
        "optimizer": {"lr": 0.05, "clip_norm": 1.0},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return read_config(path, flags)


class Interruption(pl.Callback):
    """Fails after some steps, as a run does that is killed after its last checkpoint."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.steps:
            raise RuntimeError("interrupted")


def trained(config: Config, path: Path) -> tuple[RunFolder, dict[str, Any]]:
    return start(config, path, default=path, command=("test",), quiet=True)


def interrupted(config: Config, path: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fit.step_callbacks
    with monkeypatch.context() as patch:
        patch.setattr(fit, "step_callbacks", lambda *arguments: [*own(*arguments), Interruption(steps)])
        with pytest.raises(RuntimeError, match="interrupted"):
            trained(config, path)


def state(run: RunFolder) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run.last, weights_only=True)["state_dict"]
    return found


def check(config: Config, folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train in one go and in two; evaluate and report. Returns the page."""
    run, result = trained(config, folder / "whole")
    interrupted(config, folder / "halves", steps, monkeypatch)
    again, same = resume(folder / "halves", quiet=True)
    assert same == result
    ours, theirs = state(again), state(run)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    unequal = ("images_per_second",)
    assert [{k: v for k, v in row.items() if k not in unequal} for row in again.metrics()] == [
        {k: v for k, v in row.items() if k not in unequal} for row in run.metrics()
    ]
    found = evaluate(run, run.last)
    assert {name: found.metrics[name] for name in result if name in found.metrics} == {
        name: value for name, value in result.items() if name in found.metrics
    }
    said = evaluation("it", found)
    assert all(
        title in "\n".join(said) for title in task_spec.find_task(config.task).titles.values() if title != "top-5"
    )
    return write([run.path], folder / "report.html").read_text()


def check_norm(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    page = check(digits(folder, "--norm", name, *flags), folder, 4, monkeypatch)
    assert f"{name.upper().replace('+', ' + ')}</th>" in page
    if registry.find(name.partition("+")[0]).mixes:
        assert "What each layer chose" in page


@pytest.mark.parametrize("name", norm_names())
def test_a_normalizer_is_trained_resumed_evaluated_and_reported(name, tmp_path, monkeypatch):
    norm = registry.find(name)
    ghost = ["--samples-per-gpu", "16"] if norm.ghost else []
    check_norm(name, tmp_path, monkeypatch, *ghost)


def test_so_is_one_that_says_nothing_of_itself(tmp_path, monkeypatch):
    register(Norm("half", layers={1: Half, 2: Half, 3: Half}))
    check_norm("half+ws", tmp_path, monkeypatch, "--samples-per-gpu", "16")


def test_classification_is_trained_resumed_evaluated_and_reported(tmp_path, monkeypatch):
    flags = ("--norm", "sn", "--train.mixup", "0.2", "--train.ema", "0.5")
    assert "Validation accuracy" in check(digits(tmp_path, *flags), tmp_path, 4, monkeypatch)


def test_segmentation_is_trained_resumed_evaluated_and_reported(tmp_path, monkeypatch):
    root = write_scenes(tmp_path / "scenes", {"train": 8, "val": 3})
    config = digits(
        tmp_path,
        model={"name": "resnet18+c1_bilinear", "norm": "gn"},
        data={"name": "masks", "root": str(root), "ignore": [9], "workers": 0},
        train={"epochs": 2, "batch_size": 4, "device": "cpu"},
    )
    page = check(config, tmp_path, 3, monkeypatch)
    assert "Mean IoU" in page
    assert "Class by class" in page


def test_so_is_a_task_that_somebody_registers(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n# my_task\.py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_task.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_task")
    monkeypatch.delitem(sys.modules, "my_task")  # so that it registers anew when it is asked for again
    config = digits(
        tmp_path,
        "--ordinal.smoothing=0.1",
        "--norm=sn",
        model={"name": "ordinal_resnet8"},
        data={"name": "ordered_digits"},
    )
    assert config.task == "ordinal"
    assert config.own.smoothing == 0.1
    page = check(config, tmp_path, 4, monkeypatch)
    assert "Closeness %" in page
    assert "Validation closeness, %" in page
