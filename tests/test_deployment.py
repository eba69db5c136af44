"""docs/deployment.md: its commands and its Python run in their order, on a run of few steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from switchnorm.cli import main
from switchnorm.deploy.formats import FORMATS
from tests import pages

PAGE = "docs/deployment.md"
#: What people have time for, and a test has not.
SHORTER = {"train": ["--train.epochs", "1", "--schedule.warmup_epochs", "0", "--train.batch_size", "256"]}


@pytest.mark.sweep  # a training, seven exports and as many imports
def test_every_step_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    said = []
    for kind, text in pages.steps(PAGE):
        if kind == "python":
            exec(text, names)
        elif text.startswith("switchnorm "):
            command, *arguments = shlex.split(text)[1:]
            main([command, *arguments, *SHORTER.get(command, ())])
        said.append(capsys.readouterr().out)
    asked = next(out for out in said if "%" in out and "." in out and "digits" not in out)
    by_hand = next(out.strip() for out in said if re.fullmatch(r"\d\n", out))
    assert asked.startswith(by_hand)
    for file in (
        "digits.onnx",
        "any.onnx",
        "half.onnx",
        "int8.onnx",
        "runs/digits/digits.torchscript",
        "resnet18.onnx",
    ):
        assert Path(file).is_file()
    assert list(Path("found").iterdir())


def test_the_table_is_that_of_the_formats() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\.\w+)`", pages.read(PAGE), flags=re.MULTILINE))
    assert rows == {each.name: each.suffix for each in FORMATS.values()}
    for each in FORMATS.values():
        (takes,) = re.findall(rf"^\| `{each.name}` \|[^|]*\|([^|]*)\|", pages.read(PAGE), flags=re.MULTILINE)
        assert takes.strip().strip("`").split() == [f"--{argument}" for argument in each.arguments]
