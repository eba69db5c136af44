"""The loop of torchvision's references/classification: label smoothing, SGD, warm-up and cosine, averaged weights.

python examples/torchvision_reference.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from pictures import pictures
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchvision.models import get_model

import switchnorm


def main(arguments: Sequence[str] | None = None) -> nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--weights", default=None, help="of torchvision, such as IMAGENET1K_V1")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    options = parser.parse_args(arguments)
    loader = DataLoader(pictures(), batch_size=8, shuffle=True, drop_last=True)

    model = get_model(options.model, weights=options.weights)
    switchnorm.switch(model, "ssn")
    # In place of the reference's set_weight_decay, which knows normalizations by class and so does not know these.
    groups = switchnorm.parameter_groups(model, lr=options.lr, weight_decay=2e-5, decay_norms=False)
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9)
    switchnorm.SparseSchedule(optimizer, model, steps=options.epochs * len(loader))
    warmup, cosine = LinearLR(optimizer, 0.1, total_iters=1), CosineAnnealingLR(optimizer, options.epochs)
    scheduler = SequentialLR(optimizer, [warmup, cosine], milestones=[1])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)

    for epoch in range(options.epochs):
        model.train()
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(model)
        scheduler.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    for row in switchnorm.importance(average.module):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return average.module


if __name__ == "__main__":
    main()
