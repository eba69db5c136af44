"""The loggers of a run, as Lightning has them; its tables are `History`'s."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from switchnorm.config.keys import flatten
from switchnorm.config.loggers import LOGGERS
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import WriteError, writing
from switchnorm.processes import is_first
from switchnorm.runs.folder import RunFolder

#: Where MLflow writes; whoever tells MLflow has it set this too, and the process's next run would find it.
_PLACE = "MLFLOW_TRACKING_URI"
#: What runs are grouped under where neither WANDB_PROJECT nor MLFLOW_EXPERIMENT_NAME says so.
_PROJECT = "switchnorm"


def check_loggers(config: Config) -> None:
    """Raise `InputError` for a logger whose library is not installed."""
    for name in config.train.loggers:
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise InputError(
                f"train.loggers: {name} is not installed; `pip install 'switchnorm[{name}]'`, or leave {name} out"
            )


@contextmanager
def run_loggers(run: RunFolder, config: Config) -> Iterator[list[Logger]]:
    """The loggers that the configuration names, which end with the context: a process may train more runs than one.

    Those with an account of runs get the configuration, and what they call the run stands in run.json under "loggers",
    so that a resumed run goes on where it was.

    Args:
        run: its folder, where those that write files put them.
        config: of the run.

    Raises:
        InputError: a logger that does not start, as without a login.
    """
    place = os.environ.get(_PLACE)
    try:
        with _quiet_writers():
            yield _begun(run, config)
    finally:
        os.environ.pop(_PLACE, None)
        if place is not None:
            os.environ[_PLACE] = place
        if "wandb" in config.train.loggers and is_first():
            import wandb

            wandb.finish()


def _begun(run: RunFolder, config: Config) -> list[Logger]:
    # The other processes have loggers that write nothing, and may be here before the record is.
    record = run.record() if is_first() else {}
    known = dict(record.get("loggers") or {})
    made = []
    for name in config.train.loggers:
        try:
            logger: Any = _make(name, run, record.get("name"), known.get(name))
            if name != "tensorboard" and is_first():
                logger.log_hyperparams(dict(flatten(config.content())))
                known[name] = str(logger.experiment.id if name == "wandb" else logger.run_id)
        except Exception as error:  # each library has its own
            said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise InputError(
                f"train.loggers: {name} does not start: {said}; when that is mended, give the same command"
            ) from error
        made.append(logger)
    if known:
        run.update_record(loggers=known)
    return made


def _make(name: str, run: RunFolder, title: str | None, known: str | None) -> Logger:
    """A logger, which has written nothing yet; `known` is what it called this run before."""
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        return WandbLogger(title, save_dir=run.path, id=known, project=project)
    if name == "mlflow":
        folder = run.path.resolve()
        return MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
            run_name=title,
            tracking_uri=os.environ.get(_PLACE, f"sqlite:///{folder}/mlflow.db"),
            artifact_location=str(folder / "mlruns"),
            run_id=known,
        )
    return _TensorBoard(run.path, name="", version="tensorboard")


class _TensorBoard(TensorBoardLogger):
    """TensorBoard's files; where they cannot be written the run ends in a line, as with its other files."""

    @property
    def experiment(self) -> Any:
        """The writer, whose first use makes its file."""
        with self._writing():
            return super().experiment

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Write scalars."""
        with self._writing():
            super().log_metrics(*args, **kwargs)

    def save(self) -> None:
        """Bring to the disk what is written."""
        with self._writing():
            super().save()

    def finalize(self, status: str) -> None:
        """End, also a run that has failed: what it failed with has been said."""
        with nullcontext() if status == "success" else suppress(WriteError), self._writing():
            super().finalize(status)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with writing(Path(self.log_dir)):
            try:
                yield
            except ValueError as error:  # as which Lightning raises whatever comes from below
                if isinstance(error.__cause__, OSError | WriteError):
                    raise error.__cause__ from None
                raise


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Let TensorBoard's thread end without a traceback: its next call raises what ended it."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.thread, _AsyncWriterThread) and isinstance(args.exc_value, OSError)):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
