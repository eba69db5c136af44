"""Hugging Face transformers, from configurations."""

from __future__ import annotations

import torch
import transformers as hf

from tests.hosts.host import SAMPLES, Host, images

TITLE = "transformers"


def _resnet() -> hf.PreTrainedModel:
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], layer_type="basic")
    return hf.ResNetForImageClassification(config)


def _bit() -> hf.PreTrainedModel:
    config = hf.BitConfig(embedding_size=32, hidden_sizes=[128, 128, 128, 128], depths=[1, 1, 1, 1])
    return hf.BitForImageClassification(config)


def _mobilenet() -> hf.PreTrainedModel:
    return hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.25, image_size=64))


def _segformer() -> hf.PreTrainedModel:
    config = hf.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16
    )
    return hf.SegformerForSemanticSegmentation(config)


def _rt_detr() -> hf.PreTrainedModel:
    backbone = hf.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = hf.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 16, 32],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=10,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_denoising=0,
        anchor_image_size=None,
    )
    return hf.RTDetrModel(config)  # whose backbone has frozen batch norms


def _levit() -> hf.PreTrainedModel:
    config = hf.LevitConfig(
        image_size=64, hidden_sizes=[16, 32, 32], num_attention_heads=[1, 2, 2], depths=[1, 1, 1], key_dim=[8, 8, 8],
        down_ops=[["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 4, 4, 2, 2]],
    )  # fmt: skip
    return hf.LevitForImageClassification(config)


def _wav2vec2() -> hf.PreTrainedModel:
    config = hf.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8, 8],
        conv_stride=[5, 2], conv_kernel=[10, 3], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        mask_time_prob=0.0, layerdrop=0.0,
    )  # fmt: skip
    return hf.Wav2Vec2Model(config)


HOSTS = [
    Host("ResNet", _resnet, images(64)),
    Host("BiT", _bit, images(64)),
    Host("MobileNetV2", _mobilenet, images(64)),
    Host("SegFormer", _segformer, images(64)),
    Host("RT-DETR", _rt_detr, images(64)),
    # Its tokens pass Batch Norm as rows, of which no plan knows.
    Host("LeViT", _levit, images(64), why={"in": "expected more than 1 value in each group of a sample when training"}),
    Host("Wav2Vec2", _wav2vec2, lambda: (torch.randn(SAMPLES, 800),)),
]
