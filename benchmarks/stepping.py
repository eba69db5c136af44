"""Training steps in three forms: a run that halts after any number of steps, the step by hand, and it as one graph."""

from __future__ import annotations

import queue
import tempfile
import threading
import weakref
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from switchnorm.config.schema import Config
from switchnorm.data import Dataset, Share
from switchnorm.data.loaders.loader import Batch
from switchnorm.optim.radius import RadiusShape
from switchnorm.surgery import set_radius
from switchnorm.tasks import Classification
from switchnorm.training.build import build_model, total_steps, training_task
from switchnorm.training.fit import step_callbacks
from switchnorm.training.loaders import Loaders
from switchnorm.training.optimizer import make_optimizer
from switchnorm.training.trainer import make_trainer

#: Steps before a capture, so that what is set up once, momentum too, is there (torch's notes on CUDA graphs).
WARMUPS = 3


def new_task(config: Config, dataset: Dataset) -> Classification:
    """What a run trains, as it starts, on the CPU."""
    model = build_model(config, dataset.num_classes)
    task = training_task(config, model, dataset.num_classes, total_steps(config, dataset))
    assert isinstance(task, Classification), "steps are measured of classification"
    return task


class Training:
    """A run of `switchnorm train` without end, that halts after any number of steps and goes on when it is told.

    Model, optimizer, callbacks of the step, loader, trainer and log are those of a run; checkpoints, validation and the
    tables of epochs are left out. Lightning's loop cannot be left and entered again, so it has a thread of its own.

    Args:
        config: of the run.
        dataset: its training pictures, on the device.
        after: a run that started before and has to end later, since what Lightning changes in the process, until it is
            put back, is piled up.
    """

    def __init__(self, config: Config, dataset: Dataset, after: Training | None = None) -> None:
        self.task = new_task(config, dataset)
        self._gate = _Gate()
        thread = threading.Thread(target=_train, args=(config, dataset, self.task, self._gate), daemon=True)
        self._end = weakref.finalize(self, _end, self._gate, thread, after)
        thread.start()
        self._gate.halted()

    def advance(self, steps: int) -> list[Tensor]:
        """Take so many steps; returns their losses, (), which the device may still be computing.

        Raises:
            Exception: whatever ended the run.
        """
        return self._gate.open(steps)

    def end(self) -> None:
        """End the run, which happens by itself with the last reference to it."""
        self._end()


class _EndedError(Exception):
    """Leaves Lightning's loop."""


class _Gate(pl.Callback):
    """Lets the training thread through for some steps at a time, while the other thread waits."""

    def __init__(self) -> None:
        self._granted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._halted: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._left = 0
        self._losses: list[Tensor] = []

    def open(self, steps: int) -> list[Tensor]:
        """Let `steps` steps through, and wait for them."""
        self._losses = []
        self._granted.put(steps)
        self.halted()
        return self._losses

    def close(self) -> None:
        """Let no step through any more."""
        self._granted.put(0)

    def halted(self) -> None:
        """Wait for the training thread to come to the gate; raises what it stopped for otherwise."""
        reason = self._halted.get()
        if reason is not None:
            raise reason

    def halt(self, reason: BaseException | None = None) -> None:
        """Tell the other thread that there is no step under way."""
        self._halted.put(reason)

    def on_train_batch_start(self, *args: Any) -> None:
        """Wait for leave. The batch is made by now: so many steps cover the making of as many batches."""
        if not self._left:
            self.halt()
            self._left = self._granted.get()
        if not self._left:
            raise _EndedError

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        """Count the step."""
        self._left -= 1
        self._losses.append(outputs["loss"].detach())


def _train(config: Config, dataset: Dataset, task: Classification, gate: _Gate) -> None:
    """The training thread, which must not hold on to the `Training` whose end ends it."""
    torch.set_num_threads(torch.get_num_threads())  # a thread starts with the machine's number, not the process's
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            make_trainer(
                config.train,
                max_epochs=-1,
                limit_val_batches=0,
                gradient_clip_val=config.optimizer.clip_norm,
                callbacks=[gate, *step_callbacks(config, total_steps(config, dataset))],
                logger=TensorBoardLogger(folder, name="", version="tensorboard"),
                enable_checkpointing=False,
                enable_progress_bar=False,
                default_root_dir=folder,
            ) as trainer,
        ):
            trainer.fit(task, Loaders(dataset, config))
    except _EndedError:
        pass
    except BaseException as error:  # for the thread that waits
        gate.halt(error)


def _end(gate: _Gate, thread: threading.Thread, after: Training | None) -> None:
    gate.close()
    thread.join()
    del after  # held until now


class StepByHand:
    """Forward pass, loss, backward pass, clipping and optimizer of a run, without a trainer.

    Args:
        config: of the run.
        dataset: says how many classes and steps there are.
        device: "cpu" or "cuda".
    """

    def __init__(self, config: Config, dataset: Dataset, device: str) -> None:
        self.task = new_task(config, dataset).to(device).train()
        self.optimizer, self.schedule = make_optimizer(
            self.task.model, total_steps=total_steps(config, dataset), config=config
        )
        self.clip_norm = config.optimizer.clip_norm
        self.radius = RadiusShape(total_steps(config, dataset))

    def take(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step; returns the loss."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.task.model(images), labels, label_smoothing=self.task.label_smoothing)
        loss.backward()
        self.task.configure_gradient_clipping(self.optimizer)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.task.parameters(), self.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def advance(self, place: int, batch: Batch) -> Tensor:
        """The run's step number `place`, with its radius and rate; returns the loss."""
        set_radius(self.task, self.radius(place))
        loss = self._take(*batch)
        self.schedule.step()
        return loss

    def _take(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.take(images, labels)


class CapturedStep(StepByHand):
    """A step on one batch that stays where it is, captured whole: a single call launches all of it.

    What a small network could reach if nothing had to be prepared. The learning rate is the one at the start.

    Args:
        config, dataset: as `StepByHand`.
        batch: of the shape that all have, on CUDA.
    """

    def __init__(self, config: Config, dataset: Dataset, batch: Batch) -> None:
        super().__init__(config, dataset, "cuda")
        self.images, self.labels = (tensor.clone() for tensor in batch)
        state = {name: value.clone() for name, value in self.task.state_dict().items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUPS):
                self.take(self.images, self.labels)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad()  # the captured backward pass makes gradients of its own
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.take(self.images, self.labels)
        self._restore(state)

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Forget the warm-up, in place: the graph knows addresses. A momentum of 0 is that of the first step."""
        with torch.no_grad():
            for name, value in self.task.state_dict().items():
                value.copy_(state[name])
            for of_parameter in self.optimizer.state.values():
                of_parameter["momentum_buffer"].zero_()

    def replay(self) -> None:
        """One step on the batch that lies there."""
        self.graph.replay()

    def _take(self, images: Tensor, labels: Tensor) -> Tensor:
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.replay()
        return self.loss.clone()


def from_loader(config: Config, dataset: Dataset, count: int, device: str) -> list[Batch]:
    """The first batches of a run."""
    train = config.train
    loader = dataset.train_batches(
        batch_size=train.batch_size, seed=config.seed, epochs=train.epochs, share=Share(device=device)
    )
    return [batch for _, batch in zip(range(count), loader, strict=False)]
