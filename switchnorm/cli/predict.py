"""`switchnorm predict`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from switchnorm.cli.command import Commands
from switchnorm.cli.flags import add_task_flags, config_flags, task_flag_names

_FLAGS = ("--checkpoint", "--out", "--device", "--precision", "--data.root")


def add(commands: Commands) -> None:
    """Add the command."""
    predict = commands.add(
        "predict",
        _run,
        "write masks and overlays of pictures, by a segmentation run",
        _help(),
        flags=(*_FLAGS, *task_flag_names("predict")),
    )
    predict.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder")
    predict.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE", help="files, or folders of files")
    predict.add_argument("--checkpoint", metavar="C", default="best", help="of RUN: best (default), last, or a file")
    predict.add_argument("--out", type=Path, metavar="DIR", help="where to write (RUN/predictions)")
    add_task_flags(predict, "predict")
    predict.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (as RUN did)")
    predict.add_argument("--precision", choices=("32", "bf16", "16", "64"), help="of the computation (as RUN's)")
    predict.add_argument("--data.root", metavar="DIR", help="the data's folder, whose classes.txt 'masks' reads")


def _help() -> str:
    return """Write masks and overlays of pictures, by a segmentation run.

  switchnorm predict runs/camvid-small-sn street.jpg holiday/
  switchnorm predict runs/camvid-small-sn pictures/ --scales 360 480 --flip --out masks

NAME.jpg becomes NAME.png, a mask that numbers the classes as the dataset's own annotations do, with a palette, and
NAME_overlay.jpg to look at. Photographs are turned as their EXIF data says."""


def _run(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.config.recipe import read_config
    from switchnorm.runs.folder import RunFolder

    run = RunFolder.open(options.run_folder)
    given = {name: getattr(options, name) for name in ("device", "precision", "data.root")}
    flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
    own = config_flags(options, "predict", run.config().task, repr(str(options.run_folder)))
    config = read_config(run.config_file, [*own, *flags])
    from switchnorm.training.launch import checkpoint_of

    checkpoint = checkpoint_of(run, options.checkpoint)
    from switchnorm.training.predict import predict_pictures

    out = options.out or run.path / "predictions"
    count = predict_pictures(config, checkpoint, options.pictures, out)
    print(f"{out}: masks and overlays of {count} picture{'' if count == 1 else 's'}, by {checkpoint}")
