"""The names that others give to what this library's detectors have: torchvision's, and published backbones'.

| ours | torchvision's |
|---|---|
| `body.stem.conv1`, `body.layer1` ... | `backbone.body.conv1`, `backbone.body.layer1` ... |
| `neck.lateral.0`, `neck.output.0`, `neck.p6` | `backbone.fpn.inner_blocks.0`, `.layer_blocks.0`, `.extra_blocks.p6` |
| `rpn` | `rpn` |
| `box.fc1`, `.fc2` | `roi_heads.box_head.fc6`, `.fc7` |
| `box.convs.0`, `.1`, `.3`, `.4` ..., `box.fc` | `roi_heads.box_head.0.0`, `.0.1`, `.1.0`, `.1.1` ..., `.5` |
| `box.cls_score`, `.bbox_pred` | `roi_heads.box_predictor.cls_score`, `.bbox_pred` |
| `mask.convs.0`, `.1`, `.3` ... | `roi_heads.mask_head.0.0`, `.0.1`, `.1.0` ... |
| `mask.upconv`, `.classify` | `roi_heads.mask_predictor.conv5_mask`, `.mask_fcn_logits` |
| `head.cls_convs.0` ..., `head.cls_logits` | `head.classification_head.conv.0.0` ..., `.cls_logits` |
| `head.box_convs.0` ... | `head.regression_head.conv.0.0` ... |
| `head.bbox_pred`, `.centerness` | `head.regression_head.bbox_reg`, `.bbox_ctrness` |

Files of torchvision that are older lack the last number of a convolution that has no normalization.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

#: How torchvision's names begin, and what stands there in ours.
_TORCHVISION: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"backbone\.body\.(conv1|bn1)\.": r"body.stem.\1.",
    r"backbone\.body\.": "body.",
    r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:(\d)\.)?": lambda m: f"neck.lateral.{m[1]}.{m[2] or 0}.",
    r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:(\d)\.)?": lambda m: f"neck.output.{m[1]}.{m[2] or 0}.",
    r"backbone\.fpn\.extra_blocks\.": "neck.",
    r"rpn\.head\.conv\.(?=weight|bias)": "rpn.head.conv.0.0.",
    r"roi_heads\.box_head\.fc6\.": "box.fc1.",
    r"roi_heads\.box_head\.fc7\.": "box.fc2.",
    r"roi_heads\.box_head\.(\d)\.(\d)\.": lambda m: f"box.convs.{3 * int(m[1]) + int(m[2])}.",
    r"roi_heads\.box_head\.5\.": "box.fc.",
    r"roi_heads\.box_predictor\.": "box.",
    r"roi_heads\.mask_head\.mask_fcn(\d)\.": lambda m: f"mask.convs.{3 * (int(m[1]) - 1)}.",
    r"roi_heads\.mask_head\.(\d)\.(\d)\.": lambda m: f"mask.convs.{3 * int(m[1]) + int(m[2])}.",
    r"roi_heads\.mask_predictor\.conv5_mask\.": "mask.upconv.",
    r"roi_heads\.mask_predictor\.mask_fcn_logits\.": "mask.classify.",
    r"head\.classification_head\.cls_logits\.": "head.cls_logits.",
    r"head\.regression_head\.bbox_reg\.": "head.bbox_pred.",
    r"head\.regression_head\.bbox_ctrness\.": "head.centerness.",
}
#: Both branches of a head: torchvision's RetinaNet has convolution and normalization together, FCOS in a row.
_BRANCH = re.compile(r"head\.(classification|regression)_head\.conv\.(\d+)\.(?:(\d)\.)?")
_BRANCHES = {"classification": "cls_convs", "regression": "box_convs"}
#: An entry of a published backbone, with what converters put before it.
_BACKBONE = re.compile(r"(?:Conv_Body\.)?(?:conv_body\.)?res(\d)\.")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector of torchvision with our names; entries that have no place in ours keep theirs."""
    together = any(re.match(r"head\.\w+_head\.conv\.0\.0\.", key) for key in state)
    found = {_ours(key, together): value for key, value in state.items()}
    boxes = found.get("head.bbox_pred.bias")
    anchors = 0 if boxes is None else len(boxes) // 4
    for key in [key for key in found if key.startswith("head.cls_logits.") and anchors]:
        # Theirs have a column for the background, of which nothing is ever learned.
        found[key] = found[key].unflatten(0, (anchors, -1))[:, 1:].flatten(0, 1)
    return found


def _ours(key: str, together: bool) -> str:
    branch = _BRANCH.match(key)
    if branch is not None:
        number = 3 * int(branch[2]) + int(branch[3] or 0) if together else int(branch[2])
        return f"head.{_BRANCHES[branch[1]]}.{number}.{key[branch.end() :]}"
    for pattern, ours in _TORCHVISION.items():
        match = re.match(pattern, key)
        if match is not None:
            begin = ours(match) if callable(ours) else match.expand(ours)
            return begin + key[match.end() :]
    return key


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    """Whether a state is that of a published detector's body alone, as it was made from a classifier."""
    return all(_BACKBONE.match(key) or key.startswith("fc.") for key in state) and next(iter(state), "") != "fc.weight"


def from_backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published backbone with the names of the classifier that it was: `res1.conv1` was `conv1`, `res2` `layer1`."""

    def named(match: re.Match[str]) -> str:
        return "" if match[1] == "1" else f"layer{int(match[1]) - 1}."

    return {re.sub(r"\bgn(?=\d+\.)", "bn", _BACKBONE.sub(named, key)): value for key, value in state.items()}
