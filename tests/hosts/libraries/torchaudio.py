"""torchaudio's networks: one spatial dimension, time."""

from __future__ import annotations

import torch
from torchaudio import models

from tests.hosts.host import SAMPLES, Host

TITLE = "torchaudio"


def _lengths() -> torch.Tensor:
    return torch.tensor([12] * SAMPLES)


HOSTS = [
    Host(
        "Conformer",
        lambda: models.Conformer(16, 2, 16, 1, 3),
        lambda: (torch.randn(SAMPLES, 12, 16), _lengths()),
    ),
    Host(
        "ConvTasNet",
        lambda: models.ConvTasNet(2, 8, 8, 3, 8, 8, 2, 1),
        lambda: (torch.randn(SAMPLES, 1, 128),),
    ),
    Host(
        "Tacotron2",
        lambda: models.Tacotron2(
            n_mels=8, n_symbol=10, symbol_embedding_dim=8, encoder_embedding_dim=8, decoder_rnn_dim=8, prenet_dim=8,
            attention_rnn_dim=8, attention_hidden_dim=8, postnet_embedding_dim=8, attention_location_n_filter=4,
        ),
        lambda: (torch.randint(0, 10, (SAMPLES, 12)), _lengths(), torch.randn(SAMPLES, 8, 12), _lengths()),
    ),
    Host(
        "WaveRNN",
        lambda: models.WaveRNN([2, 2], 4, 4, n_res_block=1, n_rnn=8, n_fc=8, n_freq=8, n_hidden=8, n_output=8),
        lambda: (torch.randn(SAMPLES, 1, 16), torch.randn(SAMPLES, 1, 8, 8)),
    ),
    Host(
        "HDemucs",
        lambda: models.HDemucs(["a", "b"], 1, channels=4, nfft=256, depth=3, dconv_depth=1),
        lambda: (torch.randn(SAMPLES, 1, 2048),),
    ),
]  # fmt: skip
