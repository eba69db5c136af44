"""Groups of runs and their labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchnorm.errors import InputError
from switchnorm.report.common.groups import Group, baseline, display_norm, group_runs
from switchnorm.runs.run import load_run
from tests.report.conftest import Make, known_data, record


def grouped(*paths: Path) -> list[Group]:
    return group_runs([load_run(path) for path in paths])


def test_seeds_share_a_group_under_the_normalizers_name(runs: list[Path]) -> None:
    groups = grouped(*reversed(runs))
    assert [group.label for group in groups] == ["SSN", "SN", "GN + WS", "BN"]
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 1, 2]] * 4


def test_a_label_says_what_tells_groups_of_one_normalizer_apart(make_run: Make) -> None:
    groups = grouped(
        make_run("bn"),
        make_run("sn", folder="a"),
        make_run("sn", folder="b", settings={"train.samples_per_gpu": 16}),
        make_run("sn", folder="c", settings={"train.samples_per_gpu": None}),
    )
    assert [group.label for group in groups] == [
        "BN", "SN, samples per GPU 2", "SN, samples per GPU 16", "SN, samples per GPU 32",
    ]  # fmt: skip


def test_a_label_is_no_longer_than_needed(make_run: Make) -> None:
    other = {"model.name": "resnet50", "data.name": "cifar10", "optimizer.lr": 0.5, "train.epochs": 90}
    groups = grouped(make_run("sn"), make_run("sn", folder="b", settings=other))
    assert [group.label for group in groups] == ["SN, digits", "SN, cifar10"]


def test_any_key_can_tell_groups_apart(make_run: Make) -> None:
    other = {"optimizer.weight_decay": 0.1}
    groups = grouped(make_run("sn"), make_run("sn", folder="b", settings=other))
    assert [group.label for group in groups] == ["SN, weight decay 0.0001", "SN, weight decay 0.1"]


def test_null_is_another_setting_than_none_at_all(make_run: Make) -> None:
    runs = (make_run("sn"), make_run("sn", folder="b", settings={"model.options.momentum": None}))
    assert [group.label for group in grouped(*runs)] == ["SN, momentum as built", "SN, momentum none"]


def test_folders_of_earlier_versions_have_the_defaults_of_keys_that_they_lack(make_run: Make) -> None:
    later: dict[str, object] = {
        "train.calibrate": 0,
        "train.start_epoch": 0,
        "schedule.by": "step",
        "claim.warm_start": False,
    }
    later |= {"train.patience": None, "optimizer.name": "sgd", "optimizer.options": {}, "label": None}
    kept = {"train.snapshot_epochs": 3, "train.eval_batch_size": 7, "train.loggers": ["wandb"]}
    (group,) = grouped(make_run("sn"), make_run("sn", seed=1, folder="b", settings={**later, **kept}))
    assert group.label == "SN"


def test_lists_in_a_configuration_are_compared(make_run: Make) -> None:
    milestones = [{"schedule.milestones": [3, 4]}, {"schedule.milestones": [3, 5]}]
    groups = grouped(*(make_run("sn", folder=str(place), settings=each) for place, each in enumerate(milestones)))
    assert [group.label for group in groups] == ["SN, milestones [3, 4]", "SN, milestones [3, 5]"]


def test_seeds_on_other_test_data_are_no_group(make_run: Make) -> None:
    paths = [known_data(make_run("sn", seed), mark) for seed, mark in ((0, "a"), (1, "b"), (2, "a"))]
    groups = grouped(*paths)
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 2], [1]]
    assert [group.label for group in groups] == [f"SN, {group.data}" for group in groups]
    assert len({group.data for group in groups}) == 2


def test_a_record_of_the_data_that_is_none_is_refused(make_run: Make) -> None:
    run = record(make_run("sn"), data={"test": {"count": "many"}})
    with pytest.raises(InputError, match=r"run\.json is damaged: expected counts and digests of the data as data"):
        load_run(run)


def test_names_for_readers() -> None:
    assert [display_norm(norm) for norm in ("bn", "gn+ws", "ssn")] == ["BN", "GN + WS", "SSN"]


def test_a_run_may_say_what_it_is_called(make_run: Make) -> None:
    frozen = {"train.frozen_statistics": True, "label": "Frozen BN"}
    groups = grouped(make_run("bn"), *(make_run("bn", seed, folder=f"f{seed}", settings=frozen) for seed in (0, 1)))
    assert [group.label for group in groups] == ["BN", "Frozen BN"]
    assert [len(group.runs) for group in groups] == [1, 2]


def test_one_name_for_two_trainings_is_not_enough(make_run: Make) -> None:
    mine = {"label": "BN"}
    runs = (
        make_run("bn"),
        make_run("bn", folder="b", settings=mine),
        make_run("bn", folder="c", settings={**mine, "optimizer.lr": 0.5}),
    )
    assert [group.label for group in grouped(*runs)] == [
        "BN, lr 0.1, label none",
        "BN, lr 0.1, label BN",
        "BN, lr 0.5, label BN",
    ]


def test_a_label_does_not_take_part_in_the_choice_of_a_baseline(make_run: Make) -> None:
    frozen = {"train.frozen_statistics": True, "label": "Frozen BN"}
    groups = grouped(
        make_run("bn", folder="a", settings=frozen), make_run("bn"), make_run("sn", settings={"label": "Mine"})
    )
    assert baseline(groups[2], groups) is groups[1]


def test_where_data_lies_and_how_it_is_read_tell_no_seeds_apart(make_run: Make) -> None:
    aside = [
        {"data.root": "/old", "data.workers": 1, "train.checkpoint_minutes": 5.0},
        {"data.root": "/new", "data.workers": 4, "train.checkpoint_minutes": 1.0},
        {"data.root": "/new", "data.train_list": "/new/train.txt"},
    ]
    photographs = {"data.name": "folder"}
    runs = [make_run("sn", seed, settings={**photographs, **each}) for seed, each in enumerate(aside)]
    assert [len(group.runs) for group in grouped(*runs)] == [1, 1, 1], "nothing tells that it is the same data"
    for path in runs:
        known_data(path, "one")
    (group,) = grouped(*runs)
    assert (group.label, [run.seed for run in group.runs]) == ("SN", [0, 1, 2])
    other = make_run("sn", folder="other", settings={**photographs, "data.root": "/else"})
    known_data(other, "another")
    assert [group.label for group in grouped(*runs, other)] == ["SN, folder, root /old", "SN, folder, root /else"]
    slow = make_run("sn", folder="slow", settings={**photographs, "data.root": "/else", "optimizer.lr": 0.5})
    known_data(slow, "one")
    assert [group.label for group in grouped(*runs, slow)] == ["SN, lr 0.1", "SN, lr 0.5"]


@pytest.mark.parametrize("key", ["train.precision", "train.deterministic", "label"])
def test_how_a_run_was_computed_tells_groups_apart(make_run: Make, key: str) -> None:
    runs = (
        make_run("sn"),
        make_run("sn", 1, settings={key: {"train.precision": "bf16", "label": "Mine"}.get(key, True)}),
    )
    assert [len(group.runs) for group in grouped(*runs)] == [1, 1]


def test_examples_of_a_task_tell_no_seeds_apart(make_run: Make) -> None:
    runs = [make_run("sn", seed, task="segmentation", settings={"segmentation.examples": 3 * seed}) for seed in (0, 1)]
    (group,) = grouped(*runs)
    assert group.label == "SN"
