"""A loop with accelerate: several processes, mixed precision and accumulated gradients by `accelerate launch`.

python examples/accelerate_loop.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from pictures import pictures
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models import resnet18

import switchnorm


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--accumulate", type=int, default=2, help="batches in a step of the optimizer")
    options = parser.parse_args(arguments)
    accelerator = Accelerator(gradient_accumulation_steps=options.accumulate, cpu=not torch.cuda.is_available())

    # switch comes before the optimizer, and both before prepare.
    model = switchnorm.switch(resnet18(), "ssn")
    groups = switchnorm.parameter_groups(model, lr=options.lr, weight_decay=1e-4)
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9)
    loader = DataLoader(pictures(), batch_size=4, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # After prepare, when a process knows its share of the batches.
    switchnorm.SparseSchedule(optimizer, model, steps=options.epochs * (len(loader) // options.accumulate))

    for epoch in range(options.epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        accelerator.print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    model = accelerator.unwrap_model(model)
    for row in switchnorm.importance(model):
        accelerator.print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return model


if __name__ == "__main__":
    main()
