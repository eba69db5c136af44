"""`switchnorm push`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from switchnorm.cli.command import Commands
from switchnorm.text import say

_FLAGS = ("--to", "--private", "--checkpoint", "--license", "--message", "--force", "--plugins")


def add(commands: Commands) -> None:
    """Add the command."""
    push = commands.add("push", _run, "share a run's network on the Hugging Face Hub", _help(), flags=_FLAGS)
    push.add_argument("what", metavar="RUN", help="a run folder, one of its checkpoints, or what was pushed before")
    push.add_argument("name", metavar="ORG/NAME", help="of the repository; ORG/NAME@BRANCH for a branch of it")
    push.add_argument("--to", type=Path, metavar="DIR", help="write the files to a folder, and upload nothing")
    push.add_argument("--private", action="store_true", help="let a new repository be seen by its owners alone")
    push.add_argument("--checkpoint", metavar="C", help="of RUN: last, best, epoch:N or a file (best)")
    push.add_argument("--license", dest="licence", metavar="NAME", help="as the hub writes it, such as apache-2.0")
    push.add_argument("--message", metavar="TEXT", help="of the commit")
    push.add_argument("--force", action="store_true", help="replace files that are in DIR already")


def _help() -> str:
    return """Share a run's network on the Hugging Face Hub.

  switchnorm push runs/cifar10-resnet20-ssn me/cifar10-resnet20-ssn
  switchnorm push runs/bccd-small-sn me/blood-cells --license apache-2.0 --private
  switchnorm push runs/bccd-small-sn me/blood-cells --to blood-cells

Three files are written and committed: README.md, a model card with task, data, results, batch geometry, what the
layers chose and how to use it; config.json; and model.safetensors, the weights as they were trained. Before that the
network is made again from them and compared. Everybody then has it:

  switchnorm predict hf-hub:me/blood-cells slide.jpg
  python -c 'import switchnorm; print(switchnorm.load("hf-hub:me/blood-cells").predict("slide.jpg"))'

The upload needs `pip install 'switchnorm[hub]'` and a token (`hf auth login`, or HF_TOKEN); HF_ENDPOINT names another
hub."""


def _run(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.deploy.push import push

    done = push(
        options.what,
        options.name,
        to=options.to,
        private=options.private,
        checkpoint=options.checkpoint,
        licence=options.licence,
        message=options.message,
        force=options.force,
    )
    say(*done.remarks)
    if done.folder is not None:
        where = shlex.quote(str(done.folder))
        say(f"{done.folder}: README.md, config.json and model.safetensors; nothing was uploaded")
    else:
        where = f"hf-hub:{options.name}"
        say(f"{done.url}")
    if done.description.predicts:
        say(f"next: switchnorm predict {where} PICTURES --out FOLDER")
