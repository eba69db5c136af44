"""The study of variants: what it trains, what it refuses, and its table."""

import json
import statistics

import pytest
import yaml

from switchnorm.cli import main
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.compare import plan_comparison
from switchnorm.studies.variants import read_variants
from switchnorm.training.pictures import as_expected
from tests import forked
from tests.data.photos import write_tree

FROZEN = "Frozen BN: norm=bn train.frozen_statistics=true"


def planned(tmp_path, *variants, flags=(), **options):
    options = {"recipe": "digits/resnet9", "device": "cpu", "seeds": (0, 1), **options}
    return plan_comparison(tmp_path, read_variants(variants), flags=flags, **options)


def test_every_variant_trains_with_every_seed_and_wins_over_flags(tmp_path):
    made = planned(tmp_path, "bn", FROZEN, "Wide: norm=sn lr=0.2", flags=("--norm=gn", "--lr", "0.1"))
    configs = {path.name: config for path, config in made.plan}
    assert [config.seed for config in configs.values()] == [0, 0, 0, 1, 1, 1], "seed by seed"
    frozen, wide = configs["frozen-bn-seed1"], configs["wide-seed0"]
    assert (frozen.model.norm, frozen.train.frozen_statistics, frozen.label) == ("bn", True, "Frozen BN")
    assert (frozen.optimizer.lr, wide.optimizer.lr, wide.model.norm) == (0.1, 0.2, "sn")
    assert configs["bn-seed0"].label is None
    for path, config in made.plan:
        file = tmp_path / f"{path.name}.yaml"
        file.write_text(to_yaml(config))
        assert read_config(file) == config


def test_the_command_that_it_keeps_can_be_given_again(tmp_path):
    facts = planned(tmp_path, "bn", FROZEN).facts(("switchnorm", "study", "--variants", "bn", FROZEN), 1.25)
    assert facts["command"] == f"switchnorm study --variants bn '{FROZEN}'"
    assert (facts["seeds"], facts["seconds"]) == ([0, 1], 1.2)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (("sm",), "variant 'sm': norm 'sm' is unknown; did you mean 'sn'?"),
        (("a: model.nrom=sn",), "variant 'a': flag '--model.nrom' is unknown; did you mean '--model.norm'?"),
        (("a: epochs=0",), "variant 'a': train.epochs must be at least 1, got 0"),
        (("a: seed=3",), "variant 'a': the study sets seed for each run by itself; use --seeds"),
        (("a: device=cpu",), "variant 'a': the study sets train.device for each run by itself; use --device"),
        (("bn", "again: norm=bn"), "variant 'again' trains the same as 'bn'; leave one of them out"),
        (("bn", "a: train.warm_start=none.pt"), "variant 'a': checkpoint 'none.pt' does not exist"),
        (("a: optimizer.groups='[{match: x}]'",), "variant 'a': optimizer.groups: 'x' matches no parameter"),
    ],
)
def test_mistakes_in_a_variant_name_it_and_leave_nothing_behind(tmp_path, variants, message):
    with pytest.raises(InputError) as caught:
        planned(tmp_path / "out", *variants).run(())
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--variants", "bn"), "study compare needs --recipe, a YAML file or a shipped one such as"),
        (("compare", "--recipe", "digits/resnet9"), "a comparison needs --variants, at least one"),
        (
            ("compare", "--recipe", "digits/resnet9", "--norms", "bn"),
            "--norms is for study geometry, and this is compare, which takes --variants",
        ),
        (("geometry", "--variants", "bn"), "--variants is for study compare, and this is geometry"),
        (("compare", "--recipe", "digits/resnet9", "--variants", "bn", "--seed", "3"), "use --seeds instead of --seed"),
        (("compare", "--recipe", "digits/resnet9", "--variants", "bn", "--epoch", "3"), "did you mean '--epochs'?"),
        (("compare", "--recipe", "digits/resnet9", "--variants", "bn", "--workers", "0"), "must be at least 1, got 0"),
        (("compare", "--recipe", "digits/resnet9", "--variants", "bn", "--label", "x"), "use --variants instead of"),
        (("compar",), "study 'compar' is unknown; did you mean 'compare'?"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(("study", *arguments))
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


FLAGS = ("--epochs=1", "--batch-size=512", "--schedule.warmup_epochs=0")


def compare(folder, *variants: str, seeds=("0", "1"), flags=()):
    arguments = ("--variants", *variants, "--seeds", *seeds, "--out", "made", "--workers", "1", *FLAGS, *flags)
    command = ("switchnorm", "study", "compare", "--recipe", "digits/resnet9", "--device", "cpu", *arguments)
    return forked.run("-m", *command, cwd=folder)


def test_the_table_has_mean_and_spread_of_every_variant_that_trained(tmp_path):
    done = compare(tmp_path, "bn", FROZEN)
    assert done.returncode == 0, done.stderr
    runs = {path.name: RunFolder(path) for path in (tmp_path / "made/runs").iterdir()}
    saved = {name: run.last.stat().st_mtime_ns for name, run in runs.items()}
    assert sorted(runs) == ["bn-seed0", "bn-seed1", "frozen-bn-seed0", "frozen-bn-seed1"]

    # One variant more, which comes to no end.
    done = compare(tmp_path, "bn", FROZEN, "wild: norm=gn lr=1e38 optimizer.clip_norm=null")
    assert done.returncode == 1, done.stderr
    assert {name: run.last.stat().st_mtime_ns for name, run in runs.items()} == saved, "trained again"
    assert "wild, seed 1 failed: training diverged in epoch 1, step 2 of 2" in done.stdout
    table = json.loads((tmp_path / "made/table.json").read_text())
    assert table["variants"]["Frozen BN"] == "norm=bn train.frozen_statistics=true"
    rows = {row["name"]: row for row in table["tables"][0]["rows"]}
    assert list(rows) == ["BN", "Frozen BN"]
    for name, stem in {"BN": "bn", "Frozen BN": "frozen-bn"}.items():
        values = [runs[f"{stem}-seed{seed}"].record()["result"]["val_accuracy"] for seed in (0, 1)]
        assert rows[name]["mean"] == pytest.approx(statistics.fmean(values))
        assert rows[name]["spread"] == pytest.approx(statistics.stdev(values))
        assert [seed["accuracy"] for seed in rows[name]["seeds"]] == pytest.approx(values)
        shown = f"{100 * statistics.fmean(values):.2f} ± {100 * statistics.stdev(values):.2f}"
        assert shown in done.stdout
        assert shown in (tmp_path / "made/table.md").read_text()
    page = (tmp_path / "made/report.html").read_text()
    assert "Frozen BN" in page
    assert "wild, seed 0 failed" in page
    assert runs["frozen-bn-seed0"].config().label == "Frozen BN"


def test_another_command_adds_to_the_table(tmp_path):
    assert compare(tmp_path, "bn", seeds=("0",)).returncode == 0
    before = json.loads((tmp_path / "made/table.json").read_text())["tables"][0]["rows"]
    done = compare(tmp_path, "sn", FROZEN, seeds=("1",))
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "made/table.json").read_text())
    rows = {row["name"]: row for row in table["tables"][0]["rows"]}
    assert sorted(rows) == ["BN", "Frozen BN", "SN"]
    assert rows["BN"] == before[0]
    assert rows["SN"]["difference"] == pytest.approx(rows["SN"]["mean"] - rows["BN"]["mean"])
    assert (table["seeds"], list(table["variants"])) == ([0, 1], ["bn", "sn", "Frozen BN"])
    shown = f"{100 * rows['BN']['mean']:.2f}"
    for text in (done.stdout, *((tmp_path / "made" / name).read_text() for name in ("table.md", "report.html"))):
        assert shown in text
    assert "frozen statistics False (SN; BN), True (Frozen BN)" in done.stdout


def test_what_an_earlier_command_left_undone_is_said(tmp_path):
    earlier = planned(tmp_path, "bn", FROZEN, seeds=(0,))
    for path, config in earlier.plan:
        RunFolder.create(path, config, ())
    RunFolder(earlier.plan[0][0]).update_record(status="diverged", diverged={"epoch": 3, "first": "the loss"})
    study = planned(tmp_path, "sn", seeds=(1,))
    assert study.counted == []
    assert study.notes == [
        "BN, seed 0 failed: diverged in epoch 3: the loss is not finite.",
        "2 trainings have not finished.",
    ]
    RunFolder(earlier.plan[1][0]).record_file.write_text("{")
    with pytest.raises(InputError, match=r"frozen-bn-seed0/run\.json"):
        study.run(())


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps({"recipe": "digits/resnet9"}))
    planned(tmp_path, "bn")
    with pytest.raises(InputError, match="holds a comparison of recipe 'digits/resnet9', and this is one of 'cifar10"):
        planned(tmp_path, "bn", recipe="cifar10/resnet20")
    (tmp_path / "table.json").write_text(json.dumps({"recipe": "mine/cls.yaml"}))
    (tmp_path / "cls.yaml").write_text(yaml.safe_dump({"base": "digits/resnet9"}))
    planned(tmp_path, "bn", recipe=str(tmp_path / "cls.yaml"))


def test_what_a_start_says_is_said_once_where_it_holds_for_all(tmp_path):
    flags = ("--optimizer.lr_per=64", "--model.options.momentum=0.2")
    done = compare(tmp_path, "bn", "gn", seeds=("0",), flags=flags)
    assert done.stdout.splitlines()[:2] == [
        "learning rate 0.4 for 512 samples per step",
        "gn: model.options.momentum has no effect: no layer keeps running statistics",
    ]


def test_a_folder_is_known_again_whatever_its_network_set_of_the_data(monkeypatch, tmp_path):
    """A run's config.yaml has the pictures that the network expects, which the command did not name."""
    recipe = tmp_path / "photographs.yaml"
    data = {"name": "folder", "root": str(write_tree(tmp_path / "data")), "size": 32, "workers": 0}
    train = {"epochs": 1, "batch_size": 2}
    recipe.write_text(yaml.safe_dump({"model": {"name": "resnet18"}, "data": data, "train": train}))
    study = planned(tmp_path / "made", "bn", "gn", recipe=str(recipe), seeds=(0,))
    for path, config in study.plan:
        written, said = as_expected(config)
        assert said
        RunFolder.create(path, written, ())
    trained = []
    monkeypatch.setattr("switchnorm.studies.study.train_all", lambda plan, *args, **options: trained.extend(plan))
    study.run(())
    assert trained == study.plan
    other = planned(tmp_path / "made", "bn", recipe=str(recipe), seeds=(0,), flags=("--data.crop=0.5",))
    with pytest.raises(InputError, match=r"with data\.crop None and not 0\.5; choose another folder"):
        other.run(())
