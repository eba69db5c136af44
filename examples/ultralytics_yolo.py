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
from PIL import Image, ImageDraw
from ultralytics.models.yolo.detect import DetectionTrainer

import switchnorm


class Trainer(DetectionTrainer):
    """Ultralytics' trainer of detectors, of an SSN network."""

    def get_model(self, *args: Any, **kwargs: Any) -> torch.nn.Module:
        return switchnorm.switch(super().get_model(*args, **kwargs), "ssn")

    def build_optimizer(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        lr = self.args.lr0
        groups = switchnorm.parameter_groups(model, lr=lr, weight_decay=self.args.weight_decay, decay_norms=False)
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=(self.args.momentum, 0.999))
        steps = self.epochs * (len(self.train_loader) // self.accumulate)
        switchnorm.SparseSchedule(optimizer, model, steps=steps)
        return optimizer


def squares(folder: Path, number: int, side: int = 64) -> Path:
    """A dataset of white squares in Ultralytics' layout; returns its YAML file."""
    for index in range(number):
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        picture, edge = Image.new("RGB", (side, side)), 16 + 5 * index % 44
        x, y = 7 * index % (side - edge), 11 * index % (side - edge)
        ImageDraw.Draw(picture).rectangle((x, y, x + edge, y + edge), fill="white")
        picture.save(folder / "images" / f"{index}.png")
        box = ((x + edge / 2) / side, (y + edge / 2) / side, edge / side, edge / side)
        (folder / "labels" / f"{index}.txt").write_text("0 {} {} {} {}\n".format(*box))
    description = folder / "data.yaml"
    description.write_text(f"path: {folder.resolve()}\ntrain: images\nval: images\nnames: [square]\n")
    return description


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
