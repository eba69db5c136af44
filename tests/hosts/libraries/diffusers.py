"""diffusers: the networks of latent diffusion, and the autoencoders around them."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tests.hosts.host import SAMPLES, Host, images

TITLE = "diffusers"

SMALL = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}


def _unet() -> diffusers.ModelMixin:
    return diffusers.UNet2DModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **SMALL,
    )


def _conditioned() -> diffusers.ModelMixin:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        **SMALL,
    )


def _autoencoder() -> diffusers.ModelMixin:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(**blocks, **SMALL)


def _noisy(channels: int) -> dict[str, Any]:
    return {"sample": torch.randn(SAMPLES, channels, 8, 8), "timestep": torch.randint(0, 1000, (SAMPLES,))}


HOSTS = [
    Host("UNet2DModel", _unet, lambda: _noisy(3)),
    Host(
        "UNet2DConditionModel", _conditioned, lambda: _noisy(4) | {"encoder_hidden_states": torch.randn(SAMPLES, 5, 8)}
    ),
    Host("AutoencoderKL", _autoencoder, images(16)),
]
