"""Bodies of detectors: from pictures to the maps of four stages, C2 to C5, at strides of 4, 8, 16 and 32."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers import Spec
from switchnorm.models.blocks import Layers
from switchnorm.models.detection.timm_body import timm_body
from switchnorm.models.imagenet.resnet import BLOCKS, BOTTLENECK_DEPTHS, ResidualStages
from switchnorm.models.parts import init_convolutions

#: Pixels of a picture that one of each map stands for, in each direction.
STRIDES = (4, 8, 16, 32)


class ResidualBody(nn.Module):
    """The stem and the stages of a ResNet or ResNeXt.

    Children are `stem` and `layer1` to `layer4`, so that each can be frozen by its name. Normalizations are called sn1,
    sn2, ... where they mix statistics, and else bn1, bn2, ..., as in published classifiers. Convolutions start as
    `init_convolutions` draws them.

    Args:
        stages: made already; its parts are taken over.
        last: the last stage to keep, 1 to 4.

    Attributes:
        channels: of the maps.
    """

    def __init__(self, stages: ResidualStages, last: int = 4) -> None:
        super().__init__()
        init_convolutions(stages)
        pairs = [(name, getattr(stages, name)) for pair in stages.stem_pairs for name in pair]
        self.stem = nn.Sequential(OrderedDict([*pairs, ("relu", stages.relu), ("maxpool", stages.maxpool)]))
        self.stages = [f"layer{number}" for number in range(1, last + 1)]
        for name in self.stages:
            self.add_module(name, getattr(stages, name))
        self.channels = stages.channels[:last]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) -> the maps of the stages, (N, C, H / s, W / s)."""
        x, maps = self.stem(x), []
        for name in self.stages:
            x = getattr(self, name)(x)
            maps.append(x)
        return tuple(maps)


@dataclass(frozen=True)
class Bodies:
    """Bodies that one function makes.

    Attributes:
        pattern: of their names.
        make: `make(name, norm, in_channels=3)` gives a module with `channels` and children as of `ResidualBody`, whose
            forward pass gives four maps.
        names: those that are listed.
    """

    pattern: str
    make: Callable[..., nn.Module]
    names: tuple[str, ...] = ()


def residual_stages(name: str, norm: Spec, *, in_channels: int = 3) -> ResidualStages:
    """The stages of "resnet50", or of "l_resnext50", which has 32 groups of 4 channels each in its first stage.

    Raises:
        InputError: a depth that has no layout.
    """
    found = _RESIDUAL.fullmatch(name)
    if found is None:
        raise InputError(f"body {name!r} has no stages of a ResNet; the nearest that has some is 'resnet50'")
    layers = Layers(norm, "sn" if norm.registration.mixes else "bn")
    if found[1] == "l_resnext":
        return ResidualStages(int(found[2]), layers, groups=32, width=4, in_channels=in_channels)
    return ResidualStages(int(found[2]), layers, in_channels=in_channels)


def _residual(name: str, norm: Spec | None, *, in_channels: int = 3) -> nn.Module:
    return ResidualBody(residual_stages(name, some_norm(norm), in_channels=in_channels))


def some_norm(norm: Spec | None) -> Spec:
    """The normalization of a body; raise `InputError` where it is to have none."""
    if norm is None:
        raise InputError("norms.body 'none' is impossible; a body needs a normalization, the nearest is 'bn'")
    return norm


def timm_of(name: str) -> str | None:
    """The network of timm, "timm:NAME", that is the body of the detector with that name; None where none is."""
    found = re.fullmatch(rf"({TIMM})_fpn\d*\+.+", name)
    return None if found is None else found[1]


_RESIDUAL = re.compile(r"(resnet|l_resnext)(\d+)")
#: The names of residual bodies, and of those of timm.
RESIDUAL, TIMM = r"(?:resnet|l_resnext)\d+", r"timm:.+?"
#: All bodies. What stands before "_fpn" in a network's name is one's.
BODIES = [
    Bodies(
        RESIDUAL,
        _residual,
        (*(f"resnet{depth}" for depth in BLOCKS), *(f"l_resnext{depth}" for depth in BOTTLENECK_DEPTHS)),
    ),
    Bodies(TIMM, timm_body),
]


def make_body(name: str, norm: Spec | None, *, in_channels: int = 3) -> nn.Module:
    """The body of a name.

    Args:
        name: as "resnet50", "l_resnext101" or "timm:NAME".
        norm: its normalization; None leaves a network of timm as it is built.
        in_channels: of the pictures.

    Raises:
        InputError: a name or depth that no body has; whatever its builder refuses.
    """
    for bodies in BODIES:
        if re.fullmatch(bodies.pattern, name):
            return bodies.make(name, norm, in_channels=in_channels)
    raise unknown("body", name, listed())


def listed() -> tuple[str, ...]:
    """The names of all bodies that are listed."""
    return tuple(name for bodies in BODIES for name in bodies.names)
