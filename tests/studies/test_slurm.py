"""Trainings on a real SLURM: arrays, several nodes, preemption, time limits, refusals, what is lost, and following."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from switchnorm import signals
from switchnorm.cli import main
from switchnorm.config.cluster import Cluster
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.cluster import _earlier, train_on
from tests import slurm
from tests.studies.jobs import Interrupting, assert_same, config

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm.missing()), reason=f"needs {slurm.missing()}")]

TWO_NODES = Cluster(engine="slurm", partition="low", time="30", nodes=2)
ONE = Cluster(engine="slurm", time="30")


@pytest.fixture(scope="module", autouse=True)
def _there(tmp_path_factory):
    # A short path: sockets have no long ones.
    with slurm.running(tmp_path_factory.mktemp("slurm")) as environment, pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, environment[name])
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(autouse=True)
def _empty():
    """Leave no job to the next test."""
    yield
    subprocess.run(["scancel", "--user=root"], check=True)


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _jobs(logs):
    return _earlier(logs / "jobs")


def _train(path, where, interrupt=lambda: None, epochs=12):
    """Train a run, and do something to it once it has trained two epochs: its outcome, and what watched it."""
    logs = path.parent / "logs"
    watch = Interrupting(path, interrupt)
    outcome = train_on(where, [(path, config(epochs))], ("test",), watch, workers=1, logs=logs)[path]
    assert watch.done
    return outcome, watch


@pytest.fixture(scope="module")
def whole(_there, tmp_path_factory):
    """A run over two nodes that nothing happened to."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    outcome, _ = _train(path, TWO_NODES)
    assert not outcome.error, outcome
    assert RunFolder(path).record()["processes"] == 2
    return RunFolder(path)


def _preempted(number):
    _run("sbatch", "-phigh", "-N2", "--exclusive", "-o/dev/null", "--wrap", "sleep 2")


def _out_of_time(number):
    _run("scancel", "--signal=USR2", number)  # what SLURM sends ninety seconds before


def _requeued(number):
    _run("scontrol", "requeue", number)


def _node_lost(number):
    _run("scontrol", "update", "NodeName=127.0.0.2", "State=DOWN", "Reason=test")  # it comes back as it answers


@pytest.mark.parametrize("happens", [_preempted, _out_of_time, _requeued, _node_lost], ids=lambda each: each.__name__)
def test_a_training_over_two_nodes_goes_on_bit_for_bit(tmp_path, whole, happens):
    path = tmp_path / "run"
    outcome, _ = _train(path, TWO_NODES, lambda: happens(_jobs(tmp_path / "logs")[path]))
    assert not outcome.error, outcome
    assert RunFolder(path).record()["processes"] == 2
    log = (tmp_path / "logs" / "run.log").read_text()
    assert log.count("saved after epoch") == 1, log
    assert len(list((tmp_path / "logs" / "jobs").glob("*_submitted.pkl"))) == 1, "SLURM's own queue has it again"
    assert_same(RunFolder(path), whole)


def test_a_process_that_is_lost_ends_the_job_with_a_line_and_the_same_command_continues(tmp_path, whole):
    path = tmp_path / "run"

    def kill():
        (second,) = (pid for pid in _pids() if _is_second(pid))
        os.kill(second, signal.SIGKILL)

    outcome, _ = _train(path, TWO_NODES, kill)
    assert "another process of this training has ended; continue with `torchrun --nnodes 2 " in outcome.error
    _wait_until_nothing_runs()
    outcome, _ = _train(path, TWO_NODES)
    assert not outcome.error, outcome
    assert_same(RunFolder(path), whole)


def _pids():
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]


def _is_second(pid):
    """Whether a process is that of a training on the second node, and not a shell around it."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return b"SLURM_PROCID=1" in environment and b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _wait_until_nothing_runs():
    deadline = time.monotonic() + 120
    while _run("squeue", "--noheader"):
        assert time.monotonic() < deadline, "SLURM still has a job of which nothing is expected"
        time.sleep(0.5)


def test_an_array_whose_jobs_run_out_of_time_and_are_followed_again(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    plan = [(path, config(12)) for path in paths]

    def leave():
        raise signals.Interrupted(2)

    logs = tmp_path / "logs"
    with pytest.raises(signals.Interrupted, match=r"the same command follows job \d+ again; `scancel \d+` ends it"):
        train_on(ONE, plan, ("test",), Interrupting(paths[0], leave), workers=2, logs=logs)
    jobs = _jobs(logs)
    assert {number.partition("_")[2] for number in jobs.values()} == {"0", "1"}
    submitted = len(list((logs / "jobs").glob("*_submitted.pkl")))
    watch = Interrupting(paths[0], lambda: _out_of_time(jobs[paths[0]]))
    outcomes = train_on(ONE, plan, ("test",), watch, workers=2, logs=logs)
    assert watch.done
    assert not any(outcome.error for outcome in outcomes.values()), outcomes
    assert len(list((logs / "jobs").glob("*_submitted.pkl"))) == submitted == 2
    assert "Requeued job" in (logs / "a.log").read_text()
    assert_same(RunFolder(paths[0]), RunFolder(paths[1]))


def test_a_job_that_is_cancelled_says_so_and_the_same_command_continues(tmp_path):
    path = tmp_path / "run"
    outcome, _ = _train(path, ONE, lambda: _run("scancel", "--user=root"), epochs=20)
    assert "was cancelled before its training ended (see " in outcome.error
    assert "the same command continues it" in outcome.error
    outcome, _ = _train(path, ONE, epochs=20)
    assert not outcome.error
    assert (tmp_path / "logs/run.log").read_text().count("saved after epoch") == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"partition": "short", "time": "30"}, "PartitionTimeLimit, its partition allows less --time"),
        ({"partition": "narrow", "nodes": 2}, "PartitionNodeLimit, its partition allows another number of --nodes"),
        ({"nodes": 3}, "PartitionNodeLimit, its partition allows another number of --nodes"),
        ({"partition": "lab", "account": "nobody"}, "use this partition (lab allows lab)"),
    ],
    ids=["time", "nodes of a job", "nodes of the partition", "account"],
)
def test_a_job_that_slurm_takes_and_would_never_start_is_cancelled(tmp_path, asked, said):
    plan, watch = [(tmp_path / "run", config())], Interrupting(tmp_path / "run", lambda: None)
    where = Cluster(engine="slurm", **asked)
    (outcome,) = train_on(where, plan, ("test",), watch, workers=1, logs=tmp_path / "logs").values()
    assert outcome.error.startswith("SLURM never starts job ")
    assert outcome.error.endswith(said)
    assert not (tmp_path / "run").exists()
    assert _run("squeue", "--noheader") == ""


@pytest.mark.parametrize(
    ("partition", "said"), [("nowhere", "SLURM refuses the job: "), ("short", "SLURM never starts job ")]
)
def test_a_command_whose_job_does_not_start_is_a_line_and_exit_code_2(tmp_path, capsys, partition, said):
    command = ["train", "digits/resnet9", "--epochs", "1", "--schedule.warmup_epochs", "0", "--device", "cpu"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--out", str(tmp_path / "run"), "--cluster", "slurm", "--partition", partition])
    err = capsys.readouterr().err
    assert err.startswith("switchnorm: ")
    assert said in err
    assert err.count("\n") == 1
    # Of what was refused nothing is left; of what was queued, its script.
    assert {each.name for each in tmp_path.iterdir()} == (set() if partition == "nowhere" else {"run-jobs"})


def test_a_partition_that_is_down_is_said_and_waited_for(tmp_path):
    path = tmp_path / "run"

    class Watch(Interrupting):
        def say(self, line):
            super().say(line)
            _run("scontrol", "update", "PartitionName=closed", "State=UP")

    watch = Watch(path, lambda: None)
    where = Cluster(engine="slurm", partition="closed", time="30")
    outcome = train_on(where, [(path, config(2))], ("test",), watch, workers=1, logs=tmp_path / "logs")[path]
    assert not outcome.error
    assert [line.partition(" waits: ")[2] for line in watch.said] == ["PartitionDown"]


def test_a_job_that_waits_for_what_no_node_has_says_so(tmp_path):
    said = []

    class Watch(Interrupting):
        def say(self, line):
            said.append(line)
            raise signals.Interrupted(2)

    watch, where = Watch(tmp_path / "run", lambda: None), Cluster(engine="slurm", cpus=64)
    with pytest.raises(signals.Interrupted):
        train_on(where, [(watch.path, config())], ("test",), watch, workers=1, logs=tmp_path / "logs")
    assert said[0].endswith(" waits: PartitionConfig")
