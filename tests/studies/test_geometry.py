"""The study of geometries: what it trains, what it refuses, and that a kill loses nothing."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from switchnorm.cli import main
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.geometries import Absent, Geometry
from switchnorm.studies.folder import check_folder
from switchnorm.studies.geometry import PRESETS, plan_study
from switchnorm.studies.parallel import train_one
from switchnorm.training.optimizer import effective_lr
from tests import forked
from tests.forked import Forked


def study(tmp_path, *flags, norms=("bn", "sn"), geometries=("8x32", "8x2"), seeds=(0,), **options):
    options = {"recipe": "digits/resnet9", "device": "cpu", **options}
    parsed = [Geometry.parse(text) for text in geometries]
    return plan_study(tmp_path, norms=norms, geometries=parsed, seeds=seeds, flags=flags, **options)


def configs(made) -> dict[str, Config]:
    return {path.name: config for path, config in made.plan}


class TestPlan:
    def test_ghost_batches_stand_in_for_the_gpus(self, tmp_path):
        made = configs(study(tmp_path, geometries=("8x32", "8x2", "1x16"), seeds=(0, 3)))
        assert len(made) == 2 * 3 * 2
        batches = {name: (each.train.batch_size, each.train.samples_per_gpu) for name, each in made.items()}
        assert batches["bn-8x32-seed0"] == (256, 32)
        assert batches["sn-8x2-seed3"] == (16, 2)
        assert batches["bn-1x16-seed3"] == (16, 16)
        assert (made["sn-8x2-seed3"].model.norm, made["sn-8x2-seed3"].seed) == ("sn", 3)

    def test_the_learning_rate_follows_the_batch(self, tmp_path):
        made = configs(study(tmp_path))  # of a recipe with 0.05 for 32 samples
        assert effective_lr(made["bn-8x32-seed0"]) == pytest.approx(0.05 * 256 / 32)
        assert effective_lr(made["bn-8x2-seed0"]) == pytest.approx(0.05 * 16 / 32)

    def test_a_recipe_says_what_its_learning_rate_is_meant_for(self, tmp_path):
        made = configs(study(tmp_path, "--optimizer.lr_per", "64", "--lr=0.1"))
        assert effective_lr(made["bn-8x2-seed0"]) == pytest.approx(0.1 * 16 / 64)

    def test_all_else_is_equal(self, tmp_path):
        made = study(tmp_path, "--epochs", "3", norms=("bn", "gn", "gn:4", "sn", "ssn", "gn+ws"))
        alike = [
            replace(
                config,
                seed=0,
                model=replace(config.model, norm="bn"),
                train=replace(config.train, batch_size=1, samples_per_gpu=1),
            )
            for _, config in made.plan
        ]
        assert len(alike) == 12
        assert all(config == alike[0] for config in alike)
        assert alike[0].train.epochs == 3

    def test_one_sample_per_gpu_has_no_batch_statistics_and_no_bn(self, tmp_path):
        made = study(tmp_path, norms=("bn", "gn", "sn", "ssn"), geometries=("8x2", "8x1"))
        options = {name: config.model.options for name, config in configs(made).items()}
        assert "bn-8x1-seed0" not in options
        assert options["gn-8x1-seed0"] == {}
        assert options["sn-8x1-seed0"] == options["ssn-8x1-seed0"] == {"statistics": ["instance", "layer"]}
        assert options["sn-8x2-seed0"] == {}
        assert Absent("sn", Geometry(8, 1), 0, "", ("instance", "layer")) in made.absent

    def test_long_trainings_start_first(self, tmp_path):
        names = list(configs(study(tmp_path, geometries=("8x32", "8x2", "1x8"))))
        assert [name.split("-")[1] for name in names] == ["1x8"] * 2 + ["8x2"] * 2 + ["8x32"] * 2

    def test_the_same_twice_is_once(self, tmp_path):
        assert len(study(tmp_path, norms=("bn", "bn"), seeds=(1, 1)).plan) == 2

    def test_configurations_survive_their_file(self, tmp_path):
        for path, config in study(tmp_path, geometries=("8x2", "8x1")).plan:
            file = tmp_path / f"{path.name}.yaml"
            file.write_text(to_yaml(config))
            assert read_config(file) == config

    @pytest.mark.parametrize("device", PRESETS)
    def test_presets_are_plans(self, tmp_path, device):
        preset = PRESETS[device]
        made = plan_study(tmp_path, device=device, workers=1)
        assert made.origin["recipe"] == preset.recipe
        assert len(made.plan) == len(preset.norms) * len(preset.geometries) * len(preset.seeds)
        recipe = yaml.safe_load(find_recipe(preset.recipe).read_text())
        assert recipe["optimizer"]["lr_per"] == recipe["train"]["batch_size"]
        assert {config.train.epochs for _, config in made.plan} == {recipe["train"]["epochs"]}


class TestRefusals:
    @pytest.mark.parametrize("text", ["8-2", "8x", "x2", "0x2", "8x0", "8x2x2", "eight", "(8,2)"])
    def test_what_is_no_geometry(self, text):
        with pytest.raises(InputError, match="expected GPUs x samples per GPU, such as 8x2"):
            Geometry.parse(text)

    @pytest.mark.parametrize(
        ("flag", "instead"),
        [
            ("--norm=sn", "--norms"),
            ("--batch-size", "--geometries"),
            ("--seed", "--seeds"),
            ("--model.conv", "--norms, such as gn.ws"),
        ],
    )
    def test_flags_that_the_study_sets_itself(self, tmp_path, flag, instead):
        with pytest.raises(InputError, match=f"by itself; use {instead}"):
            study(tmp_path, flag, "1")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("geometri",), "study 'geometri' is unknown; did you mean 'geometry'?"),
            (("--norms", "bn"), "study starts with a name, one of geometry"),
            (("geometry", "--geometries", "8by2"), "geometry '8by2' is none"),
            (("geometry", "--recipe", "digits/resnet8"), "did you mean 'digits/resnet9'?"),
            (("geometry", "--recipe", "digits/resnet9", "--norms", "snn"), "did you mean 'sn'?"),
            (("geometry", "--recipe", "digits/resnet9", "--epoch", "3"), "did you mean '--epochs'?"),
            (("geometry", "--recipe", "digits/resnet9", "--workers", "0"), "--workers must be at least 1, got 0"),
            (("geometry", "--recipe", "digits/resnet9", "--seeds", "-1"), "seed must be at least 0"),
            (("geometry", "--recipe", "digits/resnet9", "--norms", "bn", "--geometries", "8x1"), "nothing is left"),
            (("geometry", "--recipe", "digits/resnet9", "--geometries", "99x99"), "9801"),
        ],
    )
    def test_mistakes_are_one_line_and_leave_nothing_behind(self, capsys, monkeypatch, tmp_path, arguments, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            main(("study", *arguments, *(("--device", "cpu") if len(arguments) > 2 else ())))
        out, err = capsys.readouterr()
        assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="it is available here")
    def test_a_device_that_is_not_here(self, tmp_path):
        with pytest.raises(InputError, match="'cuda' is not available here"):
            study(tmp_path, device="cuda").run((), lambda facts: None)

    def test_a_folder_of_another_configuration_names_the_key(self, tmp_path):
        made = study(tmp_path)
        path, config = made.plan[0]
        RunFolder.create(path, replace(config, optimizer=replace(config.optimizer, momentum=0.5)), ())
        with pytest.raises(InputError, match=r"with optimizer\.momentum 0\.5 and not 0\.9; choose another folder"):
            made.run((), lambda facts: None)

    def test_a_folder_of_another_study_too(self, tmp_path):
        path, config = study(tmp_path, "--epochs", "2", geometries=("8x4",)).plan[0]
        RunFolder.create(path, config, ())
        with pytest.raises(InputError, match=r"train\.epochs 2 and not 8"):
            study(tmp_path).run((), lambda facts: None)

    def test_more_norms_geometries_and_seeds_add_to_a_folder(self, tmp_path):
        for path, config in study(tmp_path, geometries=("8x2", "8x1")).plan:
            RunFolder.create(path, config, ())
        larger = study(tmp_path, norms=("bn", "sn", "gn+ws"), geometries=("8x4", "8x1"), seeds=(1, 2))
        check_folder(larger.plan, ("model.norm", "model.options", "train.batch_size", "train.samples_per_gpu", "seed"))


def test_without_a_name_the_studies_are_listed(capsys):
    main(("study",))
    assert "geometry" in capsys.readouterr().out


FLAGS = ("--epochs=1", "--schedule.warmup_epochs=0", "--train.checkpoint_minutes=0")
COMMAND = (
    "study", "geometry", "--recipe", "digits/resnet9", "--norms", "bn", "ssn", "--geometries", "8x32", "8x16",
    "--device", "cpu", "--workers", "1", "--out", "made", *FLAGS,
)  # fmt: skip


def start(tmp_path) -> Forked:
    process = Forked(("-m", "switchnorm", *COMMAND), tmp_path)
    if hasattr(os, "sched_setaffinity"):
        # One core is one thread, as in this process: the number of threads shows in the last digits.
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[-1:])
    return process


def interrupted(path: Path) -> bool:
    """Whether it has a checkpoint, and no result."""
    return (path / "checkpoints/last.ckpt").is_file() and not RunFolder.open(path).finished()


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_a_killed_study_ends_as_the_unkilled_one(tmp_path):
    process = start(tmp_path)
    plan = study(tmp_path / "reference", *FLAGS, norms=("bn", "ssn"), geometries=("8x32", "8x16"), workers=1).plan
    runs = [tmp_path / "made/runs" / path.name for path, _ in plan]
    deadline = time.monotonic() + 240
    while not ((tmp_path / "made/table.json").is_file() and any(map(interrupted, runs))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended = [path for path in runs if (path / "run.json").is_file() and RunFolder.open(path).finished()]
    assert ended
    assert any(map(interrupted, runs)), "killed too late to say anything"
    table = json.loads((tmp_path / "made/table.json").read_text())
    counted = [cell["mean"] is not None for cell in table["tables"][0]["cells"]].count(True)
    assert 0 < counted <= len(ended)
    saved = {path: (path / "checkpoints/last.ckpt").stat().st_mtime_ns for path in ended}

    process = start(tmp_path)
    reference = {path: train_one(path, config, ("test",)).result for path, config in plan}
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert {path: (path / "checkpoints/last.ckpt").stat().st_mtime_ns for path in ended} == saved
    assert out.count("was there already") == len(ended)
    table = json.loads((tmp_path / "made/table.json").read_text())
    cells = {(cell["norm"], cell["gpus"], cell["samples"]): cell["mean"] for cell in table["tables"][0]["cells"]}
    for path, result in reference.items():
        norm, geometry, _ = path.name.split("-")
        parsed = Geometry.parse(geometry)
        assert cells.pop((norm, parsed.gpus, parsed.samples)) == pytest.approx(result["val_accuracy"], abs=1e-7)
        made = weights(tmp_path / "made/runs" / path.name)
        assert all(torch.equal(value, made[key]) for key, value in weights(path).items())
    assert cells == {}
    assert (tmp_path / "made/report.html").read_text().startswith("<!doctype html>")
    assert "SSN vs BN" in (tmp_path / "made/table.md").read_text()


def test_another_command_adds_to_the_table(tmp_path):
    words = list(COMMAND)
    for norm, geometry, seed in (("bn", "8x32", "0"), ("ssn", "8x16", "3")):
        words[words.index("--norms") + 1 : words.index("--device")] = [norm, "--geometries", geometry, "--seeds", seed]
        done = forked.run("-m", "switchnorm", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "made/table.json").read_text())
    found = table["tables"][0]["cells"]
    cells = {(cell["norm"], cell["samples"]): [seed["seed"] for seed in cell["seeds"]] for cell in found}
    assert cells == {("bn", 32): [0], ("ssn", 16): [3]}
    assert table["seeds"] == [0, 3]
    rows = [line.split("|")[1].strip() for line in (tmp_path / "made/table.md").read_text().splitlines() if "|" in line]
    assert rows[2:4] == ["BN", "SSN"]
    assert all(f'scope="row">{name}<' in (tmp_path / "made/report.html").read_text() for name in ("BN", "SSN"))


def test_what_an_earlier_command_left_undone_is_said(tmp_path):
    for path, config in study(tmp_path, norms=("sn",), geometries=("8x2", "8x1"), seeds=(4,)).plan:
        RunFolder.create(path, config, ())
    made = study(tmp_path, norms=("bn",), geometries=("8x32",))
    assert made.absent == [
        Absent("bn", Geometry(8, 32), 0),
        Absent("sn", Geometry(8, 1), 4, "", ("instance", "layer")),
        Absent("sn", Geometry(8, 2), 4),
    ]
