"""What becomes of pictures that nobody has labelled."""

import contextlib
import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.__main__ import main
from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.data.preparation import tiling
from switchnorm.deploy.predict import predict_pictures
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.training.build import build_model
from tests.data.photos import photo, write_photo, write_tree

GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
DIGITS = read_config(find_recipe("digits/resnet9"))


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def pictures(tmp_path):
    for number in range(12):
        write_photo(tmp_path / f"in/{number:02d}.png", number, width=30 + number, height=24)
    return tmp_path / "in"


def test_the_five_likeliest_classes_stand_in_a_table_and_on_the_terminal(pictures, tmp_path):
    (pictures / "03.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("")
    found = predict_pictures(DIGITS, lambda model: None, [pictures, pictures / "05.png"], tmp_path / "out")
    assert (found.count, list(found.failed)) == (11, [pictures / "03.png"])
    head, *table = rows(tmp_path / "out/predictions.csv")
    assert head[:3] == ["picture", "class_1", "probability_1"]
    model, data = build_model(DIGITS, 10).eval(), create_dataset(**DIGITS.data)
    for row in table:
        with torch.no_grad(), Image.open(row[0]) as picture:
            shares = model(data.shown(picture.convert("RGB"))[None])[0].softmax(0)
        order = shares.argsort(descending=True)[:5]
        assert row[1::2] == [data.classes[label] for label in order.tolist()]
        assert [float(each) for each in row[2::2]] == pytest.approx(shares[order].tolist(), abs=2e-6)
    assert [row[0] for row in table] == [str(pictures / f"{number:02d}.png") for number in range(12) if number != 3]
    assert found.lines[0] == f"{pictures} leaves out files of type .txt: 1 ({pictures}/notes.txt)"
    assert found.lines[1:3] == (str(pictures / "00.png"), f"  {100 * float(table[0][2]):5.1f} %  {table[0][1]}")
    assert found.lines[-1] == f"and 1 more pictures, which {tmp_path}/out/predictions.csv names"


def test_a_name_that_is_no_unicode_stops_no_picture(pictures, tmp_path):
    (pictures / "00.png").rename(pictures / os.fsdecode(b"caf\xe9.png"))
    assert predict_pictures(DIGITS, lambda model: None, [pictures], tmp_path / "out").count == 12
    assert rows(tmp_path / "out/predictions.csv")[-1][0] == f"{pictures}/caf\\udce9.png"
    assert "caf\\udce9.png" in (tmp_path / "out/predictions.html").read_text("utf-8")


def test_a_picture_is_shown_as_the_test_set_is():
    data = create_dataset("digits")
    images, _ = next(iter(data.test_batches(batch_size=4)))
    levels = data.samples[1].images[:4, 0].numpy()
    for image, level in zip(images, levels, strict=True):
        picture = Image.fromarray((level * (255 / 16)).round().astype(np.uint8)).convert("RGB")
        torch.testing.assert_close(data.shown(picture), image, rtol=0, atol=0.01)


def test_photographs_are_shown_as_evaluation_shows_them(tmp_path):
    data = create_dataset("folder", root=str(write_tree(tmp_path)), size=16, resize=20, workers=0)
    images, _ = next(iter(data.test_batches(batch_size=2)))
    for place in range(2):
        with Image.open(data._test.paths[place]) as picture:
            torch.testing.assert_close(data.shown(picture.convert("RGB")), images[place])


def test_the_page_shows_every_picture_with_its_classes(pictures, tmp_path, browser):
    predict_pictures(DIGITS, lambda model: None, [pictures], tmp_path / "out")
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.goto((tmp_path / "out/predictions.html").as_uri())
    assert page.locator("figure img").count() == 12
    assert page.locator("img").evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 0)")
    assert page.locator("figcaption").first.inner_text().splitlines()[0] == "00.png"
    assert len(page.locator("figcaption").first.inner_text().splitlines()) == 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.heic").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"in' holds no pictures \(\.jpg .*\); it leaves out files of type \.heic: 1 \("
    ):
        predict_pictures(DIGITS, lambda model: None, [tmp_path / "in"], tmp_path / "out")


def test_the_command_names_what_could_not_be_predicted_and_fails(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(build_model(DIGITS, 10).state_dict(), "weights.pt")
    (pictures / "00.png").write_bytes(b"")
    (pictures / "07.png").write_bytes((pictures / "08.png").read_bytes()[:200])
    command = ["predict", "in", "--weights", "weights.pt", "--model", "digits_resnet9", "--classes", "digits"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    *_, first, second, last = out.splitlines()
    assert last == "predictions: the likeliest classes of 10 pictures, by weights.pt"
    assert [line.partition(" (")[0] for line in (first, second)] == ["cannot read in/00.png", "cannot read in/07.png"]
    assert err.startswith("switchnorm: 2 of 12 pictures could not be predicted; cannot read in/00.png (")
    assert err.endswith(", and 1 more\n")
    assert err.count("\n") == 1


def predicted(capsys, *flags):
    """What `switchnorm predict` says of a picture and digits' weights: on the terminal, or as its error."""
    with contextlib.suppress(SystemExit):
        main(["predict", "in/00.png", "--weights", *flags, "--model", "digits_resnet9", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert err.count("\n") <= 1
    return err or out


@pytest.fixture
def weights(pictures, tmp_path, monkeypatch):
    """weights.pt names no classes and run.pt those of digits, as a run's checkpoint does."""
    monkeypatch.chdir(tmp_path)
    state = build_model(DIGITS, 10).state_dict()
    torch.save(state, "weights.pt")
    digits = [str(digit) for digit in range(10)]
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}, "classes": digits}, "run.pt")
    (tmp_path / "german.txt").write_text("\n".join(GERMAN))
    (tmp_path / "two.txt").write_text("null\neins\n")
    (tmp_path / "digits.txt").write_text("\n".join(digits) + "\n")


def test_a_classifiers_classes_come_from_a_file_or_the_checkpoint(weights, capsys):
    shown = ("--data.bands", "[0]", "--data.size", "32", "--data.mean", "[0.5]", "--data.std", "[0.5]")
    texts = [predicted(capsys, "weights.pt", "--classes", f"{name}.txt", *shown) for name in ("german", "digits")]
    texts.append(predicted(capsys, "run.pt", *shown))
    texts.append(predicted(capsys, "run.pt", "--classes", "digits.txt", *shown))
    found = [[line.split() for line in text.splitlines() if " % " in line] for text in texts]
    assert found[1] == found[2] == found[3]
    assert len(found[1]) == 5
    assert found[0] == [[share, sign, GERMAN[int(digit)]] for share, sign, digit in found[1]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("weights.pt",), "predict --weights needs --classes: a dataset's name such as ade20k, or a file"),
        (("weights.pt", "--classes", "two.txt"), "does not fit"),
        (
            ("weights.pt", "--classes", "german.txt"),
            "the network takes no pictures (channels, height, width) = (3, 224,",
        ),
        (("weights.pt", "--classes", "gone.txt"), "--classes 'gone.txt' is no file and no dataset"),
        (("weights.pt", "--classes", "two.txt", "--data", "digits"), "--classes and --data say the same"),
        (("weights.pt", "--classes", "ade20k"), "is for classification, and 'ade20k' for segmentation"),
        (
            ("run.pt", "--classes", "german.txt"),
            "run.pt names its 10 classes itself (0, 1, 2, ...), and the file others",
        ),
        (
            ("run.pt", "--data", "cifar10"),
            "Cifar10 has 10 classes (airplane, automobile, bird, ... from 0 on), and the",
        ),
    ],
)
def test_classes_that_do_not_fit_the_weights_are_refused(weights, capsys, flags, said):
    assert said in predicted(capsys, *flags)


def test_what_is_unusual_about_pictures_is_said_once(tmp_path):
    for number in range(3):
        picture = photo(number)
        if number:
            picture.putalpha(100)
        picture.save(tmp_path / f"{number}.png")
    found = predict_pictures(DIGITS, lambda model: None, [tmp_path], tmp_path / "out")
    said = [line for line in found.lines if "transparent" in line]
    assert said == [
        "2 of 3 pictures have transparent pixels, whose colours are taken as if they were opaque; "
        f"the first is {tmp_path}/1.png"
    ]


def segmentation(root, **options):
    flags = [f"--data.{key}={value}" for key, value in options.items()]
    return read_config(find_recipe("camvid/small"), [f"--data.root={root}", *flags])


def test_parts_of_a_large_picture_make_what_the_whole_would(tmp_path, monkeypatch):
    """A network that sees single pixels predicts the same in parts as at once."""

    class Pixelwise(torch.nn.Module):
        def forward(self, images):
            return {"out": torch.cat([images, -images, images.mean(1, keepdim=True).expand(-1, 5, -1, -1)], 1)}

    write_photo(tmp_path / "a.png", 3, width=150, height=90)
    config = segmentation(tmp_path, test_sides="[]")
    monkeypatch.setattr("switchnorm.deploy.networks.make_network", lambda *_: Pixelwise())
    for name in ("whole", "parts"):
        found = predict_pictures(config, lambda model: None, [tmp_path / "a.png"], tmp_path / name)
        assert len(found.lines) == (name == "parts")
        for key, value in (("WHOLE", 2**10), ("CORE", 32), ("MARGIN", 8)):
            monkeypatch.setattr(tiling, key, value)
    assert found.lines == (f"{tmp_path}/a.png is predicted in 15 parts, which see 8 pixels around",)
    whole, parts = (np.array(Image.open(tmp_path / name / "a.png")) for name in ("whole", "parts"))
    assert (whole == parts).mean() > 0.97  # sides are rounded to multiples of 8 in each part anew
    assert len(np.unique(whole)) > 3


def test_a_picture_that_the_network_refuses_stops_none_of_the_others(tmp_path, monkeypatch):
    for number in range(3):
        write_photo(tmp_path / f"{number}.png", number, width=64, height=48 + 8 * number)

    class Refusing(torch.nn.Module):
        def forward(self, images):
            if images.shape[2] == 56:
                raise RuntimeError("not enough memory\nsecond line")
            return {"out": torch.zeros(len(images), 11, 4, 4)}

    monkeypatch.setattr("switchnorm.deploy.networks.make_network", lambda *_: Refusing())
    config = segmentation(tmp_path, test_sides="[]")
    found = predict_pictures(config, lambda model: None, [tmp_path], tmp_path / "out")
    reason = "the network takes no pictures (channels, height, width) = (3, 56, 64): not enough memory"
    assert (found.count, found.failed) == (2, {tmp_path / "1.png": f"{tmp_path}/1.png: {reason}"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.png",
        "0_overlay.jpg",
        "2.png",
        "2_overlay.jpg",
    ]


_HUGE = """
import resource, sys
import torch
from pathlib import Path
from switchnorm.deploy import networks
from switchnorm.deploy.predict import predict_pictures
from tests.training.test_predict import segmentation
class Zeros(torch.nn.Module):
    def forward(self, images):
        return {"out": torch.zeros(len(images), 11, *(n // 8 for n in images.shape[2:]))}
networks.make_network = lambda *_: Zeros()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
found = predict_pictures(segmentation(folder, test_sides="[]"), lambda model: None, [folder], folder / "out")
assert found.count == 1, found
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_grows_with_the_picture_alone(tmp_path):
    photo(0, 4000, 3000).save(tmp_path / "a.jpg")
    done = subprocess.run([sys.executable, "-c", _HUGE, tmp_path], capture_output=True, text=True, check=True)
    # 12 megapixels: 34 MiB decoded, as much again as an overlay, 11 of labels, and what encoders need.
    assert int(done.stdout.splitlines()[-1]) < 300


@pytest.mark.parametrize("name", ["imagenet", "cifar100"])
def test_classes_are_known_without_data(tmp_path, name):
    data = create_dataset(name, **({"root": str(tmp_path)}))
    shown = data.shown(photo(0, 300, 260))
    assert shown.shape == (3, data.size, data.size)
    assert len(data.classes) == data.num_classes


def test_a_dataset_of_somebodys_own_says_how_pictures_are_shown():
    from switchnorm.data import Dataset, Digits

    class Own(Digits):
        preparation = Dataset.preparation

    with pytest.raises(InputError, match="does not say how other pictures are shown; give it a method `shown`"):
        Own().shown(photo(0))
