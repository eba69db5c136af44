"""Every command line of README.md and docs/: trainings take a step, and all others are understood by their program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.command import _parser as benchmarks_parser
from benchmarks.gpu import pictures
from switchnorm.cli import main
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.recipes import find_recipe
from tests import pages

#: What runs its own commands, with the plugins that it has the reader write.
OWN = ("docs/extending.md",)
COMMANDS = {
    command: page
    for page in map(str, (path.relative_to(pages.ROOT) for path in pages.PAGES))
    if page not in OWN
    for command in pages.commands(page)
}
#: Where the work of a command begins: what stands before it has understood the command line.
BEGINNINGS = (
    *("deploy.exporting.export", "deploy.load.load", "deploy.networks.trained", "deploy.predict.predict_pictures"),
    *("deploy.push.push", "report.write", "runs.checkpoints.checkpoint_of", "studies.compare.plan_comparison"),
    *("studies.demo.demo", "studies.geometry.plan_study", "survey.whole.look_at", "data.create_dataset"),
    *("training.evaluate.evaluate_weights", "training.launch.inspect", "training.launch.resume", "weights.convert"),
    *("weights.read_checkpoint", "studies.single.train_single", "studies.seeds.train_seeds"),
)
#: Flags with which a step of the data's networks takes a second.
SMALL = {
    "imagenet": (("--samples-per-gpu", "2"), ("--data.size", "32"), ("--data.resize", "32")),
    "ade20k": (("--data.short_sides", "[32]"),),
    "camvid": (("--data.crop", "[32, 32]"),),
    "coco": (("--data.short_sides", "[64]"),),
}
#: What a rehearsal does without: files, and what it writes itself.
LEFT_OUT = {"--train.warm_start", "--train.start_epoch", "--train.loggers", "--out", "--workers"}
#: The recipe that RECIPE is and of which RUN is a run, by page; others are about classification.
RUNS = {
    "docs/segmentation.md": "camvid/small",
    "docs/detection.md": "bccd/small",
    "docs/deployment.md": "digits/resnet9",
    "docs/clusters.md": "digits/resnet9",
}


class ReachedError(BaseException):
    """The command line was understood."""


def stop(*arguments: Any, **options: Any) -> None:
    """Do no more."""
    raise ReachedError


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the recipes of the pages."""
    monkeypatch.chdir(tmp_path)
    for page in ("docs/start.md", "docs/classification.md", "docs/results/deployed.md"):
        for name, content in re.findall(r"(?<=\n\n)    # (\w+\.yaml)\n((?:    .*\n)+)", pages.read(page)):
            (tmp_path / name).write_text(re.sub("^    ", "", content, flags=re.MULTILINE))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_one(command: str, reader: Path) -> None:
    program, *arguments = shlex.split(command)
    if program == "torchrun":
        program, arguments = "switchnorm", arguments[arguments.index("switchnorm") + 1 :]
    if program == "switchnorm":
        _switchnorm(arguments, RUNS.get(COMMANDS[command], "cifar10/resnet20"), reader)
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", pages.read("Makefile"), re.MULTILINE)
    elif program == "pip":
        extras = [name for name in re.findall(r"\[([\w,]+)\]", command) for name in name.split(",")]
        assert all(re.search(rf"^{name} = \[", pages.read("pyproject.toml"), re.MULTILINE) for name in extras)
    elif program == "eval":
        assert arguments == ["$(register-python-argcomplete switchnorm)"]
    elif arguments[:2] == ["-m", "benchmarks"]:
        _benchmarks(arguments[2:])
    elif arguments[:2] == ["-m", "benchmarks.gpu.pictures"]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(pictures, "pack", stop)
            with pytest.raises(ReachedError):
                pictures.main(arguments[2:])
    else:
        assert arguments[:2] == ["-m", "pytest"], command
        assert all((pages.ROOT / path).exists() for path in arguments if path.startswith("tests"))


def test_pages_have_commands() -> None:
    assert len(COMMANDS) > 90
    assert {command.partition(" ")[0] for command in COMMANDS} >= {"switchnorm", "torchrun", "make", "pip", "python"}


def _switchnorm(arguments: Sequence[str], recipe: str, folder: Path) -> None:
    configurations = ("RECIPE", "RUN/config.yaml")
    command, *rest = arguments = [recipe if word in configurations else word for word in arguments]
    if command == "train" and rest[0] != "--resume" and "--cluster" not in rest:
        _rehearse(rest, folder)
        return
    for name in {re.sub(r"/checkpoints/.*|/[\w.-]+\.onnx$", "", word) for word in rest}:
        if name in ("RUN", "OTHER") or name.startswith("runs/"):
            run = folder / name
            run.mkdir(parents=True)
            root = [] if recipe.startswith("digits") else ["--data.root", "DIR"]
            (run / "run.json").write_text("{}")
            (run / "config.yaml").write_text(to_yaml(read_config(find_recipe(recipe), root)))
    with pytest.MonkeyPatch.context() as patched:
        for place in BEGINNINGS:
            patched.setattr(f"switchnorm.{place}", stop)
        with pytest.raises(ReachedError):
            main(arguments)


def _rehearse(arguments: Sequence[str], folder: Path) -> None:
    """Take a step, and write nothing."""
    recipe, *flags = arguments
    without: list[str] = []
    dropped = False
    for flag in flags:
        if flag.startswith("--"):
            dropped = flag in LEFT_OUT or flag == "--seeds"
        if not dropped and flag != "--dry-run":
            without.append(flag)
    name = read_config(find_recipe(recipe), without).data["name"]
    before = sorted(folder.iterdir())
    small = [word for flag in SMALL.get(name, ()) if flag[0] not in without for word in flag]
    main(["train", recipe, *without, *small, "--dry-run"])
    assert sorted(folder.iterdir()) == before


def _benchmarks(arguments: Sequence[str]) -> None:
    if "--help" not in arguments:
        assert benchmarks_parser().parse_args(arguments).suite == arguments[0]
        return
    with pytest.raises(SystemExit) as ended:
        benchmarks_parser().parse_args(arguments)
    assert ended.value.code == 0
