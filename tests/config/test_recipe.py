import inspect
from dataclasses import asdict

import pytest
import yaml

from switchnorm.config import recipe as recipe_module
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.data import Digits, dataset_classes, register
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe, recipes

SMALL = {
    "model": {"name": "digits_resnet9"},
    "data": {"name": "digits"},
    "train": {"epochs": 2, "batch_size": 32},
}


@pytest.fixture
def recipe(tmp_path):
    def write(**changes):
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **changes}))
        return path

    return write


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_is_valid_and_round_trips(name, tmp_path):
    config = read_config(find_recipe(name))
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config))
    assert read_config(saved) == config


def test_flags_win_over_the_recipe_and_everything_round_trips(recipe, tmp_path):
    flags = ["--norm", "ssn", "--samples-per-gpu=2", "--train.epochs", "7", "--precision", "32", "--seed=3"]
    flags += ["--schedule.milestones", "[1, 2]", "--optimizer.nesterov", "false", "--data.augment", "true"]
    config = read_config(recipe(), flags)
    assert config.model.norm == "ssn"
    assert config.train.samples_per_gpu == 2
    assert config.train.epochs == 7
    assert config.train.precision == "32"
    assert config.seed == 3
    assert config.schedule.milestones == [1, 2]
    assert config.optimizer.nesterov is False
    assert config.data == {"name": "digits", "augment": True}
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config))
    assert read_config(saved) == config
    assert asdict(read_config(saved, ["--samples-per-gpu", "null"]))["train"]["samples_per_gpu"] is None


@pytest.mark.parametrize(
    ("written", "files"),
    [("a.pth", ["a.pth"]), ("[a.pth, b.pth]", ["a.pth", "b.pth"]), ("[a.pth]", ["a.pth"]), ("null", [])],
)
def test_a_warm_start_is_a_file_or_a_pair(recipe, tmp_path, written, files):
    config = read_config(recipe(), ["--train.warm_start", written])
    assert config.train.start_files == files
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config))
    assert read_config(saved) == config


def test_evaluation_takes_training_s_batch_where_it_has_none_of_its_own(recipe):
    assert read_config(recipe()).train.test_batch == 32
    assert read_config(recipe(), ["--train.eval_batch_size", "7"]).train.test_batch == 7


def test_the_dataset_decides_which_keys_data_has(recipe):
    assert read_config(recipe(), ["--data", "cifar10", "--data.root", "x"]).data["root"] == "x"
    with pytest.raises(InputError, match=r"flag '--data.root' is unknown; did you mean"):
        read_config(recipe(), ["--data.root", "x"])


class Older(Digits):
    """Hands on what it does not know."""

    def __init__(self, before: int = 1900, **options) -> None:
        super().__init__(**options)


@pytest.mark.usefixtures("own_registry")
def test_the_keys_are_those_of_the_parser_without_waiting_for_it():
    register("older", Older)
    for dataset in dataset_classes():
        keys = recipe_module._keys(dataset)
        assert keys == [key for key in recipe_module._parser(dataset).get_defaults().keys() if key != "config"]  # noqa: SIM118
    assert {"data.before", *(f"data.{name}" for name in inspect.signature(Digits).parameters)} <= {
        *recipe_module._keys("older")
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train.epoch", "3"], "flag '--train.epoch' is unknown; did you mean '--train.epochs'?"),
        (["--nrom", "sn"], "flag '--nrom' is unknown; did you mean '--norm'?"),
        (["--epochs", "many"], "train.epochs: expected int"),
        (["--epochs", "0"], "train.epochs must be at least 1, got 0"),
        (["--samples-per-gpu", "0"], "train.samples_per_gpu must be at least 1, got 0"),
        (["--train.label_smoothing", "1"], r"train.label_smoothing must be below 1, got 1"),
        (["--schedule.name", "cosin"], "schedule.name"),
        (["--schedule.warmup_epochs", "2"], "schedule.warmup_epochs must be below 2, got 2"),
        (["--optimizer.momentum", "0"], "optimizer.nesterov needs a momentum above 0"),
        (["--label", " "], "label must be a line of text, got ' '; null for none"),
        (["--label", "a\nb"], "label must be a line of text"),
        (["--train.warm_start", "[a.pth, ./a.pth]"], "train.warm_start names 'a.pth' twice; give the encoder's file"),
        (["--train.patience", "0"], "train.patience must be at least 1, got 0"),
        (["--train.freeze", "body.stem"], "train.freeze: expected list, as [body.stem]. Got value: body.stem"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--seed", str(2**63)], "seed must be below"),
        (["--schedule.power", "-3"], "schedule.power must be at least 0, got -3"),
        (["--schedule.milestones", "[3, 2]"], "schedule.milestones must rise, got [3, 2]"),
        (["--data", "cifar"], "dataset 'cifar' is unknown; did you mean 'cifar10'?"),
        (["--train.sync", "true", "--samples-per-gpu", "2"], "exclude each other"),
        (["--train.eval_batch_size", "0"], "train.eval_batch_size must be at least 1, got 0"),
        (["--train.snapshot_epochs", "0"], "train.snapshot_epochs must be at least 1, got 0"),
        (["--train.calibrate", "-1"], "train.calibrate must be at least 0, got -1"),
        (["--train.start_epoch", "1"], "train.start_epoch 1 needs train.warm_start, a file with the weights of that"),
        (["--train.start_epoch", "2", "--train.warm_start", "x"], "train.start_epoch must be below 2, got 2"),
        (["--train.warm_start", "[a, b, c]"], "train.warm_start takes a file, or the two of an encoder and a decoder,"),
        (["--train.warm_start", "[]"], "got 0 files"),
        (["--train.eval_mode", "true", "--train.frozen_statistics", "true"], "set train.frozen_statistics to false"),
        (["--train.eval_mode", "true", "--train.calibrate", "1"], "train.calibrate and train.eval_mode exclude each"),
        (["--train.frozen_statistics", "true", "--train.calibrate", "1"], "set train.calibrate to 0"),
        (["--train.frozen_statistics", "encoder.*", "--train.calibrate", "1"], "set train.calibrate to 0"),
        (["--train.start", "equal"], "train.start equal needs train.warm_start, the file that it is about; set it to"),
        (["--train.eval_mode", "true", "--train.cuda_graph", "true"], "train.cuda_graph and train.eval_mode exclude"),
        (["--schedule.final_lr", "0.2"], "schedule.final_lr must be at most optimizer.lr, 0.1, got 0.2"),
        (["--schedule.final_lr", "-1"], "schedule.final_lr must be at least 0, got -1"),
        (
            ["--schedule.final_lr", "0.01", "--schedule.name", "step"],
            "schedule.final_lr is where cosine and polynomial",
        ),
        (["--schedule.warmup_lr", "0.01"], "schedule.warmup_lr needs schedule.warmup_epochs above 0"),
        (
            ["--schedule.warmup_lr", "0.2", "--schedule.warmup_epochs", "1"],
            "schedule.warmup_lr must be at most optimizer.lr, 0.1, got 0.2",
        ),
        (["--schedule.warmup", "constant"], "schedule.warmup constant needs schedule.warmup_lr"),
        (
            ["--schedule.by", "epoch", "--schedule.warmup_epochs", "1.2"],
            "schedule.by epoch needs whole schedule.warmup_epochs, got 1.2; the nearest is 1",
        ),
        (["--epochs"], "train.epochs"),
        (["stray"], "stray"),
    ],
)
def test_wrong_flags_are_named_in_one_line(recipe, flags, message):
    with pytest.raises(InputError) as caught:
        read_config(recipe(), flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flag_that_does_not_go_with_the_recipe_is_named_as_it_was_typed(recipe):
    written = recipe(schedule={"warmup_epochs": 1, "milestones": [1]})
    with pytest.raises(InputError) as caught:
        read_config(written, ["--norm", "gn", "--epochs=1"])
    assert str(caught.value).startswith(f"--epochs=1 does not go with {written}, line ")
    assert str(caught.value).endswith(
        "schedule.warmup_epochs must be below 1, got 1.0, since train.epochs is 1; the nearest is "
        "--schedule.warmup_epochs 0"
    )
    with pytest.raises(
        InputError, match=r"^--epochs 1 does not go with .*, line \d+: schedule.milestones, as train\.ep"
    ):
        read_config(written, ["--norm", "gn", "--epochs", "1", "--schedule.warmup_epochs", "0"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "modl: {name: x}\ndata: {name: digits}",
            "r.yaml, line 1: key 'modl.name' is unknown; did you mean 'model.name'?",
        ),
        ("model: {name: x}", "names no dataset"),
        ("data: {name: [digits]}", "dataset \"['digits']\" is unknown"),
        ("data: {name: digits}\nmodel: {name: null}\ntrain: {epochs: 1, batch_size: 1}", "model.name"),
        ("- 1", "is no recipe"),
        ("a: [", "r.yaml, line 1, column 5: no valid YAML"),
        ("data: {name: digits}\nmodel: {name: x}\ntrain: {epochs: 1}", "train.batch_size"),
    ],
)
def test_wrong_recipes_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_recipes_name_the_nearest():
    with pytest.raises(InputError, match="did you mean 'cifar10/resnet20'"):
        find_recipe("cifar10/resnet2")
    with pytest.raises(InputError, match="does not exist"):
        find_recipe("missing.yaml")


def test_a_written_configuration_that_was_cut_is_refused(tmp_path):
    saved = tmp_path / "config.yaml"
    whole = to_yaml(read_config(find_recipe("digits/resnet9")))
    assert whole.endswith("\n...\n")
    for length in (len(whole) // 2, whole.index("schedule:"), len(whole) - 5):
        saved.write_text(whole[:length])
        with pytest.raises(InputError, match=r"config\.yaml has lost its end: its last line is to be '\.\.\.'"):
            read_config(saved)
