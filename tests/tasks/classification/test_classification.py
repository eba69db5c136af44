import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from switchnorm.tasks import Classification


def trainer(**options):
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


class Batches(list):
    """Batches of given sizes, without a DataLoader."""

    def __init__(self, sizes, classes):
        generator = torch.Generator().manual_seed(0)
        super().__init__(
            (torch.randn(n, 5, generator=generator), torch.randint(classes, (n,), generator=generator)) for n in sizes
        )


@pytest.mark.parametrize("classes", [3, 10])
def test_validation_counts_every_sample_once(classes):
    # Uneven batches, one of them empty, as the last share of a process may be.
    batches = Batches([7, 1, 12, 0, 5], classes)
    model = nn.Linear(5, classes)
    (metrics,) = trainer().validate(Classification(model, classes), batches, verbose=False)
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    logits = model(images)
    ranks = logits.argsort(1, descending=True)
    expected = {
        "val_loss": F.cross_entropy(logits, labels).item(),
        "val_accuracy": (ranks[:, 0] == labels).double().mean().item(),
    }
    if classes > 5:
        expected["val_accuracy_top5"] = (ranks[:, :5] == labels[:, None]).any(1).double().mean().item()
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_training_minimises_the_smoothed_loss_and_counts_its_samples():
    batches = Batches([4, 9], 3)
    model = nn.Linear(5, 3)
    start = {key: value.clone() for key, value in model.state_dict().items()}

    def optimize(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    task = Classification(model, 3, label_smoothing=0.2, make_optimizer=optimize)
    trainer(max_epochs=1).fit(task, batches)
    model.load_state_dict(start)
    losses = [F.cross_entropy(model(x), y, label_smoothing=0.2).item() for x, y in batches]
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    metrics = task.take_training_metrics()
    assert metrics["train_loss"] == pytest.approx((4 * losses[0] + 9 * losses[1]) / 13, rel=1e-6)
    assert metrics["train_accuracy"] == pytest.approx(correct / 13)


def test_a_task_without_an_optimizer_only_evaluates():
    with pytest.raises(RuntimeError, match="can only evaluate"):
        Classification(nn.Linear(2, 2), 2).configure_optimizers()


def test_views_are_averaged_as_probabilities():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    views, labels = 9 * torch.randn(6, 5, 3, 2, 2), torch.randint(7, (6,))
    (metrics,) = trainer().validate(Classification(model, 7), Fixed([(views, labels)]), verbose=False)
    mean = model(views.flatten(0, 1)).softmax(1).unflatten(0, (6, 5)).mean(1)
    assert metrics["val_loss"] == pytest.approx(F.nll_loss(mean.log(), labels).item(), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx((mean.argmax(1) == labels).float().mean().item())


def test_the_batch_changes_no_average_over_views():
    class Pixels(nn.Module):
        def forward(self, images):
            return images.flatten(1)

    task, views = Classification(Pixels(), 12), 9 * torch.randn(37, 5, 3, 2, 2)
    together = task._average(views)
    for size in (1, 2, 5, 16):
        assert torch.equal(torch.cat([task._average(part) for part in views.split(size)]), together)


def test_pictures_are_counted_and_an_impossible_label_costs_no_infinity():
    class Sure(nn.Module):
        def forward(self, images):
            return torch.tensor([[1000.0, 0.0, 0.0]]).expand(len(images), 3)

    batches = Fixed(
        [(torch.zeros(4, 2, 1, 2, 2), torch.tensor([0, 1, 2, 0])), (torch.zeros(0, 2, 1, 2, 2), torch.zeros(0).long())]
    )
    task = Classification(Sure(), 3)
    (metrics,) = trainer().validate(task, batches, verbose=False)
    assert task.counted == 4
    assert metrics["val_accuracy"] == 0.5
    assert metrics["val_loss"] < 100


def test_channels_last_is_what_the_network_sees():
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 3))
    model[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride()))
    task = Classification(model, 3, channels_last=True)
    task.log = lambda *arguments, **options: None
    task.training_step((torch.randn(4, 3, 2, 2), torch.zeros(4).long()), 0)
    task.validation_step((torch.randn(4, 5, 3, 2, 2), torch.zeros(4).long()), 0)
    assert seen == [(12, 1, 6, 3)] * 6


class Fixed(list):
    """Given batches, without a DataLoader."""
