"""The command line: what it prints, and that a user's mistake is one line and exit code 2."""

import subprocess
import sys
import time

import pytest
import torch

from switchnorm.cli import main

#: A device that this machine lacks.
ABSENT = "mps" if torch.cuda.is_available() else "cuda"


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path):
    """Run a command line that must fail: returns the line it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("switchnorm: ")
        assert err.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir() if path.suffix != ".ckpt"] == [], "something was left behind"
        return err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "COMMAND"),
        (("trian",), "'trian' (choose from"),
        (("train",), "train starts with a recipe"),
        (("train", "--norm", "sn"), "train starts with a recipe"),
        (("train", "cifar10/resnet21"), "recipe 'cifar10/resnet21' is unknown; did you mean 'cifar10/resnet20'?"),
        (("train", "digits/resnet9", "--norm", "snn"), "norm 'snn' is unknown; did you mean 'sn'?"),
        (("train", "digits/resnet9", "--norm", "gn:3"), "the nearest group counts are 2 or 4"),
        (("train", "digits/resnet9", "--model", "resnet9"), "did you mean 'digits_resnet9'?"),
        (("train", "digits/resnet9", "--model", "cifar_resnet20"), "takes 3 channels, but 'digits' has 1"),
        (("train", "digits/resnet9", "--batch-size", "9999"), "9999"),
        (("train", "digits/resnet9", "--lr", "fast"), "optimizer.lr: expected float"),
        (("train", "digits/resnet9", "--device", ABSENT), "not available here; choose 'cpu'"),
        (("train", "cifar10/resnet20", "--data.root", "."), "cifar-10"),
        (("eval", "nowhere"), "is no run folder; expected config.yaml"),
        (("eval", "nowhere", "--chekpoint", "x"), "argument '--chekpoint' is unknown; did you mean '--checkpoint'?"),
        (("inspect", "nowhere"), "does not exist"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(fails, arguments, message):
    assert message in fails(*arguments)


def test_inspect_refuses_a_checkpoint_without_switchable_layers(fails, tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "plain.ckpt")
    assert "has no switchable layer" in fails("inspect", "plain.ckpt")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_is_there_within_two_seconds(arguments):
    def seconds() -> float:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "switchnorm", *arguments], capture_output=True, text=True, check=True
        )
        assert "switchnorm" in done.stdout
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 2


def test_train_eval_inspect_and_report_work_together(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    train = ["train", "digits/resnet9", "--norm", "ssn", "--epochs", "1", "--schedule.warmup_epochs", "0"]
    main([*train, "--batch-size", "128"])
    out = capsys.readouterr().out
    assert "epoch 1/1" in out
    assert "runs/digits-resnet9-ssn: validation accuracy" in out
    run = tmp_path / "runs/digits-resnet9-ssn"
    trained = float(out.split("validation accuracy")[1].split("%")[0])
    assert {"config.yaml", "run.json", "metrics.csv", "importance.csv", "checkpoints", "tensorboard"} <= {
        path.name for path in run.iterdir()
    }
    main(["eval", str(run)])
    assert f"{trained:.2f} %" in capsys.readouterr().out
    main(["inspect", str(run)])
    by_run = capsys.readouterr().out
    assert "layer3.0.bn2" in by_run
    main(["inspect", str(run / "checkpoints/last.ckpt")])
    assert capsys.readouterr().out.split() == by_run.split()
    main(["report", str(run)])
    assert "report.html" in capsys.readouterr().out
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    main([*train, "--batch-size", "512"])
    assert (tmp_path / "runs/digits-resnet9-ssn-2").is_dir()
