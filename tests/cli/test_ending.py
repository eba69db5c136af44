"""How commands end: whatever fails is one line, whatever the streams are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from switchnorm.cli import main
from switchnorm.cli.ending import TRACEBACK
from switchnorm.recipes import find_recipe

SWITCHNORM = [sys.executable, "-m", "switchnorm"]


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A command that fails as none should; temporary files come here."""

    def fail(*_: object) -> None:
        raise RuntimeError("first line\x1b[31m\nsecond line")

    monkeypatch.setattr("switchnorm.cli.runs._inspect", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(TRACEBACK, raising=False)
    return tmp_path


def ended(capsys, *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code, capsys.readouterr().err


def test_what_nobody_expected_is_one_line_and_a_file(broken, capsys):
    code, err = ended(capsys, "inspect", "x")
    assert code == 1
    assert re.fullmatch(
        r"switchnorm: failed unexpectedly, RuntimeError: first line\\x1b\[31m; the traceback is in .*\n", err
    )
    (file,) = broken.iterdir()
    assert str(file) in err
    assert "Traceback" in file.read_text()
    assert "second line" in file.read_text()


def test_its_traceback_can_be_printed_instead(broken, capsys, monkeypatch):
    monkeypatch.setenv(TRACEBACK, "1")
    code, err = ended(capsys, "inspect", "x")
    assert (code, list(broken.iterdir())) == (1, [])
    assert "Traceback" in err


def test_of_several_processes_one_says_it(broken, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "the traceback is in" in ended(capsys, "inspect", "x")[1]
    assert ended(capsys, "inspect", "x") == (1, "")
    (file,) = broken.iterdir()
    os.utime(file, (time.time() - 1000,) * 2)  # what is left of another torchrun silences nobody
    assert "the traceback is in" in ended(capsys, "inspect", "x")[1]


def test_without_a_place_for_the_file_the_traceback_is_printed(broken, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(broken / "absent"))
    code, err = ended(capsys, "inspect", "x")
    assert code == 1
    assert "Traceback" in err
    assert "no file could be written" in err.splitlines()[-1]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("| true", 141, ""),
        (">/dev/full", 2, "switchnorm: standard output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_output_that_nobody_takes(redirected, code, said, unbuffered):
    script = f"sleep 0.1; {' '.join(SWITCHNORM)} study {redirected}; echo ${{PIPESTATUS[0]}} >&3"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&{write}; {script}"], pass_fds=[write], capture_output=True, text=True, env=environment
    )
    os.close(write)
    with open(read) as file:
        assert int(file.read()) == code
    assert done.stderr == said


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}]
)
def test_any_name_can_be_said(environment):
    name = os.fsdecode("netz-ü-".encode() + b"\xff")
    done = subprocess.run([*SWITCHNORM, "train", name], capture_output=True, env={**os.environ, **environment})
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"switchnorm: recipe 'netz-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "zzzz"), "there are ade20k/..., bccd/..., camvid/..."),
        (("train", "resnet20"), "did you mean 'cifar10/resnet20'? Near too: 'cifar100/resnet20'"),
        (("train", "x.yaml"), "`switchnorm train --help` lists them"),
        (("train", "digits/resnet9", "-b", "128"), "flag '-b' is another tool's; here it is --batch-size N"),
        (("train", "digits/resnet9", "-j4"), "flag '-j' is another tool's; here it is --data.workers N"),
        (("train", "digits/resnet9", "4"), "argument '4' belongs to no flag"),
        (("train", "digits/resnet9", "--samples-per-gpu", "99999999"), "must be at most train.batch_size, 32"),
        (
            ("train", "digits/resnet9", "--schedule.milestones", "[-1]"),
            "train.epochs says, must be at least 1, got -1",
        ),
        (("train", "digits/resnet9", "--schedule.milestones", "[9]"), "must be below 8, got 9"),
        (
            ("train", "digits/resnet9", "--optimizer.clip_norm", "0"),
            "at least 1e-12, got 0.0; null is for none",
        ),
        (("train", "digits/resnet9", "--train.mixup", "1e-320"), "train.mixup must be 0, or at least 0.01, got 1e-320"),
        (("train", "digits/resnet9", "--seeds", "1", "--workers", "9999"), "--workers must be at most 1024, got 9999"),
        (("train", "imagenet/resnet18", "--data.root", ".", "--data.size", "0"), "data.size must be at least 1, got 0"),
        (("study", "geometry", "--workers", "0"), "--workers must be at least 1, got 0"),
        (("study", "geometry", "--seeds", "-1"), "seed must be at least 0, got -1"),
        (("eval", "--weights", "a", "b", "c"), "got 'c' as a third"),
        (("eval", "run", "--statistics", "calibrate:" + "9" * 5000), "must be at most 2147483647, got "),
        (("train", "digits/resnet9", "--epochs", "2", "--epochs", "3"), "--epochs is given twice; leave one of them"),
        (("train", "digits/resnet9", "--lr=1", "--optimizer.lr", "2"), "--lr and --optimizer.lr say the same"),
        (("study", "compare", "--variants", "bn", "--variants", "sn"), "--variants is given twice"),
        (("study", "geometry", "--seeds", "0", "0"), "seeds must differ, got 0 0"),
        (("check", "digits/resnet9", "--out", "run.json"), "run.json is no name of a page; the nearest is run.html"),
        (("train", "digits/resnet9", "--optimizer.groups", "[3]"), "expected {match: GLOB, lr_factor: FACTOR, weight"),
        (
            ("train", "digits/resnet9", "--optimizer.groups", "[{match: a, lr_factor: x}]"),
            "groups: lr_factor: expected",
        ),
    ],
)
def test_wrong_flags_are_one_short_line(capsys, arguments, message):
    code, err = ended(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert len(err) < 250


def test_every_recipe_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(("train", "--help"))
    out = capsys.readouterr().out
    assert all(len(line) <= 120 for line in out.splitlines())
    assert {"resnetv1ssn50_8x16", "pretrained_small"} <= set(out.split())
    assert find_recipe("camvid/pretrained_small") != Path()


def test_warnings_are_lines_without_the_place_in_the_code(monkeypatch, capsys):
    def warn(*_: object) -> None:
        shown = warnings.formatwarning(UserWarning("a picture\x1b[31m\nis lost"), UserWarning, "/deep/inside.py", 7)
        print(shown, end="", file=sys.stderr)

    monkeypatch.setattr("switchnorm.cli.runs._inspect", warn)
    before = warnings.formatwarning
    main(["inspect", "runs/x"])
    assert capsys.readouterr().err == "warning: a picture\\x1b[31m is lost\n"
    assert warnings.formatwarning is before


def test_a_folder_that_was_removed_under_ones_feet_is_a_line(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    command = f"cd {here} && rmdir {here} && exec {' '.join(SWITCHNORM)} train digits/resnet9 --dry-run --device cpu"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (2, "switchnorm: the current folder was removed; change to another one\n")
