"""A loop in plain PyTorch.

python examples/plain_loop.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from pictures import pictures
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models import get_model

import switchnorm


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18", help="a network of torchvision")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--pretrained", action="store_true", help="start from torchvision's weights")
    options = parser.parse_args(arguments)
    loader = DataLoader(pictures(), batch_size=8, shuffle=True, drop_last=True)

    model = get_model(options.model, weights="DEFAULT" if options.pretrained else None)
    switchnorm.switch(model, "ssn")
    groups = switchnorm.parameter_groups(model, lr=options.lr, weight_decay=1e-4)
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9)
    switchnorm.SparseSchedule(optimizer, model, steps=options.epochs * len(loader))

    for epoch in range(options.epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    for row in switchnorm.importance(model):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return model


if __name__ == "__main__":
    main()
