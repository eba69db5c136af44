"""A LightningModule of your own.

python examples/lightning_module.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pictures import pictures
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models import resnet18

import switchnorm


class Classifier(pl.LightningModule):
    """Switched where it is made, so that `load_from_checkpoint` finds the same layers."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = switchnorm.switch(resnet18(), "ssn")

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = self.hparams["lr"]
        optimizer = torch.optim.SGD(switchnorm.parameter_groups(self, lr=lr, weight_decay=1e-4), lr=lr, momentum=0.9)
        switchnorm.SparseSchedule(optimizer, self, steps=int(self.trainer.estimated_stepping_batches))
        return optimizer


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", default=None, help="folder for Lightning's checkpoint")
    options = parser.parse_args(arguments)
    loader = DataLoader(pictures(), batch_size=8, shuffle=True, drop_last=True)

    classifier = Classifier()
    trainer = pl.Trainer(max_epochs=options.epochs, accelerator="cpu", default_root_dir=options.out, logger=False)
    trainer.fit(classifier, loader)

    for row in switchnorm.importance(classifier):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return classifier


if __name__ == "__main__":
    main()
