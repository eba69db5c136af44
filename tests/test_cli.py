"""The command line: what it prints, and that a user's mistake is one line and exit code 2."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from switchnorm.cli import main
from tests import forked


def no_network(*arguments: object) -> None:
    raise OSError("no network in tests")


def files(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


#: A device that this machine lacks.
ABSENT = "mps" if torch.cuda.is_available() else "cuda"


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path):
    """Run a command line that must fail and change no file: returns the line it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("switchnorm.data.datasets.cifar._download", no_network)

    def run(*arguments: str) -> str:
        before = files(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("switchnorm: ")
        assert err.count("\n") == 1
        assert files(tmp_path) == before, "something was changed or left behind"
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
        (("train", "digits/resnet9", "--model", "digits_resnet"), "did you mean 'digits_resnet9'?"),
        (("train", "digits/resnet9", "--model", "cifar_resnet20"), "takes 3 channels, but 'digits' has 1"),
        (("train", "digits/resnet9", "--batch-size", "9999"), "9999"),
        (("train", "digits/resnet9", "--lr", "fast"), "optimizer.lr: expected float"),
        (("train", "digits/resnet9", "--device", ABSENT), "not available here; choose 'cpu'"),
        (("train", "cifar10/resnet20", "--data.root", "."), "cifar-10"),
        (("eval", "nowhere"), "is no run folder; expected config.yaml"),
        (("eval", "nowhere", "--chekpoint", "x"), "argument '--chekpoint' is unknown; did you mean '--checkpoint'?"),
        (("inspect", "nowhere"), "does not exist"),
        (("report", "nowhere"), "nowhere"),
        (("train", "digits/resnet9", "--norm", "bn", "--samples-per-gpu", "1"), "more than one element per channel"),
        (("train", "digits/resnet9", "--norm", "bn", "--batch-size", "1"), "more than one element per channel"),
        (("train", "digits/resnet9", "--devices", "2"), "flag '--devices' is unknown; did you mean '--device'?"),
        (("train", "digits/resnet9", "--dryrun"), "flag '--dryrun' is unknown; did you mean '--dry-run'?"),
        (("train", "digits/resnet9", "--outt", "X"), "flag '--outt' is unknown; did you mean '--out'?"),
        (("train", "digits/resnet9", "--output", "X"), "flag '--output' is another tool's; here it is --out DIR"),
        (("study", "compare", "--recipe", "digits/resnet9", "--ouut", "X"), "did you mean '--out'?"),
        (("check", "digits/resnet9", "--limt", "3"), "flag '--limt' is unknown; did you mean '--limit'?"),
        (
            ("train", "bccd/small", "--model.norms", "bn"),
            "model.norms: expected {NAME: VALUE}, as {body: bn, neck: sn}; one normalizer for all parts is model.norm",
        ),
        (("train", "digits/resnet9", "--out", "/dev/null/run"), "/dev/null"),
        (("train", "digits/resnet9", "--seeds", "1", "1"), "seeds must differ, got 1 1"),
        (("train", "digits/resnet9", "--seeds", "-1"), "seed must be at least 0, got -1"),
        (("train", "digits/resnet9", "--seeds", "one"), "--seeds: invalid int value: 'one'"),
        (("train", "digits/resnet9", "--seeds", "0", "--seed", "1"), "--seeds and --seed exclude each other"),
        (("train", "digits/resnet9", "--seeds", "0", "--norm", "snn"), "norm 'snn' is unknown; did you mean 'sn'?"),
        (("train", "digits/resnet9", "--workers", "2"), "--workers is for several trainings"),
        (("train", "digits/resnet9", "--seeds", "0", "--workers", "0"), "--workers must be at least 1, got 0"),
        (("train", "digits/resnet9", "--dry-run", "--out", "x"), "--dry-run writes nothing"),
        (("train", "digits/resnet9", "--dry-run", "--norm", "snn"), "norm 'snn' is unknown; did you mean 'sn'?"),
        (("train", "--resume", "x", "--dry-run"), "leave out --dry-run"),
        (("train", "digits/resnet9", "--train.warm_start", "none.pt"), "checkpoint 'none.pt' does not exist"),
        (("train", "digits/resnet9", "--model.options.dropot", "1"), "'dropot'"),
        (("train", "digits/resnet9", "--train.ema", "1"), "train.ema must be below 1, got 1"),
        (("train", "digits/resnet9", "--train.mixup", "-1"), "train.mixup must be at least 0, got -1"),
        (("train", "digits/resnet9", "--optimizer.groups", "[{match: layr1}]"), "'layr1' matches no parameter"),
        (("train", "digits/resnet9", "--train.cuda_graph", "true", "--device", "cpu"), "train.cuda_graph needs"),
        (("eval",), "eval takes a run folder, or --weights FILE"),
        (("eval", "nowhere", "--views", "five"), "invalid choice: 'five'"),
        (("eval", "nowhere", "--norm", "sn"), "argument '--norm' is unknown"),
        (("eval", "--weights", "w.pt"), "names no dataset; add data.name"),
        (("eval", "--weights", "w.pt", "--model", "digits_resnet9", "--data", "digits"), "'w.pt' does not exist"),
        (("eval", "--weights", "w.pt", "--checkpoint", "best"), "leave one of them out"),
        (("demo", "--out", "/dev/null/demo"), "/dev/null"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(fails, arguments, message):
    assert message in fails(*arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    flags = ("--norm", "ssn", "--epochs", "1", "--schedule.warmup_epochs", "0", "--batch-size", "512")
    main(("train", "digits/resnet9", *flags, "--out", str(folder / "run")))
    return folder / "run"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def rewrite(old: str, new: str):
    return lambda file: file.write_text(file.read_text().replace(old, new))


DAMAGE = {
    "truncated checkpoint": ("checkpoints/last.ckpt", truncate),
    "weights alone": ("checkpoints/last.ckpt", lambda file: file.write_bytes(file.with_name("best.ckpt").read_bytes())),
    "another network": ("config.yaml", rewrite("norm: ssn", "norm: bn")),
    "unknown key": ("config.yaml", rewrite("epochs", "epoch")),
    "no YAML": ("config.yaml", lambda file: file.write_text("a: [")),
    "truncated record": ("run.json", truncate),
    "a record of another kind": ("run.json", lambda file: file.write_text("[1, 2]")),
    "foreign metrics": ("metrics.csv", lambda file: file.write_text("a,b\n1,2\n")),
}

#: What each command must not stumble over: a command that never reads the damaged file just works.
READS = {
    "train --resume": set(DAMAGE) - {"foreign metrics"},  # written anew from the checkpoint
    "eval": {"truncated checkpoint", "another network", "unknown key", "no YAML"},
    "inspect": {"truncated checkpoint", "another network", "unknown key", "no YAML"},
    "report": {"no YAML", "truncated record", "a record of another kind", "foreign metrics"},
}


@pytest.mark.parametrize(("command", "damage"), [(c, d) for c, damages in READS.items() for d in sorted(damages)])
def test_damaged_runs_are_named_in_one_line_and_left_as_they_are(fails, finished, tmp_path, command, damage):
    run = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}))
    name, spoil = DAMAGE[damage]
    spoil(run / name)
    named = "last.ckpt" if damage == "another network" and command != "train --resume" else Path(name).name
    assert named in fails(*command.split(), "run")


def test_ctrl_c_ends_with_a_hint_and_the_run_can_be_resumed(tmp_path):
    command = [sys.executable, "-m", "switchnorm", "train", "digits/resnet9", "--norm", "bn", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "run/checkpoints/last.ckpt").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "; continue with `switchnorm train --resume run`" in err.splitlines()[-1]
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "running"


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
    out = capsys.readouterr().out
    assert "last.ckpt on the 359 test pictures of digits" in out
    assert f"{trained:.2f} %" in out
    weights = ("--weights", str(run / "checkpoints/last.ckpt"), "--model", "digits_resnet9", "--norm", "ssn")
    main(["eval", *weights, "--data", "digits"])
    assert out.splitlines()[1:] == capsys.readouterr().out.splitlines()[1:]
    main(["eval", *weights, "--data", "digits", "--views", "flip", "--claim.error", "3"])
    assert "359 test pictures" in (flipped := capsys.readouterr().out)
    assert flipped.splitlines()[1:4] != out.splitlines()[1:4]
    main(["inspect", str(run)])
    by_run = capsys.readouterr().out
    assert "layer3.0.bn2" in by_run
    assert "chose batch statistics alone; " in by_run
    assert re.search(r"values read and written of a picture of 8 x 8 become [\d.]+ M \(-\d+%\)", by_run)
    main(["inspect", str(run / "checkpoints/last.ckpt")])
    assert capsys.readouterr().out.split() == by_run.split()
    main(["report", str(run)])
    assert "report.html" in capsys.readouterr().out
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    main([*train, "--batch-size", "512"])
    assert (tmp_path / "runs/digits-resnet9-ssn-2").is_dir()


def test_a_dry_run_prints_a_line_and_writes_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    main(["train", "digits/resnet9", "--norm", "sn", "--dry-run"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "44 steps per epoch, learning rate 0.05; one step on 4 pictures of the training set: loss" in out
    assert list(tmp_path.iterdir()) == []


def test_several_seeds_are_trained_once_and_summed_up(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    flags = ["--norm", "bn", "--epochs", "1", "--schedule.warmup_epochs", "0", "--batch-size", "512", "--device", "cpu"]
    main(["train", "digits/resnet9", *flags, "--seed", "3", "--out", "s/seed3"])
    capsys.readouterr()
    before = files(tmp_path / "s/seed3")
    seeds = ("--seeds", "3", "1", "--workers", "1", "--out", "s")
    out = forked.run("-m", "switchnorm", "train", "digits/resnet9", *flags, *seeds, cwd=tmp_path).stdout
    assert files(tmp_path / "s/seed3") == before, "a finished run was touched"
    assert json.loads((tmp_path / "s/seed1/run.json").read_text())["seed"] == 1
    a, b = (json.loads((tmp_path / f"s/seed{n}/run.json").read_text())["result"]["val_accuracy"] for n in (3, 1))
    mean, spread = 50 * (a + b), 100 * abs(a - b) / 2**0.5
    assert f"s: validation accuracy {mean:.2f} ± {spread:.2f} %, 2 seeds" in out
    with pytest.raises(SystemExit):
        main(["train", "digits/resnet9", *flags, "--lr", "0.01", "--seeds", "3", "1", "--out", "s"])
    assert "holds a run of another configuration" in capsys.readouterr().err
