"""Modules of the user's own: the command line imports them, a file only those that the user named before."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from switchnorm.config import plugins
from switchnorm.errors import InputError
from tests import forked

NORM = """
from torch import nn
from switchnorm.layers import Norm, register

class Half(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.num_features = channels
        self.weight, self.bias = (nn.Parameter(value) for value in (nn.init.ones_(_new(channels)), _new(channels)))

    def forward(self, x):
        half = x.shape[1] // 2
        shape = (1, -1) + (1,) * (x.dim() - 2)
        mean = x[:, :half].mean(tuple(range(1, x.dim())), keepdim=True)
        return (x - mean) * self.weight.view(shape) + self.bias.view(shape)

def _new(channels):
    import torch
    return torch.zeros(channels)

register(Norm("half", layers={1: Half, 2: Half, 3: Half}))
open("imported", "a").write("x")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was ever named here."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`switchnorm ...` in a process of its own, since what is imported stays so."""
    found = forked.run("-m", "switchnorm", *arguments, cwd=folder)
    return found.returncode, found.stdout, found.stderr


def test_flags_are_told_from_the_others() -> None:
    assert plugins.split(["--norm", "x", "--plugins", "a", "--plugins=b", "--plugins", "a", "--lr", "1"]) == (
        ["a", "b"],
        ["--norm", "x", "--lr", "1"],
    )
    for flags in (["--plugins"], ["--plugins", "--lr"], ["--plugins="]):
        with pytest.raises(InputError, match="needs the name of a module"):
            plugins.split(flags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "plugin 'mine' is no module that Python finds"),
        ("1 / 0", "plugin 'mine' cannot be imported: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "plugin 'mine' cannot be imported: SystemExit"),
        ("import no_such_module", "plugin 'mine' cannot be imported: ModuleNotFoundError"),
        ("from switchnorm.errors import InputError\nraise InputError('no')", "plugin 'mine': no"),
    ],
)
def test_what_cannot_be_imported_is_named_in_one_line(
    home: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    code, out, err = command(tmp_path, "train", "digits/resnet9", "--plugins", "mine")
    assert (code, out) == (2, "")
    assert err.startswith(f"switchnorm: {message}")
    assert err.count("\n") == 1


def test_a_run_keeps_its_plugins_and_everything_about_it_works(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NORM)
    train = ("train", "digits/resnet9", "--norm", "half", "--plugins", "mine", "--epochs", "2", "--device", "cpu")
    code, out, err = command(tmp_path, *train, "--out", "run")
    assert code == 0, err
    assert "run: validation accuracy" in out
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["plugins"] == ["mine"]
    for arguments in (("eval", "run"), ("report", "run"), ("eval", "run", "--plugins", "mine")):
        code, out, err = command(tmp_path, *arguments)
        assert code == 0, err
    assert "HALF" in command(tmp_path, "report", "run")[1]
    code, _, err = command(tmp_path, "train", "--resume", "run")
    assert "is finished" in err
    assert command(tmp_path, "train", "--resume", "run", "--plugins", "mine")[2] == err


@pytest.mark.sweep
def test_several_seeds_and_studies_have_the_plugin_in_their_processes(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NORM)
    shared = ("--plugins", "mine", "--epochs", "2", "--workers", "1", "--device", "cpu")
    code, out, err = command(tmp_path, "train", "digits/resnet9", "--norm", "half", "--seeds", "0", "1", *shared)
    assert code == 0, err
    assert "2 seeds" in out
    study = ("study", "geometry", "--recipe", "digits/resnet9", "--norms", "half", "--geometries", "8x32")
    code, out, err = command(tmp_path, *study, *shared)
    assert code == 0, out + err
    assert "HALF" in out


def test_a_file_is_no_module(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NORM)
    err = command(tmp_path, "train", "digits/resnet9", "--plugins", "mine.py")[2]
    assert err == "switchnorm: plugin 'mine.py' is a file; name the module in it, --plugins mine\n"
    (tmp_path / "r.yaml").write_text("base: digits/resnet9\nplugins: [gone]\n")
    assert "wants the plugin 'gone', which is no module that Python finds" in command(tmp_path, "train", "r.yaml")[2]


def test_a_run_from_somebody_else_starts_no_code(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(NORM)
    train = ("train", "digits/resnet9", "--norm", "half", "--plugins", "mine", "--epochs", "2", "--device", "cpu")
    assert command(tmp_path, *train, "--out", "run")[0] == 0
    (tmp_path / "imported").unlink()
    record = tmp_path / "run/run.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    for arguments in (("eval", "run"), ("train", "--resume", "run"), ("train", "run/config.yaml")):
        code, out, err = command(tmp_path, *arguments)
        assert (code, out) == (2, "")
        assert err.endswith("which is code that you have not named yourself; if you trust it, add --plugins mine\n")
    assert command(tmp_path, "report", "run")[0] == 0, "a report reads files alone"
    assert not (tmp_path / "imported").exists()


def test_a_module_of_the_same_name_elsewhere_is_another_one(home: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    recipe = "base: digits/resnet9\nplugins: [mine]\n"
    for folder in (here, there):
        folder.mkdir()
        (folder / "mine.py").write_text(NORM)
        (folder / "r.yaml").write_text(recipe)
    dry = ("train", "r.yaml", "--norm", "half", "--dry-run")
    assert "have not named" in command(here, *dry)[2]
    assert command(here, *dry, "--plugins", "mine")[0] == 0
    assert command(here, *dry)[0] == 0
    assert "have not named" in command(there, *dry)[2]
    assert not (there / "imported").exists()
