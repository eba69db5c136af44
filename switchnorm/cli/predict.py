"""`switchnorm predict`."""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.classes import Classes, listed, names_in, same
from switchnorm.cli.command import Commands
from switchnorm.cli.flags import add_task_flags, config_flags, task_flag_names
from switchnorm.cli.networks import add_network_flags, open_run, split, weights_config
from switchnorm.config.elsewhere import unknown_flag
from switchnorm.config.task_spec import find_task
from switchnorm.errors import InputError
from switchnorm.runs.reading import run_of
from switchnorm.text import canonical, say

if TYPE_CHECKING:
    from switchnorm.deploy.net import Net
    from switchnorm.deploy.predict import Predicted

#: Flags with RUN, besides those of its task; all other keys are as the run was configured.
_FLAGS = ("--checkpoint", "--weights", "--classes", "--out", "--plugins", "--device", "--precision", "--data.root")
#: Pictures that could not be predicted, of which the terminal says why.
_NAMED = 20
#: Flags that name a dataset, and those that say which classes there are.
_DATA = frozenset({"--data", "--data.name"})
_NAMING = _DATA | {"--data.classes_file"}


def add(commands: Commands) -> None:
    """Add the command."""
    predict = commands.add(
        "predict", _run, "write what a run, an exported file or any weights predict for pictures", _help()
    )
    predict.usage = (
        "switchnorm predict RUN | FILE | FOLDER | hf-hub:NAME PICTURE ... | PICTURE ... --weights FILE --model NAME "
        "--classes CLASSES"
    )
    add_network_flags(predict, "best")
    predict.add_argument(
        "--classes",
        metavar="CLASSES",
        help="of --weights: a dataset with these classes (ade20k), or a file that names one in each line",
    )
    predict.add_argument("--out", type=Path, metavar="DIR", help="where to write (RUN/predictions, or predictions)")
    add_task_flags(predict, "predict")


def _help() -> str:
    return """Write what a run, an exported file, or any weights, predict for pictures.

  switchnorm predict runs/camvid-small-sn street.jpg holiday/
  switchnorm predict runs/camvid-small-sn pictures/ --scales 360 480 --flip --out masks
  switchnorm predict runs/cifar10-resnet20-ssn cat.jpg
  switchnorm predict runs/bccd-small-sn slides/ --shown 0.3 --out found
  switchnorm predict street.onnx holiday/ --flip
  switchnorm predict hf-hub:me/blood-cells slide.jpg
  switchnorm predict cat.jpg --weights FILE --model timm:resnet50 --norm sn --classes imagenet
  switchnorm predict street.jpg --weights encoder.pth decoder.pth --model resnet50_dilated8+c1_bilinear_deepsup \\
      --norm sn --classes ade20k --data.colors published

Classification names the five likeliest classes of each picture: on the terminal, in predictions.csv, and in
predictions.html beside the picture. Segmentation makes of NAME.jpg NAME.png, a mask that numbers the classes as the
dataset's own annotations do, with a palette, and NAME_overlay.jpg to look at; large pictures are predicted in parts.
Detection draws boxes and masks on NAME_detections.jpg, and writes those of all pictures to detections.json, a data set
of COCO's whose annotations have scores, and detections.csv.

Pictures are files, or folders of files; photographs are turned as their EXIF data says. One that cannot be read stops
none of the others: it is named at the end, and the command fails.

RUN understands the flags --device, --precision, and --data.KEY. In its place stands a file that `switchnorm export` has
written, a folder that `switchnorm push` has, a checkpoint of a run, or a name on the Hugging Face Hub: these know how
pictures are shown to them, and are run without torch where they are ONNX or OpenVINO.

With --weights, --model, --norm, --conv, --model.options.KEY and --data.KEY say what they belong to and how pictures are
shown to them."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    positional, flags = split(arguments)
    if options.weights is not None:
        _by_weights(options, positional, flags)
        return
    if not positional:
        raise InputError(
            "predict takes a run folder, an exported file or hf-hub:NAME, or --weights FILE; see `switchnorm predict "
            "--help`"
        )
    if options.classes is not None:
        raise InputError("--classes is for --weights, and a run knows its own; leave it out")
    what = Path(positional[0])
    if run_of(what) == what:
        _by_run(what, options, positional[1:], flags)
    else:
        _by_name(positional[0], options, positional[1:], flags)


def _by_run(folder: Path, options: argparse.Namespace, pictures: Sequence[str], flags: Sequence[str]) -> None:
    run, config = open_run(folder, options, flags, _FLAGS)
    _check_pictures(pictures)
    out = _folder(options.out or run.path / "predictions")
    from switchnorm.deploy.networks import trained
    from switchnorm.runs.classes import class_notes
    from switchnorm.training.network import check_device

    check_device(config)
    checkpoint = options.checkpoint or "best"
    found = trained(run.path, checkpoint, config)
    if not found.dataset.fixed_classes and found.classes is None:
        say(*class_notes(found.dataset, None, f"run {str(run.path)!r}"))
    _write(found.net(str(folder)), pictures, out, str(found.checkpoint))


def _by_name(what: str, options: argparse.Namespace, pictures: Sequence[str], flags: Sequence[str]) -> None:
    """By a file that was exported, a folder that was pushed, a checkpoint of a run, or a name on the hub."""
    able = ("--device", "--out", "--checkpoint", "--plugins", *task_flag_names("predict"))
    device = "cpu"
    for flag, value in _pairs(flags):
        if flag != "--device":
            raise unknown_flag("argument", flag, able)
        device = value
    out = _folder(options.out or Path("predictions"))
    from switchnorm.deploy.load import load

    net = load(what, checkpoint=options.checkpoint, device=device)
    config_flags(options, "predict", net.task, repr(what))  # which are for its task, and in their ranges
    _check_pictures(pictures)
    flags_of_task = [flag.attribute for flag in find_task(net.task).flags if "predict" in flag.commands]
    settings = {name: value for name in flags_of_task if (value := getattr(options, name)) is not None}
    _write(net, pictures, out, what, settings)


def _pairs(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags with their values, "" where one has none."""
    rest = iter(flags)
    for flag in rest:
        name, equals, value = flag.partition("=")
        yield name, value if equals else next(rest, "")


def _by_weights(options: argparse.Namespace, pictures: Sequence[str], flags: Sequence[str]) -> None:
    _check_pictures(pictures)
    named, classes = named_classes(options, flags)
    config = weights_config(options, [*named, *flags])
    own = _classes_in(options.weights)
    if own is None and options.classes is None and not _NAMING & _names(flags):
        raise InputError(
            "predict --weights needs --classes: a dataset's name such as ade20k, or a file that names a class in each "
            "line"
        )
    of_file = classes is not None or config.data.get("classes_file") is not None
    if own is not None and of_file:
        from switchnorm.data import create_dataset
        from switchnorm.runs.classes import classes_of

        _check_same(classes or classes_of(create_dataset(**config.data)), own, options.weights[0])
    from switchnorm.training.pictures import as_expected
    from switchnorm.weights import load_published

    config, said = as_expected(config, pretrained=True)
    if said:
        say(said)
    out = _folder(options.out or Path("predictions"))
    from switchnorm.deploy.predict import predict_pictures

    found = predict_pictures(
        config,
        lambda model: load_published(model, *options.weights),
        [Path(picture) for picture in pictures],
        out,
        classes if of_file else own,
    )
    _tell(found, out, " and ".join(map(str, options.weights)))


def _classes_in(weights: Sequence[Path]) -> Classes | None:
    """The classes that a checkpoint of a run names; None for other files."""
    from switchnorm.weights import read_checkpoint

    return read_checkpoint(weights[0]).classes if len(weights) == 1 else None


def named_classes(options: argparse.Namespace, flags: Sequence[str]) -> tuple[list[str], Classes | None]:
    """What a command line says of the classes of weights.

    Returns:
        The flags that choose a dataset, whose pictures and masks need not be here, and the names in the file of
        `--classes` where the dataset does not read it; None where the dataset or the weights name the classes.

    Raises:
        InputError: two flags name classes; no such dataset, or no such file.
    """
    from switchnorm.data import dataset_class, dataset_classes

    given = _names(flags)
    if options.classes is None:
        data = _value(flags, _DATA)
        name = data or _any_data(flags)
        return [*([] if data else [f"--data={name}"]), *_root(name, given)], None
    if _NAMING & given:
        raise InputError(f"--classes and {min(_NAMING & given)} say the same; leave one of them out")
    if options.classes in dataset_classes():
        task = dataset_class(options.classes).task
        if find_task(task).answering is None:
            raise InputError(f"--classes {options.classes!r} is for {task}, of which predict writes nothing")
        return [f"--data={options.classes}", *_root(options.classes, given)], None
    if not Path(options.classes).is_file():
        able = [name for name, each in dataset_classes().items() if find_task(each.task).answering is not None]
        raise InputError(
            f"--classes {options.classes!r} is no file and no dataset; the datasets are {', '.join(sorted(able))}"
        )
    name = _any_data(flags)
    chosen = [f"--data={name}", *_root(name, given)]
    if "classes_file" in inspect.signature(dataset_class(name)).parameters:
        return [*chosen, f"--data.classes_file={options.classes}"], None
    return chosen, Classes(tuple(map(canonical, names_in(Path(options.classes)))))


def _any_data(flags: Sequence[str]) -> str:
    """The dataset that takes any classes, of the task that the network is for."""
    from switchnorm.models import task_of

    name = _value(flags, ("--model", "--model.name"))
    task = task_of(name)
    if not find_task(task).dataset:
        raise InputError(f"model {name!r} is for {task}, whose classes a dataset has to name; add --data")
    return find_task(task).dataset


def _check_same(named: Classes, own: Classes, weights: Path) -> None:
    """Raise `InputError` where a file names other classes than the weights do."""
    if not same(named.names, own.names):
        raise InputError(
            f"{weights} names its {len(own.names)} classes itself ({listed(own.names)}), and the file others "
            f"({len(named.names)}: {listed(named.names)}); leave the file out"
        )


def _root(name: str, given: Collection[str]) -> list[str]:
    """Some root for a dataset whose data is not read, where one has to be given."""
    from switchnorm.data import dataset_class

    root = inspect.signature(dataset_class(name)).parameters.get("root")
    return ["--data.root=."] if root is not None and root.default is root.empty and "--data.root" not in given else []


def _names(flags: Sequence[str]) -> set[str]:
    """What stands before "=" in flags; their values are among them, which begin otherwise."""
    return {flag.partition("=")[0] for flag in flags}


def _value(flags: Sequence[str], names: Collection[str]) -> str:
    """The value of the last flag of some name; "" where there is none."""
    values = (
        attached if equals else following
        for flag, following in itertools.pairwise([*flags, ""])
        for name, equals, attached in [flag.partition("=")]
        if name in names
    )
    return ["", *values][-1]


def _check_pictures(pictures: Sequence[str]) -> None:
    if not pictures:
        raise InputError("predict needs pictures: files, or folders of files")


def _folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file; expected a folder")
    return out


def _write(net: Net, pictures: Sequence[str], out: Path, what: str, settings: Mapping[str, Any] | None = None) -> None:
    from switchnorm.deploy.predict import predict_into

    _tell(predict_into(net, [Path(picture) for picture in pictures], out, settings), out, what)


def _tell(found: Predicted, out: Path, what: str) -> None:
    count = f"{found.count} picture{'' if found.count == 1 else 's'}"
    failures = list(found.failed.values())
    say(*found.lines, *_listed(failures), *([f"{out}: {found.title} of {count}, by {what}"] if found.count else []))
    if failures:
        more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        of = found.count + len(failures)
        raise InputError(f"{len(failures)} of {of} pictures could not be predicted; {failures[0]}{more}")


def _listed(failures: Sequence[str]) -> list[str]:
    """Why pictures could not be predicted, where the error does not say all; of many the beginning."""
    more = [f"and {len(failures) - _NAMED} more"] if len(failures) > _NAMED else []
    return [*failures[:_NAMED], *more] if len(failures) > 1 else []
