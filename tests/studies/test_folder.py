from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.folder import check_folder
from switchnorm.studies.parallel import train_one
from switchnorm.studies.study import Study
from tests.data.photos import write_photo, write_tree
from tests.training.photo_runs import recipe_for, train
from tests.training.test_resume import assert_same_run

RECIPE = {
    "model": {"name": "cifar_resnet8"},
    "data": {"name": "folder", "root": "photos", "range": None},
    "train": {"epochs": 1, "batch_size": 4},
}


def test_a_range_that_a_run_found_in_its_data_makes_it_no_run_of_another_configuration(tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    planned = read_config(tmp_path / "r.yaml")
    run = tmp_path / "study" / "seed0"
    run.mkdir(parents=True)
    written = {**planned.content(), "data": {**planned.data, "range": [0.0, 4095.0]}}
    (run / "config.yaml").write_text(yaml.safe_dump(written))
    check_folder([(run, planned)], ())
    other = replace(planned, data={**planned.data, "range": [0.0, 1023.0]})
    with pytest.raises(InputError, match=r"data\.range \[0\.0, 4095\.0\] and not \[0\.0, 1023\.0\]"):
        check_folder([(run, other)], ())


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (("--data.workers=1", "--data.root=/moved", "--data.train_list=/moved/train.txt"), None),
        (("--train.checkpoint_minutes=1", "--train.snapshot_epochs=3", "--train.loggers=[]"), None),
        (("--train.eval_batch_size=2", "--claim.top1=90"), None),
        (("--precision=bf16",), "train.precision"),
        (("--label=mine",), "label"),
        (("--data.size=64",), "data.size"),
    ],
)
def test_keys_that_decide_no_result_make_no_other_configuration(tmp_path, flags, key):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    run = tmp_path / "study" / "seed0"
    RunFolder.create(run, read_config(recipe), ())
    plan = [(run, read_config(recipe, flags))]
    if key is None:
        check_folder(plan, ())
    else:
        with pytest.raises(InputError, match=f"holds a run of another configuration, with {key} "):
            check_folder(plan, ())


def test_a_study_goes_on_where_its_data_lies_now_and_with_no_other(tmp_path, monkeypatch):
    photos = write_tree(tmp_path / "photos", train=4, val=2)
    recipe, out = recipe_for(photos, tmp_path), tmp_path / "study"
    whole = train(recipe, tmp_path / "whole", "--seed", "1")
    train(recipe, out / "seed0", "--epochs", "3")
    run = train(recipe, out / "seed1", "--seed", "1", stop=6)
    moved = photos.rename(tmp_path / "moved")
    flags = (f"--data.root={moved}", "--train.loggers=[tensorboard]", "--train.checkpoint_minutes=9")
    plan = [(out / f"seed{seed}", read_config(recipe, (*flags, f"--seed={seed}"))) for seed in (0, 1)]
    study = Study(out=out, plan=plan, names=dict.fromkeys(dict(plan), ""), workers=1, varied=("seed",))

    def train_here(plan, command, *args, **options):
        return {path: train_one(path, config, command) for path, config in plan[1:]}

    monkeypatch.setattr("switchnorm.studies.study.train_all", train_here)
    write_photo(moved / "train/cat/9.jpg", 9)
    changed = r"seed0' was trained on other data than is here: 1 training picture more \(12 -> 13\) in cat"
    with pytest.raises(InputError, match=changed):
        study.run(())
    Path(moved / "train/cat/9.jpg").unlink()
    (outcome,) = study.run(()).values()
    assert not outcome.error
    assert_same_run(whole.path, run.path)
    config = run.config()
    assert (config.data["root"], config.train.loggers, config.train.checkpoint_minutes) == (
        str(moved),
        ["tensorboard"],
        9,
    )
