"""Jobs: what may be asked of a cluster, what SLURM says of them, and preemption, by submitit's jobs on this machine."""

import json
import os
import signal

import pytest

from switchnorm.cli import main
from switchnorm.config.cluster import Cluster
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies import slurm
from switchnorm.studies.cluster import train_on
from switchnorm.studies.cluster_job import Job
from switchnorm.studies.slurm import Slurm
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


SQUEUE = """7_0|7|RUNNING|None
7_1|8|PENDING|PartitionTimeLimit
7_2|9|CANCELLED|None
12_N/A|12|COMPLETING|None
13_N/A|13|TIMEOUT|TimeLimit
14_N/A|14|PENDING|PartitionDown
15_N/A|15|PENDING|Priority
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """SLURM's commands, which take job 21, answer with a file that tests write, and note what they are asked; they fail
    where that file is empty."""
    commands, answer, asked = tmp_path / "bin", tmp_path / "answer", tmp_path / "asked"
    commands.mkdir()
    for name in ("srun", "squeue", "sbatch", "scancel"):
        program = f'#!/bin/sh\necho {name} "$@" >> {asked}\n'
        program += f'test -s {answer} || {{ echo "{name}: error: Unable to contact slurm controller" >&2; exit 1; }}\n'
        says = "echo Submitted batch job 21" if name == "sbatch" else f"cat {answer}"
        (commands / name).write_text(f"{program}{says}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_ASK_SECONDS", 0)
    answer.write_text(SQUEUE)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    return Slurm(Cluster(engine="slurm"), jobs, 2, None), answer, asked


def test_states_of_jobs_alone_and_in_arrays(queue):
    engine, _, _ = queue
    numbers = ["7_0", "7_1", "7_2", "12", "13", "14", "15", "16"]
    states = {"7_0": "RUNNING", "7_1": "PENDING", "12": "COMPLETING", "14": "PENDING", "15": "PENDING"}
    assert engine.states(numbers) == states
    assert [engine.ending(number) for number in ("7_2", "13", "16")] == ["was cancelled", "ran out of time", "stopped"]


def test_what_keeps_jobs_from_starting_is_said_once_and_what_always_will_is_an_error(queue):
    engine, answer, _ = queue
    engine.states(["14"])
    assert engine.waits() == ["job 14 waits: PartitionDown"]
    engine.states(["14"])
    assert engine.waits() == []
    answer.write_text(
        f"{SQUEUE}16_N/A|16|PENDING|Job's account not permitted to use this partition (a allows b not c)\n"
    )
    engine.states(["16"])
    assert engine.hopeless("16").endswith(
        "cancelled: Job's account not permitted to use this partition (a allows b not c)"
    )
    assert engine.waits() == []
    why = "SLURM never starts job 7_1, which is cancelled: PartitionTimeLimit, its partition allows less --time"
    assert [engine.hopeless(number) for number in ("7_0", "7_1", "14", "15", "17")] == ["", why, "", "", ""]
    answer.write_text("")
    assert "14" in engine.states(["14"]), "nothing is known to have changed"
    assert engine.waits() == ["SLURM does not answer: Unable to contact slurm controller"]


def test_jobs_of_which_slurm_says_nothing_are_not_submitted_again(queue):
    engine, answer, _ = queue
    answer.write_text("")
    with pytest.raises(InputError, match=r"SLURM does not answer: .*; the same command follows job 14,7 again"):
        engine.states(["7_0", "7_1", "14"])


def test_a_refused_job_leaves_no_file(queue, tmp_path):
    engine, answer, _ = queue
    answer.write_text("")
    job = Job(tmp_path / "run", config(), ("test",), tmp_path / "run.log", 1)
    for jobs in ([job], [job, job]):
        with pytest.raises(InputError) as caught:
            engine.submit(jobs)
        assert str(caught.value) == "SLURM refuses the job: Unable to contact slurm controller"
        assert list((tmp_path / "jobs").iterdir()) == []


def test_a_job_that_never_starts_is_cancelled_and_ends_the_command(queue, tmp_path):
    _, answer, asked = queue
    answer.write_text("21_N/A|21|PENDING|AccountNotAllowed\n")
    watch = Interrupting(tmp_path / "run", lambda: None)
    outcome = train_on(
        Cluster(engine="slurm"), [(watch.path, config())], ("test",), watch, workers=1, logs=tmp_path / "logs"
    )[watch.path]
    assert "never starts job 21, which is cancelled: AccountNotAllowed, its partition is for another" in outcome.error
    assert asked.read_text().endswith("scancel 21\n")
    assert json.loads((tmp_path / "logs/jobs/jobs.json").read_text()) == {}


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_job_that_is_ended_from_outside_says_so_and_the_same_command_continues(tmp_path, number):
    path = tmp_path / "run"

    def end():
        os.kill(json.loads((path / ".lock").read_text())["pid"], number)

    def follow(interrupt):
        watch = Interrupting(path, interrupt)
        plan = [(path, config(3))]
        return train_on(Cluster(engine="local"), plan, ("test",), watch, workers=1, logs=tmp_path / "logs")[path]

    outcome = follow(end)
    assert "stopped before its training ended (see " in outcome.error
    assert outcome.error.endswith("; the same command continues it")
    assert not RunFolder(path).finished()
    outcome = follow(lambda: None)
    assert not outcome.error
    assert len(RunFolder(path).metrics()) == 3
