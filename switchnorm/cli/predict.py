"""`switchnorm predict`."""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.command import Commands
from switchnorm.cli.flags import add_task_flags
from switchnorm.cli.networks import add_network_flags, open_run, split, weights_config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.runs.classes import class_notes, run_classes
from switchnorm.text import say

if TYPE_CHECKING:
    from torch import nn

    from switchnorm.classes import Classes
    from switchnorm.config.schema import Config

#: Flags with RUN, besides those of its task; all other keys are as the run was configured.
_FLAGS = ("--checkpoint", "--weights", "--classes", "--out", "--plugins", "--device", "--precision", "--data.root")


def add(commands: Commands) -> None:
    """Add the command."""
    predict = commands.add("predict", _run, "write what a run or any weights predict for pictures", _help())
    predict.usage = "switchnorm predict RUN PICTURE ... | PICTURE ... --weights FILE --model NAME --classes CLASSES"
    add_network_flags(predict, "best")
    predict.add_argument(
        "--classes",
        metavar="CLASSES",
        help="of --weights: a dataset with these classes (ade20k), or a file that names one in each line",
    )
    predict.add_argument("--out", type=Path, metavar="DIR", help="where to write (RUN/predictions, or predictions)")
    add_task_flags(predict, "predict")


def _help() -> str:
    return """Write what a run, or any weights, predict for pictures.

  switchnorm predict runs/camvid-small-sn street.jpg holiday/
  switchnorm predict runs/camvid-small-sn pictures/ --scales 360 480 --flip --out masks
  switchnorm predict runs/cifar10-resnet20-ssn cat.jpg
  switchnorm predict cat.jpg --weights FILE --model timm:resnet50 --norm sn --classes imagenet
  switchnorm predict street.jpg --weights encoder.pth decoder.pth --model resnet50_dilated8+c1_bilinear_deepsup \\
      --norm sn --classes ade20k --data.colors published

Classification names the five likeliest classes of each picture: on the terminal, in predictions.csv, and in
predictions.html beside the picture. Segmentation makes of NAME.jpg NAME.png, a mask that numbers the classes as the
dataset's own annotations do, with a palette, and NAME_overlay.jpg to look at; large pictures are predicted in parts.

Pictures are files, or folders of files; photographs are turned as their EXIF data says. One that cannot be read stops
none of the others: it is named at the end, and the command fails.

RUN understands the flags --device, --precision, and --data.KEY. With --weights, --model, --norm, --conv,
--model.options.KEY and --data.KEY say what they belong to and how pictures are shown to them."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    positional, flags = split(arguments)
    if options.weights is not None:
        _by_weights(options, positional, flags)
        return
    if not positional:
        raise InputError("predict takes a run folder, or --weights FILE; see `switchnorm predict --help`")
    if options.classes is not None:
        raise InputError("--classes is for --weights, and a run knows its own; leave it out")
    run, config = open_run(Path(positional[0]), options, flags, _FLAGS)
    _check_pictures(positional[1:])
    from switchnorm.training.launch import checkpoint_of
    from switchnorm.weights import load_state, read_checkpoint

    checkpoint = checkpoint_of(run, options.checkpoint or "best")
    file = read_checkpoint(checkpoint)
    classes, dataset = run_classes(run, file), create_dataset(**config.data)
    if classes is None and not dataset.fixed_classes:
        say(*class_notes(dataset, None, f"run {str(run.path)!r}"))
    _predict(
        config,
        lambda model: load_state(model, file.state, f"checkpoint {str(checkpoint)!r}"),
        positional[1:],
        options.out or run.path / "predictions",
        str(checkpoint),
        classes,
    )


def _by_weights(options: argparse.Namespace, pictures: Sequence[str], flags: Sequence[str]) -> None:
    classes = None
    if options.classes is None and not _names_data(flags):
        classes = _classes_in(options.weights)
    own = classes_flags(options, flags) if classes is None else ["--data=masks", "--data.root=."]
    config = weights_config(options, [*own, *flags])
    _check_pictures(pictures)
    from switchnorm.training.pictures import as_expected
    from switchnorm.weights import load_published

    config, said = as_expected(config, pretrained=True)
    if said:
        print(said)

    _predict(
        config,
        lambda model: load_published(model, *options.weights),
        pictures,
        options.out or Path("predictions"),
        " and ".join(map(str, options.weights)),
        classes,
    )


def _names_data(flags: Sequence[str]) -> bool:
    return any(flag.partition("=")[0] in ("--data", "--data.name", "--data.classes_file") for flag in flags)


def _classes_in(weights: Sequence[Path]) -> Classes | None:
    """The classes that a checkpoint of a run names; None for other files."""
    from switchnorm.weights import read_checkpoint

    return read_checkpoint(weights[0]).classes if len(weights) == 1 else None


def classes_flags(options: argparse.Namespace, flags: Sequence[str]) -> list[str]:
    """The flags that choose a dataset by its classes; its pictures and masks need not be here."""
    from switchnorm.config.task_spec import find_task
    from switchnorm.data import dataset_class, dataset_classes

    given = {flag.partition("=")[0] for flag in flags}
    named = {"--data", "--data.name"} & given
    if options.classes is None:
        if not named:
            raise InputError(
                "predict --weights needs --classes: a dataset's name such as ade20k, or a file that names a class in "
                "each line"
            )
        return _root(_value(flags, ("--data", "--data.name")), given)
    named |= {"--data.classes_file"} & given
    if named:
        raise InputError(f"--classes and {min(named)} say the same; leave one of them out")
    if options.classes in dataset_classes():
        chosen = dataset_class(options.classes)
        if find_task(chosen.task).predictor is None:
            raise InputError(f"--classes {options.classes!r} is for {chosen.task}, of which predict writes nothing")
        return [f"--data={options.classes}", *_root(options.classes, given)]
    if not Path(options.classes).is_file():
        able = [name for name, each in dataset_classes().items() if find_task(each.task).predictor is not None]
        raise InputError(
            f"--classes {options.classes!r} is no file and no dataset; the datasets are {', '.join(sorted(able))}"
        )
    return ["--data=masks", f"--data.classes_file={options.classes}", *_root("masks", given)]


def _root(name: str, given: Collection[str]) -> list[str]:
    """Some root for a dataset whose data is not read, where one has to be given."""
    from switchnorm.data import dataset_class

    root = inspect.signature(dataset_class(name)).parameters.get("root")
    return ["--data.root=."] if root is not None and root.default is root.empty and "--data.root" not in given else []


def _value(flags: Sequence[str], names: Collection[str]) -> str:
    """The value of the last flag of some name."""
    values = (
        attached if equals else following
        for flag, following in itertools.pairwise([*flags, ""])
        for name, equals, attached in [flag.partition("=")]
        if name in names
    )
    return list(values)[-1]


def _check_pictures(pictures: Sequence[str]) -> None:
    if not pictures:
        raise InputError("predict needs pictures: files, or folders of files")


def _predict(
    config: Config,
    load: Callable[[nn.Module], object],
    pictures: Sequence[str],
    out: Path,
    what: str,
    classes: Classes | None,
) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file; expected a folder")
    from switchnorm.training.predict import predict_pictures

    found = predict_pictures(config, load, [Path(picture) for picture in pictures], out, classes)
    for line in found.lines:
        print(line)
    print(f"{out}: {found.title} of {found.count} picture{'' if found.count == 1 else 's'}, by {what}")
    if found.failed:
        (file, reason), *others = found.failed.items()
        more = f", and {len(others)} more" if others else ""
        why = f"{file}: {reason}" if str(file) not in reason else f"cannot read {reason}"
        of = found.count + len(found.failed)
        raise InputError(f"{len(found.failed)} of {of} pictures could not be predicted; {why}{more}")
