"""AlexNet for small pictures.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, a variant of the network of
Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, here
with padding and pooling for 32x32, one linear layer and neither dropout nor local response normalization.
"""

from __future__ import annotations

from torch import nn

from switchnorm.models.parts import PlainNetwork, at_least_one


class CifarAlexNet(PlainNetwork):
    """Five convolutions and a linear layer, for pictures of 29x29 or larger.

    There is no normalization, and so none that a convolution could standardize its weights for. Modules are named as in
    the published CIFAR checkpoints. Weights start as PyTorch draws them, as there.

    Args:
        num_classes: the number of logits.
        in_channels: of the pictures.
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3) -> None:
        at_least_one(in_channels=in_channels)
        features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        super().__init__(features, 256, 29, num_classes)
