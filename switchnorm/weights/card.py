"""What is known of a converted checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Card:
    """What `switchnorm convert` found and did; written beside a safetensors file as JSON.

    Attributes:
        name: of the published checkpoint, see `switchnorm.weights.PUBLISHED`; None for others.
        network: a name for `switchnorm.create_model`; None where the keys are those of no network known here.
        norm: "bn", "sn", "ssn", "gn+ws"; None where keys do not tell ("gn", "ln" and "in", with or without "+ws").
        statistics: what its switchable layers mix, in the order of their logits; None where it has none, or layers
            that differ.
        num_classes: how many logits the network has, of a detector without the background's; None where the network is
            unknown.
        top1, top5: claimed accuracy on ImageNet's validation set, in [0, 1]; None where nobody claims one.
        box_ap, mask_ap: claimed average precision on COCO's validation set of 2017, in [0, 1]; likewise.
        source: where the checkpoint was published.
        md5: of the file as its authors saved it, where it was read or recorded, otherwise of the file that was read.
        verified: whether that sum is the one its authors published.
        keys, parameters: how many tensors, and how many numbers in them but for running statistics, counters and flags.
        removed_prefix: what was taken off the front of every key.
        reshaped: how many entries changed from the published (1, C, 1, 1) to (C,) or back.
        dropped: entries that were left out: what lay beside the state dict, counters unknown to the published code, and
            sums of which the running statistics beside them were made.
        format: of the file that was read: "safetensors", "torch zip", "torch legacy" or "torch tar".
        switchnorm: the version that converted it.
        decoder_md5: of the decoder's file, where the network was published as two; `md5` is then the encoder's.
        alike: other networks that the file may belong to as well: they differ in dilation, of which keys and shapes
            show nothing, and `network` is the one that was published. Empty where `--network` said which it is.
        options: what `create_model` has to be told beside the network's name: `deep_stem`, `box_channels`, ...; of a
            published detector also what makes it compute as its authors' code does, such as `boxes`.
        norms: of the parts of a detector where they differ, "none" for none; None where keys do not tell.
    """

    name: str | None
    network: str | None
    norm: str | None
    statistics: tuple[str, ...] | None
    num_classes: int | None
    top1: float | None
    top5: float | None
    source: str | None
    md5: str
    verified: bool
    keys: int
    parameters: int
    removed_prefix: str
    reshaped: int
    dropped: tuple[str, ...]
    format: str
    switchnorm: str
    decoder_md5: str | None = None
    alike: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    box_ap: float | None = None
    mask_ap: float | None = None
    norms: dict[str, str | None] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as a JSON object."""
        return json.dumps(asdict(self), indent=2) + "\n"
