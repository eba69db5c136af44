"""Loggers of a run. The libraries are optional, so stand-ins take their place; tensorboard is the real one."""

import importlib.util
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from pytorch_lightning.loggers import Logger

from switchnorm.cli import main
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.errors import InputError
from switchnorm.training import loggers as module
from switchnorm.training.callbacks.history import History
from switchnorm.training.launch import resume, start
from tests.training.trainings import StoppedError

SHORT = ("--train.epoch_steps", "2", "--epochs", "2", "--norm", "gn", "--device", "cpu")


class Account(Logger):
    """Remembers what it is told."""

    made: list["Account"] = []  # noqa: RUF012, of all tests

    def __init__(self, *arguments, **options):
        super().__init__()
        self.arguments, self.options = arguments, options
        self.known = options.get("id") or options.get("run_id")
        self.run_id = self.known or f"account-{len(self.made)}"
        self.experiment = SimpleNamespace(id=self.run_id)
        self.parameters: dict[str, object] = {}
        self.scalars: list[tuple[int, dict[str, float]]] = []
        self.made.append(self)

    name = "account"
    version = "0"

    def log_hyperparams(self, params, *_, **__):
        self.parameters.update(params)

    def log_metrics(self, metrics, step=None):
        self.scalars.append((step, metrics))


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for wandb and mlflow; returns how often wandb was finished."""
    finished = []
    for name in ("wandb", "mlflow"):
        library = ModuleType(name)
        library.__spec__ = importlib.util.spec_from_loader(name, None)
        library.finish = lambda: finished.append(1)
        monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setattr(module, "WandbLogger", Account)
    monkeypatch.setattr(module, "MLFlowLogger", Account)
    monkeypatch.setattr(Account, "made", [])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return finished


def config(recipe, names):
    return read_config(recipe, (*SHORT, "--train.loggers", names))


def test_each_gets_what_the_tables_get_and_nothing_else_changes(recipe, tmp_path, libraries):
    plain, _ = start(config(recipe, "[tensorboard]"), tmp_path / "plain", default=tmp_path, command=(), quiet=True)
    run, _ = start(
        config(recipe, "[tensorboard, wandb, mlflow]"), tmp_path / "all", default=tmp_path, command=(), quiet=True
    )
    rows = run.metrics()
    assert [{**row, "images_per_second": ""} for row in rows] == [
        {**row, "images_per_second": ""} for row in plain.metrics()
    ]
    states = [torch.load(each.last, weights_only=True)["state_dict"] for each in (plain, run)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    for account in Account.made:
        assert account.parameters["model.norm"] == "gn"
        assert account.parameters["train.epochs"] == 2
        scores = [metrics["val_accuracy"] for _, metrics in account.scalars if "learning_rate" in metrics]
        assert scores == pytest.approx([float(row["val_accuracy"]) for row in rows])
    assert run.record()["loggers"] == {"wandb": "account-0", "mlflow": "account-1"}
    assert "loggers" not in plain.record()
    assert (run.path / "tensorboard").is_dir()
    assert libraries == [1], "the next run of this process would go on in this one's"


def test_without_tensorboard_there_is_no_folder_of_it(recipe, tmp_path):
    run, result = start(config(recipe, "[]"), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    assert not (run.path / "tensorboard").exists()
    assert result["val_accuracy"] > 0


def test_a_resumed_run_goes_on_where_it_was(recipe, tmp_path, libraries, monkeypatch):
    def die(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(History, "on_train_epoch_start", die)
        with pytest.raises(StoppedError):
            start(config(recipe, "[wandb, mlflow]"), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    assert libraries == [1]
    resume(tmp_path / "run", quiet=True)
    first, second = Account.made[:2], Account.made[2:]
    assert [account.known for account in first] == [None, None]
    assert [account.known for account in second] == [account.run_id for account in first]


def test_where_they_write(recipe, tmp_path, libraries, monkeypatch):
    start(config(recipe, "[wandb, mlflow]"), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    wandb, mlflow = Account.made
    assert (wandb.arguments, wandb.options["project"]) == (("run",), "switchnorm")
    assert wandb.options["save_dir"] == tmp_path / "run"
    assert mlflow.options["tracking_uri"] == f"sqlite:///{tmp_path / 'run'}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    start(config(recipe, "[wandb, mlflow]"), tmp_path / "other", default=tmp_path, command=(), quiet=True)
    assert Account.made[2].options["project"] == "mine"
    assert Account.made[3].options["tracking_uri"] == "http://somewhere"


def test_what_mlflow_sets_is_not_the_next_runs(recipe, tmp_path, libraries, monkeypatch):
    def begin(account, params):
        os.environ["MLFLOW_TRACKING_URI"] = account.options["tracking_uri"]

    monkeypatch.setattr(Account, "log_hyperparams", begin)
    for name in ("one", "two"):
        start(config(recipe, "[mlflow]"), tmp_path / name, default=tmp_path, command=(), quiet=True)
    assert [account.options["tracking_uri"].split("/")[-2] for account in Account.made] == ["one", "two"]
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_library_that_is_missing_is_said_before_anything_is_written(recipe, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda wanted: None)
    for more in ((), ("--dry-run",)):
        out = () if more else ("--out", str(tmp_path / "run"))
        with pytest.raises(SystemExit):
            main(["train", str(recipe), *SHORT, "--train.loggers", f"[{name}]", *out, *more])
        assert capsys.readouterr().err == (
            f"switchnorm: train.loggers: {name} is not installed; `pip install 'switchnorm[{name}]'`, or leave {name} "
            "out\n"
        )
    assert not (tmp_path / "run").exists()


def test_one_that_does_not_start_is_a_line(recipe, tmp_path, libraries, monkeypatch):
    def refuse(account, params):
        raise RuntimeError("No API key configured.\nAnd more.")

    monkeypatch.setattr(Account, "log_hyperparams", refuse)
    with pytest.raises(InputError) as caught:
        start(config(recipe, "[wandb]"), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    assert str(caught.value) == (
        "train.loggers: wandb does not start: No API key configured; when that is mended, give the same command"
    )
    assert not (tmp_path / "run").exists(), "the same command would be refused"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[wandbb]", "train.loggers: logger 'wandbb' is unknown; did you mean 'wandb'?"),
        ("[tensorboard, tensorboard]", "train.loggers names tensorboard twice; leave one out"),
        ("tensorboard", "train.loggers"),
    ],
)
def test_what_is_no_list_of_loggers(recipe, names, message):
    with pytest.raises(InputError) as caught:
        config(recipe, names)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_configuration_keeps_them(recipe, tmp_path):
    for names in ("[]", "[mlflow, tensorboard]"):
        made = config(recipe, names)
        (tmp_path / "config.yaml").write_text(to_yaml(made))
        assert read_config(tmp_path / "config.yaml") == made


def test_files_of_tensorboard_that_cannot_be_made_are_a_line_and_leave_a_run(recipe, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.EventFileWriter.__init__", refuse)
    with pytest.raises(InputError, match=r"run/tensorboard cannot be written: No space .*, then continue with `switch"):
        start(config(recipe, "[tensorboard]"), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    monkeypatch.undo()
    assert resume(tmp_path / "run", quiet=True)[0].finished()
