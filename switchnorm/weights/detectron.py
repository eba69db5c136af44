"""The names of entries in published detectors, which descend from Detectron.pytorch, and ours.

| ours | published |
|---|---|
| `body.stem`, `body.layer1` ... | `Conv_Body.conv_body.res1`, `.res2` ...; without a pyramid `Conv_Body.res1` ... |
| `neck.lateral.3`, `.2`, `.1`, `.0` | `Conv_Body.conv_top`, `Conv_Body.topdown_lateral_modules.{0,1,2}.conv_lateral` |
| `neck.output.3` ... `.0` | `Conv_Body.posthoc_modules.0` ... `.3` |
| `rpn.head.{conv.0.0,cls_logits,bbox_pred}` | `RPN.FPN_RPN_{conv,cls_score,bbox_pred}`; else `RPN.RPN_...` |
| `box.fc1`, `.fc2`, `.convs`, `.fc`, `.layer4` | `Box_Head.fc1`, `.fc2`, `.convs`, `.fc`, `.res5` |
| `box.cls_score`, `.bbox_pred` | `Box_Outs.cls_score`, `.bbox_pred` |
| `mask.convs`, `.upconv`, `.classify` | `Mask_Head.conv_fcn`, `.upconv`, `Mask_Outs.classify` |

Within a body Group Norm is called bn1, bn2, ... by us and gn1, gn2, ... there. Shapes are as of
`switchnorm.weights.layout`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

#: What our names begin with, and the published ones: of all networks, with a pyramid, and without.
_COMMON = {
    "box.layer4.": "Box_Head.res5.",
    "box.fc1.": "Box_Head.fc1.",
    "box.fc2.": "Box_Head.fc2.",
    "box.convs.": "Box_Head.convs.",
    "box.fc.": "Box_Head.fc.",
    "box.cls_score.": "Box_Outs.cls_score.",
    "box.bbox_pred.": "Box_Outs.bbox_pred.",
    "mask.convs.": "Mask_Head.conv_fcn.",
    "mask.upconv.": "Mask_Head.upconv.",
    "mask.classify.": "Mask_Outs.classify.",
}
_PYRAMID = {
    "body.stem.": "Conv_Body.conv_body.res1.",
    **{f"body.layer{number}.": f"Conv_Body.conv_body.res{number + 1}." for number in range(1, 5)},
    "neck.lateral.3.": "Conv_Body.conv_top.",
    **{f"neck.lateral.{2 - i}.": f"Conv_Body.topdown_lateral_modules.{i}.conv_lateral." for i in range(3)},
    **{f"neck.output.{3 - i}.": f"Conv_Body.posthoc_modules.{i}." for i in range(4)},
    "rpn.head.conv.0.0.": "RPN.FPN_RPN_conv.",
    "rpn.head.cls_logits.": "RPN.FPN_RPN_cls_score.",
    "rpn.head.bbox_pred.": "RPN.FPN_RPN_bbox_pred.",
    **_COMMON,
}
_LAST_STAGE = {
    "body.stem.": "Conv_Body.res1.",
    **{f"body.layer{number}.": f"Conv_Body.res{number + 1}." for number in range(1, 4)},
    "rpn.head.conv.0.0.": "RPN.RPN_conv.",
    "rpn.head.cls_logits.": "RPN.RPN_cls_score.",
    "rpn.head.bbox_pred.": "RPN.RPN_bbox_pred.",
    **_COMMON,
}
#: What a converted file's metadata calls these names.
NAME = "detectron"
_OF_GROUP = re.compile(r"\.gn(\d+)\.")


def has_place(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict with our names is of a network that the published code has: two stages, a residual body."""
    return {"body.stem.conv1.weight", "rpn.head.cls_logits.weight", "box.cls_score.weight"} <= state.keys()


def is_detectron(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the published names."""
    return any(key.startswith(("Conv_Body.", "Box_Head.", "Box_Outs.")) for key in state)


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with the published names -> with ours; entries of other names keep these."""
    names = _PYRAMID if any(key.startswith("Conv_Body.conv_body.") for key in state) else _LAST_STAGE
    backwards = {theirs: ours for ours, theirs in names.items()}
    return {_OF_GROUP.sub(r".bn\1.", name): value for name, value in _renamed(state, backwards)}


def to_detectron(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_ours`."""
    names = _PYRAMID if any(key.startswith("neck.") for key in state) else _LAST_STAGE
    of_group = re.compile(r"\.bn(\d+)\.")
    found = {}
    for key, (name, value) in zip(state, _renamed(state, names), strict=True):
        grouped = of_group.search(key) and f"{key.rpartition('.')[0]}.running_mean" not in state
        found[of_group.sub(r".gn\1.", name) if grouped else name] = value
    return found


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """The entries of a state, each under the name that its beginning asks for."""
    for key, value in state.items():
        begin = next((begin for begin in names if key.startswith(begin)), "")
        yield names.get(begin, "") + key.removeprefix(begin), value
