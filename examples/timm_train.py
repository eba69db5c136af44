"""What timm's train.py does, with the lines that it needs for SSN.

In train.py itself: `switch` after `create_model`, groups instead of the model in `create_optimizer_v2`, and the
schedule after `updates_per_epoch` is known.

python examples/timm_train.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import timm
import torch
from pictures import pictures
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

import switchnorm


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--pretrained", action="store_true", help="start from timm's weights")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--opt", default="adamw")
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    loader = DataLoader(pictures(), batch_size=8, shuffle=True, drop_last=True)

    model = timm.create_model(options.model, pretrained=options.pretrained, num_classes=3)
    switchnorm.switch(model, "ssn")
    groups = switchnorm.parameter_groups(model, lr=options.lr, weight_decay=2e-5)
    optimizer = create_optimizer_v2(groups, opt=options.opt, lr=options.lr, weight_decay=2e-5)
    switchnorm.SparseSchedule(optimizer, model, steps=options.epochs * len(loader))
    scheduler, epochs = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=options.epochs, updates_per_epoch=len(loader), step_on_epochs=False
    )
    average, criterion = ModelEmaV3(model, decay=0.9), LabelSmoothingCrossEntropy()

    step = 0
    for epoch in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            step += 1
            average.update(model, step=step)
            scheduler.step_update(num_updates=step)
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    for row in switchnorm.importance(average.module):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return average.module


if __name__ == "__main__":
    main()
