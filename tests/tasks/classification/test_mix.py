"""Blended pictures and their labels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from switchnorm.tasks import Classification, mixing

CLASSES = 4


@pytest.fixture
def batch():
    return torch.rand(8, 1, 6, 6), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def test_nothing_is_mixed_unless_asked():
    assert mixing(0, 0, CLASSES) is None


def test_mixup_blends_each_picture_with_the_one_before_and_its_label_alike(batch):
    images, labels = batch
    torch.manual_seed(3)
    mixed, targets = mixing(0.5, 0, CLASSES)(images, labels)
    share = targets[0, 0].item()  # of picture 0, class 0, blended with picture 7, class 3
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
    one_hot = F.one_hot(labels, CLASSES).float()
    torch.testing.assert_close(targets, share * one_hot + (1 - share) * one_hot.roll(1, 0))


def test_cutmix_shows_a_rectangle_of_the_one_before_and_labels_by_area(batch):
    images, labels = batch
    for seed in range(8):
        torch.manual_seed(seed)
        mixed, targets = mixing(0, 1, CLASSES)(images, labels)
        foreign = mixed != images
        assert torch.equal(mixed[foreign], images.roll(1, 0)[foreign])
        area = foreign[0, 0].float().mean()
        torch.testing.assert_close(
            targets[0], F.one_hot(torch.tensor(0), CLASSES) * (1 - area) + area * torch.eye(4)[3]
        )
        rows, columns = foreign[0, 0].any(1).sum(), foreign[0, 0].any(0).sum()
        assert foreign[0, 0].sum() == rows * columns


def test_with_both_each_batch_draws_one(batch):
    images, labels = batch
    kinds = set()
    for seed in range(12):
        torch.manual_seed(seed)
        mixed, _ = mixing(0.5, 1, CLASSES)(images, labels)
        kinds.add(bool(torch.isin(mixed, images).all()))  # CutMix makes no new values
    assert kinds == {True, False}


def test_the_draw_is_the_generators(batch):
    mix = mixing(0.5, 1, CLASSES)
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(mix(*batch)[0])
    assert torch.equal(*states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_minimises_the_loss_of_the_blended_labels(batch, dtype):
    images, labels = batch
    images = images.to(dtype)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)).to(dtype)
    task = Classification(model, CLASSES, label_smoothing=0.1, mix=mixing(0.5, 0, CLASSES))
    task.log = lambda *arguments, **options: None
    torch.manual_seed(3)
    loss = task.training_step((images, labels), 0)
    torch.manual_seed(3)
    mixed, targets = mixing(0.5, 0, CLASSES)(images, labels)
    smooth = 0.9 * targets.to(dtype) + 0.1 / CLASSES
    torch.testing.assert_close(loss, -(smooth * model(mixed).log_softmax(1)).sum(1).mean())
    right = (model(mixed).argmax(1) == targets.argmax(1)).float().mean().item()
    assert task.take_training_metrics()["train_accuracy"] == pytest.approx(right)
