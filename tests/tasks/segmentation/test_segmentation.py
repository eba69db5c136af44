"""The segmentation task against plain sums over pixels."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import Metric

from switchnorm.data.segmentation import IGNORED, Scene
from switchnorm.errors import InputError
from switchnorm.tasks import Segmentation
from switchnorm.tasks.segmentation.inference import Inference
from tests.tasks.classification.test_classification import trainer

CLASSES = 3


class Halves(nn.Module):
    """Answers at half the resolution, with an inner branch in training."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, CLASSES, 2, stride=2)
        self.aux = nn.Conv2d(3, CLASSES, 4, stride=4)

    def forward(self, images):
        answer = {"out": self.out(images)}
        return {**answer, "aux": self.aux(images)} if self.training else answer


class Loader(list):
    """Given batches, without a DataLoader."""


def labels_like(images, stride):
    labels = torch.randint(CLASSES, (len(images), images.shape[2] // stride, images.shape[3] // stride))
    labels[:, 0] = IGNORED
    return labels


def plain_loss(logits, labels, smoothing=0.0):
    """Over the pixels that count, one after the other."""
    logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    rows = logits.permute(0, 2, 3, 1)[labels != IGNORED]
    log = rows.log_softmax(1)
    truth = F.one_hot(labels[labels != IGNORED], CLASSES) * (1 - smoothing) + smoothing / CLASSES
    return -(truth * log).sum(1).mean()


def optimize(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_loss_is_that_of_both_branches_over_the_pixels_that_count(stride):
    batches = Loader(
        (images, labels_like(images, stride)) for images in (torch.randn(2, 3, 8, 12), torch.randn(1, 3, 8, 8))
    )
    model = Halves()
    task = Segmentation(model, CLASSES, label_smoothing=0.1, deep_supervision=0.4, make_optimizer=optimize)
    trainer(max_epochs=1).fit(task, batches)
    model.train()
    losses, shares = [], []
    for images, labels in batches:
        answer = model(images)
        losses.append(sum(w * plain_loss(answer[k], labels, 0.1) for k, w in (("out", 1), ("aux", 0.4))).item())
        found = F.interpolate(answer["out"], size=labels.shape[1:], mode="bilinear").argmax(1)
        shares.append((found == labels)[labels != IGNORED].double().mean().item())
    metrics = task.take_training_metrics()
    assert metrics["train_loss"] == pytest.approx((2 * losses[0] + losses[1]) / 3, rel=1e-5)
    assert metrics["train_accuracy"] == pytest.approx((2 * shares[0] + shares[1]) / 3, rel=1e-6)


def test_a_batch_of_padding_alone_has_no_loss_and_a_gradient_of_zero():
    model = Halves()
    task = Segmentation(model, CLASSES)
    task.log = lambda *arguments, **options: None
    loss = task.training_step((torch.randn(1, 3, 8, 8), torch.full((1, 8, 8), IGNORED)), 0)
    loss.backward()
    assert loss == 0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())


@pytest.mark.parametrize("void", [0, 1])
def test_a_batch_without_a_pixel_that_counts_is_in_no_mean_and_logs_no_loss(void):
    batches = [(torch.randn(2, 3, 8, 8), torch.randint(CLASSES, (2, 8, 8))) for _ in range(2)]
    batches[void] = (batches[void][0], torch.full((2, 8, 8), IGNORED))
    task = Segmentation(Halves(), CLASSES, make_optimizer=optimize)
    logged = []
    log, task.log = task.log, lambda name, value, **options: (logged.append(float(value)), log(name, value, **options))
    trainer(max_epochs=1).fit(task, Loader(batches))
    assert [math.isnan(loss) for loss in logged] == [place == void for place in range(2)]
    metrics = task.take_training_metrics()
    assert metrics["train_loss"] == pytest.approx(logged[1 - void], rel=1e-6)
    assert 0 < metrics["train_accuracy"] < 1


def test_an_epoch_without_a_pixel_that_counts_is_an_error():
    task = Segmentation(Halves(), CLASSES, make_optimizer=optimize)
    void = (torch.randn(2, 3, 8, 8), torch.full((2, 8, 8), IGNORED))
    trainer(max_epochs=1).fit(task, Loader([void, void]))
    with pytest.raises(
        InputError, match="no training step counted a pixel: every label is 255, void; expected some of"
    ):
        task.take_training_metrics()
    fresh = Segmentation(Halves(), CLASSES)
    fresh.train_loss.update(torch.tensor(math.nan), 2)  # a loss that is no number is another thing
    fresh.train_accuracy.update(torch.tensor(1.0), 2)
    assert math.isnan(fresh.take_training_metrics()["train_loss"])


def test_no_test_picture_that_can_be_read_is_an_error():
    with pytest.raises(InputError, match="none of the test pictures could be read; expected one at least"):
        trainer().validate(Segmentation(Halves(), CLASSES), Loader([[]]), verbose=False)


def test_without_deep_supervision_every_parameter_has_a_gradient():
    """Of 0 for those of the inner branch: processes that average gradients wait for all of them."""
    model = Halves()
    task = Segmentation(model, CLASSES, deep_supervision=0.0)
    task.log = lambda *arguments, **options: None
    images, labels = torch.randn(2, 3, 8, 12), torch.randint(CLASSES, (2, 8, 12))
    loss = task.training_step((images, labels), 0)
    loss.backward()
    assert loss.item() == pytest.approx(plain_loss(model.out(images), labels).item(), rel=1e-6)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.aux.parameters())
    assert model.out.weight.grad.abs().sum() > 0


@pytest.mark.gpu
def test_deterministic_operations_have_a_loss():
    """torch refuses its own sums of the loss over pixels, whose order on a GPU is that of the moment."""
    task = Segmentation(Halves().eval(), CLASSES).cuda()
    task.log = lambda *arguments, **options: None
    images, labels = torch.randn(2, 3, 8, 12), torch.randint(CLASSES, (2, 4, 6))
    torch.use_deterministic_algorithms(True)
    try:
        loss = task.training_step((images.cuda(), labels.cuda()), 0)
        loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert loss.item() == pytest.approx(plain_loss(task.model.cpu().out(images), labels).item(), rel=1e-5)


def test_nothing_is_counted_in_float64():
    """MPS has none."""
    metrics = [module for module in Segmentation(Halves(), CLASSES).modules() if isinstance(module, Metric)]
    assert len(metrics) == 5
    assert all(value.dtype != torch.float64 for metric in metrics for value in metric.metric_state.values())


def scenes():
    """Of several sizes, with two scales each."""
    for index, size in enumerate([(9, 11), (16, 10), (9, 11)]):
        truth = torch.randint(CLASSES, size).to(torch.uint8)
        truth[0] = IGNORED
        yield Scene(index, (torch.randn(3, 8, 8), torch.randn(3, 16, 8)), size, truth)


@pytest.mark.parametrize("flip", [False, True])
def test_validation_is_the_benchmark_over_all_pixels_together(flip):
    everything = list(scenes())
    model = Halves()
    task = Segmentation(model, CLASSES, inference=Inference(flip=flip))
    seen = {}
    step = task.validation_step
    task.validation_step = lambda batch, batch_idx: seen.update(step(batch, batch_idx)["labels"])
    # The empty batch is what a process gets whose share of the last one is empty.
    (metrics,) = trainer().validate(task, Loader([everything[:2], [], everything[2:]]), verbose=False)

    matrix, loss = torch.zeros(CLASSES, CLASSES), 0.0
    model.eval()
    predictions = {}
    for scene in everything:
        shown = [p for picture in scene.pictures for p in ([picture, picture.flip(2)] if flip else [picture])]
        shares = []
        for place, picture in enumerate(shown):
            logits = model(picture[None])["out"]
            logits = logits.flip(3) if flip and place % 2 else logits
            shares.append(F.interpolate(logits, size=scene.size, mode="bilinear", align_corners=False)[0].softmax(0))
        mean = torch.stack(shares).mean(0)
        predictions[scene.index] = mean.argmax(0)
        for truth, found, share in zip(
            scene.target.flatten().tolist(), mean.argmax(0).flatten().tolist(), mean.flatten(1).T, strict=True
        ):
            if truth != IGNORED:
                matrix[truth, found] += 1
                loss -= share[truth].log().item()
    hit = matrix.diagonal()
    iou = (hit / (matrix.sum(0) + matrix.sum(1) - hit)).mean().item()
    accuracy = (hit.sum() / matrix.sum()).item()
    assert metrics == pytest.approx(
        {
            "val_loss": loss / matrix.sum().item(),
            "val_accuracy": accuracy,
            "val_mean_iou": iou,
            "val_overall": (iou + accuracy) / 2,
        },
        rel=1e-5,
    )
    assert task.counted == 3
    assert seen.keys() == {0, 1, 2}
    assert all(torch.equal(labels.long(), predictions[index]) for index, labels in seen.items())


def test_a_single_class_is_always_found():
    model = nn.Sequential()
    model.forward = lambda images: {"out": images[:, :1]}
    task = Segmentation(model, 1)
    batch = [scene._replace(target=scene.target.minimum(torch.tensor(0).byte())) for scene in scenes()]
    (metrics,) = trainer().validate(task, Loader([batch]), verbose=False)
    assert metrics == {"val_loss": 0, "val_accuracy": 1, "val_mean_iou": 1, "val_overall": 1}


def test_a_test_set_in_which_nothing_counts_is_an_error():
    void = [scene._replace(target=torch.full(scene.size, IGNORED, dtype=torch.uint8)) for scene in scenes()]
    with pytest.raises(InputError, match="no pixel of the test pictures counts"):
        trainer().validate(Segmentation(Halves(), CLASSES), Loader([void]), verbose=False)
