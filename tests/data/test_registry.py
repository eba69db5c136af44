"""Datasets by name: those that somebody registers, and what is known of all of them before torch is imported."""

import subprocess
import sys

import pytest

import switchnorm.data
from switchnorm.config.recipe import evaluation_config
from switchnorm.data import Digits, InMemory, create_dataset, dataset_class, dataset_classes, register
from switchnorm.errors import InputError

#: Prints which of the libraries that take seconds to import were imported by then.
SCHEMA = """
import sys
import switchnorm.data as data
from jsonargparse import ArgumentParser

for cls in data.dataset_classes().values():
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "data")
    types = {action.dest: action._typehint for action in parser._actions if hasattr(action, "_typehint")}
    assert types and not any(isinstance(hint, str) for hint in types.values()), types
try:
    data.create_dataset("cifar10", size=31)
except ValueError as error:
    print(error, end=";")
print(*sorted({"torch", "numpy", "PIL", "torchvision", "sklearn"} & sys.modules.keys()))
"""


def test_a_wrong_option_is_answered_before_torch_is_imported():
    answer = subprocess.run([sys.executable, "-c", SCHEMA], capture_output=True, text=True, check=True).stdout
    assert answer == "size 31 is none that pictures of 32 x 32 average to; the nearest is 32;\n"


class Own(Digits):
    """A dataset of somebody else."""


@pytest.fixture
def registered(own_registry):
    """What is registered, which a test may change."""
    return dataset_classes()


def test_a_registered_dataset_is_known_by_its_name(registered):
    register("own_digits", Own)
    assert create_dataset("own_digits", augment=True) == Own(augment=True)
    assert dataset_class("own_digits") is Own
    assert list(dataset_classes()) == [*registered, "own_digits"]
    flags = ["--model=resnet8", "--data=own_digits", "--data.augment=true"]
    assert evaluation_config(flags).data == {"name": "own_digits", "augment": True}
    with pytest.raises(InputError, match="dataset 'own_digit' is unknown; did you mean 'own_digits'"):
        create_dataset("own_digit")


@pytest.mark.parametrize(
    ("name", "cls", "message"),
    [
        ("Own-Digits", Own, "name 'Own-Digits' must be small letters, .*, a letter first; the nearest is 'own_digits'"),
        ("2", Own, "the nearest is 'photos'"),
        ("digits", Own, r"'digits' is taken by switchnorm\.data\.datasets\.digits\.Digits; .* such as 'my_digits'"),
        ("own", dict, "dataset 'own' must be a class derived from switchnorm.data.Dataset, got <class 'dict'>"),
        ("own", Digits(), "must be a class derived from switchnorm.data.Dataset, got Digits"),
        (
            "own",
            InMemory,
            "must define all that a Dataset does; InMemory lacks augmentation, channels, classes, load, size",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(registered, name, cls, message):
    with pytest.raises(InputError, match=message) as caught:
        register(name, cls)
    assert "\n" not in str(caught.value)
    assert dataset_classes() == registered


def test_the_listing_is_a_copy():
    before = dataset_classes()
    dataset_classes().clear()
    assert dataset_classes() == before


def test_every_public_name_is_there_and_no_other():
    assert all(hasattr(switchnorm.data, name) for name in switchnorm.data.__all__)
    assert dir(switchnorm.data) == sorted(switchnorm.data.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Picture'"):
        _ = switchnorm.data.Picture
