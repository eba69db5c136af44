"""Networks for small pictures (CIFAR, digits)."""

from functools import partial

from switchnorm.models.cifar.alexnet import CifarAlexNet
from switchnorm.models.cifar.densenet import CifarDenseNet
from switchnorm.models.cifar.preresnet import CifarPreResNet
from switchnorm.models.cifar.resnet import CifarResNet
from switchnorm.models.cifar.resnext import CifarResNeXt
from switchnorm.models.cifar.vgg import CONVOLUTIONS, CifarVGG
from switchnorm.models.cifar.wide_resnet import CifarWideResNet
from switchnorm.models.family import Family

_DEPTHS = (20, 32, 44, 56, 110)

FAMILIES: tuple[Family, ...] = (
    Family("cifar_alexnet", CifarAlexNet, ("cifar_alexnet",), norm=None),
    Family(
        r"cifar_vgg(\d+)",
        partial(CifarVGG, norm=None),
        tuple(f"cifar_vgg{depth}" for depth in CONVOLUTIONS),
        norm=None,
    ),
    Family(r"cifar_vgg(\d+)_bn", CifarVGG, tuple(f"cifar_vgg{depth}_bn" for depth in CONVOLUTIONS)),
    Family(
        r"cifar_resnet(\d+)(?:_(bottleneck))?",
        CifarResNet,
        (*(f"cifar_resnet{depth}" for depth in (*_DEPTHS, 1202)), "cifar_resnet164_bottleneck"),
    ),
    Family(
        r"cifar_preresnet(\d+)(?:_(bottleneck))?",
        CifarPreResNet,
        (*(f"cifar_preresnet{depth}" for depth in _DEPTHS), "cifar_preresnet164_bottleneck"),
    ),
    Family(r"cifar_resnext(\d+)_(\d+)x(\d+)", CifarResNeXt, ("cifar_resnext29_8x64", "cifar_resnext29_16x64")),
    Family(r"cifar_wrn(\d+)_(\d+)", CifarWideResNet, ("cifar_wrn16_8", "cifar_wrn28_10", "cifar_wrn40_4")),
    Family(r"cifar_densenet(\d+)_(\d+)", CifarDenseNet, ("cifar_densenet100_12", "cifar_densenet190_40")),
    Family("digits_resnet9", partial(CifarResNet, 8, in_channels=1, embedding=128), ("digits_resnet9",)),
)
