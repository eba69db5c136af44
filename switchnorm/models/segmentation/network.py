"""Networks for semantic segmentation: any encoder with any decoder."""

from __future__ import annotations

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.segmentation.decoders import C1, Decoder, PyramidPooling, UPerNet
from switchnorm.models.segmentation.encoder import Encoder

#: Channels of the feature pyramid by the decoder's name.
WIDTHS = {"upernet": 512, "upernet_lite": 256}


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder of its maps.

    Args:
        encoder: from pictures to the maps of four stages.
        decoder: from these to logits.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> "out": logits (N, K, h, w) at the decoder's own size; in training perhaps "aux" too."""
        return self.decoder(self.encoder(x))


def c1(
    depth: int,
    stride: int | None,
    deepsup: str | None,
    *,
    norm: Spec,
    num_classes: int,
    deep_stem: bool = False,
    published_start: bool = False,
) -> EncoderDecoder:
    """An encoder with `C1`.

    Args:
        depth: of the encoder.
        stride: its output stride; None for 32.
        deepsup: "deepsup" for deep supervision.
        norm: the normalization of encoder and decoder.
        num_classes: K.
        deep_stem: whether the encoder begins with three 3x3 convolutions, as of `ResidualStages`.
        published_start: whether the decoder starts as in the published code, as of `Decoder.start`.

    Raises:
        InputError: a depth or stride that no encoder has.
    """
    encoder = _encoder(depth, stride, norm, deep_stem)
    supervised = deepsup is not None
    decoder = C1(encoder.channels, norm, num_classes, deep_supervision=supervised, published_start=published_start)
    return EncoderDecoder(encoder, decoder)


def pyramid_pooling(
    depth: int,
    stride: int | None,
    deepsup: str | None,
    *,
    norm: Spec,
    num_classes: int,
    dropout: float = 0.1,
    deep_stem: bool = False,
    published_start: bool = False,
) -> EncoderDecoder:
    """An encoder with `PyramidPooling`; arguments and errors as of `c1`, and the share of channels dropped."""
    encoder = _encoder(depth, stride, norm, deep_stem)
    decoder = PyramidPooling(
        encoder.channels,
        norm,
        num_classes,
        deep_supervision=deepsup is not None,
        dropout=dropout,
        published_start=published_start,
    )
    return EncoderDecoder(encoder, decoder)


def upernet(
    depth: int,
    stride: int | None,
    kind: str,
    *,
    norm: Spec,
    num_classes: int,
    deep_stem: bool = False,
    published_start: bool = False,
) -> EncoderDecoder:
    """An encoder with `UPerNet`, "upernet" or "upernet_lite"; other arguments and errors as of `c1`."""
    encoder = _encoder(depth, stride, norm, deep_stem)
    decoder = UPerNet(encoder.channels, norm, num_classes, width=WIDTHS[kind], published_start=published_start)
    return EncoderDecoder(encoder, decoder)


def _encoder(depth: int, stride: int | None, norm: Spec, deep_stem: bool) -> Encoder:
    return Encoder(depth, 32 if stride is None else stride, norm, deep_stem=deep_stem)
