"""`switchnorm convert`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from switchnorm.cli.command import Commands
from switchnorm.text import say


def add(commands: Commands) -> None:
    """Add the command."""
    convert = commands.add(
        "convert",
        _run,
        "turn a checkpoint into safetensors, or back into a file for the published code",
        flags=("--name", "--network", "--decoder", "--force"),
    )
    convert.add_argument("file", type=Path, metavar="FILE", help="a published checkpoint, or one of a run")
    convert.add_argument("out", type=Path, metavar="OUT", help="OUT.safetensors, with a card beside it, or OUT.pth")
    convert.add_argument("--name", metavar="NAME", help="the published checkpoint that FILE is (found out by itself)")
    convert.add_argument("--network", metavar="NAME", help="the network that FILE is of, where keys do not tell")
    convert.add_argument(
        "--decoder",
        type=Path,
        metavar="FILE",
        help="the decoder's file of a network for segmentation, beside the encoder's as FILE, or as OUT.pth",
    )
    convert.add_argument("--force", action="store_true", help="replace OUT where it exists")


def _run(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.weights import convert

    chosen = {"decoder": options.decoder, "network": options.network or _network_of_run(options.file)}
    card = convert(options.file, options.out, options.name, options.force, **chosen)
    what = [card.name or "no published checkpoint", f"network {card.network or 'unknown'}", f"norm {card.norm or '?'}"]
    what += [f"--model.norms.{part} {norm or '?'}" for part, norm in card.norms.items()]
    what += [f"--model.options.{option} {str(value).lower()}" for option, value in card.options.items()]
    what += ["statistics " + ", ".join(card.statistics)] if card.statistics else []
    say(f"{options.out}: {'; '.join(what)}")
    if card.alike:
        say(f"  or {', '.join(card.alike)}, for keys do not tell which; --network says which it is")
    say(f"  read {card.format}, {card.keys} tensors, {card.parameters} parameters, {card.reshaped} reshaped")
    dropped = [*card.dropped[:8], *([f"{len(card.dropped) - 8} more"] if len(card.dropped) > 8 else [])]
    dropped += [f"the prefix {card.removed_prefix!r}"] if card.removed_prefix else []
    if dropped:
        say(f"  left out: {', '.join(dropped)}")
    say(f"  MD5 {card.md5}{', as published' if card.verified else ''}")
    if card.decoder_md5 is not None:
        say(f"  MD5 {card.decoder_md5} (decoder)")
    if card.box_ap is not None:
        masks = "" if card.mask_ap is None else f", mask AP {100 * card.mask_ap:.2f} %"
        say(f"  claimed: box AP {100 * card.box_ap:.2f} %{masks} ({card.source})")
    if card.top1 is not None and card.top5 is not None:
        say(f"  claimed accuracy: top-1 {100 * card.top1:.2f} %, top-5 {100 * card.top5:.2f} % ({card.source})")


def _network_of_run(file: Path) -> str | None:
    """The network of a run's checkpoint, where keys alone do not tell its dilation; None for any other file."""
    from switchnorm.runs.folder import RunFolder

    run = RunFolder(file.parent.parent)
    if not run.config_file.is_file():
        return None
    name = run.config().model.name
    return name if "+" in name else None
