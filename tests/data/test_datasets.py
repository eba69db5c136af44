import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from switchnorm.data import DATASETS, create_dataset
from switchnorm.errors import InputError


@pytest.mark.parametrize(
    ("name", "classes", "channels", "size", "first", "last"),
    [
        ("digits", 10, 1, 8, "0", "9"),
        ("cifar10", 10, 3, 32, "airplane", "truck"),
        ("cifar100", 100, 3, 32, "apple", "worm"),
    ],
)
def test_facts_are_known_before_anything_is_read(name, classes, channels, size, first, last):
    dataset = create_dataset(name)
    assert (dataset.num_classes, dataset.channels, dataset.size) == (classes, channels, size)
    assert len(set(dataset.classes)) == classes
    assert (dataset.classes[0], dataset.classes[-1]) == (first, last)
    assert "samples" not in vars(dataset)


def test_options_reach_the_dataset():
    assert create_dataset("cifar10", root="somewhere", augment=False) == DATASETS["cifar10"]("somewhere", False)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="dataset 'cifar-10' is unknown; did you mean 'cifar10'"):
        create_dataset("cifar-10")


@pytest.mark.parametrize("name", DATASETS)
def test_the_constructor_is_the_schema(name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DATASETS[name], "data")
    options = vars(parser.parse_args(["--data.augment", "true"]).data)
    assert DATASETS[name](**options).augment is True
    documented = [action for action in parser._actions if action.dest.startswith("data.")]
    assert len(documented) == len(options)
    assert all(action.help for action in documented)


def test_samples_are_read_once():
    dataset = create_dataset("digits")
    assert dataset.samples is dataset.samples


def test_importing_reads_neither_scikit_learn_nor_torchvisions_datasets():
    code = "import sys, switchnorm.data; print(*sorted({'sklearn', 'torchvision.datasets'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
