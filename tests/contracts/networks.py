"""Networks of torchvision and timm whose normalization `switch` handles, and the smallest inputs that they take."""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torchvision
from torch import nn
from torchvision.models import get_model, list_models


@dataclass(frozen=True)
class Network:
    """A network that somebody else wrote.

    Attributes:
        library: "torchvision" or "timm".
        name: as that library knows it.
        input: shape of one sample.
    """

    library: str
    name: str
    input: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"

    def build(self) -> nn.Module:
        """The network with random weights."""
        if self.library == "timm":
            return timm.create_model(self.name, pretrained=False)
        options: dict[str, object] = {"weights": None}
        if self.name in list_models(module=torchvision.models.segmentation):
            options["weights_backbone"] = None
        if self.name in ("googlenet", "inception_v3"):
            options["init_weights"] = False
        return get_model(self.name, **options)


# No layer of theirs switches: there is no normalization, or it is LayerNorm alone.
WITHOUT = (
    *("alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg13", "vgg16", "vgg19"),
    *("convnext_base", "convnext_large", "convnext_small", "convnext_tiny"),
    *("swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t"),
    *("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32"),
    *("mvit_v1_b", "mvit_v2_s", "swin3d_b", "swin3d_s", "swin3d_t"),
)

# What is not swept although it has such layers, and why.
EXCLUDED = {
    "regnet_y_128gf": "645 million parameters, over 5 GB with gradients; regnet_y_32gf has the same layers, narrower",
}

# Sides of the input where 64 are too few.
_SIDES = {
    "inception_v3": 299,
    "maxvit_t": 224,
}
# Shapes of video clips: frames, height, width.
_CLIPS = {"mc3_18": (4, 32, 32), "r2plus1d_18": (4, 32, 32), "r3d_18": (4, 32, 32), "s3d": (16, 224, 224)}

# One network of each of 50 families of timm, the smaller ones of their kind, with the side of its input.
_TIMM = {
    **dict.fromkeys(("resnet26t", "res2net50_14w_8s", "resnest14d", "skresnet18", "ecaresnet26t", "tresnet_m"), 64),
    **dict.fromkeys(("regnety_002", "regnetv_040", "regnetz_b16", "densenet121", "dpn48b", "selecsls42"), 64),
    **dict.fromkeys(("resnetv2_50", "resnetv2_50d_gn", "hrnet_w18_small", "dla46_c", "ese_vovnet19b_slim_dw"), 64),
    **dict.fromkeys(("mobilenetv2_035", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "mobileone_s0"), 64),
    **dict.fromkeys(("tf_efficientnet_b0", "ghostnet_050", "repghostnet_050", "mixnet_s", "rexnet_100"), 64),
    **dict.fromkeys(("fbnetc_100", "lcnet_035", "hgnetv2_b0", "nasnetalarge", "legacy_xception", "xception41p"), 64),
    **dict.fromkeys(("cspresnet50", "darknet17", "cs3darknet_focus_s", "repvgg_a0", "repvit_m0_9", "fastvit_t8"), 64),
    **dict.fromkeys(("convmixer_768_32", "starnet_s050", "tiny_vit_5m_224", "efficientvit_b0"), 64),
    **dict.fromkeys(("inception_v4", "inception_resnet_v2"), 75),
    **dict.fromkeys(("levit_128s", "efficientformer_l1"), 224),
    **dict.fromkeys(("botnet26t_256", "halonet26t", "lambda_resnet26t", "bat_resnext26ts"), 256),
}


def _torchvision() -> list[Network]:
    images = list_models(module=torchvision.models) + list_models(module=torchvision.models.segmentation)
    shapes = {name: (3, _SIDES.get(name, 64), _SIDES.get(name, 64)) for name in images}
    shapes |= {name: (3, *_CLIPS.get(name, ())) for name in list_models(module=torchvision.models.video)}
    return [Network("torchvision", name, shape) for name, shape in shapes.items() if name not in (*WITHOUT, *EXCLUDED)]


NETWORKS = _torchvision() + [Network("timm", name, (3, side, side)) for name, side in _TIMM.items()]
