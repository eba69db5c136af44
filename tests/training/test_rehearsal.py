"""The dry run of a configuration."""

import pytest
import torch
import torch.nn.functional as F

from switchnorm.config.recipe import read_config
from switchnorm.data import Cifar10, create_dataset
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.recipes import find_recipe
from switchnorm.training import dry_run
from switchnorm.training.build import build_model, rehearse


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def config(*flags: str):
    return read_config(find_recipe("digits/resnet9"), ("--device", "cpu", "--norm", "sn", *flags))


def test_it_takes_the_runs_first_step_and_writes_nothing(tmp_path):
    wanted = config("--samples-per-gpu", "8", "--train.label_smoothing", "0.1")
    found = dry_run(wanted)
    model = build_model(wanted, 10)
    images, labels = next(iter(create_dataset("digits").train_batches(batch_size=16, seed=0)))
    loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert (found.samples, found.steps_per_epoch, found.lr, found.missing) == (16, 1438 // 32, 0.05, "")
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert "44 steps per epoch, learning rate 0.05; one step on 16 pictures of the training set" in str(found)
    assert list(tmp_path.iterdir()) == []


def test_every_key_of_training_goes_together(tmp_path):
    groups = '[{"match": "layer1.*", "lr_factor": 0.1}]'
    flags = ("--train.ema", "0.9", "--train.mixup", "0.2", "--train.cutmix", "1", "--train.channels_last", "true")
    flags += ("--train.deterministic", "true", "--optimizer.groups", groups, "--optimizer.lr_per", "256")
    flags += ("--optimizer.decay_norms", "false", "--train.iteration_size", "2", "--precision", "bf16")
    found = dry_run(config(*flags))
    assert found.lr == pytest.approx(0.05 * 64 / 256)
    assert found.steps_per_epoch == 22
    assert torch.isfinite(torch.tensor(found.loss))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_noise_stands_in_for_data_that_would_be_downloaded(monkeypatch, tmp_path, name, classes):
    def no_network(*arguments):
        raise AssertionError("a rehearsal downloads nothing")

    monkeypatch.setattr("switchnorm.data.datasets.cifar._download", no_network)
    wanted = read_config(find_recipe(f"{name}/resnet20"), ("--device", "cpu", "--norm", "gn"))
    found = dry_run(wanted)
    assert found.steps_per_epoch is None
    assert found.parameters == sum(p.numel() for p in build_model(wanted, classes).parameters())
    assert "pictures of noise, for the data is not here" in str(found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--batch-size", "2000"), "larger than the training set"),
        (("--norm", "snn"), "did you mean 'sn'?"),
        (("--precision", "16"), "train.precision 16 needs a GPU, and the run is on the CPU; the nearest there is bf16"),
        (("--model", "cifar_resnet20"), "takes 3 channels"),
        (("--optimizer.groups", '[{"match": "layr1.*"}]'), "matches no parameter"),
        (
            ("--optimizer.groups", '[{"match": "layer1.*"}]', "--train.freeze", '["layer1"]'),
            "'layer1.*' matches nothing that learns, for 'layer1.0.conv1.weight' is frozen, as are ",
        ),
        (("--train.warm_start", "none.pt"), "does not exist"),
        (("--norm", "bn", "--samples-per-gpu", "1"), "more than one element per channel"),
        (("--model.options.dropot", "0.1"), "'dropot'"),
    ],
)
def test_what_would_keep_a_run_from_starting_shows(flags, message):
    with pytest.raises(InputError) as caught:
        dry_run(config(*flags))
    assert message in str(caught.value)


def test_a_batch_of_one_sample_is_no_batch_of_four():
    assert dry_run(config("--batch-size", "1", "--norm", "gn")).samples == 1


def test_pictures_that_a_network_does_not_take_are_an_error_of_one_line():
    with pytest.raises(InputError, match="AlexNet does not take pictures of 32x32 pixels: ") as caught:
        rehearse(create_model("alexnet"), 2, Cifar10())
    assert "\n" not in str(caught.value)


def test_noise_stands_in_for_what_is_not_here_and_not_for_what_is_broken(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {name: resnet18, norm: gn}\ndata: {name: folder, root: here, size: 32}\n"
                      "train: {epochs: 1, batch_size: 4}\n")  # fmt: skip
    missing = read_config(recipe, ("--device", "cpu", f"--data.root={tmp_path / 'nowhere'}"))
    assert "of noise, for the data is not here" in str(dry_run(missing))
    (tmp_path / "here/train/a").mkdir(parents=True)
    broken = read_config(recipe, ("--device", "cpu", f"--data.root={tmp_path / 'here'}"))
    with pytest.raises(InputError, match="its class folders hold no pictures"):
        dry_run(broken)
