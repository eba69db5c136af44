import pytest
import torch

from switchnorm.data import ImageNet
from switchnorm.errors import InputError
from tests.data.photos import imagenet_sample, jpeg_bytes


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """1,000 class folders named like WordNet ids, with one picture each."""
    root = tmp_path_factory.mktemp("imagenet")
    content = jpeg_bytes()
    for number in range(1000):
        (root / f"val/n{number:08d}").mkdir(parents=True)
        (root / f"val/n{number:08d}/a.JPEG").write_bytes(content)
    return root


def test_the_classes_are_known_by_their_english_names_before_anything_is_read():
    dataset = ImageNet("nowhere")
    assert (dataset.num_classes, dataset.channels, dataset.size) == (1000, 3, 224)
    assert len(set(dataset.classes)) == 1000
    assert (dataset.classes[0], dataset.classes[1], dataset.classes[-1]) == ("tench", "goldfish", "toilet tissue")


def test_labels_number_the_sorted_wordnet_ids(thousand):
    dataset = ImageNet(str(thousand), size=4, resize=4, workers=0)
    dataset.prepare()
    assert torch.equal(dataset._test.labels, torch.arange(1000))
    assert dataset.test_name(7) == "n00000007/a.JPEG"
    assert dataset.mapping().endswith("not the 1000 of ILSVRC 2012: that labels fit is taken on trust")
    labels = torch.cat([labels for _, labels in dataset.test_batches(batch_size=300)])
    assert torch.equal(labels, torch.arange(1000))


def test_other_folders_are_not_numbered_as_if_they_were_imagenets(tree):
    (tree / "some/n00000001").mkdir(parents=True)
    with pytest.raises(InputError, match=r"/train has class folder 'cat'; ImageNet's are named by WordNet ids such as"):
        ImageNet(str(tree)).prepare()
    (tree / "train/cat").rename(tree / "some/n00000001/cat")
    with pytest.raises(InputError, match="/some has 1 class folders, expected 1000"):
        ImageNet(str(tree), train_folder="some", val_folder="none").prepare()


def test_the_published_list_may_name_some_classes_only_and_none_beyond_999(thousand):
    pictures = thousand / "val"
    for name, label, fine in (("some.txt", 999, True), ("matlab.txt", 1000, False)):
        (thousand / name).write_text(f"n00000007/a.JPEG 7\nn00000999/a.JPEG {label}\n")
        dataset = ImageNet(str(thousand), val_list=name, val_folder=str(pictures))
        if fine:
            assert dataset._test.labels.tolist() == [7, 999]
        else:
            with pytest.raises(InputError, match=r"matlab.txt has label 1000; labels run from 0 to 999"):
                dataset.prepare()


def test_training_needs_a_picture_of_every_class(thousand):
    (thousand / "few.txt").write_text("n00000000/a.JPEG 0\nn00000007/a.JPEG 7\n")
    dataset = ImageNet(str(thousand), train_list="few.txt", train_folder="val")
    with pytest.raises(InputError, match=r"few.txt has no picture of class 1, of the classes 0 to 999"):
        dataset.prepare()


def test_real_pictures():
    dataset = ImageNet(str(imagenet_sample()), workers=0)
    assert dataset._test.paths[0].split("/")[-2] == "n01440764"  # tench
    images, labels = next(iter(dataset.test_batches(batch_size=8)))
    assert images.shape == (8, 3, 224, 224)
    assert labels.tolist() == list(range(8))
    assert images.mean().abs() < 0.5
    assert 0.5 < images.std() < 1.5
    with pytest.raises(InputError, match="/train is missing"):
        dataset.train_batches(batch_size=8, seed=0)
    training = ImageNet(str(imagenet_sample()), train_folder="val", workers=0)
    images, labels = next(iter(training.train_batches(batch_size=8, seed=0, epochs=100)))
    assert images.shape == (8, 3, 224, 224)
    assert len(set(labels.tolist())) == 8
