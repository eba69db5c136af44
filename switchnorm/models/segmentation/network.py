"""Networks for semantic segmentation: any encoder with any decoder."""

from __future__ import annotations

from torch import Tensor, nn

from switchnorm.layers import Spec
from switchnorm.models.segmentation.decoders import DECODERS, Decoder
from switchnorm.models.segmentation.encoder import Encoder


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder of its maps.

    Args:
        encoder: from pictures to the maps of four stages.
        decoder: from these to logits.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> "out": logits (N, K, h, w) at the decoder's own size; in training perhaps "aux" too."""
        return self.decoder(self.encoder(x))


def plain(
    depth: int,
    stride: int | None,
    decoder: str,
    *,
    norm: Spec,
    num_classes: int,
    in_channels: int = 3,
    deep_stem: bool = False,
    published_start: bool = False,
) -> EncoderDecoder:
    """An encoder with a decoder that has no options of its own.

    Args:
        depth: of the encoder.
        stride: its output stride; None for 32.
        decoder: a name in `DECODERS`.
        norm: the normalization of encoder and decoder.
        num_classes: K.
        in_channels: of the pictures.
        deep_stem: whether the encoder begins with three 3x3 convolutions, as of `ResidualStages`.
        published_start: whether the decoder starts as in the published code, as of `Decoder.start`.

    Raises:
        InputError: a depth or stride that no encoder has; no channels.
    """
    encoder = Encoder(depth, 32 if stride is None else stride, norm, in_channels=in_channels, deep_stem=deep_stem)
    make = DECODERS[decoder]
    return EncoderDecoder(encoder, make(encoder.channels, norm, num_classes, published_start=published_start))


def pooling(
    depth: int,
    stride: int | None,
    decoder: str,
    *,
    norm: Spec,
    num_classes: int,
    in_channels: int = 3,
    dropout: float = 0.1,
    deep_stem: bool = False,
    published_start: bool = False,
) -> EncoderDecoder:
    """An encoder with `PyramidPooling`; arguments and errors as of `plain`, and the share of channels dropped."""
    encoder = Encoder(depth, 32 if stride is None else stride, norm, in_channels=in_channels, deep_stem=deep_stem)
    make = DECODERS[decoder]
    options = {"dropout": dropout, "published_start": published_start}
    return EncoderDecoder(encoder, make(encoder.channels, norm, num_classes, **options))
