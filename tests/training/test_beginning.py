"""What a start says: the same for a training, its dry run and a study."""

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.studies.seeds import train_seeds
from switchnorm.training import dry_run
from switchnorm.training.beginning import begin
from switchnorm.training.build import build_model
from switchnorm.training.launch import start

SMALL = ("--train.epoch_steps", "1", "--epochs", "2", "--samples-per-gpu", "null")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--norm", "gn", "--model.options.momentum", "0.2"), "model.options.momentum has no effect: no layer keeps"),
        (
            ("--norm", "bn", "--model.options.momentum", "0.2", "--train.frozen_statistics", "true"),
            "model.options.momentum has no effect: running statistics stay as they begin",
        ),
        (
            ("--norm", "bn", "--model.options.momentum", "0.2", "--train.eval_mode", "true"),
            "model.options.momentum has no effect: running statistics stay as they begin",
        ),
        (
            ("--norm", "gn", "--train.calibrate", "1"),
            "train.calibrate has no effect: no layer keeps running statistics",
        ),
        (
            ("--norm", "gn", "--optimizer.decay_logits", "true"),
            "optimizer.decay_logits has no effect: no layer has logits",
        ),
        (("--norm", "ssn", "--optimizer.decay_logits", "true"), "optimizer.decay_logits has no effect"),
        (
            ("--norm", "sn", "--optimizer.sparse_lr_factor", "0.5"),
            "optimizer.sparse_lr_factor has no effect: the network has no SSN layer",
        ),
        (
            ("--norm", "bn", "--schedule.radius_end", "0.5"),
            "schedule.radius_end has no effect: the network has no SSN layer",
        ),
        (("--train.snapshot_epochs", "3"), "train.snapshot_epochs 3 has no effect: the run has 2 epochs"),
        (("--train.patience", "1"), "train.patience 1 has no effect: 2 validations are over before it is"),
        (
            ("--optimizer.name", "adamw", "--optimizer.momentum", "0.9"),
            "optimizer.momentum has no effect: adamw takes none",
        ),
        (("--optimizer.name", "adam", "--optimizer.nesterov", "true"), "optimizer.nesterov has no effect: adam takes"),
        (("--optimizer.name", "rprop"), "optimizer.weight_decay has no effect: rprop takes none"),
        (("--optimizer.lr_per", "128"), "learning rate 0.1 for 256 samples per step"),
    ],
)
def test_what_has_no_effect_or_is_not_as_written_is_said(recipe, flags, line):
    config = read_config(recipe, (*SMALL, *flags))
    said = begin(build_model(config, 10), config).lines
    frozen = [each for each in said if each.startswith("train.frozen_statistics holds for bn1 and 9 more too")]
    assert len(frozen) == (config.train.frozen_statistics is True)
    (other,) = (each for each in said if each not in frozen)
    assert other.startswith(line)


@pytest.mark.parametrize(
    "flags",
    [
        ("--norm", "bn", "--model.options.momentum", "0.2", "--train.calibrate", "1"),
        ("--norm", "sn", "--optimizer.decay_logits", "true"),
        ("--norm", "ssn", "--optimizer.sparse_clip_norm", "0.5", "--schedule.radius_power", "2"),
        ("--train.snapshot_epochs", "2"),
        ("--train.patience", "1", "--epochs", "3"),
        ("--optimizer.name", "adamw"),
        ("--optimizer.name", "rmsprop", "--optimizer.momentum", "0.9"),
    ],
)
def test_nothing_is_said_of_what_has_an_effect(recipe, flags):
    config = read_config(recipe, (*SMALL, *flags))
    assert begin(build_model(config, 10), config).lines == ()


def test_every_way_to_start_says_the_same(recipe, tmp_path, capsys):
    whole = start(read_config(recipe, SMALL), tmp_path / "whole", default=tmp_path, command=(), quiet=True)[0]
    flags = ("--optimizer.lr_per", "128", "--model.options.momentum", "0.2", "--train.frozen_statistics", "true")
    flags += ("--train.warm_start", str(whole.last), "--train.start_epoch", "1", "--train.snapshot_epochs", "9")
    config = read_config(recipe, (*SMALL, *flags))
    said = list(begin(build_model(config, 10), config).lines)
    assert [line.split()[0] for line in said] == [
        "learning", "warm", "model.options.momentum", "train.snapshot_epochs", "training",
    ]  # fmt: skip
    capsys.readouterr()
    start(config, tmp_path / "run", default=tmp_path, command=())
    assert capsys.readouterr().out.splitlines()[: len(said)] == said
    assert str(dry_run(config)).splitlines()[:-1] == said
    train_seeds(config, [0], tmp_path / "seeds", ())
    assert capsys.readouterr().out.splitlines()[: len(said)] == said


@pytest.mark.parametrize("way", ["dry run", "training"])
def test_layers_that_are_none_are_refused_by_the_key_that_names_them(recipe, tmp_path, way):
    config = read_config(recipe, (*SMALL, "--norm", "bn", "--train.frozen_statistics", "conv*"))
    said = "train.frozen_statistics: include 'conv*' matches no layer with running statistics; the nearest layer is '"
    with pytest.raises(InputError) as caught:
        dry_run(config) if way == "dry run" else start(config, tmp_path / "run", default=tmp_path, command=())
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "run").exists()
