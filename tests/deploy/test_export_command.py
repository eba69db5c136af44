"""`switchnorm export`: a run becomes a file that answers as the run does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import switchnorm
from switchnorm.cli import main
from tests.deploy.nets import a_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_run(tmp_path_factory.mktemp("export"))


def test_a_run_becomes_a_file_that_answers_alike(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(run), "--format", "torchscript"])
    file = run / f"{run.name}.torchscript"
    said = capsys.readouterr().out
    assert f"{file}: torchscript" in said
    assert "takes images uint8 (batch, 3, 16, 16), gives logits" in said
    assert said.splitlines()[-1] == f"next: switchnorm predict {file} PICTURES --out FOLDER"
    picture = next((run.parent / "photos").rglob("*.jpg"))
    ours, theirs = (switchnorm.load(each).predict(picture) for each in (file, run))
    assert ours.classes == theirs.classes
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=1e-5)
    about = switchnorm.load(file).description
    assert about.folded
    assert about.layers
    assert 0 <= about.results["val_accuracy"] <= 1


def test_flags_change_the_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.pt2"
    main(
        [
            "export",
            str(run),
            "--out",
            str(out),
            "--size",
            "20",
            "24",
            "--dynamic",
            "none",
            "--raw",
            "--checkpoint",
            "last",
        ]
    )
    assert "takes images float32 (1, 3, 20, 24)" in capsys.readouterr().out
    about = switchnorm.load(out).description
    assert (about.raw, about.dynamic, about.size) == (True, (), (20, 24))
    assert switchnorm.load(out)(np.zeros((1, 3, 20, 24), np.float32))["logits"].shape == (1, 3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "onyx"], "format 'onyx' is unknown; did you mean 'onnx'?"),
        (["--formt", "onnx"], "argument '--formt' is unknown; did you mean '--format'?"),
        (["--size", "0"], "--size takes a side in pixels, or height and width, got 0"),
        (["--size", "1", "2", "3"], "--size takes a side in pixels, or height and width, got 1 2 3"),
        (["--format", "executorch", "--dynamic", "batch"], "takes no 'dynamic'; leave it out, or choose from onnx"),
        (["--format", "pt2", "--int8", "."], "takes no 'int8'; leave it out, or choose from onnx, openvino"),
        (["--out", "net.torchscript", "--checkpoint", "bst"], "checkpoint 'bst' does not exist"),
        (["--out", "net.onnx", "--dynamic", "hieght"], "did you mean 'height'?"),
        (["--out", "net.onnx", "--half", "--int8", "."], "leave one of them out"),
        (["--out", "nowhere/net.onnx"], "folder 'nowhere' does not exist"),
    ],
)
def test_bad_flags_end_with_a_line_and_write_nothing(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(run.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), *flags])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert sorted(run.iterdir()) == before
    assert not list(tmp_path.iterdir())


def test_what_was_exported_is_not_exported_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "a.torchscript"
    main(["export", str(run), "--out", str(first)])
    with pytest.raises(SystemExit):
        main(["export", str(first), "--out", str(tmp_path / "b.torchscript")])
    assert "has been exported already; give the run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(first)])
    assert "exists; choose another name, or replace it with --force" in capsys.readouterr().err
