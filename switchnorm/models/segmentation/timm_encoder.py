"""Networks of timm as encoders, with any of this library's decoders: "timm:resnet18_dilated16+c1_bilinear"."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from switchnorm.errors import InputError, unknown
from switchnorm.layers import Spec, norm_of
from switchnorm.models.family import Family
from switchnorm.models.options import explained
from switchnorm.models.segmentation import FAMILIES
from switchnorm.models.segmentation.decoders import DECODERS, Decoder
from switchnorm.models.segmentation.encoder import DILATIONS
from switchnorm.models.segmentation.network import EncoderDecoder
from switchnorm.surgery import plan_switch
from switchnorm.surgery.kinds import is_norm

#: Options of this library's own encoders, whose decoders these are.
_ENCODERS = ("deep_stem", "in_channels")
_NAME = re.compile(r"(timm:.+?)(?:_dilated(\d+))?\+(.+)")


class Parts(NamedTuple):
    """What the name of such a network says.

    Args:
        encoder: timm's network, as "timm:NAME".
        stride: the output stride that is asked for; None for the network's own.
        decoder: a name in `DECODERS`, if it is known.
    """

    encoder: str
    stride: int | None
    decoder: str


def parts(name: str) -> Parts | None:
    """The parts of a name; None where it is no name of an encoder of timm with a decoder."""
    match = _NAME.fullmatch(name)
    return None if match is None else Parts(match[1], None if match[2] is None else int(match[2]), match[3])


class TimmEncoderDecoder(EncoderDecoder):
    """A network of timm without its classifier, and a decoder of its maps.

    The encoder's entries have timm's names for networks that give features, so that weights of the classifier fit.

    Args:
        encoder: from pictures (N, C, H, W) to a list of four maps.
        decoder: from these to logits.
        channels_last: whether maps are (N, h, w, C), as of some transformers.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder, channels_last: bool) -> None:
        super().__init__(encoder, decoder)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As of `EncoderDecoder`."""
        maps: Sequence[Tensor] = self.encoder(x)
        return self.decoder([each.permute(0, 3, 1, 2) for each in maps] if self.channels_last else maps)


def build(
    name: Parts,
    features: Callable[..., nn.Module],
    spec: Spec | None,
    num_classes: int | None,
    options: Mapping[str, Any],
) -> nn.Module:
    """A network of timm with a decoder, weights at random.

    Args:
        name: what the name says.
        features: `features(**options)` makes the encoder; it raises whatever timm raises.
        spec: the normalization of encoder and decoder; None leaves the encoder as timm built it, and takes Batch Norm
            in the decoder.
        num_classes: K; None for the 150 of ADE20K.
        options: those of the decoder, as `decoder_options` finds them, and otherwise timm's.

    Raises:
        InputError: a network without the maps of four stages, one that cannot have this output stride, or an option
            that it does not take.
    """
    own = decoder_options(name, options)
    encoder = _Maps(name.encoder, features, {key: options[key] for key in options if key not in own}).at(name.stride)
    channels = _info(encoder).channels()
    if spec is not None:
        encoder = switched(name.encoder, encoder, spec, "the decoder")
    classes = _family(name).num_classes if num_classes is None else num_classes
    with explained(f"+{name.decoder}", own):
        decoder = DECODERS[name.decoder](channels, Spec.of("bn") if spec is None else spec, classes, **own)
    return TimmEncoderDecoder(encoder, decoder, str(getattr(encoder, "output_fmt", "")).endswith("NHWC"))


def check(name: Parts) -> None:
    """Raise `InputError` for a decoder that is unknown, or a stride that no encoder has."""
    if name.decoder not in DECODERS:
        raise unknown("decoder", name.decoder, DECODERS)
    if name.stride is not None and name.stride not in DILATIONS:
        nearest = min(DILATIONS, key=lambda known: abs(known - (name.stride or 0)))
        raise InputError(f"output stride {name.stride} is impossible; the nearest valid stride is {nearest}")


def decoder_options(name: Parts, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are the decoder's, as with this library's encoders; `InputError` for a wrong value."""
    family = _family(name)
    own = {key: value for key, value in options.items() if key in family.options() and key not in _ENCODERS}
    family.check_options(f"+{name.decoder}", own)
    return own


def _family(name: Parts) -> Family:
    """The networks of this library with that decoder."""
    return next(family for family in FAMILIES if family.numbers(f"resnet18+{name.decoder}"))


@dataclass(frozen=True)
class _Maps:
    """Makes the encoder.

    Args:
        name: "timm:NAME".
        features: as of `build`.
        options: of the network.
    """

    name: str
    features: Callable[..., nn.Module]
    options: Mapping[str, Any]

    def at(self, stride: int | None) -> nn.Module:
        """The encoder at an output stride, None for its own; raises `InputError` where there is none."""
        if stride is not None:
            encoder = self._attempt(output_stride=stride)
            if _stride(encoder) != stride:
                encoder = self._attempt()
                natural = _stride(encoder)
                if natural is not None and natural != stride:
                    raise self._no_stride(stride, natural)
        else:
            encoder = self._attempt()
        if encoder is None:
            with explained(self.name, self.options):
                self._check_maps()
                return self._make()
        return encoder

    def _make(self, stages: int = 4, **options: Any) -> nn.Module:
        return self.features(out_indices=tuple(range(-stages, 0)), **options, **self.options)

    def _attempt(self, stages: int = 4, **options: Any) -> nn.Module | None:
        """What `_make` makes; None where timm cannot, which networks say by any error, often without words."""
        try:
            return self._make(stages, **options)
        except Exception:
            return None

    def _check_maps(self) -> None:
        """Raise `InputError` if the network gives too few maps."""
        for stages in (3, 2, 1):
            if self._attempt(stages) is not None:
                raise InputError(
                    f"{self.name!r} gives the maps of {stages} stages, and decoders take four; choose another encoder, "
                    "such as 'timm:resnet18'"
                )
        if not self.options:
            raise InputError(f"{self.name!r} gives no feature maps; choose another encoder, such as 'timm:resnet18'")

    def _no_stride(self, stride: int, natural: int) -> InputError:
        possible = {natural: self.name}
        for other in DILATIONS:
            if other not in (stride, natural) and _stride(self._attempt(output_stride=other)) == other:
                possible[other] = f"{self.name}_dilated{other}"
        nearest = min(possible, key=lambda other: abs(other - stride))
        return InputError(
            f"{self.name!r} cannot have an output stride of {stride}; the nearest that it can have is {nearest}, with "
            f"{possible[nearest]!r}"
        )


def _info(encoder: nn.Module) -> Any:
    """What timm says about the maps of an encoder: their channels and strides."""
    return encoder.feature_info


def _stride(encoder: nn.Module | None) -> int | None:
    """What timm says is the stride of the last map; a network that ignores the one asked for has its own."""
    return None if encoder is None else int(_info(encoder).reduction()[-1])


def switched(name: str, encoder: nn.Module, spec: Spec, others: str) -> nn.Module:
    """The encoder with its normalization switched; where it has none that switches, that is said.

    Args:
        name: "timm:NAME".
        encoder: its network without a classifier.
        spec: the normalization.
        others: what has it all the same, in words.
    """
    encoder = plan_switch(encoder, spec, start="equal").apply()
    if all(norm_of(module) is None for module in encoder.modules()) and spec.make is None:
        kinds = sorted({type(module).__name__ for module in encoder.modules() if is_norm(module)})
        only = f" that switches, only {', '.join(kinds)}" if kinds else ""
        warnings.warn(
            f"encoder {name!r} has no normalization{only}; {str(spec)!r} is that of {others} alone",
            stacklevel=2,
        )
    return encoder
