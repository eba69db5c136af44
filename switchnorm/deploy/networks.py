"""A run's network, without anything that trains it: no Lightning is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.data import Dataset
from switchnorm.deploy.describe import describe
from switchnorm.deploy.description import Description
from switchnorm.deploy.net import Net
from switchnorm.deploy.runtimes.network import NetworkRuntime
from switchnorm.deploy.shown import Shown
from switchnorm.errors import InputError
from switchnorm.runs.checkpoints import checkpoint_of
from switchnorm.runs.classes import run_classes
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.reading import run_of
from switchnorm.training.network import check_task, dataset_of, make_network
from switchnorm.weights import load_state, read_checkpoint


def network_of(path: Path, checkpoint: str = "best") -> tuple[nn.Module, Description]:
    """The network of a run or a checkpoint of one, in evaluation mode, and its description; see `trained`."""
    found = trained(path, checkpoint)
    return found.model, found.description


@dataclass(frozen=True)
class Trained:
    """The network of a run.

    Attributes:
        model: in evaluation mode, on the CPU.
        description: of it.
        config: of the run.
        dataset: as the run knows it; none of its data was read.
        classes: that the run or its checkpoint names; None where only the dataset knows them.
        checkpoint: the run's file that the weights are from.
    """

    model: nn.Module
    description: Description
    config: Config
    dataset: Dataset
    classes: Classes | None
    checkpoint: Path | None

    def net(self, source: str, device: str | None = None) -> Net:
        """The network, ready to be asked, with the precision of the run; on a device, or where the run computes."""
        device = device or self.config.train.device
        precision = self.config.train.precision
        autocast = precision if precision == "bf16" or (precision == "16" and device != "cpu") else ""
        about = self.description
        preparation: Any = about.preparation
        if preparation is None:
            preparation, about = Shown(self.dataset), replace(about, raw=True)
        return Net(NetworkRuntime(self.model, about, device, autocast), source, preparation)


def trained(path: Path, checkpoint: str = "best", config: Config | None = None) -> Trained:
    """The network of a run.

    Args:
        path: of the run's folder, or of one of its checkpoints.
        checkpoint: of a folder: last, best, epoch:N or a file.
        config: the run's, as flags change it; None for its own.

    Raises:
        InputError: no run, no such checkpoint, or files that do not fit one another.
    """
    if path.is_file():
        if (folder := run_of(path)) is None:
            raise InputError(f"{str(path)!r} is no checkpoint of a run; expected one in a run's folder")
        run, file = RunFolder.open(folder), path
    else:
        run = RunFolder.open(path)
        file = checkpoint_of(run, checkpoint)
    config = config or run.config()
    content = read_checkpoint(file)
    return made(
        config,
        lambda model: load_state(model, content.state, f"checkpoint {str(file)!r}"),
        run_classes(run, content),
        checkpoint=file,
        results=measured(run, file),
        source=f"run {run.path.name}, {file.stem}",
    )


def made(
    config: Config,
    load: Callable[[nn.Module], object],
    classes: Classes | None,
    *,
    checkpoint: Path | None = None,
    results: Mapping[str, float] | None = None,
    source: str = "",
) -> Trained:
    """The network that a configuration and weights make.

    Args:
        config: the network, and the dataset that knows how pictures are shown; its data need not be here.
        load: gives the network its weights.
        classes: of the network; None where only the dataset knows them.
        checkpoint: the file of a run that the weights are from.
        results: what evaluation measured, by metric.
        source: what the network is, in words.

    Raises:
        InputError: a network for another task than the dataset's, or weights of another network.
    """
    check_task(config)
    dataset = dataset_of(config, classes)
    model = make_network(config, dataset.num_classes)
    if config.train.precision == "64":
        model = model.double()  # now, since its numbers would be rounded in a float32 network
    load(model)
    description = describe(
        config, dataset, model.eval(), classes=classes, results=results, claim=config.claim, source=source
    )
    return Trained(model, description, config, dataset, classes, checkpoint)


def measured(run: RunFolder, checkpoint: Path) -> dict[str, float]:
    """What validation measured with the weights of a checkpoint, by metric; nothing where that is not known."""
    columns = ("val_loss", *(metric.column for metric in find_task(run.config().task).metrics))
    if not run.metrics_file.is_file():  # of weights that were copied without their training
        return {}
    rows: list[Mapping[str, str]] = [row for row in run.metrics() if row.get(columns[1])]
    if not rows:
        return {}
    row: Mapping[str, str] | None
    if checkpoint == run.best:
        row = max(rows, key=lambda row: float(row[columns[1]]))  # the first of equal ones, as training keeps it
    elif checkpoint == run.last:
        row = rows[-1]
    else:
        row = next((each for each in rows if checkpoint == run.snapshot(int(each["epoch"]))), None)
    return {} if row is None else {name: float(row[name]) for name in columns if row.get(name)}
