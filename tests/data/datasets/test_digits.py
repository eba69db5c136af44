import pytest
import torch
from sklearn.datasets import load_digits

from switchnorm.data import Digits


def test_every_fifth_image_is_a_test_image():
    train, test = Digits().samples
    images, labels = (torch.from_numpy(array) for array in (load_digits().images, load_digits().target))
    held_out = torch.zeros(1797, dtype=torch.bool)
    held_out[4::5] = True
    assert (len(train), len(test)) == (1438, 359)
    for part, chosen in ((train, ~held_out), (test, held_out)):
        assert torch.equal(part.images[:, 0].double(), images[chosen])
        assert torch.equal(part.labels, labels[chosen])


def test_the_training_images_are_normalized():
    ((images, labels),) = Digits().train_batches(batch_size=1438, seed=0)
    assert images.shape == (1438, 1, 8, 8)
    assert abs(images.mean()) < 1e-5
    assert abs(images.std() - 1) < 1e-5
    assert set(labels.tolist()) == set(range(Digits().num_classes))


def test_the_test_images_are_normalized_by_the_training_set():
    train, test = Digits().samples
    assert (train.mean, train.std) == (test.mean, test.std)
    assert train.mean == pytest.approx((train.images.double().mean().item(),))


def test_augmentation_moves_digits_by_a_pixel_and_never_mirrors_them():
    (plain, _), (moved, _) = (next(iter(Digits(augment).train_batches(batch_size=200, seed=0))) for augment in (0, 1))
    black = plain.min()
    padded = torch.nn.functional.pad(plain, (1, 1, 1, 1), value=black)
    windows = torch.stack([padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    fits = (windows == moved).all(dim=(2, 3, 4))
    assert fits.any(0).all()
    assert fits.any(1).all()
