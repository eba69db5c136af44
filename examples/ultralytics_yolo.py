"""Ultralytics' trainer, which builds the model itself: a switch before `train()` is lost, `get_model` is the place.

python examples/ultralytics_yolo.py --epochs 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pictures import squares
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

import switchnorm


class Unfused(DetectionModel):
    """A detector that is evaluated as it was trained: Ultralytics would fold every `bn`, as Batch Norm alone can be."""

    def fuse(self, verbose: bool = True) -> torch.nn.Module:
        return self


class Trainer(DetectionTrainer):
    """Ultralytics' trainer of detectors, of an SSN network."""

    def get_model(self, *args: Any, **kwargs: Any) -> torch.nn.Module:
        model = super().get_model(*args, **kwargs)
        model.__class__ = Unfused
        return switchnorm.switch(model, "ssn")

    def build_optimizer(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        lr = self.args.lr0
        groups = switchnorm.parameter_groups(model, lr=lr, weight_decay=self.args.weight_decay, decay_norms=False)
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=(self.args.momentum, 0.999))
        steps = self.epochs * (len(self.train_loader) // self.accumulate)
        switchnorm.SparseSchedule(optimizer, model, steps=steps)
        return optimizer


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="yolo11n.yaml", help="yolo11n.pt starts from Ultralytics' weights")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", default=None, help="folder of pictures and of the run; a temporary one by default")
    options = parser.parse_args(arguments)
    folder = Path(options.out or tempfile.mkdtemp())

    settings = {"data": str(squares(folder / "squares", 16)), "model": options.model, "epochs": options.epochs}
    # nbs is the number of pictures in a step of the optimizer; as the batch has as many, none are accumulated.
    settings |= {"imgsz": 64, "batch": 4, "nbs": 4, "lr0": 1e-3, "warmup_epochs": 0, "device": "cpu", "workers": 0}
    settings |= {"project": str(folder), "plots": False}
    trainer = Trainer(overrides=settings)
    trainer.train()

    for row in switchnorm.importance(trainer.model):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return trainer.model


if __name__ == "__main__":
    main()
