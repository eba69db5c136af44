"""Trainings on a real SLURM: arrays, several nodes, preemption, time limits, and following jobs again."""

import subprocess
import sys
import time

import pytest

from switchnorm import signals
from switchnorm.config.cluster import Cluster
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.cluster import train_on
from tests import slurm
from tests.studies.jobs import Interrupting, assert_same, config

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm.missing()), reason=f"needs {slurm.missing()}")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    # A short path: sockets have no long ones.
    with slurm.running(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture(autouse=True)
def _there(environment, monkeypatch):
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    subprocess.run(["scancel", "--user=root"], check=True)


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_training_over_two_nodes_that_is_preempted_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "preempted"
    other = []

    def preempt():
        other.append(_run("sbatch", "--parsable", "-phigh", "-N2", "--exclusive", "-o/dev/null", "--wrap", "sleep 2"))

    watch = Interrupting(path, preempt)
    where = Cluster(engine="slurm", partition="low", time="30", nodes=2).check()
    outcome = train_on(where, [(path, config(12))], ("test",), watch, workers=1, logs=tmp_path / "logs")[path]
    assert not outcome.error, outcome
    assert watch.done
    assert RunFolder(path).record()["processes"] == 2
    log = (tmp_path / "logs" / "preempted.log").read_text()
    assert log.count("saved after epoch") == 1, log
    reference = tmp_path / "whole"
    watch = Interrupting(reference, lambda: None)
    train_on(where, [(reference, config(12))], ("test",), watch, workers=1, logs=tmp_path / "logs")
    assert_same(RunFolder(path), RunFolder(reference))


def test_an_array_whose_jobs_run_out_of_time_and_are_followed_again(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    plan = [(path, config(12)) for path in paths]
    where = Cluster(engine="slurm", time="30").check()

    def leave():
        raise signals.Interrupted(2)

    def run_out():
        number = next(iter(jobs.values()))
        _run("scancel", "--signal=USR2", number)

    logs = tmp_path / "logs"
    with pytest.raises(signals.Interrupted, match=r"the same command follows job \d+ again; `scancel \d+` ends it"):
        train_on(where, plan, ("test",), Interrupting(paths[0], leave), workers=2, logs=logs)
    from switchnorm.studies.cluster import _earlier

    jobs = _earlier(logs / "jobs")
    assert {number.partition("_")[2] for number in jobs.values()} == {"0", "1"}
    submitted = len(list((logs / "jobs").glob("*_submitted.pkl")))
    watch = Interrupting(paths[0], run_out)
    outcomes = train_on(where, plan, ("test",), watch, workers=2, logs=logs)
    assert watch.done
    assert not any(outcome.error for outcome in outcomes.values()), outcomes
    assert len(list((logs / "jobs").glob("*_submitted.pkl"))) == submitted == 2
    assert "Requeued job" in (logs / "a.log").read_text()
    assert_same(RunFolder(paths[0]), RunFolder(paths[1]))


def test_a_job_that_is_cancelled_says_where_its_log_is(tmp_path):
    path = tmp_path / "run"
    watch = Interrupting(path, lambda: _run("scancel", "--user=root"))
    where = Cluster(engine="slurm", time="30").check()
    outcome = train_on(where, [(path, config(20))], ("test",), watch, workers=1, logs=tmp_path / "logs")[path]
    assert "ended before its training did" in outcome.error
    time.sleep(1)
    watch = Interrupting(path, lambda: None)
    outcome = train_on(where, [(path, config(20))], ("test",), watch, workers=1, logs=tmp_path / "logs")[path]
    assert not outcome.error


def test_a_command_that_slurm_refuses_is_one_line(tmp_path):
    command = [sys.executable, "-m", "switchnorm", "train", "digits/resnet9", "--epochs", "1", "--cluster", "slurm"]
    command += ["--partition", "nowhere", "--out", str(tmp_path / "run"), "--device", "cpu"]
    command += ["--schedule.warmup_epochs", "0"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "switchnorm: SLURM refuses the job:" in found.stderr
    assert "invalid partition" in found.stderr
