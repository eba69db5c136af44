"""The checkpoints that the papers' authors published: what each is, what it needs, and what they claim of it.

Sources of names, accuracies and sums: the model zoos of the authors' repositories, see `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from switchnorm.errors import unknown
from switchnorm.layers import Spec
from switchnorm.layers.norms.switch import SWITCHABLE

#: Where each family was published.
SOURCES = {
    "sn": "https://github.com/switchablenorms/Switchable-Normalization/tree/master/imagenet",
    "ssn": "https://github.com/switchablenorms/Sparse_SwitchNorm",
    "gn+ws": "https://github.com/joe-siyuan-qiao/pytorch-classification",
    "detection": "https://github.com/switchablenorms/SwitchNorm_Detection",
}


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        name: what this library calls it.
        network: the network's name for `switchnorm.create_model`; classifiers have 1000 classes, detectors 80.
        norm: its normalization, as `Spec.parse` reads it.
        geometry: (GPUs, samples per GPU) it was trained with; None where no statistic is over the batch.
        file: the file's name where its authors name it in their scripts or links, otherwise None.
        md5: of the file, where its authors published one, otherwise None.
        top1, top5: the claimed accuracy on ImageNet's validation set, single crop of 224 pixels, in [0, 1]; None for
            detectors.
        using_bn: whether its layers have the batch statistic; False means instance and layer statistics only.
        box_ap, mask_ap: the claimed average precision on COCO's validation set of 2017, in [0, 1]; None for
            classifiers, and for networks without masks.
        options: what `switchnorm.create_model` is told beside the network's name, so that it computes what the authors'
            code does.
    """

    name: str
    network: str
    norm: str
    geometry: tuple[int, int] | None
    file: str | None
    md5: str | None
    top1: float | None
    top5: float | None
    using_bn: bool = True
    box_ap: float | None = None
    mask_ap: float | None = None
    options: Mapping[str, str | bool | float] = field(default_factory=dict)

    @property
    def statistics(self) -> tuple[str, ...] | None:
        """What its layers mix, in the order of the logits; None where they mix nothing."""
        if not Spec.parse(self.norm).registration.mixes:
            return None
        return SWITCHABLE if self.using_bn else ("instance", "layer")

    @property
    def source(self) -> str:
        """The address of its model zoo."""
        return SOURCES[self.norm if self.box_ap is None else "detection"]


def _sn(name: str, network: str, samples: int, file: str | None, top1: float, top5: float) -> Checkpoint:
    # With one sample per GPU the batch statistic would be the instance statistic.
    return Checkpoint(name, network, "sn", (8, samples), file, None, top1, top5, using_bn=samples > 1)


def _ssn(samples: int, file: str | None, md5: str, top1: float, top5: float) -> Checkpoint:
    return Checkpoint(f"resnetv1ssn50-8x{samples}", "resnetv1ssn50", "ssn", (8, samples), file, md5, top1, top5)


def _ws(network: str, file: str, top1_error: float, top5_error: float) -> Checkpoint:
    top1, top5 = (round(1 - error / 100, 4) for error in (top1_error, top5_error))
    return Checkpoint(network, network, "gn+ws", None, file, None, top1, top5)


def _detector(
    name: str, network: str, file: str, box_ap: float, mask_ap: float | None = None, **options: str | bool | float
) -> Checkpoint:
    using_bn = "_sn_(8,1)" not in file  # which begins with such a classifier, and is trained at 2 pictures all the same
    return Checkpoint(
        name,
        network,
        "sn",
        (8, 2),
        file,
        None,
        None,
        None,
        using_bn=using_bn,
        box_ap=box_ap,
        mask_ap=mask_ap,
        options={"boxes": "published", "box_beta": 1.0, **options},
    )


#: Every checkpoint that the papers' authors published: for classification of ImageNet, and for detection on COCO.
PUBLISHED = (
    _sn("resnetv1sn50-8x32-cosine", "resnetv1sn50", 32, "ResNet50v1+SN(8,32)-77.49.pth", 0.7749, 0.9332),
    _sn("resnetv1sn50-8x32-step", "resnetv1sn50", 32, "ResNet50v1+SN(8,32)-76.92.pth", 0.7692, 0.9326),
    _sn("resnetv1sn50-8x4", "resnetv1sn50", 4, None, 0.7585, 0.927),
    _sn("resnetv1sn50-8x1", "resnetv1sn50", 1, None, 0.7594, 0.927),
    _sn("resnetv1sn101-8x32", "resnetv1sn101", 32, "ResNet101v1+SN(8,32).pth", 0.7854, 0.9410),
    _sn("resnetv2sn50-8x32", "resnetv2sn50", 32, "ResNet50v2+SN(8,32)-77.57.pth", 0.7757, 0.9365),
    _sn("resnetv2sn101-8x32", "resnetv2sn101", 32, "ResNet101v2+SN(8,32).pth", 0.7881, 0.9416),
    _ssn(32, None, "5c9fb111577b040e62461db51ffce69b", 0.7725, 0.9329),
    _ssn(16, None, "d7085632529a9b1945a28a4d3bf4cacb", 0.7698, 0.9329),
    _ssn(8, None, "af85a39920644421fc48e216aba6ff0e", 0.7675, 0.9333),
    # The zoo's own number, though 96.71 % beside a top-1 of 76.07 % looks like a slip of the pen.
    _ssn(4, None, "949d4bd54a7c63a3371b941eb4d3ea69", 0.7607, 0.9671),
    _ssn(2, "ssn_8x2_75.848.pth", "dadb0f1a0c49c31aedd6cb83d4996a03", 0.7585, 0.9273),
    # This zoo states errors.
    _ws("l_resnet50", "R-50-GN-WS.pth.tar", 23.72, 6.99),
    _ws("l_resnet101", "R-101-GN-WS.pth.tar", 22.10, 6.07),
    _ws("l_resnext50", "X-50-GN-WS.pth.tar", 22.71, 6.38),
    _ws("l_resnext101", "X-101-GN-WS.pth.tar", 21.80, 6.03),
    _detector("faster_resnet50_c4_sn", "resnet50_c4+faster", "faster_rcnn_R-50-C4_2x_sn.pth", 0.3807),
    # This one alone was evaluated with a stage in training mode that has batch statistics.
    _detector(
        "faster_resnet50_fpn_sn",
        "resnet50_fpn+faster_2fc",
        "faster_rcnn_R-50-FPN_2x_sn.pth",
        0.3910,
        published_eval=True,
    ),
    _detector("faster_resnet50_fpn_sn_8x1", "resnet50_fpn+faster_2fc", "faster_rcnn_R-50-FPN_2x_sn_(8,1).pth", 0.3899),
    _detector(
        "mask_resnet50_fpn_sn_8x1", "resnet50_fpn+mask_4conv1fc", "mask_rcnn_R-50-FPN_2x_sn_(8,1).pth", 0.4101, 0.3612
    ),
)


def published(name: str) -> Checkpoint:
    """The published checkpoint of that name; raise `InputError` with the nearest one if there is none."""
    for checkpoint in PUBLISHED:
        if checkpoint.name == name:
            return checkpoint
    raise unknown("published checkpoint", name, [checkpoint.name for checkpoint in PUBLISHED])
