import pytest
import torch
from jsonargparse import ArgumentParser

from switchnorm.data import Dataset, Loader, TrainingLoader, create_dataset, dataset_classes
from switchnorm.errors import InputError
from tests.data.conftest import OfficialFiles
from tests.data.photos import jpeg_bytes, write_tree

DATASETS = dataset_classes()

#: Those whose pictures have a label each; the others have one for each pixel.
CLASSIFIED = [name for name, dataset in DATASETS.items() if dataset.task == "classification"]

#: What the constructor demands.
NEEDED = {name: ["--data.root", "somewhere"] for name in DATASETS if name not in ("digits", "cifar10", "cifar100")}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """One of each, with data."""
    root = tmp_path_factory.mktemp("data")
    for classes in (10, 100):
        OfficialFiles(root / f"cifar{classes}", classes).binary()
    content = jpeg_bytes()
    for name in (f"imagenet/{split}/n{number:08d}/a.jpg" for split in ("train", "val") for number in range(1000)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(content)
    write_tree(root / "folder")
    photos = {"size": 8, "resize": 10, "workers": 0}
    options = {"imagenet": photos, "folder": photos, "digits": {}}
    made = {
        name: create_dataset(name, **options.get(name, {}), **({} if name == "digits" else {"root": str(root / name)}))
        for name in CLASSIFIED
    }
    for dataset in made.values():
        dataset.prepare()
    return made


@pytest.fixture(params=CLASSIFIED)
def dataset(request, datasets) -> Dataset:
    return datasets[request.param]


def test_the_tasks_of_all_datasets():
    assert {dataset.task for dataset in DATASETS.values()} == {"classification", "segmentation", "detection"}
    of_pixels = {"ade20k", "camvid", "cityscapes", "masks"}
    assert {name for name in DATASETS if name not in CLASSIFIED} == {*of_pixels, "coco", "voc", "yolo"}


def test_the_largest_image_is_the_square_one(dataset):
    assert dataset.shape == (dataset.size, dataset.size)


def check(images, labels, dataset, *views):
    assert images.shape[1:] == (*views, dataset.channels, dataset.size, dataset.size)
    assert images.shape[:1] == labels.shape
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.isfinite().all()
    assert ((labels >= 0) & (labels < dataset.num_classes)).all()


def test_classes_are_named_and_counted(dataset):
    assert dataset.num_classes == len(dataset.classes) == len(set(dataset.classes))
    assert isinstance(dataset.classes, tuple)


def test_training_batches_keep_the_contract(dataset):
    batches = dataset.train_batches(batch_size=1, seed=0, epochs=2)
    assert isinstance(batches, TrainingLoader)
    assert len(batches) == dataset.train_size
    assert batches.state_dict() == {"epoch": 0, "position": 0}
    iterator = iter(batches)
    for number in (1, 2):
        images, labels = next(iterator)
        check(images, labels, dataset)
        assert len(labels) == 1
        assert batches.state_dict() == {"epoch": 0, "position": number}
    resumed = dataset.train_batches(batch_size=1, seed=0, epochs=2)
    resumed.load_state_dict(batches.state_dict())
    for left, right in zip(next(iterator), next(iter(resumed)), strict=True):
        assert torch.equal(left, right)
    with pytest.raises(InputError, match="cannot continue after"):
        resumed.load_state_dict({"epoch": 0, "position": len(batches) + 1})


def test_test_batches_keep_the_contract(dataset):
    batches = dataset.test_batches(batch_size=2)
    assert isinstance(batches, Loader)
    assert not hasattr(batches, "state_dict")
    images, labels = next(iter(batches))
    check(images, labels, dataset)
    pairs, same = next(iter(dataset.test_batches(batch_size=2, views="flip")))
    check(pairs, same, dataset, 2)
    assert torch.equal(pairs[:, 0], images)
    assert torch.equal(pairs[:, 1], images.flip(-1))


def test_test_samples_have_names(dataset):
    names = [dataset.test_name(index) for index in range(3)]
    assert len(set(names)) == 3
    if not hasattr(dataset, "val_list"):
        assert names == ["0", "1", "2"]


def test_benchmarks_have_the_sizes_that_are_published():
    sizes = {name: dataset.benchmark_size for name, dataset in DATASETS.items()}
    assert sizes == {
        **dict.fromkeys(DATASETS),
        **{"cifar10": 10_000, "cifar100": 10_000, "imagenet": 50_000},
        **{"ade20k": 2_000, "cityscapes": 500, "coco": 5_000},
    }


def test_views_that_a_dataset_does_not_have_are_refused(dataset):
    with pytest.raises(InputError, match="views 'eleven' is"):
        dataset.test_batches(batch_size=2, views="eleven")


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


@pytest.mark.parametrize(
    ("name", "classes", "first", "last"),
    [("ade20k", 150, "wall", "flag"), ("camvid", 11, "sky", "bicyclist"), ("cityscapes", 19, "road", "bicycle")],
)
def test_classes_of_pixels_are_known_before_anything_is_read(name, classes, first, last):
    dataset = create_dataset(name, root="nowhere")
    assert (dataset.num_classes, dataset.channels, len(set(dataset.classes))) == (classes, 3, classes)
    assert (dataset.classes[0], dataset.classes[-1]) == (first, last)


def test_options_reach_the_dataset():
    assert create_dataset("cifar10", root="somewhere", augment=False) == DATASETS["cifar10"](
        root="somewhere", augment=False
    )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="dataset 'cifar-10' is unknown; did you mean 'cifar10'"):
        create_dataset("cifar-10")


@pytest.mark.parametrize("name", DATASETS)
def test_the_constructor_is_the_schema(name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DATASETS[name], "data")
    flags = {"classification": ("augment", False), "segmentation": ("flip", False), "detection": ("flip", "none")}
    flag, value = flags[DATASETS[name].task]
    options = parser.parse_args([f"--data.{flag}", str(value).lower(), *NEEDED.get(name, [])]).data.as_dict()
    assert getattr(DATASETS[name](**options), flag) == value
    documented = [action for action in parser._actions if action.dest.startswith("data.")]
    assert len(documented) == len(options)
    assert all(action.help for action in documented)


def test_samples_are_read_once():
    dataset = create_dataset("digits")
    assert dataset.samples is dataset.samples
