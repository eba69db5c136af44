"""What Lightning makes of the loaders: it knows their length, asks for no batch beyond it, and saves their state."""

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.types import _Stateful

from switchnorm.data import Batches, TrainingBatches


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []
        self.validated = []

    def training_step(self, batch, _):
        self.seen.append(batch[1].tolist())
        return self.weight * batch[0].mean()

    def validation_step(self, batch, _):
        self.validated.append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(samples, folder, *, steps, resume=None):
    checkpoint = pl.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        max_steps=steps,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    recorder = Recorder()
    train, test = TrainingBatches(samples, batch_size=3, seed=0), Batches(samples, batch_size=4)
    trainer.fit(recorder, train, test, ckpt_path=resume)
    return recorder


def test_only_the_training_loader_has_a_state(samples):
    assert isinstance(TrainingBatches(samples, batch_size=3, seed=0), _Stateful)
    assert not isinstance(Batches(samples, batch_size=3), _Stateful)


@pytest.fixture
def run(samples, tmp_path):
    return fit(samples, tmp_path, steps=-1)


def test_every_epoch_is_the_loaders_own(samples, run):
    batches = TrainingBatches(samples, batch_size=3, seed=0)
    assert run.seen == [labels.tolist() for _ in range(3) for _, labels in batches]
    whole = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert run.validated == whole[:2] + 3 * whole  # Lightning's sanity check of two batches, then every epoch


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6])
def test_a_run_continued_from_any_step_sees_the_batches_of_one_never_stopped(samples, run, tmp_path, step):
    continued = fit(samples, tmp_path / "continued", steps=-1, resume=tmp_path / f"step={step}.ckpt")
    assert continued.seen == run.seen[step:]
