"""Which pictures networks of torchvision and timm expect."""

from __future__ import annotations

from dataclasses import dataclass

from switchnorm.errors import InputError
from switchnorm.models import foreign
from switchnorm.models.segmentation.timm_encoder import parts


@dataclass(frozen=True)
class Pictures:
    """The pictures that a network's published weights were trained for.

    Args:
        mean, std: of each channel, which are subtracted and divide, for pixels in [0, 1].
        interpolation: of resizing, a name in `switchnorm.data.interpolation.INTERPOLATIONS`.
        size: side of the square that the network is shown; None for any.
        crop: how much of a test picture's short side that is, where the source says so.
        resize: how long that short side is, in pixels, where the source says so instead.
        remark: what a dataset does otherwise; "" for nothing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    size: int | None = None
    crop: float | None = None
    resize: int | None = None
    remark: str = ""

    def resized(self, size: int) -> int | None:
        """The short side of test pictures, of which crops of that side are cut; None where `crop` says it."""
        return None if self.resize is None or self.size is None else size * self.resize // self.size


def expected(name: str) -> Pictures | None:
    """The pictures that a network of torchvision or timm expects, looked up by its name; weights are not read.

    timm says it for each of its weights, and of those without a tag it means the first. torchvision has a set of
    transforms for each of its weights, of which these are the ones that it calls DEFAULT.

    Args:
        name: a network's, as `create_model` knows it, and none of this library's.

    Returns:
        None for unknown networks, and those of which their source says nothing.
    """
    source = foreign.source_of(name)
    try:
        source.check(name, [])
    except InputError:
        return None
    found = parts(name)
    return _of_timm(name if found is None else found.encoder) if source is foreign.TIMM else _of_torchvision(name)


def _of_timm(name: str) -> Pictures | None:
    import timm  # it takes seconds, and is known to be here
    from timm.data import resolve_data_config

    known = timm.get_pretrained_cfg(name.removeprefix(foreign.PREFIX))
    if known is None:
        return None
    wanted = resolve_data_config(pretrained_cfg=known.to_dict())
    _, height, width = wanted["input_size"]
    mode, square = wanted["crop_mode"], height == width
    remarks = {"squash": "squashes pictures to squares", "border": "pads pictures to squares"}
    remark = f"timm {remarks[mode]} there, and here the centre is cropped" if mode in remarks else ""
    if wanted["crop_pct"] > 1:  # VOLO's crops are larger than the pictures
        remark = "timm pads pictures with black there, and here they fill the crop"
    return Pictures(
        tuple(wanted["mean"]),
        tuple(wanted["std"]),
        wanted["interpolation"],
        height if square else None,
        min(wanted["crop_pct"], 1.0) if square else None,
        remark=remark if square else f"timm shows {width}x{height} pixels there, and here crops are squares",
    )


#: What torchvision's detectors subtract and divide by, where it is not what ImageNet's pictures have.
_DETECTORS = {
    "ssd300_vgg16": ((0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
    "ssdlite320_mobilenet_v3_large": ((0.5,) * 3, (0.5,) * 3),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _of_torchvision(name: str) -> Pictures:
    if foreign.detects(name):  # their transforms are parts of the networks
        return Pictures(*_DETECTORS.get(name, _IMAGENET), interpolation="bilinear")
    from torchvision.models import get_model_weights  # it takes seconds

    wanted = get_model_weights(name)["DEFAULT"].transforms()
    colors = tuple(wanted.mean), tuple(wanted.std), wanted.interpolation.value
    if not hasattr(wanted, "crop_size"):  # a network for segmentation, which takes any
        return Pictures(*colors)
    return Pictures(*colors, size=wanted.crop_size[0], resize=wanted.resize_size[0])
