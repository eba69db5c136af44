"""Small networks to export, and a run of one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.data.preparation import Crop, Preparation
from switchnorm.deploy.description import Description
from tests.data.photos import write_tree
from tests.training.photo_runs import recipe_for, train

CLASSES = ("cat", "dog", "fox", "owl")


def classifier(norm: type[nn.Module] = switchnorm.SwitchNorm2d) -> nn.Module:
    """Any size -> (N, 4), with statistics of its own and a pyramid's pooling."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        norm(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Conv2d(8, 8, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, len(CLASSES)),
    )
    with torch.no_grad():
        for _ in range(3):  # running statistics that are no start
            network(2 * torch.randn(4, 3, 20, 24) + 1)
    return network


def described(size: int = 20, order: str = "rgb") -> Description:
    """A classifier's description."""
    prepared = Preparation(Crop(size + 4, size), (120.0, 110.0, 100.0), (60.0, 50.0, 70.0), order=order)
    return Description(task="classification", classes=CLASSES, preparation=prepared)


def shown(images: Tensor, about: Description) -> Tensor:
    """What the network sees of 8-bit images."""
    assert about.preparation is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (about.preparation.mean, about.preparation.std))
    images = images.flip(1) if about.preparation.order == "bgr" else images
    return (images.float() - mean) / std


def a_run(folder: Path) -> Path:
    """A classification run of one epoch on photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe_for(write_tree(folder / "photos"), folder)
    return train(recipe, folder / "run", "--train.epochs", "1").path
