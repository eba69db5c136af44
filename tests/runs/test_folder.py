"""A run folder appears whole or not at all, and takes the place of nothing."""

from __future__ import annotations

import json
import os
import socket

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.files import WriteError, remove
from switchnorm.recipes import find_recipe
from switchnorm.runs import folder as module
from switchnorm.runs.folder import RunFolder

WHOLE = ["checkpoints", "config.yaml", "run.json"]


@pytest.fixture
def config():
    return read_config(find_recipe("digits/resnet9"))


def make(path, config) -> RunFolder:
    return RunFolder.create(path, config, ("switchnorm", "train"), processes=1)


@pytest.mark.parametrize("empty", [False, True])
def test_it_is_made_with_what_is_in_it(tmp_path, config, empty):
    path = tmp_path / "some" / "where" / "run"
    if empty:
        path.mkdir(parents=True)
        inode = path.stat().st_ino
    run = make(path, config)
    assert sorted(os.listdir(path)) == WHOLE
    assert os.listdir(path.parent) == ["run"]
    assert run.config() == config
    record = json.loads(run.record_file.read_text())
    assert (record["name"], record["command"], record["processes"]) == ("run", "switchnorm train", 1)
    assert not empty or path.stat().st_ino == inode, "who is in an empty folder stays in it"


def test_nobody_sees_it_half_made(tmp_path, config, monkeypatch):
    seen = []
    fsync = os.fsync

    def look(file: int) -> None:
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        fsync(file)

    monkeypatch.setattr(os, "fsync", look)
    make(tmp_path / "run", config)
    assert seen == [[], []]


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("failing", [1, 2])
def test_what_fails_leaves_nothing(tmp_path, config, monkeypatch, empty, failing):
    path = tmp_path / "run"
    if empty:
        path.mkdir()
    calls = []

    def fail(file: int) -> None:
        calls.append(file)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match=r"run(/\S+)? cannot be written: No space left on device; free some space"):
        make(path, config)
    assert os.listdir(tmp_path) == ["run"] * empty
    assert not empty or os.listdir(path) == []


@pytest.mark.parametrize("inside", [("diary.txt",), ("config.yaml",), ("checkpoints",), (".lock", "diary.txt")])
def test_what_somebody_has_there_is_left_alone(tmp_path, config, inside):
    path = tmp_path / "run"
    path.mkdir()
    for name in inside:
        (path / name).write_text("dear")
    with pytest.raises(InputError, match="exists; continue it with --resume, or choose another with --out"):
        make(path, config)
    assert [(path / name).read_text() for name in inside] == ["dear"] * len(inside)
    assert sorted(os.listdir(path)) == sorted(inside)


def test_a_file_of_that_name_is_left_alone(tmp_path, config):
    (tmp_path / "run").write_text("dear")
    with pytest.raises(InputError, match="exists"):
        make(tmp_path / "run", config)
    assert (tmp_path / "run").read_text() == "dear"


def test_a_making_that_was_cut_off_is_begun_again(tmp_path, config):
    path = tmp_path / "run"
    (path / "checkpoints").mkdir(parents=True)
    (path / ".lock").write_text("{}")
    (path / "config.yaml").write_text("half")
    (path / f".run.json@{socket.gethostname()}.99999999.part").write_text("half")
    assert make(path, config).config() == config
    (tmp_path / ".other@elsewhere.1.part").mkdir()
    beside = tmp_path / f".second@{socket.gethostname()}.99999999.part"
    beside.mkdir()
    make(tmp_path / "second", config)
    assert not beside.exists()
    assert (tmp_path / ".other@elsewhere.1.part").exists()


def test_the_faster_of_two_makes_it(tmp_path, config, monkeypatch):
    path = tmp_path / "run"
    rename = os.rename

    def late(source, target) -> None:
        with monkeypatch.context() as undone:
            undone.setattr(os, "rename", rename)
            make(path, config).update_record(name="the faster")
        rename(source, target)

    monkeypatch.setattr(os, "getpid", iter(range(10**6, 2 * 10**6)).__next__)
    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match="exists"):
        make(path, config)
    assert RunFolder(path).record()["name"] == "the faster"


def test_the_owner_sweeps_its_run_and_no_other(tmp_path, config):
    run, other = make(tmp_path / "run", config), make(tmp_path / "run.b", config)
    (run.path / "examples").mkdir()
    names = (".metrics.csv@elsewhere.5.part", "checkpoints/.last.ckpt@elsewhere.5.part", "examples/.a.jpg@e.5.part")
    for each in (run, other):
        (each.path / "examples").mkdir(exist_ok=True)
        for name in names:
            (each.path / name).write_text("half")
    for name in (".run@elsewhere.5.part", ".run.b@elsewhere.5.part"):
        (tmp_path / name).mkdir()
    run.sweep()
    assert not any((run.path / name).exists() for name in names)
    assert all((other.path / name).exists() for name in names)
    assert sorted(os.listdir(tmp_path)) == [".run.b@elsewhere.5.part", "run", "run.b"]


class KilledError(BaseException):
    """What no clean-up comes after."""


@pytest.mark.parametrize("killed", range(6))
def test_a_clearing_that_is_cut_off_leaves_a_run_or_a_beginning(tmp_path, config, monkeypatch, killed):
    run = make(tmp_path / "run", config)
    for name in (".lock", "metrics.csv", "tensorboard"):
        (run.path / name).write_text("")

    removed = iter(range(10))

    def remove_some(path) -> None:
        if next(removed) == killed:
            raise KilledError
        remove(path)

    monkeypatch.setattr(module, "remove", remove_some)
    if killed < 5:
        with pytest.raises(KilledError):
            run.clear()
    else:
        run.clear()
        assert os.listdir(run.path) == [".lock"]
    if killed < 3:
        assert RunFolder.open(run.path).config() == config
    else:
        assert make(run.path, config).config() == config
