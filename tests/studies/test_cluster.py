"""Jobs: what may be asked of a cluster, what SLURM says of them, and preemption, by submitit's jobs on this machine."""

import json
import os
import signal

import pytest

from switchnorm.cli import main
from switchnorm.config.cluster import Cluster
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies import cluster
from switchnorm.studies.cluster import train_on
from tests.studies.jobs import Interrupting, assert_same, config


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("4:00:00", 240), ("1-12", 2160), ("1-12:30", 2190), ("2-0:0:1", 2881)],
)
def test_time_as_sbatch_takes_it(text, minutes):
    assert Cluster(engine="slurm", time=text).check().minutes == minutes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--partition", "gpu"], "--partition is for trainings on a cluster; give --cluster slurm, or leave it out"),
        (["--cluster", "sulrm"], "cluster 'sulrm' is unknown; did you mean 'slurm'?"),
        (["--cluster", "local", "--nodes", "2"], "--nodes is for --cluster slurm, and this is local; leave it out"),
        (["--cluster", "slurm", "--time", "3h"], "--time must be minutes, H:M:S or D-H:M:S, got '3h'"),
        (["--cluster", "slurm", "--time", "0"], "--time, in minutes, must be at least 1, got 0"),
        (["--cluster", "slurm", "--cpus", "0"], "--cpus must be at least 1, got 0"),
        (["--cluster", "local", "--seeds", "0", "1", "--processes", "2"], "use --processes 1"),
        (["--cluster", "local", "--dry-run"], "--dry-run takes its step here; leave out --cluster"),
    ],
)
def test_what_makes_no_sense_is_one_line(flags, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits/resnet9", *flags])
    assert said in capsys.readouterr().err


def test_a_resumed_run_changes_nothing_in_a_job(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", "runs/a", "--checkpoint", "previous", "--cluster", "local"])
    assert "leave out --checkpoint" in capsys.readouterr().err


def test_states_of_jobs_alone_and_in_arrays():
    said = "7_0|7|RUNNING\n7_1|8|PENDING\n7_2|9|CANCELLED\n12_N/A|12|COMPLETING\n13_N/A|13|TIMEOUT\n"
    assert cluster._read_states(said) == {"7_0": "RUNNING", "7_1": "PENDING", "12": "COMPLETING"}


def test_a_preempted_job_goes_on_bit_for_bit(tmp_path):
    preempted, whole = tmp_path / "runs" / "preempted", tmp_path / "runs" / "whole"

    def preempt():
        os.kill(json.loads((preempted / ".lock").read_text())["pid"], signal.SIGUSR2)

    watch = Interrupting(preempted, preempt)
    plan = [(preempted, config()), (whole, config())]
    where = Cluster(engine="local", cpus=1).check()
    outcomes = train_on(where, plan, ("test",), watch, workers=2, logs=tmp_path / "logs")
    assert watch.done
    assert outcomes == watch.outcomes
    assert not any(outcome.error for outcome in outcomes.values()), outcomes
    assert sorted(watch.began) == sorted(path for path, _ in plan)
    assert_same(RunFolder(preempted), RunFolder(whole))
    said = (tmp_path / "logs" / "preempted.log").read_text()
    assert said.count("saved after epoch") == 1
    assert "Requeued job" in said
    # What has ended is not submitted again.
    assert train_on(where, plan, ("test",), watch, workers=2, logs=tmp_path / "logs") == outcomes
    assert json.loads((tmp_path / "logs" / "jobs" / "jobs.json").read_text()) == {}


def test_what_fails_is_an_outcome_with_its_log(tmp_path):
    path, broken = tmp_path / "run", config(epochs=2)
    broken.data["name"] = "no such data"  # which `check` would have refused
    watch = Interrupting(path, lambda: None)
    where = Cluster(engine="local")
    outcomes = train_on(where, [(path, broken)], ("test",), watch, workers=1, logs=tmp_path / "logs")
    assert "no such data" in outcomes[path].error


def test_without_submitit_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(InputError, match=r"run `pip install 'switchnorm\[cluster\]'`"):
        train_on(
            Cluster(engine="local"), [(tmp_path / "run", config())], ("test",), None, workers=1, logs=tmp_path / "logs"
        )
